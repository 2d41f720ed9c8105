//! Databases of earlier versions, which several servers open at the same time, and of a later version, which this program can use.

use crate::{
    database::{self, BEGIN_WRITE},
    fixture::{NOW, StoreFixture, entry, settings},
};
use anteroom_store::{
    Address, OwnerFilter, READABLE_FROM, RowsWithMacs, SCHEMA_VERSION, Store, StoreError, StoreSettings,
};
use anteroom_vault::{Binding, KeyRing};
use anteroom_wire::{CallerId, CredentialId, SessionId, TimelineKind};
use sqlx::{AnyConnection, AssertSqlSafe, Executor, raw_sql};
use std::{fs, path::Path, time::Duration};

/// The first version that wrote databases of PostgreSQL.
const FIRST: u32 = 17;

/// The texts of the migrations to this version, in order: those for all databases before those for PostgreSQL.
fn migrations(version: u32) -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.ends_with(".sqlite.sql") && name[..4].parse::<u32>().unwrap() <= version);
    names.sort_by_key(|name| (name[..4].to_owned(), name.ends_with(".postgres.sql")));
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    names.iter().map(|name| fs::read_to_string(directory.join(name)).unwrap()).collect()
}

/// A database of an earlier version, with rows.
struct Old {
    directory: tempfile::TempDir,
    address: Address,
    ring: KeyRing,
    owner: CallerId,
    active: SessionId,
    completed: SessionId,
    credential: CredentialId,
}

impl Old {
    async fn of_version(version: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let old = Self {
            address: database::empty_database(directory.path()).await,
            ring: KeyRing::open_or_create(&directory.path().join("keys.json")).unwrap(),
            directory,
            owner: CallerId::from_parts(NOW, [1; 10]),
            active: SessionId::from_parts(NOW, [2; 10]),
            completed: SessionId::from_parts(NOW, [3; 10]),
            credential: CredentialId::from_parts(NOW, [4; 10]),
        };
        let mut sql = database::connect(&old.address).await;
        let meta = "CREATE TABLE meta (key TEXT COLLATE \"C\" PRIMARY KEY NOT NULL, value TEXT COLLATE \"C\" NOT NULL)";
        sql.execute(meta).await.unwrap();
        for text in migrations(version) {
            let text = text.replace(" TEXT", " TEXT COLLATE \"C\"");
            raw_sql(AssertSqlSafe(text)).execute(&mut sql).await.unwrap();
        }
        old.fill(&mut sql, version).await;
        old
    }

    async fn fill(&self, sql: &mut AnyConnection, version: u32) {
        let Self { owner, active, completed, credential, .. } = self;
        let rows = format!(
            "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO meta VALUES ('schema_version', '{version}'); \
             INSERT INTO callers (kind, scopes, account_id, id, role, name, token_hash, created_at_ms) \
             VALUES ('api_token', 'start read lease', '{owner}', '{owner}', 'backend', 'n', '{hash}', 1); \
             INSERT INTO sessions (id, caller_id, provider, state, epoch, generation, cli_started, created_at_ms, last_used_at_ms, \
             deadline_ms) VALUES ('{active}', '{owner}', 'codex', 'active', 2, 1, 0, 1, 2, 9); \
             INSERT INTO sessions (id, caller_id, provider, state, reason_code, epoch, generation, cli_started, created_at_ms, \
             last_used_at_ms, deadline_ms, ended_at_ms, credential_id) \
             VALUES ('{completed}', '{owner}', 'codex', 'completed', 'completed', 3, 1, 1, 1, 2, 3, 2, '{credential}'); \
             INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data) \
             VALUES ('{active}', 1, 1, 'accepted', 'It was accepted.', 'null')",
            hash = anteroom_store::Sha256Hex::of_bytes(b"token").as_str(),
        );
        raw_sql(AssertSqlSafe(rows)).execute(&mut *sql).await.unwrap();
        let sealed = self.ring.seal(&self.binding(), b"old content").unwrap();
        sqlx::query(
            "INSERT INTO credentials (id, owner, user_id, provider, session_id, sealed, key_id, files, stored_at_ms) \
             VALUES ($1, $2, NULL, 'codex', $3, $4, 1, '[{\"path\":\".codex/auth.json\",\"bytes\":7,\"mode\":384}]', 5)",
        )
        .bind(credential.as_str())
        .bind(owner.as_str())
        .bind(completed.as_str())
        .bind(sealed.as_bytes())
        .execute(&mut *sql)
        .await
        .unwrap();
        sql.execute("COMMIT").await.unwrap();
    }

    fn binding(&self) -> Binding<'_> {
        static CODEX: std::sync::LazyLock<anteroom_wire::ProviderId> =
            std::sync::LazyLock::new(crate::fixture::provider);
        Binding {
            credential: &self.credential,
            owner: &self.owner,
            user_id: None,
            provider: &CODEX,
            session: &self.completed,
            revision: 1,
        }
    }
}

fn host() -> StoreSettings {
    StoreSettings { is_server: true, is_host_of_cluster: true, ..settings() }
}

async fn meta(sql: &mut AnyConnection, key: &'static str) -> String {
    sqlx::query_scalar("SELECT value FROM meta WHERE key = $1").bind(key).fetch_one(sql).await.unwrap()
}

