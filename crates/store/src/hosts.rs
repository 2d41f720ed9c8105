//! The hosts of a cluster.

use crate::{
    Holder, Store, StoreError, UnixMs, WriteKind,
    connection::Connection,
    dialect::WriteScope,
    error::query_error,
    fence,
    row_macs::{RowMacs, tables::HOSTS},
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_wire::HostId;
use sqlx::{AssertSqlSafe, any::AnyRow};
use std::collections::BTreeMap;

/// A host that joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHost {
    /// Its id, which it keeps.
    pub id: HostId,
    /// Its name, which no other host has.
    pub name: String,
    /// Where it is, for placement.
    pub zone: Option<String>,
    /// What placement can ask for, name → value.
    pub labels: BTreeMap<String, String>,
    /// The certificate by which other hosts know it, PEM.
    pub certificate: Option<String>,
    /// The incarnation that it had until it was stopped a moment ago; `None`: its machines have ended.
    pub resumes: Option<u64>,
    /// The current time.
    pub at_ms: UnixMs,
}

/// A host that has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedHost {
    /// As whom it writes from now on.
    pub holder: Holder,
    /// Whether it goes on with the incarnation that it had: its machines may run on.
    pub is_resumed: bool,
}

/// A host as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRow {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// How often it has joined after it was fenced; 1 for the first time.
    pub incarnation: u64,
    /// The last incarnation that was fenced; 0: none.
    pub fenced: u64,
    /// When it was fenced last.
    pub fenced_at_ms: Option<UnixMs>,
    /// By whom: the name of a host, or an operator.
    pub fenced_by: Option<String>,
    /// Whether it takes no further sessions.
    pub is_draining: bool,
    /// Where it is, for placement.
    pub zone: Option<String>,
    /// What placement can ask for.
    pub labels: BTreeMap<String, String>,
    /// The certificate by which other hosts know it, PEM.
    pub certificate: Option<String>,
    /// When its incarnation joined.
    pub joined_at_ms: UnixMs,
    /// When it was removed from the cluster.
    pub left_at_ms: Option<UnixMs>,
    /// Its last heartbeat in the database, by the database's clock.
    pub heartbeat_at_ms: Option<UnixMs>,
    /// The number of these heartbeats.
    pub heartbeats: u64,
    /// What it reported with the last one, as JSON.
    pub report: Option<String>,
}

impl HostRow {
    /// Whether its present incarnation was fenced.
    pub fn is_fenced(&self) -> bool {
        self.fenced >= self.incarnation
    }

    /// As whom it writes.
    pub fn holder(&self) -> Holder {
        Holder { host: self.id.clone(), incarnation: self.incarnation }
    }
}

const SELECT: &str = "SELECT id, name, incarnation, fenced, fenced_at_ms, fenced_by, draining, zone, labels, certificate, joined_at_ms, \
    left_at_ms, heartbeat_at_ms, heartbeats, report, mac FROM hosts";

impl Store {
    /// A host joins: with the incarnation that it resumes if that was not fenced, else with the next one; then the sessions of the earlier
    /// ones wait for a host again. Sessions that were active before there was a cluster become the host's: their server joins first.
    ///
    /// # Errors
    /// Another host has the name, the host was removed from the cluster, or the database cannot be written.
    pub async fn join_host(&self, new: &NewHost) -> Result<JoinedHost, StoreError> {
        const OPERATION: &str = "join a host";
        let mut transaction = self.begin_write(WriteKind::JoinHost, OPERATION).await?;
        let taken = sqlx::query("SELECT id FROM hosts WHERE name = $1 AND left_at_ms IS NULL AND id <> $2")
            .bind(new.name.as_str())
            .bind(new.id.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        if let Some(other) = taken {
            return Err(StoreError::HostNameInUse(RowReader::new(&other, "hosts", "id").parsed("id")?));
        }
        let before = fetch(self.row_macs(), &mut transaction, &new.id).await?;
        if before.as_ref().is_some_and(|before| before.left_at_ms.is_some()) {
            return Err(StoreError::HostFenced(new.id.clone()));
        }
        let resumed = before.as_ref().filter(|before| !before.is_fenced() && new.resumes == Some(before.incarnation));
        let is_resumed = resumed.is_some();
        let incarnation = match (&before, resumed) {
            (None, _) => 1,
            (Some(before), None) => before.incarnation + 1,
            (Some(before), Some(_)) => before.incarnation,
        };
        write_joined(&mut transaction, self.dialect().now_ms(), new, incarnation).await?;
        self.row_macs().renew(&mut transaction, &HOSTS, new.id.as_str().into()).await?;
        let holder = Holder { host: new.id.clone(), incarnation };
        if !is_resumed {
            let why = "its host started again without its machines";
            fence::release_sessions(self, &mut transaction, (&new.id, incarnation - 1), new.at_ms, why).await?;
        }
        fence::take_sessions_without_host(self, &mut transaction, &holder).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(JoinedHost { holder, is_resumed })
    }

    /// Records the host's heartbeat, with what it reports about itself as JSON. Returns whether this incarnation may still act: it was
    /// neither fenced nor removed.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn record_heartbeat(&self, holder: &Holder, report: &str) -> Result<bool, StoreError> {
        const OPERATION: &str = "record the heartbeat of a host";
        let mut transaction = self.begin_write_in(WriteScope::Heartbeat, WriteKind::Heartbeat, OPERATION).await?;
        let text = format!(
            "UPDATE hosts SET heartbeat_at_ms = {}, heartbeats = heartbeats + 1, report = $3 \
             WHERE id = $1 AND incarnation = $2 AND fenced < incarnation AND left_at_ms IS NULL",
            self.dialect().now_ms()
        );
        let done = sqlx::query(AssertSqlSafe(text))
            .bind(holder.host.as_str().to_owned())
            .bind(to_sql_integer(holder.incarnation))
            .bind(report.to_owned())
            .execute(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(done.rows_affected() == 1)
    }

    /// All hosts, removed ones included, in the order of their ids. Rows that were changed outside of this program are left out.
    ///
    /// # Errors
    /// The database cannot be read or has a corrupt row.
    pub async fn list_hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        let text = format!("{SELECT} ORDER BY id");
        let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(self.read_pool()).await;
        let rows = rows.map_err(query_error("list the hosts"))?;
        let decoded = rows.iter().map(|row| decode(self.row_macs(), row));
        decoded.filter(|row| !matches!(row, Err(StoreError::TamperedRow { .. }))).collect()
    }

