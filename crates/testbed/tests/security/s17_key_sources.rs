//! Keys outside the state directory: another file, a systemd credential, and wrapped by a PKCS#11 token.

use crate::{
    fixture::Flags,
    stored_credentials::{config, content, deliver_by_tool, lease, rotate, start_server, wait_rewrapped},
};
use anteroom_testbed::{TestServer, plain_process::built_program};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

pub(crate) const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

#[tokio::test]
async fn s17_key_file_may_be_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("elsewhere.key");
    let (_flags, mut server) = start_server(&format!("[vault]\nkey_file = '{}'\n", file.display())).await;
    let id = deliver_by_tool(&server).await;
    rotate(&server).await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!server.state_dir().join("vault.key").exists());
    server.stop_server().await.unwrap();
    server.start_server().await.unwrap();
    assert_eq!(lease(&server, &id).await, content("one"));
    server.stop_and_check_leaks().await.unwrap();
}

fn write_private(path: &Path, bytes: impl AsRef<[u8]>, mode: u32) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A server's program that has one more environment variable.
fn program_with_variable(dir: &Path, name: &str, value: &Path) -> PathBuf {
    let script = dir.join("server-program");
    let program = built_program("anteroom-testbed").unwrap();
    let text = format!("#!/bin/sh\nexport {name}='{}'\nexec '{}' \"$@\"\n", value.display(), program.display());
    write_private(&script, text, 0o755);
    script
}

/// A server with an environment variable from its first start.
async fn start_with_variable(dir: &Path, name: &str, value: &Path, settings: &str) -> TestServer {
    let flags = Flags::new();
    let mut config = config(&flags).with_settings(settings);
    config.machines.program = Some(program_with_variable(dir, name, value));
    TestServer::start(config).await.unwrap()
}

#[tokio::test]
async fn s17_systemd_credential_is_used_and_its_rotation_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let (source, credentials) = (dir.path().join("source.key"), dir.path().join("credentials"));
    fs::create_dir(&credentials).unwrap();
    let key = serde_json::to_value(anteroom_wire::Base64::new(vec![7; 32])).unwrap();
    let document = serde_json::json!({ "version": 1, "keys": [{ "id": 1, "created_unix_ms": 0, "key": key }] });
    write_private(&source, document.to_string(), 0o600);
    let provided = credentials.join("vault.key");
    // As systemd provides it to a service with User=: the access list of the user appears as the group's permissions.
    write_private(&provided, document.to_string(), 0o440);
    let mut server = start_with_variable(dir.path(), "CREDENTIALS_DIRECTORY", &credentials, "").await;
    let id = deliver_by_tool(&server).await;
    assert!(!server.state_dir().join("vault.key").exists());
    let answer = server.operator_client().unwrap().post("/api/keys/rotate", serde_json::json!({})).await.unwrap();
    let problem = answer.problem().unwrap();
    assert_eq!((answer.status, problem.code.as_str()), (409, "keys_read_only"));
    assert!(problem.detail.unwrap().contains("keys rotate --key-file FILE"));
    assert_eq!(fs::read_to_string(&provided).unwrap(), document.to_string());

    // What the problem advises: change the source, provide it again, restart.
    server.stop_server().await.unwrap();
    server.run_anteroom(&["keys", "rotate", "--key-file", source.to_str().unwrap()]).await.unwrap();
    // systemd replaces the file, which its reader cannot write.
    fs::remove_file(&provided).unwrap();
    write_private(&provided, fs::read(&source).unwrap(), 0o440);
    server.start_server().await.unwrap();
    assert_eq!(wait_rewrapped(&server).await, 2);
    assert_eq!(lease(&server, &id).await, content("one"));
    server.stop_and_check_leaks().await.unwrap();
}

/// A token of `SoftHSM` with the label `anteroom`, the PIN 5678 and one AES key with the label `anteroom`.
pub(crate) struct SoftToken {
    dir: tempfile::TempDir,
}

