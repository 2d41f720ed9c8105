//! Passes: what a link carries, turned into a cookie once.

use crate::{
    Sha256Hex, Store, StoreError, UnixMs, WriteKind,
    cells::{Cells, stored},
    store::query,
    words::words,
};
use anteroom_wire::SessionId;

words! {
    /// What a pass is for, as the database has it.
    pub(crate) enum PassKind {
        /// Lets an operator in.
        Enter = "enter",
        /// Opens one session.
        Viewer = "viewer",
    }
}

/// What a pass is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Its bearer becomes an operator of this name.
    Enter {
        /// For people.
        name: String,
    },
    /// Its bearer becomes a viewer of this session.
    View {
        /// Which.
        session: SessionId,
    },
}

/// A pass to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPass {
    /// Its hash; unique.
    pub hash: Sha256Hex,
    /// What it is for.
    pub grant: Grant,
    /// Until when it can be used.
    pub expires_at_ms: UnixMs,
}

impl Store {
    /// Makes a pass.
    ///
    /// # Errors
    /// When it exists or its session does not (conflict), or the database cannot be written.
    pub async fn create_pass(&self, new: &NewPass) -> Result<(), StoreError> {
        const DOING: &str = "make a pass";
        let (kind, name, session) = match &new.grant {
            Grant::Enter { name } => (PassKind::Enter, Some(name.as_str()), None),
            Grant::View { session } => (PassKind::Viewer, None, Some(session.as_str())),
        };
        let mut transaction = self.begin(WriteKind::CreatePass, DOING).await?;
        sqlx::query("INSERT INTO passes (hash, kind, name, session_id, expires_at_ms) VALUES ($1, $2, $3, $4, $5)")
            .bind(new.hash.as_str())
            .bind(kind.as_str())
            .bind(name)
            .bind(session)
            .bind(stored(new.expires_at_ms))
            .execute(&mut *transaction)
            .await
            .map_err(query(DOING))?;
        transaction.commit().await.map_err(query(DOING))
    }

    /// Uses a pass up and says what it was for. `None`: there is none, it was used before, or it is too old.
    ///
    /// # Errors
    /// When the database cannot be written or has an impossible row.
    pub async fn redeem_pass(&self, hash: &Sha256Hex, now_ms: UnixMs) -> Result<Option<Grant>, StoreError> {
        const DOING: &str = "use a pass up";
        let mut transaction = self.begin(WriteKind::RedeemPass, DOING).await?;
        let row = sqlx::query(
            "UPDATE passes SET used_at_ms = $2 WHERE hash = $1 AND used_at_ms IS NULL AND expires_at_ms > $2 \
             RETURNING kind, name, session_id",
        )
        .bind(hash.as_str())
        .bind(stored(now_ms))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(query(DOING))?;
        let Some(row) = row else {
            transaction.unchanged();
            return Ok(None);
        };
        transaction.commit().await.map_err(query(DOING))?;
        let cells = Cells::new(&row, "passes", "kind");
        match (cells.parsed("kind")?, cells.text_or_null("name")?, cells.parsed_or_null("session_id")?) {
            (PassKind::Enter, Some(name), None) => Ok(Some(Grant::Enter { name })),
            (PassKind::Viewer, None, Some(session)) => Ok(Some(Grant::View { session })),
            (PassKind::Enter | PassKind::Viewer, _, _) => {
                Err(cells.impossible("a pass for something else than its kind"))
            }
        }
    }
}