#[tokio::test]
async fn rows_of_every_earlier_version_survive_when_two_hosts_start_with_it_at_once() {
    for version in FIRST..SCHEMA_VERSION {
        let old = Old::of_version(version).await;
        let (first, second) = tokio::join!(Store::open(&old.address, host()), Store::open(&old.address, host()));
        let (store, second) = (first.unwrap(), second.unwrap());
        let mut sql = database::connect(&old.address).await;
        assert_eq!(meta(&mut sql, "schema_version").await, SCHEMA_VERSION.to_string());
        assert_eq!(meta(&mut sql, "schema_readable_from").await, READABLE_FROM.to_string());
        let rows = store.add_row_macs(&old.ring, RowsWithMacs::None, || old.ring.mark_for_row_macs()).await.unwrap();
        assert!(rows > 4, "{rows}");
        store.use_row_macs(old.ring.clone());
        second.use_row_macs(old.ring.clone());
        assert_eq!(store.check_rows().await.unwrap().tampered, 0);
        let active = second.get_session(&old.active).await.unwrap().unwrap();
        assert!(active.is_active() && active.settings.is_empty(), "{active:?}");
        let sealed = second.get_sealed_bytes(&old.credential).await.unwrap().unwrap();
        assert_eq!(&*old.ring.unseal(&old.binding(), &sealed).unwrap(), b"old content");
        store.append_entry(&old.active, entry(TimelineKind::CliStarted)).await.unwrap();
        assert_eq!(second.list_timeline(&old.active, 0, 9).await.unwrap().len(), 2);
        store.close().await;
        second.close().await;
        assert!(old.directory.path().exists());
    }
}

#[tokio::test]
async fn a_start_waits_while_another_server_migrates() {
    let old = Old::of_version(SCHEMA_VERSION - 1).await;
    let mut sql = database::connect(&old.address).await;
    let mut other = database::connect(&old.address).await;
    let migrating = BEGIN_WRITE.replace("402)", "403)");
    other.execute(AssertSqlSafe(migrating)).await.unwrap();
    let opening = tokio::spawn({
        let address = old.address.clone();
        async move { Store::open(&address, host()).await }
    });
    let waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
    while sql.fetch_all(waits).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!opening.is_finished());
    assert_eq!(meta(&mut sql, "schema_version").await, (SCHEMA_VERSION - 1).to_string());
    other.execute("COMMIT").await.unwrap();
    opening.await.unwrap().unwrap().check_writable().await.unwrap();
    assert_eq!(meta(&mut sql, "schema_version").await, SCHEMA_VERSION.to_string());
}

#[tokio::test]
async fn schema_that_a_running_server_could_not_use_is_not_installed_under_it() {
    let version = READABLE_FROM - 1;
    let old = Old::of_version(version).await;
    let mut running = database::connect(&old.address).await;
    running.execute("SET application_name = 'anteroom server former'").await.unwrap();
    // The lock of servers: `anteroo` and 1.
    running.execute("SELECT pg_advisory_lock_shared(7020676848177606401)").await.unwrap();
    let error = Store::open(&old.address, host()).await.unwrap_err();
    assert!(matches!(error, StoreError::ServerOfOlderSchema { .. }), "{error}");
    for part in ["anteroom server former", &version.to_string(), &SCHEMA_VERSION.to_string()] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(meta(&mut running, "schema_version").await, version.to_string());
    running.execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    Store::open(&old.address, host()).await.unwrap().close().await;
}

/// What a next version would add, and say about it.
const NEXT: [&str; 5] = [
    "ALTER TABLE sessions ADD COLUMN next TEXT COLLATE \"C\"",
    "ALTER TABLE callers ADD COLUMN next BIGINT",
    "ALTER TABLE credentials ADD COLUMN next BYTEA",
    "CREATE TABLE next (id TEXT COLLATE \"C\" PRIMARY KEY NOT NULL)",
    "CREATE INDEX next_sessions ON sessions (next)",
];

#[tokio::test]
async fn program_goes_on_with_the_next_schema_that_only_adds_running_and_restarted() {
    let fixture = StoreFixture::new().await;
    let (before, credential) = fixture.completed(b"before").await;
    let active = fixture.session_with_machine("agent").await;
    let mut sql = fixture.sql().await;
    for text in NEXT {
        sql.execute(text).await.unwrap();
    }
    let (next, this) = (SCHEMA_VERSION + 1, SCHEMA_VERSION);
    for (key, value) in [("schema_version", next), ("schema_readable_from", this)] {
        let set = format!("UPDATE meta SET value = '{value}' WHERE key = '{key}'");
        sql.execute(AssertSqlSafe(set)).await.unwrap();
    }
    let use_it = async |fixture: &StoreFixture| {
        fixture.completed(b"after").await;
        fixture.cancel(&fixture.session().await.id).await;
        fixture.store.append_entry(&active.id, entry(TimelineKind::CliExited)).await.unwrap();
        assert_eq!(fixture.store.get_session(&before.id).await.unwrap(), Some(before.clone()));
        assert!(fixture.store.get_sealed_bytes(&credential).await.unwrap().is_some());
        assert!(fixture.store.list_sessions(OwnerFilter::Owner(&fixture.owner), 100, None).await.unwrap().len() > 3);
        assert_eq!(fixture.store.check_rows().await.unwrap().tampered, 0);
    };
    use_it(&fixture).await;
    fixture.store.close().await;
    let store = Store::open(&fixture.address, settings()).await.unwrap();
    store.use_row_macs(fixture.ring.clone());
    use_it(&StoreFixture { store, ..fixture }).await;
    assert_eq!(meta(&mut sql, "schema_version").await, next.to_string(), "it is not migrated back");
}
