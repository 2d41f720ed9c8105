//! The helpers of a session: people who were invited to look at it. An invitation and the caller that is created when it is used have one
//! id, so that it can be ended at any time.

use crate::{
    CallerRow, LoginScope, NewCaller, NewLoginToken, Sha256Hex, Store, StoreError, UnixMs, WriteKind, callers,
    error::query_error,
    login_tokens,
    revoke_caller::revoke_family,
    row_macs::tables::LOGIN_TOKENS,
    row_reader::{RowReader, to_sql_integer},
    write_transaction::WriteTransaction,
};
use anteroom_wire::{CallerId, SessionId};

const INVITE: &str = "invite a helper";
const END: &str = "end the access of a helper";

/// A helper, or an invitation that was not used yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperRow {
    /// The id of the helper's caller.
    pub id: CallerId,
    /// The name given at the invitation.
    pub name: String,
    /// What became of the invitation.
    pub access: HelperAccess,
}

/// What became of an invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelperAccess {
    /// It was not used yet.
    Invited {
        /// When it expires.
        expires_at_ms: UnixMs,
    },
    /// The helper used it in a browser.
    Admitted {
        /// When it was used.
        since_ms: UnixMs,
        /// When the browser was last used, to the minute.
        last_used_at_ms: UnixMs,
        /// When the access expires.
        expires_at_ms: Option<UnixMs>,
        /// The client's address at the sign-in; `None`: its cookie was not sent yet.
        address: Option<String>,
    },
}

impl Store {
    /// Creates an invitation of a helper. Returns `false` if the session has `helpers_max` helpers and open invitations already.
    ///
    /// # Errors
    /// When it already exists or its session does not (conflict), or the database cannot be written.
    pub async fn create_invitation(
        &self,
        session: &SessionId,
        name: &str,
        new: &Invitation,
        helpers_max: u32,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin_write(WriteKind::CreateLoginToken, INVITE).await?;
        if count(&mut transaction, session, new.now_ms).await? >= u64::from(helpers_max) {
            transaction.finish_unchanged();
            return Ok(false);
        }
        let scope = LoginScope::Helper { session: session.clone(), name: name.to_owned() };
        let Invitation { hash, creator, expires_at_ms, .. } = new.clone();
        let token = NewLoginToken { hash, scope, creator: Some(creator), expires_at_ms };
        login_tokens::insert(self.row_macs(), &mut transaction, &token).await?;
        transaction.commit().await.map_err(query_error(INVITE))?;
        Ok(true)
    }

    /// Creates the caller of a helper whose invitation was redeemed.
    ///
    /// # Errors
    /// When the invitation was ended since then, its creator is revoked or has expired, or the database cannot be written.
    pub async fn create_helper(&self, new: &NewCaller, invitation: &Sha256Hex) -> Result<CallerRow, StoreError> {
        const OPERATION: &str = "create a helper";
        let mut transaction = self.begin_write(WriteKind::CreateCaller, OPERATION).await?;
        let found = sqlx::query("SELECT 1 FROM login_tokens WHERE hash = $1").bind(invitation.as_str());
        let found = found.fetch_optional(&mut *transaction).await.map_err(query_error(OPERATION))?;
        if found.is_none() {
            transaction.finish_unchanged();
            return Err(StoreError::CallerInvalid(new.id.clone()));
        }
        let row = callers::insert(self.row_macs(), &mut transaction, new, None).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(row)
    }

