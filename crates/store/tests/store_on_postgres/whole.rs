//! All rows of a database as a file, and from a file into a new database.

use crate::{
    database,
    fixture::{NOW, StoreFixture, binding_of, settings},
    row_macs::attacked,
};
use anteroom_store::{
    Address, DatabaseFile, PostgresAddress, PostgresDatabase, Restored, RestoredFrom, SCHEMA_VERSION, Store,
    StoreError, StoreSettings, TableContents,
};
use sqlx::{AnyConnection, Executor, Row};
use std::{error::Error, os::unix::fs::PermissionsExt, path::Path};

const RESTORED: Restored = Restored { made_at_ms: NOW, restored_at_ms: NOW + 1, from: RestoredFrom::Export };

fn postgres(address: &Address) -> &PostgresAddress {
    let Address::Postgres(address) = address else { panic!("{address}") };
    address
}

/// Copies the database to a file; returns the file with its tables.
async fn copy(address: &Address, to: &Path) -> (DatabaseFile, Vec<TableContents>) {
    let mut whole = PostgresDatabase::open(postgres(address)).await.unwrap();
    let mut file = whole.copy_to(to).await.unwrap();
    whole.close().await.unwrap();
    let tables = file.tables().await.unwrap();
    (file, tables)
}

async fn rows_but_meta(sql: &mut AnyConnection) -> i64 {
    let mut rows = 0;
    let tables = "SELECT table_name::text AS name FROM information_schema.tables WHERE table_schema = 'public' AND table_name <> 'meta'";
    for table in sql.fetch_all(tables).await.unwrap() {
        let count = format!("SELECT COUNT(*) AS rows FROM {}", table.get::<String, _>("name"));
        rows += sql.fetch_one(sqlx::AssertSqlSafe(count)).await.unwrap().get::<i64, _>("rows");
    }
    rows
}

#[tokio::test]
async fn all_rows_go_to_a_file_and_into_a_new_database_and_stay_authentic() {
    let (fixture, ..) = attacked().await;
    let (session, credential) = fixture.completed("ünïcode \u{10ffff}".as_bytes()).await;
    for _ in 0..120 {
        fixture.session().await;
    }
    let path = fixture.directory.path().join("copy.db");
    // The store is open.
    let (mut file, exported) = copy(&fixture.address, &path).await;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(exported.iter().any(|table| table.name == "sessions" && table.rows == 122), "{exported:?}");
    assert_eq!(file.check().await.unwrap(), Vec::<String>::new());
    assert_eq!(file.summary().await.unwrap().schema_version, SCHEMA_VERSION);

    for address in [
        database::empty_database(fixture.directory.path()).await,
        database::new_database(fixture.directory.path()).await,
    ] {
        let mut target = PostgresDatabase::open_alone(postgres(&address)).await.unwrap();
        assert_eq!(target.take_rows_of(&mut file, RESTORED).await.unwrap(), exported);
        let again = target.take_rows_of(&mut file, RESTORED).await.unwrap_err();
        assert!(again.to_string().contains("has rows already, in the table browsers"), "{again}");
        let server = StoreSettings { is_server: true, ..settings() };
        let refused = Store::open(&address, server).await.unwrap_err();
        assert!(refused.source().unwrap().to_string().contains("another server uses this database"), "{refused:?}");
        target.close().await.unwrap();

        let store = Store::open(&address, server).await.unwrap();
        store.use_row_macs(fixture.ring.clone());
        let checked = store.check_rows().await.unwrap();
        assert!(checked.tampered == 0 && checked.valid > 300, "{checked:?}");
        assert_eq!(store.get_restored().await.unwrap(), Some(RESTORED));
        let sealed = store.get_sealed_bytes(&credential).await.unwrap().unwrap();
        let opened = fixture.ring.unseal(&binding_of(&session, &credential), &sealed).unwrap();
        assert_eq!(&*opened, "ünïcode \u{10ffff}".as_bytes());
        let alone = PostgresDatabase::open_alone(postgres(&address)).await.unwrap_err();
        assert!(alone.source().unwrap().to_string().contains("stop it first"), "{alone:?}");
        store.close().await;
    }
}

#[tokio::test]
async fn import_that_is_interrupted_or_arrives_changed_leaves_no_row() {
    let fixture = StoreFixture::new().await;
    fixture.completed(b"secret").await;
    let (mut file, exported) = copy(&fixture.address, &fixture.directory.path().join("copy.db")).await;
    let address = database::new_database(fixture.directory.path()).await;
    let mut sql = database::connect(&address).await;
    // Waits at the last table that has rows, until its connection is ended.
    let mut blocker = database::connect(&address).await;
    blocker.execute("BEGIN; LOCK TABLE timeline_heads IN EXCLUSIVE MODE").await.unwrap();
    let mut target = PostgresDatabase::open_alone(postgres(&address)).await.unwrap();
    let taking = tokio::spawn(async move { (target.take_rows_of(&mut file, RESTORED).await, file) });
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sql.fetch_all(ended).await.unwrap().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let (taken, mut file) = taking.await.unwrap();
    assert!(matches!(taken, Err(StoreError::Table { ref table, .. }) if table == "timeline_heads"), "{taken:?}");
    blocker.execute("ROLLBACK").await.unwrap();
    assert_eq!(rows_but_meta(&mut sql).await, 0);

    // The database changes what it gets.
    sql.execute(
        "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := NEW.name || '!'; RETURN NEW; END $$; \
         CREATE TRIGGER change BEFORE INSERT ON callers FOR EACH ROW EXECUTE FUNCTION change()",
    )
    .await
    .unwrap();
    let mut target = PostgresDatabase::open_alone(postgres(&address)).await.unwrap();
    let differs = target.take_rows_of(&mut file, RESTORED).await.unwrap_err();
    assert!(matches!(&differs, StoreError::CopyDiffers { table } if table == "callers"), "{differs}");
    assert_eq!(rows_but_meta(&mut sql).await, 0);
    sql.execute("DROP TRIGGER change ON callers").await.unwrap();
    assert_eq!(target.take_rows_of(&mut file, RESTORED).await.unwrap(), exported);
}

#[tokio::test]
async fn database_of_another_schema_is_not_copied_and_a_row_that_breaks_rules_is_found_in_the_copy() {
    let (fixture, mut sql, _) = attacked().await;
    sql.execute("UPDATE sessions SET state = 'lost', caller_id = 'cal_none'").await.unwrap();
    let (mut file, _) = copy(&fixture.address, &fixture.directory.path().join("copy.db")).await;
    let found = file.check().await.unwrap();
    assert!(found.iter().any(|line| line.contains("CHECK constraint failed")), "{found:?}");
    assert!(found.iter().any(|line| line.contains("a row of callers that does not exist")), "{found:?}");

    for (version, part) in [(SCHEMA_VERSION - 1, "start `anteroom serve`"), (SCHEMA_VERSION + 1, "or a newer")] {
        let set = format!("UPDATE meta SET value = '{version}' WHERE key = 'schema_version'");
        sql.execute(sqlx::AssertSqlSafe(set)).await.unwrap();
        let mut whole = PostgresDatabase::open(postgres(&fixture.address)).await.unwrap();
        let path = fixture.directory.path().join(version.to_string());
        let error = whole.copy_to(&path).await.unwrap_err().to_string();
        let numbers = error.contains(&version.to_string()) && error.contains(&SCHEMA_VERSION.to_string());
        assert!(numbers && error.contains(part) && !path.exists(), "{error}");
    }
}
