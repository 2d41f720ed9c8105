//! Tools without a built-in provider: the documented example for any command works, and a provider whose tool is not in the image is
//! listed with the reason.

use crate::Flags;
use anteroom_testbed::{TestConfig, TestServer};
use anteroom_wire::api::SessionStatus;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// Opens a URL, waits for `go` and writes its file in two writes, as tools do.
const ACME: &str = r#"#!/bin/sh
test "$1" = login || exit 64
"$BROWSER" 'https://login.acme.example/start?state=a%20b'
until test -e 'GO'; do sleep 0.1; done
mkdir -p .config/acme
printf 'account=person\n' > .config/acme/config
: > .config/acme/credentials
printf 'token=one\n' >> .config/acme/credentials
"#;

fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers/examples/any_command.toml");
    fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn any_command_example_captures_the_files_it_watches() {
    let flags = Flags::new();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("any_command.toml"), example()).unwrap();
    let tool = dir.path().join("acme");
    fs::write(&tool, ACME.replace("GO", &flags.path("go").display().to_string())).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    // Only the path of the tool differs from the example: a plain machine has this host's directories.
    let settings = format!(
        "providers_dir = '{}'\n[providers.any_command]\nargv = ['{}', 'login']\n",
        dir.path().display(),
        tool.display()
    );
    let config = TestConfig::with_clis(&["acme"]).with_settings(&settings);
    let server = TestServer::start(config).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("any_command").await.unwrap().session.id;
    let view = api.wait_until(&id, "the link", |view| view.sign_in.url.is_some()).await.unwrap();
    assert_eq!(view.sign_in.url.as_deref(), Some("https://login.acme.example/start?state=a%20b"));
    flags.set("go");
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    let files: Vec<_> = lease.files.iter().map(|file| (file.path.as_str(), file.content.expose())).collect();
    assert_eq!(
        files,
        [(".config/acme/credentials", &b"token=one\n"[..]), (".config/acme/config", &b"account=person\n"[..])]
    );
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn provider_without_its_tool_in_the_image_is_listed_as_unavailable_and_cannot_start() {
    let server = TestServer::start(TestConfig::with_providers([])).await.unwrap();
    let api = server.backend_client().unwrap();
    let listed: Value = api.get("/api/providers").await.unwrap().parse().unwrap();
    for (id, tool) in
        [("github_cli", "gh"), ("copilot_cli", "copilot"), ("opencode", "opencode"), ("qwen_code", "qwen")]
    {
        let view = listed["providers"].as_array().unwrap().iter().find(|view| view["id"] == id).unwrap();
        assert_eq!(view["available"], false, "{id}");
        assert_eq!(view["unavailable"], format!("the machine image has no {tool}"));
        assert!(view["tested_version"].is_string() && view["version"].is_null(), "{view}");
        assert!(view["methods"].as_array().unwrap().len() > 1, "{view}");
        let rejected = api.post("/api/auth/start", json!({ "provider": id })).await.unwrap().problem().unwrap();
        assert_eq!(rejected.code, "provider_unavailable", "{id}");
    }
    server.stop_and_check_leaks().await.unwrap();
}
