//! Callers of the API, found by the hash of their secret, and what they may do.

use crate::{
    CallerKind, Sha256Hex, Store, StoreError, UnixMs, WriteKind,
    conditions::Conditions,
    error::query_error,
    row_macs::{RowMacs, tables::CALLERS},
    row_reader::{RowReader, to_sql_integer},
    text_enum::text_enum,
    write_transaction::WriteTransaction,
};
use anteroom_wire::{CallerId, Scope, Scopes, Secret, SessionId};
use sqlx::{AssertSqlSafe, any::AnyRow};

text_enum! {
    /// The role in the database.
    pub(crate) enum RoleKind {
        /// Operates the server.
        Operator = "operator",
        /// Reads what callers did.
        Auditor = "auditor",
        /// Starts sessions for its users and owns their credentials.
        Backend = "backend",
        /// A person who starts sessions and owns their credentials.
        User = "user",
        /// Uses one session.
        Viewer = "viewer",
        /// Looks at one session.
        Helper = "helper",
    }
}

/// The role of a caller. What each role may do is decided by `permits` in the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Operates the server: sees and may do everything.
    Operator,
    /// Reads what callers did; has no access to sessions and credentials.
    Auditor,
    /// Starts sessions for its users and owns their credentials.
    Backend,
    /// A person who starts sessions and owns their credentials.
    User,
    /// The user of this session: sees and uses it, and nothing else.
    Viewer(SessionId),
    /// Sees this session and its desktop, and cannot act in it.
    Helper(SessionId),
}

impl Role {
    /// The text in the database.
    pub fn as_str(&self) -> &'static str {
        self.kind().as_str()
    }

    /// The scopes of a caller with this role whose scopes are not restricted.
    pub fn scopes(&self) -> Scopes {
        match self {
            Self::Operator => Scopes::all(),
            Self::Auditor => [Scope::Metrics, Scope::Audit].into_iter().collect(),
            Self::Backend | Self::User => [Scope::Start, Scope::Read, Scope::Lease].into_iter().collect(),
            Self::Viewer(_) => [Scope::Start, Scope::Read].into_iter().collect(),
            Self::Helper(_) => [Scope::Read].into_iter().collect(),
        }
    }

    /// The only session that the caller sees.
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Self::Operator | Self::Auditor | Self::Backend | Self::User => None,
            Self::Viewer(session) | Self::Helper(session) => Some(session),
        }
    }

    fn kind(&self) -> RoleKind {
        match self {
            Self::Operator => RoleKind::Operator,
            Self::Auditor => RoleKind::Auditor,
            Self::Backend => RoleKind::Backend,
            Self::User => RoleKind::User,
            Self::Viewer(_) => RoleKind::Viewer,
            Self::Helper(_) => RoleKind::Helper,
        }
    }
}

/// A caller to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCaller {
    /// Its id.
    pub id: CallerId,
    /// What authenticates it.
    pub kind: CallerKind,
    /// Its role.
    pub role: Role,
    /// A name, for people.
    pub name: String,
    /// The hash of its secret; unique.
    pub secret: Sha256Hex,
    /// Its scopes.
    pub scopes: Scopes,
    /// The caller that makes this one; this one is revoked with it, and does not outlive an API token.
    pub parent: Option<CallerId>,
    /// The current time.
    pub created_at_ms: UnixMs,
    /// When it expires; `None`: it is valid until it is revoked.
    pub expires_at_ms: Option<UnixMs>,
}

impl NewCaller {
    /// An API token with all scopes of its role, without a parent and without an end.
    pub fn api_token(id: CallerId, role: Role, name: impl Into<String>, secret: &Secret, now_ms: UnixMs) -> Self {
        Self {
            id,
            kind: CallerKind::ApiToken,
            scopes: role.scopes(),
            role,
            name: name.into(),
            secret: Sha256Hex::of_secret(secret),
            parent: None,
            created_at_ms: now_ms,
            expires_at_ms: None,
        }
    }
}

/// A caller as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerRow {
    /// Its id.
    pub id: CallerId,
    /// What authenticates it.
    pub kind: CallerKind,
    /// Its role.
    pub role: Role,
    /// A name, for people.
    pub name: String,
    /// Its scopes.
    pub scopes: Scopes,
    /// The id under which its sessions and credentials are stored: its own, or for a rotated token that of the first token.
    pub account: CallerId,
    /// The caller that made it.
    pub parent: Option<CallerId>,
    /// When it was created.
    pub created_at_ms: UnixMs,
    /// When it expires.
    pub expires_at_ms: Option<UnixMs>,
    /// When it was last used, to the minute.
    pub last_used_at_ms: Option<UnixMs>,
    /// When it was revoked, if it was.
    pub revoked_at_ms: Option<UnixMs>,
}

impl CallerRow {
    /// Whether it is neither revoked nor expired.
    pub fn is_valid_at(&self, now_ms: UnixMs) -> bool {
        self.revoked_at_ms.is_none() && self.expires_at_ms.is_none_or(|end| end > now_ms)
    }
}

