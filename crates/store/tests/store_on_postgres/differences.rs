//! What only PostgreSQL has, and what it must have in common with SQLite.

use crate::{
    database,
    fixture::{StoreFixture, settings},
};
use anteroom_store::{Address, DatabaseKind, PostgresAddress, Store, StoreErrorKind, StoreSettings};
use sqlx::{AnyConnection, Connection, Row};
use std::{collections::BTreeSet, time::Instant};

async fn names(sql: &mut AnyConnection, query: &'static str) -> BTreeSet<String> {
    let rows = sqlx::query(query).fetch_all(sql).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("name")).collect()
}

#[tokio::test]
async fn both_databases_have_the_same_triggers_columns_and_indices() {
    let fixture = StoreFixture::new().await;
    let file = fixture.directory.path().join("anteroom.db");
    Store::open(&file, settings()).await.unwrap().close().await;
    let mut sqlite = AnyConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let mut postgres = fixture.sql().await;
    for (in_sqlite, in_postgres) in [
        (
            "SELECT name FROM sqlite_master WHERE type = 'trigger'",
            "SELECT tgname::text AS name FROM pg_trigger WHERE NOT tgisinternal",
        ),
        (
            "SELECT name FROM sqlite_master WHERE type = 'index' AND name NOT LIKE 'sqlite_%'",
            "SELECT indexname::text AS name FROM pg_indexes WHERE schemaname = 'public' AND indexname !~ '_(p?key)$'",
        ),
        (
            "SELECT tables.name || ' ' || columns.name || ' ' || columns.type || ' ' || columns.\"notnull\" AS name \
             FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'",
            "SELECT table_name || ' ' || column_name || ' ' || upper(data_type) || ' ' || \
             CASE is_nullable WHEN 'NO' THEN '1' ELSE '0' END AS name FROM information_schema.columns WHERE table_schema = 'public'",
        ),
    ] {
        let found = names(&mut postgres, in_postgres).await;
        assert!(found.len() > 10, "{found:?}");
        assert_eq!(names(&mut sqlite, in_sqlite).await, found);
    }
    let texts = "SELECT table_name || ' ' || column_name AS name FROM information_schema.columns \
        WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'";
    assert_eq!(names(&mut postgres, texts).await, BTreeSet::new(), "texts are compared byte by byte");
}

#[tokio::test]
async fn database_is_named_with_its_durability_and_a_second_server_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let address = database::new_database(directory.path()).await;
    let server = StoreSettings { is_server: true, ..settings() };
    let first = Store::open(&address, server).await.unwrap();
    assert_eq!(first.database().kind, DatabaseKind::PostgreSql);
    let shown = first.database().to_string();
    assert!(shown.starts_with("PostgreSQL 1") && shown.contains("synchronous_commit = on"), "{shown}");

    let error = Store::open(&address, server).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("another server uses this database") && cause.contains("anteroom server"), "{cause}");
    // A command of this host writes while the server runs.
    let command = Store::open(&address, settings()).await.unwrap();
    command.check_writable().await.unwrap();
    first.check_writable().await.unwrap();
    first.close().await;
    Store::open(&address, server).await.unwrap().check_writable().await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_away_or_missing_is_a_clear_error_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let away: PostgresAddress = format!("postgresql:///rooms?host={}", directory.path().display()).parse().unwrap();
    let asked = Instant::now();
    let error =
        Store::open(&Address::Postgres(away), StoreSettings { connect_ms_max: 700, ..settings() }).await.unwrap_err();
    assert!(asked.elapsed().as_millis() >= 700, "it waits for the database to come");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("/rooms cannot be opened"), "{error}");

    let asked = Instant::now();
    let error = Store::open(&database::address_of("none"), settings()).await.unwrap_err();
    assert!(asked.elapsed().as_secs() < 10, "it does not wait for a database that does not exist");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("does not exist"), "{cause}");
}
