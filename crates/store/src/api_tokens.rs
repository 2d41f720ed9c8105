//! API tokens: unique names, rotation with an overlap, last use.

use crate::{
    CallerKind, CallerRow, NewCaller, Sha256Hex, Store, StoreError, UnixMs, WriteKind,
    callers::{find_in_transaction, insert},
    connection::Connection,
    error::query_error,
    look_alike::look_alike,
    revoke_caller::shorten_descendants,
    row_reader::{RowReader, to_sql_integer},
    write_transaction::WriteTransaction,
};
use anteroom_wire::CallerId;

/// How often the last use of a caller is written at most, milliseconds.
const LAST_USE_EVERY_MS: UnixMs = 60_000;

const COMPARE_NAMES: &str = "compare names of tokens";

/// The successor of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The successor's id.
    pub id: CallerId,
    /// The hash of the successor's secret.
    pub secret: Sha256Hex,
    /// The current time.
    pub now_ms: UnixMs,
    /// How long the old token remains valid, milliseconds.
    pub overlap_ms: u64,
}

impl Store {
    /// Creates an API token.
    ///
    /// # Errors
    /// When another valid token of the role has this name, or one of any role has another one that looks like it, its id or secret exists (conflict), or the database cannot be written.
    pub async fn create_api_token(&self, new: &NewCaller) -> Result<CallerRow, StoreError> {
        const OPERATION: &str = "create an API token";
        let mut transaction = self.begin_write(WriteKind::CreateCaller, OPERATION).await?;
        require_unused_name(&mut transaction, (new.role.as_str(), &new.name, &new.id), new.created_at_ms).await?;
        if let Some((id, _)) = names_like(&mut transaction, &new.name, new.created_at_ms)
            .await?
            .into_iter()
            .find(|(_, name)| *name != new.name)
        {
            return Err(StoreError::NameLooksAlike(id));
        }
        let row = insert(self.row_macs(), &mut transaction, new, None).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(row)
    }

    /// Creates the successor of an API token, with its name, role, scopes and account and, if it has an end, as long a life. The old
    /// token and what it made end after the overlap at the latest.
    ///
    /// # Errors
    /// When the token is revoked, has expired, does not exist or has a successor; or the database cannot be written.
    pub async fn rotate_api_token(&self, old: &CallerId, rotation: &Rotation) -> Result<CallerRow, StoreError> {
        const OPERATION: &str = "rotate an API token";
        let now = rotation.now_ms;
        let mut transaction = self.begin_write(WriteKind::RotateToken, OPERATION).await?;
        let row = find_in_transaction(self.row_macs(), &mut transaction, old).await?;
        let valid = row.filter(|row| row.kind == CallerKind::ApiToken && row.is_valid_at(now));
        let row = valid.ok_or_else(|| StoreError::CallerInvalid(old.clone()))?;
        let name = (row.role.as_str(), row.name.as_str(), &row.id);
        // Predecessors with this name end before this token; a successor ends after it.
        require_unused_name(&mut transaction, name, row.expires_at_ms.unwrap_or(UnixMs::MAX)).await?;
        let lifetime_ms = row.expires_at_ms.map(|end| end.saturating_sub(row.created_at_ms));
        let successor = NewCaller {
            id: rotation.id.clone(),
            kind: CallerKind::ApiToken,
            role: row.role.clone(),
            name: row.name.clone(),
            secret: rotation.secret.clone(),
            scopes: row.scopes.clone(),
            parent: row.parent.clone(),
            created_at_ms: now,
            expires_at_ms: lifetime_ms.map(|lifetime_ms| now.saturating_add(lifetime_ms)),
        };
        let created = insert(self.row_macs(), &mut transaction, &successor, Some(&row.account)).await?;
        shorten_descendants(self.row_macs(), &mut transaction, old, now.saturating_add(rotation.overlap_ms)).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(created)
    }

    /// A valid API token whose name is this one or looks like it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn find_api_token_with_name_like(
        &self,
        name: &str,
        now_ms: UnixMs,
    ) -> Result<Option<CallerId>, StoreError> {
        let mut connection = self.read_pool().acquire().await.map_err(query_error(COMPARE_NAMES))?;
        Ok(names_like(&mut connection, name, now_ms).await?.into_iter().next().map(|(id, _)| id))
    }

    /// Records that the caller was used, at most once a minute.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn record_caller_use(&self, id: &CallerId, now_ms: UnixMs) -> Result<(), StoreError> {
        const OPERATION: &str = "record the use of a caller";
        let mut transaction = self.begin_write(WriteKind::RecordCallerUse, OPERATION).await?;
        let done = sqlx::query(
            "UPDATE callers SET last_used_at_ms = $2 WHERE id = $1 AND (last_used_at_ms IS NULL OR last_used_at_ms <= $3)",
        )
        .bind(id.as_str())
        .bind(to_sql_integer(now_ms))
        .bind(to_sql_integer(now_ms.saturating_sub(LAST_USE_EVERY_MS)))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        if done.rows_affected() == 0 {
            transaction.finish_unchanged();
            return Ok(());
        }
        transaction.commit().await.map_err(query_error(OPERATION))
    }
}

impl CallerRow {
    /// Whether [`Store::record_caller_use`] would write at `now_ms`.
    pub fn is_use_to_be_recorded(&self, now_ms: UnixMs) -> bool {
        self.last_used_at_ms.is_none_or(|last| last.saturating_add(LAST_USE_EVERY_MS) <= now_ms)
    }
}

/// The API tokens that are valid at this time and whose names look like this one.
async fn names_like(
    connection: &mut Connection,
    name: &str,
    now_ms: UnixMs,
) -> Result<Vec<(CallerId, String)>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, name FROM callers WHERE kind = 'api_token' AND revoked_at_ms IS NULL \
         AND (expires_at_ms IS NULL OR expires_at_ms > $1) ORDER BY id",
    )
    .bind(to_sql_integer(now_ms))
    .fetch_all(connection)
    .await
    .map_err(query_error(COMPARE_NAMES))?;
    let read = |row| {
        let reader = RowReader::new(row, "callers", "id");
        Ok((reader.parsed("id")?, reader.text("name")?))
    };
    let all: Vec<(CallerId, String)> = rows.iter().map(read).collect::<Result<_, StoreError>>()?;
    Ok(all.into_iter().filter(|(_, other)| look_alike(name, other)).collect())
}

/// Requires that no other token of the role that is valid after `after_ms` has this name.
async fn require_unused_name(
    transaction: &mut WriteTransaction,
    (role, name, id): (&str, &str, &CallerId),
    after_ms: UnixMs,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT id FROM callers WHERE kind = 'api_token' AND role = $1 AND name = $2 AND id <> $3 AND revoked_at_ms IS NULL \
         AND (expires_at_ms IS NULL OR expires_at_ms > $4) LIMIT 1",
    )
    .bind(role)
    .bind(name)
    .bind(id.as_str())
    .bind(to_sql_integer(after_ms))
    .fetch_optional(&mut **transaction)
    .await
    .map_err(query_error(COMPARE_NAMES))?;
    match row {
        Some(row) => Err(StoreError::NameInUse(RowReader::new(&row, "callers", "id").parsed("id")?)),
        None => Ok(()),
    }
}
