//! A server's data moves from a file to PostgreSQL and back: nothing is lost, and every credential opens on each side.

use crate::{
    fake_agent::store,
    own_server::OwnServer,
    s10_audit::records,
    s17_backup::{anteroom, begin_session, move_to_another_host, put_key},
    stored_credentials::{content, deliver, deliver_by_tool, lease, start_server},
};
use anteroom_controller::keys::{KeyId, KeyRing, binding_of};
use anteroom_store::{
    CallerKind, CompleteOutcome, CompleteWithCredential, CreateSessionOutcome, CredentialRow, DeletionPolicy,
    ExpectedState, HealthKind, NewCredential, NewSession, NewSessionPlace, NewTimelineEntry, SessionChange,
    SessionPurpose, Sha256Hex, Store,
};
use anteroom_testbed::{ScriptedProvider, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    Base64, CallerId, CredentialId, SessionId, TimelineKind, agent::DeliveredFile, api::CredentialFile,
};
use futures_util::{StreamExt, stream};
use serde_json::Value;
use sqlx::{AnyConnection, Connection, Executor};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tokio::process::Command;

/// All credentials are leased at once.
const LEASES: &str = "[limits.rates.lease]\nper_s = 100000\nburst = 100000\n";
const AGENT_TOKEN: &str = "the token of a former machine";

/// Writes what sessions leave that completed with credentials of the first backend.
struct Seeder {
    store: Store,
    ring: KeyRing,
    owner: CallerId,
    now_ms: u64,
}

impl Seeder {
    async fn new(server: &TestServer) -> Self {
        let store = store(server).await;
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap();
        let secret = Sha256Hex::of_secret(&server.backend_tokens()[0]);
        let owner = store.find_caller_by_secret(CallerKind::ApiToken, &secret, now_ms).await.unwrap().unwrap().id;
        let ring = KeyRing::open(&server.state_dir().join("vault.key")).unwrap();
        Self { store, ring, owner, now_ms }
    }

    fn entry(&self, kind: TimelineKind) -> NewTimelineEntry {
        NewTimelineEntry::new(self.now_ms, kind, format!("It is {kind}, “quoted” ✓."))
    }

    fn new_session(&self, number: u32) -> NewSession {
        NewSession {
            id: SessionId::from_parts(self.now_ms, random(number, 1)),
            owner: self.owner.clone(),
            user_id: (!number.is_multiple_of(3)).then(|| format!("Zoë {number}")),
            provider: "scripted".parse().unwrap(),
            return_url: None,
            idempotency: None,
            created_at_ms: self.now_ms,
            idle_deadline_ms: None,
            deadline_ms: self.now_ms + 3_600_000,
            external: None,
            method: None,
            purpose: SessionPurpose::default(),
            settings: BTreeMap::new(),
            place: NewSessionPlace::ThisHost,
            machines_by_caller_max: None,
        }
    }

    fn credential(&self, number: u32, session: &NewSession, files: &[CredentialFile]) -> CredentialRow {
        CredentialRow {
            id: CredentialId::from_parts(self.now_ms, random(number, 2)),
            owner: self.owner.clone(),
            user_id: session.user_id.clone(),
            provider: session.provider.clone(),
            session: session.id.clone(),
            method: None,
            key_id: KeyId(1),
            files: files.to_vec(),
            stored_at_ms: self.now_ms,
            deleted_at_ms: None,
            deletion_policy: DeletionPolicy::ByOwner,
            health: HealthKind::Valid,
            health_detail: None,
            checked_at_ms: self.now_ms,
            expires_at_ms: None,
            account: None,
            revision: 1,
        }
    }