impl SoftToken {
    /// `None`: `SoftHSM` is not installed; the reason is printed.
    pub(crate) fn create() -> Option<Self> {
        if !Path::new(SOFTHSM).exists() {
            eprintln!("skipped: {SOFTHSM} does not exist; install the package softhsm2");
            return None;
        }
        let token = Self { dir: tempfile::tempdir().unwrap() };
        let tokens = token.path("tokens");
        fs::create_dir(&tokens).unwrap();
        fs::write(token.path("softhsm2.conf"), format!("directories.tokendir = {}\n", tokens.display())).unwrap();
        write_private(&token.path("pin"), "5678\n", 0o600);
        write_private(&token.path("aes"), [9; 32], 0o600);
        token.run_util(&["--init-token", "--free", "--label", "anteroom", "--so-pin", "1234", "--pin", "5678"]);
        let key = token.path("aes");
        let import = ["--import", key.to_str().unwrap(), "--aes", "--token", "anteroom", "--label", "anteroom"];
        token.run_util(&[&import[..], &["--id", "01", "--pin", "5678"]].concat());
        fs::remove_file(key).unwrap();
        Some(token)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run_util(&self, arguments: &[&str]) {
        let mut command = Command::new("softhsm2-util");
        let done = command.env("SOFTHSM2_CONF", self.path("softhsm2.conf")).args(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
    }

    pub(crate) fn settings(&self, token_label: &str, key_label: &str, pin_file: &Path, module: &str) -> String {
        format!(
            "[vault]\npkcs11_module = '{module}'\npkcs11_token_label = '{token_label}'\npkcs11_key_label = '{key_label}'\n\
             pkcs11_pin_file = '{}'\n",
            pin_file.display()
        )
    }

    /// Runs `anteroom keys list` without a server, with these settings.
    fn list_keys(&self, state_dir: &Path, settings: &str) -> Output {
        self.list_keys_with(state_dir, settings, &[])
    }

    /// The same with environment variables.
    pub(crate) fn list_keys_with(&self, state_dir: &Path, settings: &str, variables: &[(&str, &str)]) -> Output {
        let config = self.path("anteroom.toml");
        fs::write(&config, settings).unwrap();
        Command::new(built_program("anteroom").unwrap())
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .envs(variables.iter().copied())
            .arg("--config")
            .arg(&config)
            .arg("--state-dir")
            .arg(state_dir)
            .args(["keys", "list"])
            .output()
            .unwrap()
    }
}

#[tokio::test]
async fn s17_pkcs11_token_wraps_the_keys_and_they_are_rotated() {
    let Some(token) = SoftToken::create() else { return };
    let settings = token.settings("anteroom", "anteroom", &token.path("pin"), SOFTHSM);
    let conf = token.path("softhsm2.conf");
    let mut server = start_with_variable(token.dir.path(), "SOFTHSM2_CONF", &conf, &settings).await;
    let id = deliver_by_tool(&server).await;
    assert_eq!(rotate(&server).await, 2);
    let file = fs::read_to_string(server.state_dir().join("vault.key")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file["version"], 2, "the keys in the file are wrapped");
    for key in file["keys"].as_array().unwrap() {
        let wrapped: anteroom_wire::Base64 = serde_json::from_value(key["key"].clone()).unwrap();
        assert_eq!(wrapped.expose().len(), 12 + 32 + 16);
    }
    server.stop_server().await.unwrap();
    server.start_server().await.unwrap();
    assert_eq!(lease(&server, &id).await, content("one"));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s17_faults_of_a_pkcs11_token_are_named() {
    let Some(token) = SoftToken::create() else { return };
    let state = tempfile::tempdir().unwrap();
    let pin = token.path("pin");
    // The first use creates keys that the token wraps.
    let first = token.list_keys(state.path(), &token.settings("anteroom", "anteroom", &pin, SOFTHSM));
    assert!(first.status.success(), "{first:?}");
    let (wrong_pin, open_pin) = (token.path("wrong"), token.path("open"));
    write_private(&wrong_pin, "0000\n", 0o600);
    write_private(&open_pin, "5678\n", 0o644);
    let cases = [
        (token.settings("anteroom", "anteroom", &wrong_pin, SOFTHSM), "rejects the PIN"),
        (token.settings("anteroom", "anteroom", &open_pin, SOFTHSM), "other users can access it"),
        (token.settings("absent", "anteroom", &pin, SOFTHSM), "no PKCS#11 token with the label \"absent\""),
        (token.settings("anteroom", "absent", &pin, SOFTHSM), "has 0 AES keys with the label \"absent\""),
        (token.settings("anteroom", "anteroom", &pin, "/nowhere.so"), "/nowhere.so cannot be loaded"),
        (String::new(), "wrapped by a PKCS#11 token, and the configuration names none"),
        (format!("[vault]\npkcs11_module = '{SOFTHSM}'\n"), "set all three or none"),
    ];
    for (settings, expected) in cases {
        let output = token.list_keys(state.path(), &settings);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(expected), "{expected}: {text}");
    }
    // Another key of the same label cannot unwrap them.
    fs::remove_dir_all(token.path("tokens")).unwrap();
    let other = SoftToken::create().unwrap();
    fs::rename(other.path("tokens"), token.path("tokens")).unwrap();
    let file = state.path().join("vault.key");
    let changed = fs::read_to_string(&file).unwrap().replacen("\"id\": 1", "\"id\": 2", 1);
    fs::write(&file, changed).unwrap();
    let output = token.list_keys(state.path(), &token.settings("anteroom", "anteroom", &pin, SOFTHSM));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("cannot unwrap key 2"), "{text}");
}
