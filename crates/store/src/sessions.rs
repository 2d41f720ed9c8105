//! Sessions: creates them, reads them and records their use.

mod row;

pub use row::{Reason, RowStatus, SessionEnd, SessionOutcome, SessionRow};
pub(crate) use row::{SessionStateKind, decode_method, encode_settings};

use crate::{
    Holder, NewTimelineEntry, ObservedWrite, SessionPurpose, Sha256Hex, Store, StoreError, UnixMs, WriteKind,
    connection::Connection,
    dialect::WriteScope,
    error::query_error,
    row_macs::{RowMacs, tables::SESSIONS},
    row_reader::{RowReader, to_sql_integer},
    timeline,
};
use anteroom_wire::{CallerId, CredentialId, ProviderId, SessionId, provider::MethodName};
use row::decode_session_row;
use sqlx::any::AnyRow;
use std::collections::BTreeMap;

/// A session to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// The caller that starts it; must exist.
    pub owner: CallerId,
    /// The owner's id for the user.
    pub user_id: Option<String>,
    /// The provider.
    pub provider: ProviderId,
    /// Where the page redirects the user at the end.
    pub return_url: Option<String>,
    /// Two requests of one owner with the same key create only one session.
    pub idempotency: Option<IdempotencyKey>,
    /// The present time.
    pub created_at_ms: UnixMs,
    /// When it ends unless it is used before.
    pub idle_deadline_ms: Option<UnixMs>,
    /// When it ends at the latest.
    pub deadline_ms: UnixMs,
    /// The external machine to use; `None`: machines of this host.
    pub external: Option<ExternalMachineClaim>,
    /// The sign-in method; `None`: the preferred one.
    pub method: Option<MethodName>,
    /// Its purpose.
    pub purpose: SessionPurpose,
    /// Settings of the provider, id → value.
    pub settings: BTreeMap<String, String>,
    /// In a cluster: this host, or the line of sessions that wait for one.
    pub place: NewSessionPlace,
    /// In a cluster: if all hosts together hold so many sessions of the owner, it waits for a host; `None`: it does not.
    pub machines_by_caller_max: Option<u32>,
}

/// Where a new session runs. Without a cluster it has no meaning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NewSessionPlace {
    /// On this host.
    #[default]
    ThisHost,
    /// On the first host that has room for it.
    Waits {
        /// What a host needs to take it, as JSON; `None`: any host can.
        placement: Option<String>,
    },
}

/// An external machine, which only one active session at a time may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalMachineClaim {
    /// Its name in the configuration.
    pub machine: String,
    /// The hash of its agent token.
    pub agent_token: Sha256Hex,
}

/// A caller's key for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The caller's text.
    pub key: String,
    /// The hash of the request without the key.
    pub request: Sha256Hex,
}

/// The result of creating a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateSessionOutcome {
    /// A new session.
    New(SessionRow),
    /// The same request was made before and created this session.
    Existing(SessionRow),
    /// The key was used before for another request, with its session. Only the fact may be shown to the caller, not the session.
    IdempotencyKeyReused(SessionRow),
    /// This active session uses the external machine. Only the fact may be shown to the caller, not the session.
    MachineInUse(SessionRow),
}

/// Whose rows are selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerFilter<'a> {
    /// Rows of all owners.
    All,
    /// Rows of this owner.
    Owner(&'a CallerId),
}

impl<'a> OwnerFilter<'a> {
    /// The owner as a nullable parameter: `($n IS NULL OR owner = $n)`.
    pub(crate) fn sql_parameter(self) -> Option<&'a str> {
        match self {
            Self::All => None,
            Self::Owner(owner) => Some(owner.as_str()),
        }
    }
}

/// Every column of a session, and its owner's name and role.
macro_rules! columns {
    () => {
        "id, caller_id, user_id, provider, return_url, request_hash, state, reason_code, reason_detail, epoch, \
         generation, machine_id, agent_token_hash, claimed_generation, cli_started, created_at_ms, last_used_at_ms, \
         idle_deadline_ms, deadline_ms, ended_at_ms, credential_id, external_machine, method, purpose, used_credential_id, used_revision, \
         renewed_credential_id, exit_code, settings, idempotency_key, host_id, host_incarnation, placement, queued_at_ms, mac, \
         (SELECT name FROM callers WHERE callers.id = sessions.caller_id) AS owner_name, \
         (SELECT role FROM callers WHERE callers.id = sessions.caller_id) AS owner_role"
    };
}

