//! Tools without a built-in provider: the documented example for any command works, and a provider whose tool is not in the image is
//! listed with the reason.

use crate::{
    Flags,
    command_line::{run_cli, text},
};
use anteroom_testbed::{Script, ScriptedProvider, TestConfig, TestServer, plain_process::built_program};
use anteroom_wire::api::SessionStatus;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use tokio::process::Command;

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

#[tokio::test]
async fn script_of_the_settings_files_needs_no_tool_in_the_image() {
    let flags = Flags::new();
    flags.set("go");
    let script = ACME.replace("GO", &flags.path("go").display().to_string());
    let provider = ScriptedProvider::new("acme_script", Script::new([]))
        .without_descriptor_key("cli")
        .with_descriptor_key("argv", json!(["sh", ".local/bin/acme", "login"]))
        .with_descriptor_key("settings_files", json!([{ "path": ".local/bin/acme", "content": script }]))
        .with_descriptor_key(
            "credential",
            json!({ "paths": [".config/acme/credentials"], "format": "text", "text_matches": "token" }),
        );
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let listed = text(&run_cli(&server, &["providers", "list", "--json"]).await.stdout);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let view = listed["providers"].as_array().unwrap().iter().find(|view| view["id"] == "acme_script").unwrap();
    assert!(view["available"] == true && view["version"].is_null(), "{view}");
    let api = server.backend_client().unwrap();
    let id = api.start_session("acme_script").await.unwrap().session.id;
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), b"token=one\n");
    server.stop_and_check_leaks().await.unwrap();
}

/// What the command prints, and whether it succeeded.
async fn anteroom(dir: &Path, arguments: &[&str]) -> (String, String, bool) {
    let mut command = Command::new(built_program("anteroom").unwrap());
    command.env_clear().current_dir(dir).args(arguments);
    let output = command.output().await.unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.success())
}

#[tokio::test]
async fn printed_examples_are_valid_and_a_file_is_checked_although_the_configuration_is_not_valid() {
    let dir = tempfile::tempdir().unwrap();
    let save = |name: &str, content: &str| fs::write(dir.path().join(name), content).unwrap();
    let (descriptor, _, printed) = anteroom(dir.path(), &["providers", "example"]).await;
    assert!(printed && descriptor == example(), "{descriptor}");
    save("any_command.toml", &descriptor);
    let (config, _, printed) = anteroom(dir.path(), &["config", "example"]).await;
    assert!(printed);
    save("anteroom.toml", &config);
    for check in [
        &["providers", "check", "any_command.toml", "--config", "anteroom.toml"][..],
        &["config", "check", "--config", "anteroom.toml"],
    ] {
        let (out, err, valid) = anteroom(dir.path(), check).await;
        assert!(valid, "{out}{err}");
    }
    save("wrong.toml", &descriptor.replace("argv = ", "arg = "));
    save("anteroom.toml", "no_such_setting = 1\n");
    let (out, err, valid) =
        anteroom(dir.path(), &["providers", "check", "wrong.toml", "--config", "anteroom.toml"]).await;
    assert!(!valid && out.contains("wrong.toml") && out.contains("arg"), "{out}{err}");
    assert!(err.contains("no_such_setting"), "{out}{err}");
    let (out, err, valid) =
        anteroom(dir.path(), &["providers", "check", "any_command.toml", "--config", "anteroom.toml"]).await;
    assert!(!valid && out.contains("any_command: valid") && err.contains("no_such_setting"), "{out}{err}");
}
