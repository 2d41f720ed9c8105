//! Browsers that are signed in: the callers that a cookie authenticates.

use crate::{
    CallerRow, NewCaller, Role, Sha256Hex, Store, StoreError, UnixMs, WriteKind,
    callers::{self, decode_role},
    error::query_error,
    row_macs::{
        RowMacs,
        tables::{BROWSERS, CALLERS},
    },
    row_reader::{RowReader, to_sql_integer},
    write_transaction::WriteTransaction,
};
use anteroom_wire::CallerId;
use sqlx::any::AnyRow;

const CREATE: &str = "create a browser";
/// How precisely the last use of a browser is stored, milliseconds: most requests write nothing.
const LAST_USE_RESOLUTION_MS: u64 = 60_000;

/// A person, as an OpenID provider identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The provider's issuer identifier.
    pub issuer: String,
    /// The subject identifier, unique at the issuer and never reassigned.
    pub subject: String,
}

/// A browser that signs in. Its caller exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBrowser {
    /// The caller that its cookie authenticates.
    pub caller: CallerId,
    /// The hash of its key.
    pub key: Sha256Hex,
    /// The browser and its operating system, for people.
    pub description: String,
    /// The client's address at the sign-in.
    pub address: String,
    /// The person who signed in; `None` after a login link.
    pub person: Option<Person>,
    /// When the person last proved to be present.
    pub confirmed_at_ms: UnixMs,
    /// The current time.
    pub now_ms: UnixMs,
}

/// A browser as it is stored, with its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserRow {
    /// The caller that its cookie authenticates.
    pub caller: CallerId,
    /// The caller's role.
    pub role: Role,
    /// The hash of its key.
    pub key: Sha256Hex,
    /// The browser and its operating system, for people.
    pub description: String,
    /// The client's address at the sign-in.
    pub address: String,
    /// The person who signed in; `None` after a login link.
    pub person: Option<Person>,
    /// When it signed in.
    pub signed_in_at_ms: UnixMs,
    /// When the person last proved to be present.
    pub confirmed_at_ms: UnixMs,
    /// When it was last used, to the minute.
    pub last_used_at_ms: UnixMs,
    /// When it is signed out at the latest.
    pub expires_at_ms: Option<UnixMs>,
}

/// `SELECT` with every column.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT browsers.caller_id, callers.role, callers.session_id, browsers.key_hash, browsers.description, \
             browsers.address, browsers.issuer, browsers.subject, callers.created_at_ms, browsers.confirmed_at_ms, \
             browsers.last_used_at_ms, browsers.mac, callers.expires_at_ms FROM browsers JOIN callers ON callers.id = browsers.caller_id ",
            $rest
        )
    };
}

impl Store {
    /// Creates a browser for a caller.
    ///
    /// # Errors
    /// When it exists or its caller does not (conflict), or the database cannot be written.
    pub async fn create_browser(&self, new: &NewBrowser) -> Result<(), StoreError> {
        let mut transaction = self.begin_write(WriteKind::CreateBrowser, CREATE).await?;
        insert(self.row_macs(), &mut transaction, new).await?;
        transaction.commit().await.map_err(query_error(CREATE))
    }

    /// Creates a browser of a person, with the caller that its cookie authenticates. All browsers of a person have one account.
    ///
    /// # Errors
    /// When the caller or its secret exists (conflict), or the database cannot be written.
    pub async fn create_browser_of_person(
        &self,
        caller: &NewCaller,
        new: &NewBrowser,
        person: &Person,
    ) -> Result<CallerRow, StoreError> {
        let mut transaction = self.begin_write(WriteKind::CreateBrowser, CREATE).await?;
        let account = find_account(self.row_macs(), &mut transaction, person).await?;
        let row = callers::insert(self.row_macs(), &mut transaction, caller, account.as_ref()).await?;
        insert(self.row_macs(), &mut transaction, new).await?;
        transaction.commit().await.map_err(query_error(CREATE))?;
        Ok(row)
    }

    /// Records that the person proved to be present.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn record_confirmation(&self, caller: &CallerId, confirmed_at_ms: UnixMs) -> Result<(), StoreError> {
        const OPERATION: &str = "record a confirmation";
        let mut transaction = self.begin_write(WriteKind::RecordConfirmation, OPERATION).await?;
        let found = self.row_macs().require_valid(&mut transaction, &BROWSERS, caller.as_str().into()).await;
        found.inspect_err(|_| transaction.end_by_rollback())?;
        sqlx::query("UPDATE browsers SET confirmed_at_ms = $2 WHERE caller_id = $1 AND confirmed_at_ms < $2")
            .bind(caller.as_str())
            .bind(to_sql_integer(confirmed_at_ms))
            .execute(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        self.row_macs().renew(&mut transaction, &BROWSERS, caller.as_str().into()).await?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }

    /// The browser of a caller, if the caller is one.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn get_browser(&self, caller: &CallerId) -> Result<Option<BrowserRow>, StoreError> {
        let row = sqlx::query(select!("WHERE browsers.caller_id = $1"))
            .bind(caller.as_str())
            .fetch_optional(self.read_pool())
            .await;
        let row = row.map_err(query_error("read a browser"))?;
        row.map(|row| decode(self.row_macs(), &row)).transpose()
    }

    /// The browsers of a person that are signed in and were used after `used_after_ms`, the last used first, at most `limit`. `None`:
    /// those that signed in with a link. Rows that were changed outside of this program are left out; the alarm
    /// names them.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_browsers(
        &self,
        person: Option<&Person>,
        now_ms: UnixMs,
        used_after_ms: UnixMs,
        limit: u32,
    ) -> Result<Vec<BrowserRow>, StoreError> {
        let rows = sqlx::query(select!(
            "WHERE callers.revoked_at_ms IS NULL AND (callers.expires_at_ms IS NULL OR callers.expires_at_ms > $1) \
             AND browsers.last_used_at_ms > $2 AND ((issuer = $3 AND subject = $4) OR ($3 IS NULL AND issuer IS NULL)) \
             ORDER BY browsers.last_used_at_ms DESC LIMIT $5"
        ))
        .bind(to_sql_integer(now_ms))
        .bind(to_sql_integer(used_after_ms))
        .bind(person.map(|person| person.issuer.as_str()))
        .bind(person.map(|person| person.subject.as_str()))
        .bind(i64::from(limit))
        .fetch_all(self.read_pool())
        .await;
        let rows = rows.map_err(query_error("list browsers"))?;
        let decoded = rows.iter().map(|row| decode(self.row_macs(), row));
        decoded.filter(|row| !matches!(row, Err(StoreError::TamperedRow { .. }))).collect()
    }

    /// Records that a browser was used, at most once a minute. `seen_at_ms`: the last use that was stored.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn record_browser_use(
        &self,
        caller: &CallerId,
        seen_at_ms: UnixMs,
        now_ms: UnixMs,
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "record the use of a browser";
        if now_ms < seen_at_ms.saturating_add(LAST_USE_RESOLUTION_MS) {
            return Ok(());
        }
        let mut transaction = self.begin_write(WriteKind::RecordBrowserUse, OPERATION).await?;
        let found = self.row_macs().require_valid(&mut transaction, &BROWSERS, caller.as_str().into()).await;
        found.inspect_err(|_| transaction.end_by_rollback())?;
        sqlx::query("UPDATE browsers SET last_used_at_ms = $2 WHERE caller_id = $1 AND last_used_at_ms < $2")
            .bind(caller.as_str())
            .bind(to_sql_integer(now_ms))
            .execute(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        self.row_macs().renew(&mut transaction, &BROWSERS, caller.as_str().into()).await?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }
}

async fn insert(macs: &RowMacs, transaction: &mut WriteTransaction, new: &NewBrowser) -> Result<(), StoreError> {
    let insertion = sqlx::query(
        "INSERT INTO browsers (caller_id, key_hash, description, address, issuer, subject, confirmed_at_ms, \
         last_used_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(new.caller.as_str())
    .bind(new.key.as_str())
    .bind(new.description.as_str())
    .bind(new.address.as_str())
    .bind(new.person.as_ref().map(|person| person.issuer.as_str()))
    .bind(new.person.as_ref().map(|person| person.subject.as_str()))
    .bind(to_sql_integer(new.confirmed_at_ms))
    .bind(to_sql_integer(new.now_ms))
    .execute(&mut **transaction)
    .await;
    insertion.map_err(query_error(CREATE))?;
    macs.renew(transaction, &BROWSERS, new.caller.as_str().into()).await
}

/// The account of a person: that of the first browser in which the person signed in. Rows that were changed outside of this program do
/// not count.
async fn find_account(
    macs: &RowMacs,
    transaction: &mut WriteTransaction,
    person: &Person,
) -> Result<Option<CallerId>, StoreError> {
    let rows = sqlx::query(
        "SELECT callers.id, callers.account_id FROM browsers JOIN callers ON callers.id = browsers.caller_id \
         WHERE browsers.issuer = $1 AND browsers.subject = $2 ORDER BY callers.id",
    )
    .bind(person.issuer.as_str())
    .bind(person.subject.as_str())
    .fetch_all(&mut **transaction)
    .await
    .map_err(query_error("find the account of a person"))?;
    for row in &rows {
        let reader = RowReader::new(row, "callers", "id");
        let caller = reader.text("id")?;
        if macs.is_valid(transaction, &BROWSERS, caller.as_str().into()).await?
            && macs.is_valid(transaction, &CALLERS, caller.as_str().into()).await?
        {
            return reader.parsed("account_id").map(Some);
        }
    }
    Ok(None)
}

fn decode(macs: &RowMacs, row: &AnyRow) -> Result<BrowserRow, StoreError> {
    macs.verify(&BROWSERS, row)?;
    let reader = RowReader::new(row, "browsers", "caller_id");
    let person = match (reader.text_or_null("issuer")?, reader.text_or_null("subject")?) {
        (Some(issuer), Some(subject)) => Some(Person { issuer, subject }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(reader.corrupt_row_error("a person without issuer or subject")),
    };
    Ok(BrowserRow {
        caller: reader.parsed("caller_id")?,
        role: decode_role(&reader)?,
        key: reader.parsed("key_hash")?,
        description: reader.text("description")?,
        address: reader.text("address")?,
        person,
        signed_in_at_ms: reader.number("created_at_ms")?,
        confirmed_at_ms: reader.number("confirmed_at_ms")?,
        last_used_at_ms: reader.number("last_used_at_ms")?,
        expires_at_ms: reader.number_or_null("expires_at_ms")?,
    })
}