/// `SELECT` with every column.
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM sessions ", $rest)
    };
}

// After the macros, which they use.
mod find;
mod held;

pub use find::{EndedSessions, SessionFilter, SessionStates};
pub use held::WaitingCounts;

impl Store {
    /// Creates a session and its first timeline entry, unless the owner has used the same idempotency key before.
    ///
    /// # Errors
    /// When the owner does not exist or the id does (conflict), this host was fenced, or the database cannot be written.
    pub async fn create_session(
        &self,
        new: &NewSession,
        entry: NewTimelineEntry,
    ) -> Result<CreateSessionOutcome, StoreError> {
        const OPERATION: &str = "create a session";
        let mut transaction =
            self.begin_write(ObservedWrite::with_entry(WriteKind::CreateSession, entry.kind), OPERATION).await?;
        let holder = self.holder();
        let created = insert(self.row_macs(), holder.as_ref(), &mut transaction, new).await?;
        if let CreateSessionOutcome::New(row) = &created {
            if new.place == NewSessionPlace::ThisHost && row.holder != holder && !row.waits_for_host() {
                return Err(self.refuse(transaction, &row.id));
            }
            timeline::begin_timeline_in(&mut transaction, &row.id, entry, self).await?;
        }
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(created)
    }

    /// The session for which the owner has used this idempotency key before: [`Created::Existing`] or [`Created::IdempotencyKeyReused`]; `None`: it was not.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn find_by_idempotency_key(
        &self,
        owner: &CallerId,
        key: &IdempotencyKey,
    ) -> Result<Option<CreateSessionOutcome>, StoreError> {
        let mut connection =
            self.read_pool().acquire().await.map_err(query_error("find a session by its idempotency key"))?;
        with_key(self.row_macs(), &mut connection, owner, key).await
    }

    /// The session, if there is one.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn get_session(&self, id: &SessionId) -> Result<Option<SessionRow>, StoreError> {
        let mut connection = self.read_pool().acquire().await.map_err(query_error("read a session"))?;
        fetch_session(self.row_macs(), &mut connection, id).await
    }

    /// The newest session whose machine's agent has this token, active or ended.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn find_session_by_agent_token(&self, token: &Sha256Hex) -> Result<Option<SessionRow>, StoreError> {
        const OPERATION: &str = "find a session by its agent's token";
        let row = sqlx::query(select!("WHERE agent_token_hash = $1 ORDER BY id DESC LIMIT 1"))
            .bind(token.as_str())
            .fetch_optional(self.read_pool())
            .await
            .map_err(query_error(OPERATION))?;
        row.map(|row| decode_session_row(self.row_macs(), &row)).transpose()
    }

    /// The newest sign-in that stored this credential, unless its row was changed outside of this program.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn find_last_sign_in(&self, credential: &CredentialId) -> Result<Option<SessionRow>, StoreError> {
        let rows =
            sqlx::query(select!("WHERE credential_id = $1 AND used_credential_id IS NULL ORDER BY id DESC LIMIT 1"))
                .bind(credential.as_str())
                .fetch_all(self.read_pool())
                .await
                .map_err(query_error("find the sign-in of a credential"))?;
        Ok(self.decode_valid(&rows)?.pop())
    }

    /// Sessions, the newest first, at most `limit`; with `before`, only older ones. In all lists, sessions whose rows were changed
    /// outside of this program are left out; the alarm names them.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_sessions(
        &self,
        filter: OwnerFilter<'_>,
        limit: u32,
        before: Option<&SessionId>,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let rows = sqlx::query(select!(
            "WHERE ($1 IS NULL OR caller_id = $1) AND ($2 IS NULL OR id < $2) ORDER BY id DESC LIMIT $3"
        ))
        .bind(filter.sql_parameter())
        .bind(before.map(SessionId::as_str))
        .bind(i64::from(limit))
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("list sessions"))?;
        self.decode_valid(&rows)
    }

    fn decode_valid(&self, rows: &[AnyRow]) -> Result<Vec<SessionRow>, StoreError> {
        let decoded = rows.iter().map(|row| decode_session_row(self.row_macs(), row));
        decoded.filter(|row| !matches!(row, Err(StoreError::TamperedRow { .. }))).collect()
    }

    /// All active sessions, the oldest first. Their number is limited by admission.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_active_sessions(&self) -> Result<Vec<SessionRow>, StoreError> {
        let rows = sqlx::query(select!("WHERE state = 'active' ORDER BY id"))
            .fetch_all(self.read_pool())
            .await
            .map_err(query_error("list the active sessions"))?;
        self.decode_valid(&rows)
    }

    /// Active sessions with a deadline that has passed, the oldest first.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_sessions_past_deadline(&self, now_ms: UnixMs) -> Result<Vec<SessionRow>, StoreError> {
        let rows = sqlx::query(select!(
            "WHERE state = 'active' AND (deadline_ms <= $1 OR idle_deadline_ms <= $1) ORDER BY id"
        ))
        .bind(to_sql_integer(now_ms))
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("list the sessions past their deadline"))?;
        self.decode_valid(&rows)
    }

    /// Records the use of a session and moves its idle deadline, without a timeline entry or a new epoch. A use that is older than the
    /// recorded one changes nothing. Returns whether the session is active.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn record_session_use(
        &self,
        session: &SessionId,
        at_ms: UnixMs,
        idle_deadline_ms: Option<UnixMs>,
    ) -> Result<bool, StoreError> {
        const OPERATION: &str = "record the use of a session";
        let holder = self.holder();
        let mut transaction = self.begin_write_in(WriteScope::Session(session), WriteKind::Touch, OPERATION).await?;
        let done = sqlx::query(
            "UPDATE sessions SET \
             idle_deadline_ms = CASE WHEN last_used_at_ms <= $2 THEN $3 ELSE idle_deadline_ms END, \
             last_used_at_ms = CASE WHEN last_used_at_ms <= $2 THEN $2 ELSE last_used_at_ms END \
             WHERE id = $1 AND state = 'active' AND ($4 IS NULL OR (host_id = $4 AND host_incarnation = $5))",
        )
        .bind(session.as_str())
        .bind(to_sql_integer(at_ms))
        .bind(idle_deadline_ms.map(to_sql_integer))
        .bind(holder.as_ref().map(|holder| holder.host.as_str()))
        .bind(holder.as_ref().map(|holder| to_sql_integer(holder.incarnation)))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        if done.rows_affected() == 0 && holder.is_some() {
            let row = fetch_session(self.row_macs(), &mut transaction, session).await?;
            if row.is_some_and(|row| row.is_active()) {
                return Err(self.refuse(transaction, session));
            }
        }
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(done.rows_affected() == 1)
    }
}

