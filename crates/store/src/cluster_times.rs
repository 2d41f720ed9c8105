//! The times that all hosts of a cluster have, in `meta`.

use crate::{Store, StoreError, WriteKind, error::query_error};

const KEY: &str = "cluster_times";
const OPERATION: &str = "store the times of the cluster";

impl Store {
    /// The times with which the first host joined, as it wrote them; `None`: there is no host yet.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn get_cluster_times(&self) -> Result<Option<String>, StoreError> {
        let text = sqlx::query_scalar::<_, String>("SELECT value FROM meta WHERE key = $1");
        text.bind(KEY).fetch_optional(self.read_pool()).await.map_err(query_error("read the times of the cluster"))
    }

    /// Stores the times, unless others than `before` are stored.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn set_cluster_times(&self, times: &str, before: Option<&str>) -> Result<(), StoreError> {
        let mut transaction = self.begin_write(WriteKind::JoinHost, OPERATION).await?;
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE meta.value = $3",
        )
        .bind(KEY)
        .bind(times)
        .bind(before)
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }
}