/// Selects callers in a list; an absent filter selects all.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallerFilter<'a> {
    /// With the role of this name.
    pub role: Option<&'a str>,
    /// Neither revoked nor expired at this time.
    pub valid_at_ms: Option<UnixMs>,
    /// Revoked, or expired at this time.
    pub ended_at_ms: Option<UnixMs>,
}

impl CallerFilter<'_> {
    /// Its conditions. The cookies of sessions' links are never selected.
    fn conditions(&self) -> Conditions {
        let mut conditions = Conditions::default();
        conditions
            .require("kind <> 'viewer_cookie'")
            .require_if("role = $n", self.role)
            .require_if("revoked_at_ms IS NULL AND (expires_at_ms IS NULL OR expires_at_ms > $n)", self.valid_at_ms)
            .require_if("(revoked_at_ms IS NOT NULL OR expires_at_ms <= $n)", self.ended_at_ms);
        conditions
    }
}

/// `SELECT` with every column.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, kind, role, name, token_hash, session_id, scopes, account_id, parent_id, created_at_ms, expires_at_ms, \
             last_used_at_ms, revoked_at_ms, mac FROM callers ",
            $rest
        )
    };
}

impl Store {
    /// Creates a caller.
    ///
    /// # Errors
    /// When its id or secret exists (conflict), its parent is revoked or has expired, or the database cannot be written.
    pub async fn create_caller(&self, new: &NewCaller) -> Result<CallerRow, StoreError> {
        const OPERATION: &str = "create a caller";
        let mut transaction = self.begin_write(WriteKind::CreateCaller, OPERATION).await?;
        let row = insert(self.row_macs(), &mut transaction, new, None).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(row)
    }

    /// The caller with this secret of this kind, if there is one that is neither revoked nor expired.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn find_caller_by_secret(
        &self,
        kind: CallerKind,
        secret: &Sha256Hex,
        now_ms: UnixMs,
    ) -> Result<Option<CallerRow>, StoreError> {
        let row = sqlx::query(select!(
            "WHERE token_hash = $1 AND kind = $2 AND revoked_at_ms IS NULL AND (expires_at_ms IS NULL OR expires_at_ms > $3)"
        ))
        .bind(secret.as_str())
        .bind(kind.as_str())
        .bind(to_sql_integer(now_ms))
        .fetch_optional(self.read_pool())
        .await;
        let row = row.map_err(query_error("find a caller by its secret"))?;
        row.map(|row| decode(self.row_macs(), &row)).transpose()
    }

    /// The caller, if there is one, revoked or not.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn get_caller(&self, id: &CallerId) -> Result<Option<CallerRow>, StoreError> {
        let row = sqlx::query(select!("WHERE id = $1")).bind(id.as_str()).fetch_optional(self.read_pool()).await;
        let row = row.map_err(query_error("read a caller"))?;
        row.map(|row| decode(self.row_macs(), &row)).transpose()
    }

    /// Callers except the cookies of sessions' links, the newest first, at most `limit`; with `before`, only older ones. Rows that were changed outside of this program are left out; the alarm names them.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_callers(
        &self,
        filter: &CallerFilter<'_>,
        limit: u32,
        before: Option<&CallerId>,
    ) -> Result<Vec<CallerRow>, StoreError> {
        let mut conditions = filter.conditions();
        conditions.require_if("id < $n", before.map(CallerId::as_str));
        // No input is inserted into the text.
        let text = format!("{} {} ORDER BY id DESC LIMIT {limit}", select!(""), conditions.text());
        let rows = conditions.bind(sqlx::query(AssertSqlSafe(text))).fetch_all(self.read_pool()).await;
        let rows = rows.map_err(query_error("list callers"))?;
        let decoded = rows.iter().map(|row| decode(self.row_macs(), row));
        decoded.filter(|row| !matches!(row, Err(StoreError::TamperedRow { .. }))).collect()
    }

    /// The number of callers that [`Store::list_callers`] lists on all pages, changed rows included.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count_callers(&self, filter: &CallerFilter<'_>) -> Result<u64, StoreError> {
        const OPERATION: &str = "count callers";
        let conditions = filter.conditions();
        let text = format!("SELECT COUNT(*) AS callers FROM callers {}", conditions.text());
        let row = conditions.bind(sqlx::query(AssertSqlSafe(text))).fetch_one(self.read_pool()).await;
        RowReader::new(&row.map_err(query_error(OPERATION))?, "callers", "callers").number("callers")
    }
}

impl Store {
    /// The helpers of a session that are neither revoked nor expired, the first ones first, at most `limit`. Rows that were changed
    /// outside of this program are left out; the alarm names them.
    pub(crate) async fn list_valid_helpers(
        &self,
        session: &SessionId,
        now_ms: UnixMs,
        limit: u32,
    ) -> Result<Vec<CallerRow>, StoreError> {
        let rows = sqlx::query(select!(
            "WHERE session_id = $1 AND role = 'helper' AND revoked_at_ms IS NULL \
             AND (expires_at_ms IS NULL OR expires_at_ms > $2) ORDER BY created_at_ms, id LIMIT $3"
        ));
        let rows = rows.bind(session.as_str()).bind(to_sql_integer(now_ms)).bind(i64::from(limit));
        let rows = rows.fetch_all(self.read_pool()).await.map_err(query_error("list helpers"))?;
        let decoded = rows.iter().map(|row| decode(self.row_macs(), row));
        decoded.filter(|row| !matches!(row, Err(StoreError::TamperedRow { .. }))).collect()
    }
}

