//! Lets the database itself record the writes of the hosts of a lab: a write to a session that its writer does not hold is stale.
//!
//! The writer is known by the address of its connection, which it cannot choose.

use super::databases::LabPostgres;
use anteroom_wire::HostId;
use anyhow::Context;
use sqlx::{AssertSqlSafe, Row};
use std::net::Ipv4Addr;

const TRIGGERS: &str = "
CREATE TABLE lab_hosts (address TEXT PRIMARY KEY, id TEXT NOT NULL);
CREATE TABLE lab_writes (writer TEXT, what TEXT, session TEXT, holder TEXT, is_stale BOOLEAN);
CREATE FUNCTION lab_writer() RETURNS TEXT LANGUAGE sql AS
$$ SELECT id FROM lab_hosts WHERE address = host(inet_client_addr()) $$;
CREATE FUNCTION lab_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO lab_writes SELECT writer, 'session', OLD.id, OLD.host_id,
        OLD.host_id IS NOT NULL AND OLD.state = 'active' AND writer IS NOT NULL
        AND NEW.host_id IS NOT DISTINCT FROM OLD.host_id AND NEW.host_incarnation IS NOT DISTINCT FROM OLD.host_incarnation
        AND (writer <> OLD.host_id OR OLD.host_incarnation <= (SELECT fenced FROM hosts WHERE id = OLD.host_id))
        FROM lab_writer() AS writer;
    RETURN NULL;
END $$;
CREATE FUNCTION lab_part() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO lab_writes SELECT writer, TG_TABLE_NAME, NEW.session_id, sessions.host_id,
        sessions.host_id IS NOT NULL AND sessions.state = 'active' AND writer IS NOT NULL
        AND (writer <> sessions.host_id OR sessions.host_incarnation <= (SELECT fenced FROM hosts WHERE id = sessions.host_id))
        FROM lab_writer() AS writer, sessions WHERE sessions.id = NEW.session_id;
    RETURN NULL;
END $$;
CREATE TRIGGER lab_session AFTER UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION lab_session();
CREATE TRIGGER lab_entry AFTER INSERT ON timeline FOR EACH ROW EXECUTE FUNCTION lab_part();
CREATE TRIGGER lab_credential AFTER INSERT ON credentials FOR EACH ROW EXECUTE FUNCTION lab_part();
";

/// Begins the record. The hosts have joined.
///
/// # Errors
/// The database cannot be used.
pub(super) async fn begin(postgres: &LabPostgres, hosts: &[(Ipv4Addr, HostId)]) -> anyhow::Result<()> {
    let values: Vec<_> = hosts.iter().map(|(address, id)| format!("('{address}', '{id}')")).collect();
    postgres.execute(&format!("{TRIGGERS} INSERT INTO lab_hosts VALUES {};", values.join(", "))).await
}

/// How many writes the hosts have made, and the stale ones of them.
///
/// # Errors
/// The database cannot be used.
pub(super) async fn read(postgres: &LabPostgres) -> anyhow::Result<(i64, Vec<String>)> {
    let mut connection = postgres.connect().await?;
    let all = sqlx::query("SELECT COUNT(*) FROM lab_writes").fetch_one(&mut connection).await?.try_get(0)?;
    let text = "SELECT writer || ' wrote ' || what || ' of ' || session || ', which ' || holder || ' held' FROM lab_writes WHERE is_stale";
    let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(&mut connection).await.context("the stale writes")?;
    let stale: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok((all, stale?))
}
