//! The check of a database of PostgreSQL, whether a server runs or not.

use super::Finding;
use anteroom_controller::{api_error::chain, config::Config};
use anteroom_store::{Address, PostgresDatabase};

/// Its kind, version and durability; `None`: the database is a file.
pub(super) async fn check_database(config: &Config) -> Option<Finding> {
    let address = match config.database_address() {
        Ok(Address::Postgres(address)) => address,
        Ok(Address::File(_)) => return None,
        Err(error) => return Some(Finding::Missing(error.to_string())),
    };
    let described = async {
        let mut database = PostgresDatabase::open(&address).await?;
        let described = database.durability().await;
        database.close().await?;
        described
    };
    Some(match described.await {
        Ok((database, None)) => Finding::Ok(database.to_string()),
        Ok((database, Some(warning))) => Finding::Degraded(format!("{database}: {warning}")),
        Err(error) => Finding::Missing(chain(&error)),
    })
}