    /// Sets whether the host takes no further sessions. Returns whether there is such a host.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn set_draining(&self, host: &HostId, is_draining: bool) -> Result<bool, StoreError> {
        let text = "UPDATE hosts SET draining = $2 WHERE id = $1 AND left_at_ms IS NULL";
        self.change_host(host, text, i64::from(is_draining)).await
    }

    /// Removes a host that holds no session from the cluster, for good. Returns whether it was removed.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn remove_host(&self, host: &HostId, at_ms: UnixMs) -> Result<bool, StoreError> {
        let text = "UPDATE hosts SET left_at_ms = $2 WHERE id = $1 AND left_at_ms IS NULL \
            AND NOT EXISTS (SELECT 1 FROM sessions WHERE host_id = $1 AND state = 'active')";
        self.change_host(host, text, to_sql_integer(at_ms)).await
    }

    /// Whether this host does what one host at a time does for all: it is the first that is not fenced. Without a cluster, always.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn is_first_host(&self) -> Result<bool, StoreError> {
        const OPERATION: &str = "find the first host";
        let Some(holder) = self.holder() else { return Ok(true) };
        let text = "SELECT MIN(id) AS id FROM hosts WHERE fenced < incarnation AND left_at_ms IS NULL";
        let row = sqlx::query(text).fetch_one(self.read_pool()).await.map_err(query_error(OPERATION))?;
        let first = RowReader::new(&row, "hosts", "id").text_or_null("id")?;
        Ok(first.as_deref() == Some(holder.host.as_str()))
    }

    async fn change_host(&self, host: &HostId, text: &'static str, value: i64) -> Result<bool, StoreError> {
        const OPERATION: &str = "change a host";
        let mut transaction = self.begin_write(WriteKind::ChangeHost, OPERATION).await?;
        let is_there = self.row_macs().require_valid(&mut transaction, &HOSTS, host.as_str().into()).await?;
        let query = sqlx::query(text).bind(host.as_str()).bind(value);
        let done = query.execute(&mut *transaction).await.map_err(query_error(OPERATION))?;
        if !is_there || done.rows_affected() == 0 {
            transaction.finish_unchanged();
            return Ok(false);
        }
        self.row_macs().renew(&mut transaction, &HOSTS, host.as_str().into()).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(true)
    }
}

/// Writes the row of a host that joins. That is its first heartbeat.
async fn write_joined(
    connection: &mut Connection,
    now_ms: &'static str,
    new: &NewHost,
    incarnation: u64,
) -> Result<(), StoreError> {
    let text = format!(
        "INSERT INTO hosts (id, name, incarnation, zone, labels, certificate, joined_at_ms, heartbeat_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, {now_ms}) ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
         incarnation = excluded.incarnation, zone = excluded.zone, labels = excluded.labels, certificate = excluded.certificate, \
         joined_at_ms = excluded.joined_at_ms, heartbeat_at_ms = excluded.heartbeat_at_ms, heartbeats = hosts.heartbeats + 1"
    );
    sqlx::query(AssertSqlSafe(text))
        .bind(new.id.as_str().to_owned())
        .bind(new.name.clone())
        .bind(to_sql_integer(incarnation))
        .bind(new.zone.clone())
        .bind(serde_json::json!(new.labels).to_string())
        .bind(new.certificate.clone())
        .bind(to_sql_integer(new.at_ms))
        .execute(connection)
        .await
        .map_err(query_error("join a host"))?;
    Ok(())
}

async fn fetch(macs: &RowMacs, connection: &mut Connection, host: &HostId) -> Result<Option<HostRow>, StoreError> {
    let text = format!("{SELECT} WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(text)).bind(host.as_str().to_owned()).fetch_optional(connection).await;
    row.map_err(query_error("read a host"))?.map(|row| decode(macs, &row)).transpose()
}

fn decode(macs: &RowMacs, row: &AnyRow) -> Result<HostRow, StoreError> {
    macs.verify(&HOSTS, row)?;
    let reader = RowReader::new(row, "hosts", "id");
    let labels = reader.text("labels")?;
    Ok(HostRow {
        id: reader.parsed("id")?,
        name: reader.text("name")?,
        incarnation: reader.number("incarnation")?,
        fenced: reader.number("fenced")?,
        fenced_at_ms: reader.number_or_null("fenced_at_ms")?,
        fenced_by: reader.text_or_null("fenced_by")?,
        is_draining: reader.number::<u8>("draining")? != 0,
        zone: reader.text_or_null("zone")?,
        labels: serde_json::from_str(&labels).map_err(|error| reader.corrupt_row_error(format!("labels: {error}")))?,
        certificate: reader.text_or_null("certificate")?,
        joined_at_ms: reader.number("joined_at_ms")?,
        left_at_ms: reader.number_or_null("left_at_ms")?,
        heartbeat_at_ms: reader.number_or_null("heartbeat_at_ms")?,
        heartbeats: reader.number("heartbeats")?,
        report: reader.text_or_null("report")?,
    })
}