    async fn complete(&self, number: u32) -> (CredentialId, String) {
        let new = self.new_session(number);
        let created = self.store.create_session(&new, self.entry(TimelineKind::Accepted)).await.unwrap();
        assert!(matches!(created, CreateSessionOutcome::New(_)));
        let token = Sha256Hex::of_bytes(AGENT_TOKEN.as_bytes());
        let change = SessionChange::new()
            .with_agent_token(Some(token.clone()))
            .with_claimed_generation(Some(1))
            .with_cli_started(true);
        self.store
            .transition(&new.id, ExpectedState::Active, change, self.entry(TimelineKind::MachineReady))
            .await
            .unwrap();
        let token_text = format!("of session {number}");
        let text = content(&token_text);
        let path = ScriptedProvider::CREDENTIAL_PATH.to_owned();
        let files = vec![CredentialFile { path: path.clone(), bytes: text.len() as u64, mode: 0o600 }];
        let row = self.credential(number, &new, &files);
        let delivered = vec![DeliveredFile { path, mode: 0o600, content: Base64::new(text.clone().into_bytes()) }];
        let sealed = self.ring.seal(&binding_of(&row), &serde_json::to_vec(&delivered).unwrap()).unwrap();
        let completion = CompleteWithCredential {
            session: &new.id,
            generation: 1,
            agent_token: &token,
            credential: NewCredential {
                id: &row.id,
                sealed: &sealed,
                revision: 1,
                files: &files,
                deletion_policy: DeletionPolicy::ByOwner,
                expires_at_ms: None,
                account: None,
            },
            webhook_messages: &[],
            at_ms: self.now_ms,
        };
        let done = self.store.complete_with_credential(&completion, self.entry(TimelineKind::Completed)).await.unwrap();
        assert!(matches!(done, CompleteOutcome::Stored { .. }));
        (row.id, text)
    }
}