async fn insert(
    macs: &RowMacs,
    holder: Option<&Holder>,
    connection: &mut Connection,
    new: &NewSession,
) -> Result<CreateSessionOutcome, StoreError> {
    const OPERATION: &str = "create a session";
    let key = new.idempotency.as_ref();
    let external = new.external.as_ref();
    let has_too_many = holder.is_some() && held::has_too_many(&mut *connection, new).await?;
    let (holder, waits, placement) = match &new.place {
        NewSessionPlace::ThisHost if has_too_many => (None, true, None),
        NewSessionPlace::ThisHost => (holder, false, None),
        NewSessionPlace::Waits { placement } => (None, holder.is_some(), placement.as_deref()),
    };
    if let Some(external) = external {
        // A repeated request finds its own session, which uses the machine.
        if let Some(key) = key
            && let Some(found) = with_key(macs, &mut *connection, &new.owner, key).await?
        {
            return Ok(found);
        }
        if let Some(holder) = holder_of(macs, &mut *connection, external).await? {
            return Ok(CreateSessionOutcome::MachineInUse(holder));
        }
    }
    let inserted = sqlx::query(concat!(
        "INSERT INTO sessions (id, caller_id, user_id, provider, return_url, idempotency_key, request_hash, state, epoch, \
         generation, cli_started, created_at_ms, last_used_at_ms, idle_deadline_ms, deadline_ms, external_machine, \
         agent_token_hash, method, purpose, used_credential_id, used_revision, renewed_credential_id, settings, \
         host_id, host_incarnation, placement, queued_at_ms, fair_class, fair_rank) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'active', 0, 1, 0, $8, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
         (SELECT id FROM hosts WHERE id = $19 AND incarnation = $20 AND fenced < incarnation AND left_at_ms IS NULL), \
         (SELECT incarnation FROM hosts WHERE id = $19 AND incarnation = $20 AND fenced < incarnation AND left_at_ms IS NULL), \
         $21, CAST($22 AS BIGINT), CASE WHEN CAST($22 AS BIGINT) IS NOT NULL THEN 1 END, \
         CASE WHEN CAST($22 AS BIGINT) IS NOT NULL THEN COALESCE(\
         (SELECT MAX(fair_rank) + 1 FROM sessions WHERE state = 'active' AND host_id IS NULL AND fair_class = 1 AND caller_id = $2), \
         (SELECT MIN(fair_rank) FROM sessions WHERE state = 'active' AND host_id IS NULL AND fair_class = 1), 0) END) \
         ON CONFLICT (caller_id, idempotency_key) DO NOTHING RETURNING ",
        columns!()
    ))
    .bind(new.id.as_str())
    .bind(new.owner.as_str())
    .bind(new.user_id.as_deref())
    .bind(new.provider.as_str())
    .bind(new.return_url.as_deref())
    .bind(key.map(|key| key.key.as_str()))
    .bind(key.map(|key| key.request.as_str()))
    .bind(to_sql_integer(new.created_at_ms))
    .bind(new.idle_deadline_ms.map(to_sql_integer))
    .bind(to_sql_integer(new.deadline_ms))
    .bind(external.map(|external| external.machine.as_str()))
    .bind(external.map(|external| external.agent_token.as_str()))
    .bind(new.method.as_ref().map(MethodName::as_str))
    .bind(new.purpose.kind().as_str())
    .bind(new.purpose.credential_use().map(|using| using.credential.as_str()))
    .bind(new.purpose.credential_use().map(|using| to_sql_integer(using.revision)))
    .bind(new.purpose.renewed_credential().map(CredentialId::as_str))
    .bind(encode_settings(&new.settings))
    .bind(holder.map(|holder| holder.host.as_str()))
    .bind(holder.map(|holder| to_sql_integer(holder.incarnation)))
    .bind(placement)
    .bind(waits.then(|| to_sql_integer(new.created_at_ms)))
    .fetch_all(&mut *connection)
    .await
    .map_err(query_error(OPERATION))?;
    if let Some(row) = inserted.first() {
        macs.renew_row(connection, &SESSIONS, row).await?;
        return row::decode_unverified(row).map(CreateSessionOutcome::New);
    }
    let found = match key {
        Some(key) => with_key(macs, connection, &new.owner, key).await?,
        None => None,
    };
    found.ok_or_else(|| query_error(OPERATION)(sqlx::Error::RowNotFound))
}