/// Inserts a caller. `account`: of the token that it succeeds.
pub(crate) async fn insert(
    macs: &RowMacs,
    transaction: &mut WriteTransaction,
    new: &NewCaller,
    account: Option<&CallerId>,
) -> Result<CallerRow, StoreError> {
    const OPERATION: &str = "create a caller";
    let mut expires_at_ms = new.expires_at_ms;
    if let Some(parent) = &new.parent {
        let row = find_in_transaction(macs, transaction, parent).await?;
        let valid = row.filter(|row| row.revoked_at_ms.is_none());
        let row = valid.ok_or_else(|| StoreError::CallerInvalid(parent.clone()))?;
        if let (CallerKind::ApiToken, Some(end)) = (row.kind, row.expires_at_ms) {
            if end <= new.created_at_ms {
                return Err(StoreError::CallerInvalid(parent.clone()));
            }
            expires_at_ms = Some(expires_at_ms.map_or(end, |own| own.min(end)));
        }
    }
    let account = account.unwrap_or(&new.id);
    sqlx::query(
        "INSERT INTO callers (id, kind, role, name, token_hash, session_id, scopes, account_id, parent_id, created_at_ms, \
         expires_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(new.id.as_str())
    .bind(new.kind.as_str())
    .bind(new.role.as_str())
    .bind(new.name.as_str())
    .bind(new.secret.as_str())
    .bind(new.role.session().map(SessionId::as_str))
    .bind(new.scopes.to_string())
    .bind(account.as_str())
    .bind(new.parent.as_ref().map(CallerId::as_str))
    .bind(to_sql_integer(new.created_at_ms))
    .bind(expires_at_ms.map(to_sql_integer))
    .execute(&mut **transaction)
    .await
    .map_err(query_error(OPERATION))?;
    macs.renew(transaction, &CALLERS, new.id.as_str().into()).await?;
    Ok(CallerRow {
        id: new.id.clone(),
        kind: new.kind,
        role: new.role.clone(),
        name: new.name.clone(),
        scopes: new.scopes.clone(),
        account: account.clone(),
        parent: new.parent.clone(),
        created_at_ms: new.created_at_ms,
        expires_at_ms,
        last_used_at_ms: None,
        revoked_at_ms: None,
    })
}

/// The caller, revoked or not, within a transaction.
pub(crate) async fn find_in_transaction(
    macs: &RowMacs,
    transaction: &mut WriteTransaction,
    id: &CallerId,
) -> Result<Option<CallerRow>, StoreError> {
    let row = sqlx::query(select!("WHERE id = $1")).bind(id.as_str()).fetch_optional(&mut **transaction).await;
    row.map_err(query_error("read a caller"))?.map(|row| decode(macs, &row)).transpose()
}

fn decode(macs: &RowMacs, row: &AnyRow) -> Result<CallerRow, StoreError> {
    macs.verify(&CALLERS, row)?;
    let reader = RowReader::new(row, "callers", "id");
    let role = decode_role(&reader)?;
    Ok(CallerRow {
        id: reader.parsed("id")?,
        kind: reader.parsed("kind")?,
        role,
        name: reader.text("name")?,
        scopes: reader.parsed("scopes")?,
        account: reader.parsed("account_id")?,
        parent: reader.parsed_or_null("parent_id")?,
        created_at_ms: reader.number("created_at_ms")?,
        expires_at_ms: reader.number_or_null("expires_at_ms")?,
        last_used_at_ms: reader.number_or_null("last_used_at_ms")?,
        revoked_at_ms: reader.number_or_null("revoked_at_ms")?,
    })
}

/// The role in the columns `role` and `session_id`.
pub(crate) fn decode_role(reader: &RowReader<'_>) -> Result<Role, StoreError> {
    match (reader.parsed("role")?, reader.parsed_or_null("session_id")?) {
        (RoleKind::Operator, None) => Ok(Role::Operator),
        (RoleKind::Auditor, None) => Ok(Role::Auditor),
        (RoleKind::Backend, None) => Ok(Role::Backend),
        (RoleKind::User, None) => Ok(Role::User),
        (RoleKind::Viewer, Some(session)) => Ok(Role::Viewer(session)),
        (RoleKind::Helper, Some(session)) => Ok(Role::Helper(session)),
        (RoleKind::Operator | RoleKind::Auditor | RoleKind::Backend | RoleKind::User, Some(_)) => {
            Err(reader.corrupt_row_error("bound to a session"))
        }
        (RoleKind::Viewer | RoleKind::Helper, None) => Err(reader.corrupt_row_error("a viewer without a session")),
    }
}
