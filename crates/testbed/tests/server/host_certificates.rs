//! Certificates between the hosts of a cluster, and what etcd is trusted with.

use crate::{
    Flags,
    cluster::{
        self,
        etcd_cluster::{EtcdCluster, free_address},
        wait_health,
    },
    hosts::{WAIT_MAX, ask, host_id, join, start_with, wait_hosts},
    postgres::own_server::OwnServer,
};
use anteroom_cluster::peer::{Authority, IdentityFiles, PeerTls, new_peer_key};
use anteroom_controller::limits::PeerLimits;
use anteroom_testbed::{TestServer, eventually};
use anteroom_wire::{HostId, api::SessionStatus, hosts::HostState, time::to_unix_ms};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

fn now_ms() -> u64 {
    to_unix_ms(SystemTime::now())
}

#[tokio::test]
async fn host_certificates_are_renewed_and_one_that_has_ended_gets_nothing_on_postgres() {
    let limits = PeerLimits { certificate_lifetime_s: 6, certificate_look_ms: 100 };
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let (first, address) = start_with(&postgres, &flags, keys.path(), "first", "", limits.clone()).await;
    let (mut second, _) = start_with(&postgres, &flags, keys.path(), "second", "", limits).await;
    let operator = first.operator_client().unwrap();
    join(&operator, &mut second).await;
    wait_hosts(&operator, HostState::Answers, 2).await;
    let files = IdentityFiles::in_state_dir(&second.state_dir());
    let (one, issued) = (host_id(&first), files.read().unwrap());
    let old = PeerTls::new(issued.clone());
    assert!(ask(&old, &one, address).await.is_some());
    let renewed = async || Ok(files.read().is_ok_and(|now| now.ends_at_ms > issued.ends_at_ms).then_some(()));
    eventually("another certificate", WAIT_MAX, renewed).await.unwrap();
    // An open connection ends with its certificate.
    tokio::time::sleep(Duration::from_millis(issued.ends_at_ms.saturating_sub(now_ms()))).await;
    assert_eq!(ask(&old, &one, address).await, None, "a certificate that has ended");
    assert!(ask(&PeerTls::new(files.read().unwrap()), &one, address).await.is_some());
    wait_hosts(&operator, HostState::Answers, 2).await;
    second.stop_and_check_leaks().await.unwrap();
    first.stop_and_check_leaks().await.unwrap();
}

/// The files of `[cluster.tls]`.
fn files_in(dir: &Path) -> IdentityFiles {
    IdentityFiles { certificate: dir.join("host.pem"), key: dir.join("host.key"), authority: dir.join("ca.pem") }
}

fn section(files: &IdentityFiles) -> String {
    let [certificate, key, authority] = [&files.certificate, &files.key, &files.authority].map(|path| path.display());
    format!("[cluster.tls]\ncertificate_file = '{certificate}'\nkey_file = '{key}'\nca_file = '{authority}'\n")
}

/// Writes another certificate, of the site's own authority.
fn issue(authority: &Authority, files: &IdentityFiles, host: &HostId, at_ms: u64) {
    let key = new_peer_key().unwrap();
    let chain = authority.issue(&key.request_pem, host, at_ms, 3_600).unwrap();
    files.write(&key.key_pem, &chain, authority.certificate_pem()).unwrap();
}

/// The log's lines with this outcome.
fn lines(server: &TestServer, outcome: &str) -> Vec<Value> {
    let log = fs::read_to_string(server.state_dir().join("log/anteroom.jsonl")).unwrap();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["outcome"] == outcome).collect()
}

/// Sends SIGHUP and waits for a further line with this outcome.
async fn hang_up(server: &TestServer, outcome: &str) -> Value {
    let before = lines(server, outcome).len();
    kill_process(server.server_pid().unwrap(), Signal::HUP).unwrap();
    eventually(outcome, WAIT_MAX, async || Ok(lines(server, outcome).get(before).cloned())).await.unwrap()
}

#[tokio::test]
async fn certificates_of_the_sites_own_authority_are_read_again_at_sighup_on_postgres() {
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let (dirs, limits) = ([(); 2].map(|()| tempfile::tempdir().unwrap()), PeerLimits::default());
    let files = [files_in(dirs[0].path()), files_in(dirs[1].path())];
    let settings = [section(&files[0]), section(&files[1])];
    let (mut first, _) = start_with(&postgres, &flags, keys.path(), "first", &settings[0], limits.clone()).await;
    let (mut second, address) = start_with(&postgres, &flags, keys.path(), "second", &settings[1], limits).await;
    assert_eq!(lines(&first, "no_host_certificate").len(), 1, "the files are missing");
    let (authority, hosts) = (Authority::create(now_ms()).unwrap(), [host_id(&first), host_id(&second)]);
    for (server, number) in [(&mut first, 0), (&mut second, 1)] {
        issue(&authority, &files[number], &hosts[number], now_ms());
        server.stop_server().await.unwrap();
        server.start_server().await.unwrap();
    }
    let operator = first.operator_client().unwrap();
    wait_hosts(&operator, HostState::Answers, 2).await;
    let refused = operator.post("/api/hosts/invitations", json!({})).await.unwrap();
    assert!(refused.text.contains("[cluster.tls]"), "who issues invites: {refused:?}");

    issue(&authority, &files[1], &hosts[1], now_ms());
    hang_up(&second, "host_certificate_reloaded").await;
    let in_use = PeerTls::new(files[0].read().unwrap());
    assert!(ask(&in_use, &hosts[1], address).await.is_some());
    // One of another host, or one that has ended: the former one stays in use.
    for (host, at_ms, part) in
        [(&hosts[0], now_ms(), "is for host"), (&hosts[1], now_ms() - 2 * 3_600_000, "has expired at")]
    {
        issue(&authority, &files[1], host, at_ms);
        let line = hang_up(&second, "host_certificate_not_renewed").await;
        assert!(line["error"].as_str().unwrap().contains(part), "{line}");
    }
    assert!(ask(&in_use, &hosts[1], address).await.is_some());
    wait_hosts(&operator, HostState::Answers, 2).await;
    second.stop_and_check_leaks().await.unwrap();
    first.stop_and_check_leaks().await.unwrap();
}

