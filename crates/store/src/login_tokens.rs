//! Login tokens: the single-use tokens in login links, exchanged for a cookie.

use crate::{
    Sha256Hex, Store, StoreError, UnixMs, WriteKind,
    error::query_error,
    row_macs::{RowMacs, tables::LOGIN_TOKENS},
    row_reader::{RowReader, to_sql_integer},
    text_enum::text_enum,
    write_transaction::WriteTransaction,
};
use anteroom_wire::{CallerId, SessionId};

text_enum! {
    /// The kind of login token in the database.
    pub(crate) enum LoginTokenKind {
        /// Signs in an operator.
        Operator = "operator",
        /// Gives access to one session.
        Viewer = "viewer",
        /// Lets a person look at one session.
        Helper = "helper",
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
    /// Its bearer may look at this session.
    Helper {
        /// The session.
        session: SessionId,
        /// The helper's name, for people.
        name: String,
    },
}

/// A login token to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLoginToken {
    /// The token's hash; unique.
    pub hash: Sha256Hex,
    /// What it permits.
    pub scope: LoginScope,
    /// The caller that makes the link. Its bearer's caller is revoked with it.
    pub creator: Option<CallerId>,
    /// When it expires.
    pub expires_at_ms: UnixMs,
}

/// A login token that was redeemed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedeemedLoginToken {
    /// What it permits.
    pub scope: LoginScope,
    /// The caller that made the link.
    pub creator: Option<CallerId>,
    /// The id of the caller to create for a helper: the invitation was listed with it.
    pub caller: CallerId,
}

const CREATE: &str = "create a login token";

impl Store {
    /// Creates a login token.
    ///
    /// # Errors
    /// When it already exists or its session does not (conflict), or the database cannot be written.
    pub async fn create_login_token(&self, new: &NewLoginToken) -> Result<(), StoreError> {
        let mut transaction = self.begin_write(WriteKind::CreateLoginToken, CREATE).await?;
        insert(self.row_macs(), &mut transaction, new).await?;
        transaction.commit().await.map_err(query_error(CREATE))
    }

    /// Redeems a login token and returns what it permits. `None`: there is no such token, it was used before, it has expired, or the
    /// caller that made it is revoked. A link does not outlive an API token that made it.
    ///
    /// # Errors
    /// When the database cannot be written or has a corrupt row.
    pub async fn redeem_login_token(
        &self,
        hash: &Sha256Hex,
        now_ms: UnixMs,
    ) -> Result<Option<RedeemedLoginToken>, StoreError> {
        const OPERATION: &str = "redeem a login token";
        let mut transaction = self.begin_write(WriteKind::RedeemLoginToken, OPERATION).await?;
        let unused = self.require_unused(&mut transaction, &LOGIN_TOKENS, hash).await;
        unused.inspect_err(|_| transaction.end_by_rollback())?;
        let row = sqlx::query(
            "UPDATE login_tokens SET used_at_ms = $2, mac = NULL WHERE hash = $1 AND used_at_ms IS NULL AND expires_at_ms > $2 \
             AND NOT EXISTS (SELECT 1 FROM callers WHERE callers.id = login_tokens.caller_id AND \
             (revoked_at_ms IS NOT NULL OR (callers.kind = 'api_token' AND callers.expires_at_ms <= $2))) \
             RETURNING kind, name, session_id, caller_id, expires_at_ms",
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
        let reader = RowReader::new(&row, "login_tokens", "kind");
        let scope = match (reader.parsed("kind")?, reader.text_or_null("name")?, reader.parsed_or_null("session_id")?) {
            (LoginTokenKind::Operator, Some(name), None) => LoginScope::Operator { name },
            (LoginTokenKind::Viewer, None, Some(session)) => LoginScope::Session { session },
            (LoginTokenKind::Helper, Some(name), Some(session)) => LoginScope::Helper { session, name },
            (LoginTokenKind::Operator | LoginTokenKind::Viewer | LoginTokenKind::Helper, _, _) => {
                return Err(reader.corrupt_row_error("name and session do not match the kind"));
            }
        };
        let creator = reader.parsed_or_null("caller_id")?;
        let caller = caller_id(hash, reader.number("expires_at_ms")?);
        Ok(Some(RedeemedLoginToken { scope, creator, caller }))
    }
}

impl Store {
    /// The session of a person's link that cannot be redeemed any more; `None`: there is no such link, it is of another kind, or it was
    /// purged. Only for who presents the link.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn session_of_login_token(&self, hash: &Sha256Hex) -> Result<Option<SessionId>, StoreError> {
        const OPERATION: &str = "find the session of a login token";
        let row = sqlx::query("SELECT session_id FROM login_tokens WHERE hash = $1 AND kind = $2")
            .bind(hash.as_str())
            .bind(LoginTokenKind::Viewer.as_str())
            .fetch_optional(self.read_pool())
            .await
            .map_err(query_error(OPERATION))?;
        row.map(|row| RowReader::new(&row, "login_tokens", "kind").parsed("session_id")).transpose()
    }
}

/// The id of the caller that a helper's invitation makes, known before the invitation is used: of its end and its hash, which has as many
/// random bits.
pub(crate) fn caller_id(hash: &Sha256Hex, expires_at_ms: UnixMs) -> CallerId {
    CallerId::from_parts(expires_at_ms, hash.first_bytes())
}

/// Inserts a login token.
pub(crate) async fn insert(
    macs: &RowMacs,
    transaction: &mut WriteTransaction,
    new: &NewLoginToken,
) -> Result<(), StoreError> {
    let (kind, name, session) = match &new.scope {
        LoginScope::Operator { name } => (LoginTokenKind::Operator, Some(name.as_str()), None),
        LoginScope::Session { session } => (LoginTokenKind::Viewer, None, Some(session.as_str())),
        LoginScope::Helper { session, name } => (LoginTokenKind::Helper, Some(name.as_str()), Some(session.as_str())),
    };
    sqlx::query(
        "INSERT INTO login_tokens (hash, kind, name, session_id, caller_id, expires_at_ms) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(new.hash.as_str())
    .bind(kind.as_str())
    .bind(name)
    .bind(session)
    .bind(new.creator.as_ref().map(CallerId::as_str))
    .bind(to_sql_integer(new.expires_at_ms))
    .execute(&mut **transaction)
    .await
    .map_err(query_error(CREATE))?;
    macs.renew(transaction, &LOGIN_TOKENS, new.hash.as_str().into()).await
}