fn random(number: u32, kind: u8) -> [u8; 10] {
    let mut bytes = [kind; 10];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

async fn seed(server: &TestServer, sessions: u32) -> Vec<(CredentialId, String)> {
    let seeder = Seeder::new(server).await;
    let mut stored = Vec::new();
    for number in 0..sessions {
        stored.push(seeder.complete(number).await);
    }
    seeder.store.close().await;
    stored
}

async fn run_json(server: &TestServer, arguments: &[&str]) -> Value {
    serde_json::from_str(&server.run_anteroom(&[arguments, &["--json"]].concat()).await.unwrap()).unwrap()
}

/// Exports to this path, and prints how long it took.
async fn export(server: &TestServer, to: &Path) -> Value {
    let began = Instant::now();
    let exported = run_json(server, &["db", "export", to.to_str().unwrap()]).await;
    eprintln!("exported {} bytes in {:?}", exported["bytes"], began.elapsed());
    assert_eq!(fs::metadata(to).unwrap().permissions().mode() & 0o777, 0o600);
    exported["manifest"].clone()
}

/// Imports; all tables must be those of the export.
async fn import(server: &TestServer, from: &Path, manifest: &Value, database: &str) -> Value {
    let began = Instant::now();
    let imported = run_json(server, &["db", "import", from.to_str().unwrap()]).await;
    eprintln!("imported in {:?}", began.elapsed());
    assert_eq!(imported["tables"], manifest["tables"]);
    assert_eq!(imported["database"], database);
    imported
}

async fn refused(server: &TestServer, arguments: &[&str], part: &str) {
    let (success, printed) = anteroom(server, arguments).await;
    assert!(!success && printed.contains(part), "{arguments:?}: {printed}");
}

/// Every credential opens at the running server.
async fn lease_all(server: &TestServer, stored: &[(CredentialId, String)]) {
    let leases = stream::iter(stored).map(async |(id, text)| assert_eq!(lease(server, id).await, *text));
    leases.buffer_unordered(8).collect::<Vec<_>>().await;
}

async fn is_restore(server: &TestServer, times: usize) {
    let found = records(server);
    let is_import = |record: &&Value| record["action"] == "backup.restore" && record["details"]["from"] == "export";
    assert_eq!(found.iter().filter(is_import).count(), times);
    assert!(server.run_anteroom(&["audit", "verify"]).await.unwrap().contains("records"));
}

/// The words after `what` in the archive's list of files.
async fn list(archive: &Path) -> String {
    let output = Command::new("tar").arg("-tzf").arg(archive).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn s17_data_of_a_server_moves_to_postgres_and_back_and_every_credential_opens_on_each_side() {
    move_there_and_back(200).await;
}

/// With `./test --full` only: minutes.
#[tokio::test]
async fn full_s17_data_of_ten_thousand_sessions_moves_to_postgres_and_back() {
    move_there_and_back(10_000).await;
}

/// Runs a program of PostgreSQL on this server's database `postgres`.
async fn run(program: &str, postgres: &OwnServer, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(["--host", &postgres.directory(), "--username", "anteroom"]).args(arguments);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The finding of `doctor` about the database.
async fn doctor(server: &TestServer) -> Value {
    let (_, printed) = anteroom(server, &["doctor", "--json"]).await;
    let mut values = serde_json::Deserializer::from_str(&printed).into_iter::<Vec<Value>>();
    let checks = values.next().unwrap().unwrap_or_else(|error| panic!("{error}: {printed}"));
    checks.into_iter().find(|check| check["name"] == "database").unwrap()
}

#[tokio::test]
async fn s17_dump_of_postgres_restored_into_a_new_one_goes_on_and_says_so() {
    let former = OwnServer::start(&["-c", "wal_level=replica", "-c", "max_wal_senders=2"]).await;
    let database = |postgres: &OwnServer| {
        format!("[database]\nurl = 'postgresql://anteroom@/postgres?host={}'\n", postgres.directory())
    };
    let (_flags, mut server) = start_server(&database(&former)).await;
    let first = deliver_by_tool(&server).await;
    let active = begin_session(&server).await;
    assert_eq!(doctor(&server).await["status"], "ok");
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("anteroom.dump");
    run("pg_dump", &former, &["--format=custom", "--file", dump.to_str().unwrap(), "postgres"]).await;
    let later = deliver_by_tool(&server).await;

    // What receives the log of writes is a standby to the database, and none confirms.
    let mut receiver = Command::new("pg_receivewal");
    receiver.args(["--host", &former.directory(), "--username", "anteroom", "--directory"]).arg(dir.path());
    let mut receiver = receiver.stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let warns = async || {
        let found = doctor(&server).await;
        let warned = found["status"] == "degraded" && found["detail"].to_string().contains("synchronous_standby_names");
        Ok(warned.then_some(()))
    };
    eventually("a warning", WAIT_MAX, warns).await.unwrap();
    receiver.kill().await.unwrap();

    // The host and its database are lost; the key was saved.
    let key = move_to_another_host(&mut server, false).await;
    put_key(&server, &key);
    let config = fs::read_to_string(server.config_file()).unwrap();
    let new = OwnServer::start(&[]).await;
    run("pg_restore", &new, &["--no-owner", "--dbname", "postgres", dump.to_str().unwrap()]).await;
    drop(former);
    let replaced = config.lines().map(|line| match line.strip_prefix("url = ") {
        Some(_) => format!("url = 'postgresql://anteroom@/postgres?host={}'\n", new.directory()),
        None => line.to_owned() + "\n",
    });
    fs::write(server.config_file(), replaced.collect::<String>()).unwrap();
    server.start_server().await.unwrap();
    assert_eq!(lease(&server, &first).await, content("one"));
    let api = server.backend_client().unwrap();
    assert!(api.lease_credential(&later).await.is_err(), "it came after the dump");
    api.wait_until(&active, "another machine", |view| view.generation == 2).await.unwrap();
    let timeline = serde_json::to_string(&api.get_timeline(&active).await.unwrap()).unwrap();
    assert!(timeline.contains("restored from a dump of 20"), "{timeline}");
    let is_dump = |record: &&Value| record["action"] == "backup.restore" && record["details"]["from"] == "dump";
    assert_eq!(records(&server).iter().filter(is_dump).count(), 1);
    // Only once.
    server.stop_server().await.unwrap();
    server.start_server().await.unwrap();
    assert_eq!(records(&server).iter().filter(is_dump).count(), 1);

    let (success, printed) = anteroom(&server, &["db", "check"]).await;
    assert!(success && printed.contains("Nothing is wrong") && printed.contains("pg_amcheck"), "{printed}");
    sqlx::any::install_default_drivers();
    let address = format!("postgresql:///postgres?user=anteroom&host={}", new.directory());
    let mut sql = AnyConnection::connect(&address).await.unwrap();
    sql.execute("UPDATE callers SET scopes = 'operate' WHERE role = 'backend'").await.unwrap();
    let (success, printed) = anteroom(&server, &["db", "check"]).await;
    assert!(!success && printed.contains("of callers was changed outside of the server"), "{printed}");
    let refused = server.backend_client().unwrap().get("/api/providers").await.unwrap();
    assert_eq!(refused.problem().unwrap().code, "caller_tampered");
    server.stop_and_check_leaks().await.unwrap();
}

async fn move_there_and_back(sessions: u32) {
    let postgres = OwnServer::start(&[]).await;
    let (_flags, mut server) = start_server(LEASES).await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let first = deliver(&server, "first").await;
    let active = begin_session(&server).await;
    let machines = server.list_machines();
    refused(&server, &["db", "export", path("x").to_str().unwrap()], "another server runs").await;
    server.stop_server().await.unwrap();
    let mut stored = seed(&server, sessions).await;
    stored.push((first, content("first")));

    let manifest = export(&server, &path("file")).await;
    assert_eq!(manifest["database"], "SQLite");
    let listed = list(&path("file")).await;
    assert!(listed.starts_with("manifest.json\nanteroom.db\naudit/") && !listed.contains("key"), "{listed}");
    let former = fs::read_to_string(server.config_file()).unwrap();
    let database = format!("\n[database]\nurl = 'postgresql://anteroom@/postgres?host={}'\n", postgres.directory());
    fs::write(server.config_file(), former.clone() + &database).unwrap();
    import(&server, &path("file"), &manifest, "PostgreSQL").await;
    refused(&server, &["db", "import", path("file").to_str().unwrap()], "has rows already").await;
    server.start_server().await.unwrap();
    let other = path("other");
    let unused = path("x");
    let elsewhere = ["db", "export", unused.to_str().unwrap(), "--state-dir", other.to_str().unwrap()];
    fs::create_dir(&other).unwrap();
    refused(&server, &elsewhere, "another server uses this database").await;
    lease_all(&server, &stored).await;
    let api = server.backend_client().unwrap();
    assert_eq!(server.list_machines(), machines, "the machine on this host goes on");
    assert_eq!(api.get_session(&active).await.unwrap().generation, 1);
    is_restore(&server, 1).await;
    let checked = run_json(&server, &["db", "check"]).await;
    assert!(checked["faults"] == serde_json::json!([]) && checked["rows_authentic"].as_u64() > Some(600), "{checked}");

    server.stop_server().await.unwrap();
    let manifest = export(&server, &path("postgres")).await;
    assert_eq!(manifest["database"], "PostgreSQL");
    // Back into a file, on another host.
    let key = move_to_another_host(&mut server, false).await;
    fs::write(server.config_file(), former).unwrap();
    let from = path("postgres");
    refused(&server, &["db", "import", from.to_str().unwrap()], "is missing").await;
    put_key(&server, &key);
    let imported = import(&server, &from, &manifest, "SQLite").await;
    assert_eq!(imported["has_audit_trail"], true);
    refused(&server, &["db", "import", from.to_str().unwrap()], "already has a database").await;
    server.start_server().await.unwrap();
    lease_all(&server, &stored).await;
    let api = server.backend_client().unwrap();
    api.wait_until(&active, "another machine", |view| view.generation == 2).await.unwrap();
    let timeline = serde_json::to_string(&api.get_timeline(&active).await.unwrap()).unwrap();
    assert!(timeline.contains("filled from the export of 20"), "{timeline}");
    is_restore(&server, 2).await;
    // It is not among the newest sessions, which are ended below.
    api.cancel_session(&active).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
