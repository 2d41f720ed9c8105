//! Passes: what a link carries, turned into a cookie once.

use crate::{
    Sha256Hex, Store, StoreError, UnixMs, WriteKind,
    row::{RowReader, stored},
    error::query_error,
    text_enum::text_enum,
};
use anteroom_wire::SessionId;

text_enum! {
    /// What a pass is for, as the database has it.
    pub(crate) enum LoginTokenKind {
        /// Lets an operator in.
        Operator = "operator",
        /// Opens one session.
        Viewer = "viewer",
    }
}

/// What a pass is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginScope {
    /// Its bearer becomes an operator of this name.
    Operator {
        /// For people.
        name: String,
    },
    /// Its bearer becomes a viewer of this session.
    Session {
        /// Which.
        session: SessionId,
    },
}

/// A pass to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLoginToken {
    /// Its hash; unique.
    pub hash: Sha256Hex,
    /// What it is for.
    pub scope: LoginScope,
    /// Until when it can be used.
    pub expires_at_ms: UnixMs,
}

impl Store {
    /// Makes a pass.
    ///
    /// # Errors
    /// When it exists or its session does not (conflict), or the database cannot be written.
    pub async fn create_login_token(&self, new: &NewLoginToken) -> Result<(), StoreError> {
        const OPERATION: &str = "make a pass";
        let (kind, name, session) = match &new.scope {
            LoginScope::Operator { name } => (LoginTokenKind::Operator, Some(name.as_str()), None),
            LoginScope::Session { session } => (LoginTokenKind::Viewer, None, Some(session.as_str())),
        };
        let mut transaction = self.begin(WriteKind::CreateLoginToken, OPERATION).await?;
        sqlx::query("INSERT INTO login_tokens (hash, kind, name, session_id, expires_at_ms) VALUES ($1, $2, $3, $4, $5)")
            .bind(new.hash.as_str())
            .bind(kind.as_str())
            .bind(name)
            .bind(session)
            .bind(stored(new.expires_at_ms))
            .execute(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }

    /// Uses a pass up and says what it was for. `None`: there is none, it was used before, or it is too old.
    ///
    /// # Errors
    /// When the database cannot be written or has an impossible row.
    pub async fn redeem_login_token(&self, hash: &Sha256Hex, now_ms: UnixMs) -> Result<Option<LoginScope>, StoreError> {
        const OPERATION: &str = "use a pass up";
        let mut transaction = self.begin(WriteKind::RedeemLoginToken, OPERATION).await?;
        let row = sqlx::query(
            "UPDATE login_tokens SET used_at_ms = $2 WHERE hash = $1 AND used_at_ms IS NULL AND expires_at_ms > $2 \
             RETURNING kind, name, session_id",
        )
        .bind(hash.as_str())
        .bind(stored(now_ms))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        let Some(row) = row else {
            transaction.unchanged();
            return Ok(None);
        };
        transaction.commit().await.map_err(query_error(OPERATION))?;
        let reader = RowReader::new(&row, "passes", "kind");
        match (reader.parsed("kind")?, reader.text_or_null("name")?, reader.parsed_or_null("session_id")?) {
            (LoginTokenKind::Operator, Some(name), None) => Ok(Some(LoginScope::Operator { name })),
            (LoginTokenKind::Viewer, None, Some(session)) => Ok(Some(LoginScope::Session { session })),
            (LoginTokenKind::Operator | LoginTokenKind::Viewer, _, _) => {
                Err(reader.corrupt("a pass for something else than its kind"))
            }
        }
    }
}