    /// The open invitations and the helpers of a session, at most `limit` of each. Rows that were changed outside of this program are
    /// left out; the alarm names them.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_helpers(
        &self,
        session: &SessionId,
        now_ms: UnixMs,
        limit: u32,
    ) -> Result<Vec<HelperRow>, StoreError> {
        let mut helpers = self.list_invitations(session, now_ms, limit).await?;
        for caller in self.list_valid_helpers(session, now_ms, limit).await? {
            let browser = self.get_browser(&caller.id).await?;
            let access = HelperAccess::Admitted {
                since_ms: caller.created_at_ms,
                last_used_at_ms: browser.as_ref().map_or(caller.created_at_ms, |browser| browser.last_used_at_ms),
                expires_at_ms: caller.expires_at_ms,
                address: browser.map(|browser| browser.address),
            };
            helpers.push(HelperRow { id: caller.id, name: caller.name, access });
        }
        Ok(helpers)
    }

    async fn list_invitations(
        &self,
        session: &SessionId,
        now_ms: UnixMs,
        limit: u32,
    ) -> Result<Vec<HelperRow>, StoreError> {
        let text = LOGIN_TOKENS.select(
            "WHERE kind = 'helper' AND session_id = $1 AND used_at_ms IS NULL AND expires_at_ms > $2 \
             ORDER BY expires_at_ms, hash LIMIT $3",
        );
        // No input was inserted into the text.
        let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(session.as_str()).bind(to_sql_integer(now_ms));
        let rows = query.bind(i64::from(limit)).fetch_all(self.read_pool()).await;
        let rows = rows.map_err(query_error("list invitations"))?;
        let valid = rows.iter().filter(|row| self.row_macs().verify(&LOGIN_TOKENS, row).is_ok());
        let decoded = valid.map(|row| {
            let reader = RowReader::new(row, "login_tokens", "kind");
            let expires_at_ms = reader.number("expires_at_ms")?;
            let id = login_tokens::caller_id(&reader.parsed("hash")?, expires_at_ms);
            Ok(HelperRow { id, name: reader.text("name")?, access: HelperAccess::Invited { expires_at_ms } })
        });
        decoded.collect()
    }

    /// Ends the access of a helper of this session: revokes its caller, or its invitation if that was not used yet. Returns `false` if the
    /// session has no such helper.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn end_helper(&self, session: &SessionId, id: &CallerId, at_ms: UnixMs) -> Result<bool, StoreError> {
        let mut transaction = self.begin_write(WriteKind::RevokeCaller, END).await?;
        let invitation = find_invitation(&mut transaction, session, id).await?;
        if let Some(hash) = &invitation {
            // Also of one that is being redeemed: its caller is not created without it.
            let deleted = sqlx::query("DELETE FROM login_tokens WHERE hash = $1").bind(hash.as_str());
            deleted.execute(&mut *transaction).await.map_err(query_error(END))?;
        }
        let caller = sqlx::query("SELECT 1 FROM callers WHERE id = $1 AND role = 'helper' AND session_id = $2")
            .bind(id.as_str())
            .bind(session.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(query_error(END))?;
        let revoked = match caller {
            Some(_) => revoke_family(self.row_macs(), &mut transaction, id, at_ms).await?,
            None => Vec::new(),
        };
        if invitation.is_none() && revoked.is_empty() {
            transaction.finish_unchanged();
            return Ok(false);
        }
        transaction.commit().await.map_err(query_error(END))?;
        Ok(true)
    }
}

/// An invitation of a helper to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The hash of the link's login token; unique.
    pub hash: Sha256Hex,
    /// The caller that makes the link. The helper is revoked with it.
    pub creator: CallerId,
    /// The current time.
    pub now_ms: UnixMs,
    /// When it expires.
    pub expires_at_ms: UnixMs,
}

/// The invitation of the helper with this id, used or not.
async fn find_invitation(
    transaction: &mut WriteTransaction,
    session: &SessionId,
    id: &CallerId,
) -> Result<Option<Sha256Hex>, StoreError> {
    let rows = sqlx::query("SELECT hash, expires_at_ms FROM login_tokens WHERE kind = 'helper' AND session_id = $1");
    let rows = rows.bind(session.as_str()).fetch_all(&mut **transaction).await.map_err(query_error(END))?;
    for row in &rows {
        let reader = RowReader::new(row, "login_tokens", "hash");
        let hash = reader.parsed("hash")?;
        if login_tokens::caller_id(&hash, reader.number("expires_at_ms")?) == *id {
            return Ok(Some(hash));
        }
    }
    Ok(None)
}

/// The helpers and open invitations of a session.
async fn count(transaction: &mut WriteTransaction, session: &SessionId, now_ms: UnixMs) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM callers WHERE session_id = $1 AND role = 'helper' AND revoked_at_ms IS NULL \
         AND (expires_at_ms IS NULL OR expires_at_ms > $2)) + (SELECT COUNT(*) FROM login_tokens WHERE session_id = $1 \
         AND kind = 'helper' AND used_at_ms IS NULL AND expires_at_ms > $2) AS helpers",
    )
    .bind(session.as_str())
    .bind(to_sql_integer(now_ms))
    .fetch_one(&mut **transaction)
    .await
    .map_err(query_error(INVITE))?;
    RowReader::new(&row, "callers", "helpers").number("helpers")
}
