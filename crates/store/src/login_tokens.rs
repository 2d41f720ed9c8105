//! Login tokens: the single-use tokens in login links, exchanged for a cookie.

use crate::{
    Sha256Hex, Store, StoreError, UnixMs, WriteKind,
    error::query_error,
    row_reader::{RowReader, to_sql_integer},
    text_enum::text_enum,
};
use anteroom_wire::SessionId;

text_enum! {
    /// The kind of login token in the database.
    pub(crate) enum LoginTokenKind {
        /// Signs in an operator.
        Operator = "operator",
        /// Gives access to one session.
        Viewer = "viewer",
    }
}

/// What a login token permits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginScope {
    /// Its bearer becomes an operator.
    Operator {
        /// The operator's name, for people.
        name: String,
    },
    /// Its bearer becomes a viewer of this session.
    Session {
        /// The session.
        session: SessionId,
    },
}

/// A login token to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLoginToken {
    /// The token's hash; unique.
    pub hash: Sha256Hex,
    /// What it permits.
    pub scope: LoginScope,
    /// When it expires.
    pub expires_at_ms: UnixMs,
}

impl Store {
    /// Creates a login token.
    ///
    /// # Errors
    /// When it already exists or its session does not (conflict), or the database cannot be written.
    pub async fn create_login_token(&self, new: &NewLoginToken) -> Result<(), StoreError> {
        const OPERATION: &str = "create a login token";
        let (kind, name, session) = match &new.scope {
            LoginScope::Operator { name } => (LoginTokenKind::Operator, Some(name.as_str()), None),
            LoginScope::Session { session } => (LoginTokenKind::Viewer, None, Some(session.as_str())),
        };
        let mut transaction = self.begin_write(WriteKind::CreateLoginToken, OPERATION).await?;
        sqlx::query(
            "INSERT INTO login_tokens (hash, kind, name, session_id, expires_at_ms) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(new.hash.as_str())
        .bind(kind.as_str())
        .bind(name)
        .bind(session)
        .bind(to_sql_integer(new.expires_at_ms))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }

    /// Redeems a login token and returns what it permits. `None`: there is no such token, it was used before, or it has expired.
    ///
    /// # Errors
    /// When the database cannot be written or has a corrupt row.
    pub async fn redeem_login_token(&self, hash: &Sha256Hex, now_ms: UnixMs) -> Result<Option<LoginScope>, StoreError> {
        const OPERATION: &str = "redeem a login token";
        let mut transaction = self.begin_write(WriteKind::RedeemLoginToken, OPERATION).await?;
        let row = sqlx::query(
            "UPDATE login_tokens SET used_at_ms = $2 WHERE hash = $1 AND used_at_ms IS NULL AND expires_at_ms > $2 \
             RETURNING kind, name, session_id",
        )
        .bind(hash.as_str())
        .bind(to_sql_integer(now_ms))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        let Some(row) = row else {
            transaction.finish_unchanged();
            return Ok(None);
        };
        transaction.commit().await.map_err(query_error(OPERATION))?;
        let reader = RowReader::new(&row, "passes", "kind");
        match (reader.parsed("kind")?, reader.text_or_null("name")?, reader.parsed_or_null("session_id")?) {
            (LoginTokenKind::Operator, Some(name), None) => Ok(Some(LoginScope::Operator { name })),
            (LoginTokenKind::Viewer, None, Some(session)) => Ok(Some(LoginScope::Session { session })),
            (LoginTokenKind::Operator | LoginTokenKind::Viewer, _, _) => {
                Err(reader.corrupt_row_error("name and session do not match the kind"))
            }
        }
    }
}
