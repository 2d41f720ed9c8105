//! Support bundles contain diagnostic data and no secrets.

use crate::{Flags, anteroom, canary, start_idle, start_idle_session, text};
use anteroom_testbed::{
    Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, eventually, leaks::encoded_forms,
};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{SessionStatus, StartRequest},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, io::Read, os::unix::fs::PermissionsExt, path::Path};

/// The number of bundles that the server retains.
const BUNDLES_MAX: usize = 20;

/// The files of a bundle by name, without the bundle's top directory.
fn unpack(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(path).unwrap()));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().components().skip(1).collect::<std::path::PathBuf>();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        (name.display().to_string(), content)
    });
    files.collect()
}

async fn bundle(server: &TestServer, id: &SessionId, to: &Path) -> BTreeMap<String, String> {
    let output = anteroom(server, &["bundle", id.as_str(), "--out", to.to_str().unwrap()]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(fs::metadata(to).unwrap().permissions().mode() & 0o777, 0o600);
    unpack(to)
}

/// Checks that no file contains one of the secrets, as plain text or base64.
fn assert_clean(files: &BTreeMap<String, String>, secrets: &[&str]) {
    for (name, content) in files {
        for secret in secrets {
            for needle in encoded_forms(secret) {
                let needle = String::from_utf8(needle).unwrap();
                assert!(!content.contains(&needle), "{name} contains {secret}:\n{content}");
            }
        }
    }
}

#[tokio::test]
async fn bundle_of_complete_sign_in_contains_diagnostics_and_no_secret() {
    let flags = Flags::new();
    let [pasted, state, credential, user, back] = ["code", "state", "token", "user", "back"].map(canary);
    let device = canary("").to_uppercase();
    let device = format!("{}-{}", &device[..4], &device[4..9]);
    let provider = ScriptedProvider::new(
        "scripted",
        Script::new([
            Step::OpenUrlWithBrowser { url: format!("https://id.example/authorize?client=1&state={state}#x={state}") },
            Step::print_line(&format!("Enter the code: {device}")),
            Step::Print { text: "Paste the code: ".into() },
            Step::ReadLine,
            Step::print_line("Received {line}"),
            Step::write(ScriptedProvider::CREDENTIAL_PATH, format!("{{\"token\": \"{credential}{{line}}\"}}")),
            Step::print_line("Login successful"),
        ]),
    )
    .with_descriptor_key(
        "prompts",
        json!([{ "id": "paste_code", "matches": r"Paste the code:\s*\z", "ask": { "label": "The code" } }]),
    );
    let server =
        TestServer::start(TestConfig::with_provider(provider).with_settings("[log]\nlevel = 'trace'\n")).await.unwrap();
    let api = server.backend_client().unwrap();
    let start = StartRequest {
        provider: "scripted".to_owned(),
        user_id: Some(user.clone()),
        return_url: Some(format!("https://back.example/done?session={back}")),
        ..serde_json::from_value(json!({ "provider": "scripted" })).unwrap()
    };
    let started = api.start_session_with(&start).await.unwrap();
    let pass = started.viewer_url.split_once("#login_token=").unwrap().1.to_owned();
    let id = started.session.id;
    api.wait_until(&id, "showing a URL and a code, and asking", |view| {
        let shows_code = view.sign_in.device_code.as_deref() == Some(&device);
        view.sign_in.url.is_some() && shows_code && view.sign_in.prompt.is_some()
    })
    .await
    .unwrap();
    let secrets = [&pasted, &state, &credential, &user, &back, &device, &pass].map(String::as_str);
    // While the session is active and the server knows the URL and the code …
    assert_clean(&bundle(&server, &id, &flags.path("active.tar.gz")).await, &secrets);
    let code = json!({ "code": pasted });
    assert_eq!(api.post(&format!("/api/auth/session/{id}/code"), code).await.unwrap().status, 204);
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let removed = async || Ok(server.list_machines().is_empty().then_some(()));
    eventually("the machine is removed", WAIT_MAX, removed).await.unwrap();
    // … and after the session has ended.
    let files = bundle(&server, &id, &flags.path("ended.tar.gz")).await;
    assert_clean(&files, &secrets);
    let parse = |name: &str| serde_json::from_str::<Value>(&files[name]).expect(name);
    assert_eq!(parse("diagnosis.json")["verdict"], "completed");
    assert_eq!(parse("session.json")["id"], id.as_str(), "ids are not redacted");
    assert_eq!(parse("session.json")["return_url"], "https://back.example/…");
    assert!(files["timeline.jsonl"].lines().any(|line| line.contains("\"machine_ready\"")));
    assert!(files["log.jsonl"].lines().count() > 10 && files["log.jsonl"].contains(id.as_str()));
    let receipts: Vec<_> = files.keys().filter(|name| name.starts_with("receipts/mac_")).collect();
    assert_eq!(receipts.len(), 1, "{:?}", files.keys());
    assert!(parse(receipts[0])["cause"].is_object());
    assert!(parse("health.json")["checks"].as_array().unwrap().iter().any(|check| check["name"] == "reconcile"));
    assert_eq!(parse("versions.json")["anteroom"], env!("CARGO_PKG_VERSION"));
    assert!(parse("host.json")["kernel"].is_string());
    assert!(files["config.toml"].contains("idle_s_max = 600"));
    let path = server.path().display().to_string();
    assert!(files.values().all(|content| !content.contains(&path)), "paths of this host are redacted");
    let listed = parse("manifest.json")["files"].as_array().unwrap().len();
    assert_eq!(listed, files.len() - 1, "the manifest lists every other file");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn bundle_does_not_contain_last_output_of_the_tool() {
    let flags = Flags::new();
    let last_line = "the password is swordfish";
    let provider =
        ScriptedProvider::new("scripted", Script::new([Step::print_line(last_line), Step::Exit { code: 3 }]));
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_entry(&id, TimelineKind::CliExited).await.unwrap();
    let diagnosis = api.get(&format!("/api/auth/session/{id}/diagnosis")).await.unwrap().text;
    assert!(diagnosis.contains("swordfish"), "the session's owner sees it: {diagnosis}");
    let files = bundle(&server, &id, &flags.path("b.tar.gz")).await;
    assert_clean(&files, &["swordfish"]);
    assert!(files["diagnosis.json"].contains("cli_failed"), "{}", files["diagnosis.json"]);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn bundles_require_an_operator_and_an_existing_session() {
    let (flags, server) = start_idle("").await;
    let (api, operator) = (server.backend_client().unwrap(), server.operator_client().unwrap());
    let id = api.start_session("scripted").await.unwrap().session.id;
    let rejected = api.post(&format!("/api/auth/session/{id}/bundle"), json!({})).await.unwrap();
    assert_eq!((rejected.status, rejected.problem().unwrap().code.as_str()), (403, "not_owner"));
    let missing = operator.post("/api/auth/session/ses_00000000000000000000000000/bundle", json!({})).await.unwrap();
    assert_eq!((missing.status, missing.problem().unwrap().code.as_str()), (404, "unknown_session"));
    let out = flags.path("existing.tar.gz");
    fs::write(&out, "mine").unwrap();
    let output = anteroom(&server, &["bundle", id.as_str(), "--out", out.to_str().unwrap()]).await;
    assert!(!output.status.success(), "an existing file is not overwritten");
    assert_eq!(fs::read_to_string(&out).unwrap(), "mine");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn bundle_is_returned_when_it_cannot_be_retained() {
    let (flags, server, _, id) = start_idle_session("").await;
    // A file instead of the directory makes every write fail, as a full disk does.
    let dir = server.state_dir().join("bundles");
    fs::write(&dir, "").unwrap();
    let files = bundle(&server, &id, &flags.path("b.tar.gz")).await;
    assert!(files["session.json"].contains(id.as_str()));
    fs::remove_file(&dir).unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn retention_removes_oldest_bundles_and_receipts_first() {
    let settings = "[retention]\nreceipts_max = 3\n[limits.sessions]\nreconcile_every_ms = 100\n";
    let (flags, server, _api, id) = start_idle_session(settings).await;
    let dir = server.state_dir().join("bundles");
    let retained = || {
        let names = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let mut seen = Vec::new();
    for number in 0..BUNDLES_MAX + 2 {
        bundle(&server, &id, &flags.path(&format!("{number}.tar.gz"))).await;
        seen.extend(retained().into_iter().filter(|name| !seen.contains(name)).collect::<Vec<_>>());
    }
    assert_eq!(seen.len(), BUNDLES_MAX + 2, "each bundle was retained at first");
    assert_eq!(retained(), seen[2..], "the newest are left");
    assert_eq!(fs::metadata(dir.join(&seen[BUNDLES_MAX + 1])).unwrap().permissions().mode() & 0o777, 0o600);
    // Receipts of unknown machines, older than all others.
    let receipts = server.state_dir().join("receipts");
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000);
    for number in 0..5 {
        let path = receipts.join(format!("mac_0000000000000000000000000{number}.json"));
        fs::File::create(&path).unwrap().set_modified(old).unwrap();
    }
    let removed = async || Ok((fs::read_dir(&receipts)?.count() == 0).then_some(()));
    eventually("reconciliation removes receipts older than receipts_s_max", WAIT_MAX, removed).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