/// The active session on this external machine.
async fn holder_of(
    macs: &RowMacs,
    connection: &mut Connection,
    external: &ExternalMachineClaim,
) -> Result<Option<SessionRow>, StoreError> {
    let holder = sqlx::query(select!("WHERE external_machine = $1 AND state = 'active'"))
        .bind(external.machine.as_str())
        .fetch_optional(connection)
        .await
        .map_err(query_error("create a session"))?;
    holder.map(|holder| decode_session_row(macs, &holder)).transpose()
}

/// The session for which the owner has used this idempotency key before.
async fn with_key(
    macs: &RowMacs,
    connection: &mut Connection,
    owner: &CallerId,
    key: &IdempotencyKey,
) -> Result<Option<CreateSessionOutcome>, StoreError> {
    let row = sqlx::query(select!("WHERE caller_id = $1 AND idempotency_key = $2"))
        .bind(owner.as_str())
        .bind(key.key.as_str())
        .fetch_optional(connection)
        .await
        .map_err(query_error("create a session"))?;
    let Some(row) = row else { return Ok(None) };
    let request = RowReader::new(&row, "sessions", "id").parsed_or_null::<Sha256Hex>("request_hash")?;
    let row = decode_session_row(macs, &row)?;
    let same = request.as_ref() == Some(&key.request);
    Ok(Some(if same { CreateSessionOutcome::Existing(row) } else { CreateSessionOutcome::IdempotencyKeyReused(row) }))
}

/// Reads a session on the caller's connection or transaction.
pub(crate) async fn fetch_session(
    macs: &RowMacs,
    connection: &mut Connection,
    id: &SessionId,
) -> Result<Option<SessionRow>, StoreError> {
    let row = sqlx::query(select!("WHERE id = $1")).bind(id.as_str()).fetch_optional(connection).await;
    row.map_err(query_error("read a session"))?.map(|row| decode_session_row(macs, &row)).transpose()
}

/// Reads a session that must exist.
pub(crate) async fn fetch_existing_session(
    macs: &RowMacs,
    connection: &mut Connection,
    id: &SessionId,
) -> Result<SessionRow, StoreError> {
    fetch_session(macs, connection, id).await?.ok_or_else(|| StoreError::SessionNotFound(id.clone()))
}
