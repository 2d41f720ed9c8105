//! The tests' databases: one of PostgreSQL for each test, copied from a template, in the server of this run (`scripts/test_postgres.sh`).

use anteroom_store::{Address, PostgresAddress, Store, StoreSettings};
use sqlx::{AnyConnection, Connection, Executor, Row};
use std::{path::Path, sync::OnceLock};

pub(crate) const IS_FILE: bool = false;
/// The lock of write transactions: `anteroo` and 2.
pub(crate) const BEGIN_WRITE: &str = "BEGIN; SELECT pg_advisory_xact_lock(7020676848177606402)";
pub(crate) const REJECT_ENTRIES: &str = "CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN RAISE EXCEPTION 'no'; END $$; \
    CREATE TRIGGER no_entries BEFORE INSERT ON timeline FOR EACH ROW EXECUTE FUNCTION reject()";
pub(crate) const ACCEPT_ENTRIES: &str = "DROP TRIGGER no_entries ON timeline";
pub(crate) const ZERO_BYTE: &str = "'\\x00'::bytea";

const TEMPLATE: &str = "anteroom_template";

/// The directory of the socket of a server of this test's own.
pub(crate) static OWN_SERVER: OnceLock<String> = OnceLock::new();

/// The directory of the server's socket.
fn directory() -> String {
    if let Some(own) = OWN_SERVER.get() {
        return own.clone();
    }
    std::env::var("ANTEROOM_TEST_POSTGRES")
        .expect("ANTEROOM_TEST_POSTGRES: run the tests with `cargo nextest run`, which starts PostgreSQL with scripts/test_postgres.sh")
}

pub(crate) fn address_of(name: &str) -> Address {
    let url = format!("postgresql://anteroom@/{name}?host={}", directory());
    Address::Postgres(url.parse::<PostgresAddress>().unwrap())
}

async fn connect_to(name: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let url = format!("postgresql:///{name}?user=anteroom&host={}", directory());
    AnyConnection::connect(&url).await.unwrap()
}

fn random_name() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    format!("t{:016x}", u64::from_le_bytes(bytes))
}

/// A database without tables.
pub(crate) async fn empty_database(_: &Path) -> Address {
    let (name, mut sql) = (random_name(), connect_to("postgres").await);
    sql.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0"))).await.unwrap();
    address_of(&name)
}

/// A new database.
pub(crate) async fn new_database(_: &Path) -> Address {
    let (name, mut sql) = (random_name(), connect_to("postgres").await);
    // The first test makes the template.
    sql.execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let found = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1").bind(TEMPLATE);
    if found.fetch_optional(&mut sql).await.unwrap().is_none() {
        sql.execute("CREATE DATABASE anteroom_making TEMPLATE template0").await.unwrap();
        let store = Store::open(&address_of("anteroom_making"), StoreSettings::default()).await.unwrap();
        store.close().await;
        sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'anteroom_making'")
            .await
            .unwrap();
        sql.execute("ALTER DATABASE anteroom_making RENAME TO anteroom_template").await.unwrap();
    }
    sql.execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    sql.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}"))).await.unwrap();
    address_of(&name)
}

/// A connection for direct SQL.
pub(crate) async fn connect(address: &Address) -> AnyConnection {
    let shown = address.to_string();
    connect_to(shown.rsplit('/').next().unwrap()).await
}

/// Removes constraints and triggers, as the owner of the database can.
pub(crate) async fn remove_rules(sql: &mut AnyConnection) {
    let rules = "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS text FROM pg_constraint \
        WHERE contype IN ('c', 'f') AND connamespace = 'public'::regnamespace \
        UNION ALL SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE NOT tgisinternal";
    for rule in sql.fetch_all(rules).await.unwrap() {
        sql.execute(sqlx::AssertSqlSafe(rule.get::<String, _>("text"))).await.unwrap();
    }
}