/// What the files below a directory contain.
fn contents(dir: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(contents(&entry.path())),
            _ => found.push(fs::read(entry.path()).unwrap()),
        }
    }
    found
}

/// etcd's files end with megabytes of zeros.
fn as_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "")
}

#[tokio::test]
async fn no_secret_of_a_run_is_in_etcd_on_postgres() {
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let etcd = EtcdCluster::start(1).await;
    let settings = format!("[cluster.etcd]\nendpoints = {:?}\n", etcd.endpoints());
    let server = cluster::start(&postgres, &flags, keys.path(), "canary-host", &settings).await;
    let operator = server.operator_client().unwrap();
    wait_health(&operator, "acknowledged by etcd").await;
    let started = operator.post("/api/auth/start", json!({ "provider": "scripted" })).await.unwrap();
    let started: Value = started.parse().unwrap();
    let id = started["session"]["id"].as_str().unwrap().parse().unwrap();
    operator.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let ticket = operator.create_ticket(&id, "desktop").await.unwrap().ticket;
    let token: Value =
        operator.post("/api/tokens", json!({ "name": "canary", "role": "backend" })).await.unwrap().parse().unwrap();
    flags.set("go");
    let view = operator.wait_status(&id, SessionStatus::Completed).await.unwrap();
    operator.lease_credential(&view.credential.unwrap().id).await.unwrap();

    let mut secrets =
        vec![server.operator_token().expose().to_owned(), ticket.to_string(), "{\"token\": \"t\"}".to_owned()];
    secrets.extend(server.backend_tokens().iter().map(|token| token.expose().to_owned()));
    secrets.push(token["secret"].as_str().unwrap().to_owned());
    secrets.push(fs::read_to_string(keys.path().join("vault.key")).unwrap().trim().to_owned());
    let identity = IdentityFiles::in_state_dir(&server.state_dir());
    let key = fs::read_to_string(identity.key).unwrap();
    secrets.extend(key.lines().filter(|line| !line.starts_with("--")).map(str::to_owned));
    assert!(secrets.iter().all(|secret| secret.len() > 8), "each would be found");

    let range = json!({ "key": STANDARD.encode([0]), "range_end": STANDARD.encode([0]) });
    let dump = etcd.post("/v3/kv/range", &range).unwrap();
    let values: Vec<_> = dump["kvs"].as_array().unwrap().iter().flat_map(|kv| [&kv["key"], &kv["value"]]).collect();
    let decoded = values.iter().map(|value| STANDARD.decode(value.as_str().unwrap()).unwrap());
    let mut all: Vec<_> = decoded.map(|bytes| as_text(&bytes)).collect();
    all.extend(contents(etcd.directory()).iter().map(|bytes| as_text(bytes)));
    assert!(all.iter().filter(|text| text.contains("canary-host")).count() > 1, "what is there is found");
    for secret in &secrets {
        assert!(!all.iter().any(|text| text.contains(secret.as_str())), "a secret is in etcd");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the test ends etcd")]
async fn etcd_over_tls_wants_this_hosts_certificate_on_postgres() {
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let dir = tempfile::tempdir().unwrap();
    let mut script =
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/cluster/certificates.sh"));
    assert!(script.arg(dir.path()).args(["etcd=127.0.0.1", "host=127.0.0.1"]).status().unwrap().success());
    let (client, peer) = (free_address(), free_address());
    let at = |path: &str| dir.path().join(path).display().to_string();
    let mut etcd = tokio::process::Command::new("etcd");
    etcd.kill_on_drop(true).args([
        "--data-dir",
        &at("data"),
        "--cert-file",
        &at("etcd/host.pem"),
        "--key-file",
        &at("etcd/host.key"),
    ]);
    etcd.args(["--client-cert-auth", "--trusted-ca-file", &at("ca.pem")]);
    let (client, peer) = (format!("https://{client}"), format!("http://{peer}"));
    etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    etcd.args(["--initial-cluster", &format!("default={peer}")]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut etcd = etcd.stderr(fs::File::create(dir.path().join("log")).unwrap()).spawn().unwrap();

    let trusted = format!("[cluster.etcd]\nendpoints = ['{client}']\nca_file = '{}'\n", at("ca.pem"));
    let own = format!("certificate_file = '{}'\nkey_file = '{}'\n", at("host/host.pem"), at("host/host.key"));
    // Without a certificate etcd refuses, and the heartbeats go to the database.
    let without = cluster::start(&postgres, &flags, keys.path(), "without", &trusted).await;
    wait_health(&without.operator_client().unwrap(), "heartbeats go to the database").await;
    let with = cluster::start(&postgres, &flags, keys.path(), "with", &format!("{trusted}{own}")).await;
    wait_health(&with.operator_client().unwrap(), "acknowledged by etcd").await;
    without.stop_and_check_leaks().await.unwrap();
    with.stop_and_check_leaks().await.unwrap();
    etcd.kill().await.unwrap();
}
