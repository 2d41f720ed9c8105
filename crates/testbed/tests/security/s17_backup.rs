//! A backup of a server that works, and its restore on another host.

use crate::{
    s10_audit::records,
    s17_tampering::execute_sql,
    stored_credentials::{content, deliver, lease, start_server},
};
use anteroom_testbed::{TestServer, WAIT_MAX};
use anteroom_wire::{CredentialId, SessionId, TimelineKind, api::SessionStatus};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};
use tokio::{process::Command, task::JoinHandle, time::timeout};

/// Runs `anteroom`; returns its exit status and both outputs.
pub(crate) async fn anteroom(server: &TestServer, arguments: &[&str]) -> (bool, String) {
    let mut command = server.anteroom_command().unwrap();
    command.args(arguments);
    ended(command).await
}

async fn ended(mut command: Command) -> (bool, String) {
    let output = timeout(WAIT_MAX, command.stdin(Stdio::null()).output()).await.unwrap().unwrap();
    let Output { status, stdout, stderr } = output;
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// Makes a backup in the directory; returns its path and what the command printed.
async fn backup(server: &TestServer, dir: &Path, flags: &[&str]) -> (PathBuf, Value) {
    let printed = server.run_anteroom(&[&["backup", dir.to_str().unwrap(), "--json"], flags].concat()).await.unwrap();
    let printed: Value = serde_json::from_str(&printed).unwrap();
    (printed["file"].as_str().unwrap().into(), printed)
}

/// What a restore prints; it must succeed or not.
async fn restore(server: &TestServer, from: &Path, succeeds: bool) -> String {
    let (success, printed) = anteroom(server, &["restore", from.to_str().unwrap()]).await;
    assert_eq!(success, succeeds, "{printed}");
    printed
}

/// Replaces the host: machines end, and nothing is left of the state directory but the key file, if it is kept.
pub(crate) async fn move_to_another_host(server: &mut TestServer, keeps_key: bool) -> Vec<u8> {
    server.stop_server().await.unwrap();
    server.leak_scan().kill_processes();
    let key = fs::read(server.state_dir().join("vault.key")).unwrap();
    fs::remove_dir_all(server.state_dir()).unwrap();
    if keeps_key {
        put_key(server, &key);
    }
    key
}

pub(crate) fn put_key(server: &TestServer, key: &[u8]) {
    fs::create_dir_all(server.state_dir()).unwrap();
    let path = server.state_dir().join("vault.key");
    fs::write(&path, key).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Sessions start and complete with credentials, and a stored one is leased, until `stop`.
fn work(
    server: &TestServer,
    stored: &CredentialId,
    stop: &Arc<AtomicBool>,
    done: &Arc<AtomicU64>,
) -> [JoinHandle<()>; 2] {
    let (api, flag, counter) = (server.backend_client().unwrap(), Arc::clone(stop), Arc::clone(done));
    let starts = tokio::spawn(async move {
        while !flag.load(Relaxed) {
            let session = api.start_session("signing").await.unwrap().session.id;
            api.wait_status(&session, SessionStatus::Completed).await.unwrap();
            counter.fetch_add(1, Relaxed);
        }
    });
    let (api, flag, stored) = (server.backend_client().unwrap(), Arc::clone(stop), stored.clone());
    let leases = tokio::spawn(async move {
        while !flag.load(Relaxed) {
            api.lease_credential(&stored).await.unwrap();
        }
    });
    [starts, leases]
}

async fn ids(server: &TestServer) -> Vec<CredentialId> {
    let list = server.backend_client().unwrap().list_credentials().await.unwrap();
    list.credentials.into_iter().map(|credential| credential.id).collect()
}

pub(crate) async fn begin_session(server: &TestServer) -> SessionId {
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_entry(&id, TimelineKind::CliStarted).await.unwrap();
    id
}

#[tokio::test]
async fn s17_backup_of_a_busy_server_restores_every_credential_and_session_on_another_host() {
    let (_flags, mut server) = start_server("").await;
    let backups = tempfile::tempdir().unwrap();
    let first = deliver(&server, "first").await;
    let active = begin_session(&server).await;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let workers = work(&server, &first, &stop, &done);
    for number in 0..3 {
        let before = done.load(Relaxed);
        let path = backups.path().join(format!("{number}.tar.gz"));
        let (_, printed) = backup(&server, &path, &[]).await;
        assert!(printed["manifest"]["credentials"].as_u64().unwrap() > before, "{printed}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    stop.store(true, Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    let (file, printed) = backup(&server, backups.path(), &[]).await;
    let stored = ids(&server).await;
    assert_eq!(printed["manifest"]["credentials"], stored.len());
    assert_eq!(printed["manifest"]["active_sessions"], 1);
    let checked: Value = serde_json::from_str(&server.run_anteroom(&["db", "check", "--json"]).await.unwrap()).unwrap();
    assert!(checked["faults"] == json!([]) && checked["not_checked"] == json!([]), "{checked}");
    assert!(checked["rows_authentic"].as_u64().unwrap() > 10, "{checked}");
    assert_eq!(fs::read_dir(backups.path()).unwrap().count(), 4, "only the backups");
    let later = deliver(&server, "later").await;

    let running = restore(&server, &file, false).await;
    assert!(running.contains("another server runs"), "{running}");
    move_to_another_host(&mut server, true).await;
    let restored = restore(&server, &file, true).await;
    assert!(restored.contains("1 active") && restored.contains("new machine"), "{restored}");
    assert!(restore(&server, &file, false).await.contains("already has a database"));
    server.start_server().await.unwrap();

    let found = ids(&server).await;
    assert!(found == stored && !found.contains(&later), "{found:?} {stored:?}");
    assert_eq!(lease(&server, &first).await, content("first"));
    for id in stored.iter().filter(|id| **id != first) {
        assert_eq!(lease(&server, id).await, content("one"), "{id}");
    }
    // The session that was active goes on with another machine, and its timeline names the restore.
    let api = server.backend_client().unwrap();
    api.wait_until(&active, "another machine", |view| view.generation == 2).await.unwrap();
    let timeline = serde_json::to_string(&api.get_timeline(&active).await.unwrap()).unwrap();
    assert!(timeline.contains("restored from the backup of 20"), "{timeline}");
    let is_restore = |record: &Value| record["action"] == "backup.restore" && record["details"]["made_at"].is_string();
    assert_eq!(records(&server).iter().filter(|record| is_restore(record)).count(), 1);
    assert!(server.run_anteroom(&["audit", "verify"]).await.unwrap().contains("records"));
    server.stop_and_check_leaks().await.unwrap();
}

/// What a file decompresses to; `None`: it is damaged.
async fn decompressed(path: &Path) -> Option<Vec<u8>> {
    let mut gzip = Command::new("gzip");
    let output = gzip.arg("-dc").stdin(fs::File::open(path).unwrap()).output().await.unwrap();
    output.status.success().then_some(output.stdout)
}

/// Restores copies of a backup with one other bit each; returns how many were refused. Another bit may mean the same: another distance
/// within a run of zeros.
async fn flipped_bits_are_refused(server: &TestServer, path: &Path, whole: &[u8]) -> usize {
    const PLACES: usize = 6;
    fs::write(path, whole).unwrap();
    let content = decompressed(path).await;
    assert!(content.is_some());
    let mut refused = 0;
    for place in 1..PLACES {
        let mut bytes = whole.to_vec();
        bytes[whole.len() * place / PLACES] ^= 1;
        fs::write(path, bytes).unwrap();
        let printed = restore(server, path, false).await;
        if decompressed(path).await == content {
            assert!(printed.contains("the key file") && printed.contains("is missing"), "{place}: {printed}");
        } else {
            assert!(printed.contains("is not a complete backup"), "{place}: {printed}");
            refused += 1;
        }
    }
    refused
}

#[tokio::test]
async fn s17_backup_that_is_damaged_newer_or_of_other_keys_is_refused_by_name_and_one_with_its_key_needs_nothing() {
    let (_flags, mut server) = start_server("").await;
    let id = deliver(&server, "one").await;
    let backups = tempfile::tempdir().unwrap();
    let path = |name: &str| backups.path().join(name);
    backup(&server, &path("plain"), &[]).await;
    let (exists, printed) = anteroom(&server, &["backup", path("plain").to_str().unwrap()]).await;
    assert!(!exists && printed.contains("exists already"), "{printed}");
    let (success, printed) = anteroom(&server, &["backup", path("with-key").to_str().unwrap(), "--with-key"]).await;
    assert!(success && printed.contains("opens every stored credential"), "{printed}");
    server.stop_server().await.unwrap();
    let (success, printed) = anteroom(&server, &["db", "check"]).await;
    assert!(success && printed.contains("Nothing is wrong"), "{printed}");
    execute_sql(&server, "UPDATE callers SET scopes = 'operate' WHERE role = 'backend'").await;
    let (success, printed) = anteroom(&server, &["db", "check"]).await;
    assert!(!success && printed.contains("of callers was changed outside of the server"), "{printed}");
    execute_sql(&server, "UPDATE meta SET value = '99' WHERE key = 'schema_version'").await;
    backup(&server, &path("newer"), &[]).await;
    server.start_server().await.unwrap_err();
    let key = move_to_another_host(&mut server, false).await;

    let whole = fs::read(path("plain")).unwrap();
    for (name, bytes) in [
        ("truncated", whole[..whole.len() / 2].to_vec()),
        ("without its end", whole[..whole.len() - 4].to_vec()),
        ("empty", Vec::new()),
        ("foreign", b"not a backup".to_vec()),
    ] {
        fs::write(path(name), bytes).unwrap();
        let refused = restore(&server, &path(name), false).await;
        assert!(refused.contains("is not a complete backup"), "{name}: {refused}");
    }
    assert!(
        flipped_bits_are_refused(&server, &path("flipped"), &whole).await > 0,
        "no flipped bit changes the content"
    );
    let newer = restore(&server, &path("newer"), false).await;
    assert!(newer.contains("schema version 99") && newer.contains("up to 20"), "{newer}");
    let missing = restore(&server, &path("plain"), false).await;
    assert!(missing.contains("the key file") && missing.contains("is missing"), "{missing}");
    let other = String::from_utf8(key.clone()).unwrap();
    let begin = other.find("\"key\":").unwrap() + "\"key\":".len();
    let begin = begin + other[begin..].find('"').unwrap() + 1;
    let flipped = if other[begin..].starts_with('A') { "B" } else { "A" };
    put_key(&server, format!("{}{flipped}{}", &other[..begin], &other[begin + 1..]).as_bytes());
    let foreign = restore(&server, &path("plain"), false).await;
    assert!(foreign.contains("other keys than those"), "{foreign}");
    let left: Vec<_> = fs::read_dir(server.state_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "vault.key" || name == "lock"), "{left:?}");

    fs::remove_file(server.state_dir().join("vault.key")).unwrap();
    assert!(restore(&server, &path("with-key"), true).await.contains("The key file is"));
    server.start_server().await.unwrap();
    assert_eq!(lease(&server, &id).await, content("one"));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s17_backup_that_finds_no_space_or_is_killed_leaves_nothing_that_looks_like_one() {
    let (_flags, server) = start_server("").await;
    deliver(&server, "one").await;
    let backups = tempfile::tempdir().unwrap();
    // The kernel ends a process that writes more than the limit, or refuses the write if the signal is ignored.
    for (trap, is_killed) in [("trap '' XFSZ", false), (":", true)] {
        let command = server.anteroom_command().unwrap();
        let mut limited = Command::new("bash");
        limited.args(["-c", &format!("{trap}; ulimit -f 16; exec \"$@\""), "bash"]);
        limited.arg(command.as_std().get_program()).args(command.as_std().get_args());
        limited.arg("backup").arg(backups.path()).kill_on_drop(true);
        let (success, printed) = ended(limited).await;
        assert!(!success, "{printed}");
        assert!(is_killed || printed.contains("the database cannot be copied"), "{printed}");
        let left: Vec<_> = fs::read_dir(backups.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name.to_string_lossy().starts_with('.')), "{left:?}");
        assert_eq!(left.is_empty(), !is_killed, "{left:?}");
    }
    let (file, _) = backup(&server, backups.path(), &[]).await;
    let left: Vec<_> = fs::read_dir(backups.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [file]);
    server.stop_and_check_leaks().await.unwrap();
}
