//! Stored credentials: checks, logout, renewal, deletion and leases, by the command line and by the server's background job.

use crate::{
    Flags,
    command_line::{CLI_MS_MAX, cli_command, run_cli, sign_in, start_use, text},
};
use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX};
use anteroom_wire::{
    TimelineKind,
    api::{
        CredentialHealth, CredentialList, CredentialMeta, SessionList, SessionStatus, SessionView, StartRequest,
        StartResponse,
    },
    diagnosis::Verdict,
};
use serde_json::json;
use std::{os::unix::fs::PermissionsExt, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::{Instant, sleep, timeout},
};

const CONTENT: &str = "{\"token\": \"first\"}";

/// A provider whose status command prints "Logged in" while its file exists and the flag `revoked` is not set, and whose logout sets
/// `revoked` unless the flag `stuck` is set.
fn provider(flags: &Flags) -> ScriptedProvider {
    let flag = |name: &str| flags.path(name).display().to_string();
    let status = format!(
        "test -e {} && exec tail -f /dev/null; test -e {} && kill -9 $$; test -e {} && echo Logged out && exit 1; \
         test -e .scripted/auth.json && echo Logged in",
        flag("hangs"),
        flag("killed"),
        flag("revoked")
    );
    let logout =
        format!("test -e {} && echo The provider does not answer && exit 4; touch {}", flag("stuck"), flag("revoked"));
    let rules = json!({
        "paths": [ScriptedProvider::CREDENTIAL_PATH], "required": ["/token"], "status_argv": ["sh", "-c", status], "status_matches": "Logged in",
    });
    flags
        .provider(CONTENT)
        .with_descriptor_key("credential", rules)
        .with_descriptor_key("logout_argv", json!(["sh", "-c", logout]))
}

async fn start_with_credential(settings: &str) -> (Flags, TestServer, String) {
    let flags = Flags::new();
    let server = TestServer::start(TestConfig::with_provider(provider(&flags)).with_settings(settings)).await.unwrap();
    let id = sign_in(&flags, &server).await;
    (flags, server, id)
}

async fn credential_meta(server: &TestServer, id: &str) -> CredentialMeta {
    server.backend_client().unwrap().get(&format!("/api/credentials/{id}")).await.unwrap().parse().unwrap()
}

/// Exit code, standard output and standard error.
pub(crate) async fn run_cli_text(server: &TestServer, arguments: &[&str]) -> (Option<i32>, String, String) {
    let done = run_cli(server, arguments).await;
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

#[tokio::test]
async fn credential_check_runs_the_status_command_and_sets_the_health() {
    let (flags, server, id) = start_with_credential("").await;
    let before = credential_meta(&server, &id).await;
    let (code, stdout, _) = run_cli_text(&server, &["credentials", "check", &id]).await;
    assert_eq!((code, stdout.starts_with("valid: The tool confirmed")), (Some(0), true), "{stdout}");
    let checked = credential_meta(&server, &id).await;
    assert_eq!((checked.health, checked.stored_at == before.stored_at), (CredentialHealth::Valid, true));
    assert!(checked.checked_at > before.checked_at, "{checked:?}");
    flags.set("revoked");
    let (code, stdout, _) = run_cli_text(&server, &["credentials", "check", &id, "--json"]).await;
    let found: CredentialMeta = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, found.health), (Some(1), CredentialHealth::NeedsAuth), "{stdout}");
    assert!(found.health_detail.contains("rejected the credential"), "{}", found.health_detail);
    // The health that a check has set is kept.
    assert_eq!(credential_meta(&server, &id).await.health, CredentialHealth::NeedsAuth);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn credential_check_is_a_session_without_a_terminal_tool() {
    let (_flags, server, id) = start_with_credential("").await;
    let api = server.backend_client().unwrap();
    let session = start_use(&api, &id, json!({ "purpose": "check" })).await;
    let entry = api.wait_entry(&session.id, TimelineKind::CredentialChecked).await.unwrap();
    assert_eq!(entry.data["signed_in"], true);
    let view = api.wait_status(&session.id, SessionStatus::Completed).await.unwrap();
    assert_eq!(view.credential_use.unwrap().exit_code, Some(0));
    assert!(api.get_timeline(&session.id).await.unwrap().iter().all(|entry| entry.kind != TimelineKind::CliStarted));
    let found = api.get_diagnosis(&session.id).await.unwrap();
    assert_eq!(found.verdict, Verdict::Completed, "{}", found.sentence);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn check_that_did_not_run_leaves_the_health_unchanged() {
    let (_flags, server, id) = start_with_credential("").await;
    let none = "crd_00000000000000000000000000";
    let (code, _, stderr) = run_cli_text(&server, &["credentials", "check", none]).await;
    assert_eq!((code, stderr.contains("could not be checked")), (Some(2), true), "{stderr}");
    // The session is cancelled before the status command has run.
    let api = server.backend_client().unwrap();
    let session = start_use(&api, &id, json!({ "purpose": "check" })).await;
    api.cancel_session(&session.id).await.unwrap();
    assert_eq!(credential_meta(&server, &id).await.health, CredentialHealth::Valid);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn status_command_failure_leaves_the_health_unchanged() {
    let (flags, server, id) = start_with_credential("[limits.sessions]\nstatus_command_ms_max = 2000\n").await;
    for (flag, expected) in [("hangs", "did not end within 2000 ms"), ("killed", "ended with 137")] {
        flags.set(flag);
        let before = credential_meta(&server, &id).await;
        let (code, _, stderr) = run_cli_text(&server, &["credentials", "check", &id]).await;
        assert_eq!(
            (code, stderr.contains("could not be checked") && stderr.contains(expected)),
            (Some(2), true),
            "{stderr}"
        );
        let after = credential_meta(&server, &id).await;
        assert_eq!((after.health, after.checked_at), (CredentialHealth::Valid, before.checked_at), "{flag}");
        std::fs::remove_file(flags.path(flag)).unwrap();
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn embedded_expiry_sets_the_health_and_is_logged_once() {
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for (ends_s, expected) in [
        (now_s + 24 * 3_600, CredentialHealth::Valid),
        (now_s + 3_600, CredentialHealth::Expiring),
        (now_s - 60, CredentialHealth::NeedsAuth),
    ] {
        let flags = Flags::new();
        let rules = json!({
            "paths": [ScriptedProvider::CREDENTIAL_PATH], "required": ["/token"], "expires_at": { "pointer": "/ends", "unit": "unix_s" },
        });
        let content = format!("{{\"token\": \"first\", \"ends\": {ends_s}}}");
        let config = TestConfig::with_provider(flags.provider(&content).with_descriptor_key("credential", rules));
        let server = TestServer::start(config.with_settings("[credentials]\nexpiry_warning_s = 7200\n")).await.unwrap();
        let id = sign_in(&flags, &server).await;
        let found = credential_meta(&server, &id).await;
        assert_eq!((found.health, found.expires_at.is_some()), (expected, true), "{found:?}");
        let (code, stdout, _) = run_cli_text(&server, &["credentials", "show", &id]).await;
        assert_eq!((code, stdout.contains(&format!("{}: ", expected.as_str()))), (Some(0), true), "{stdout}");
        for _ in 0..2 {
            assert_eq!(run_cli_text(&server, &["reconcile"]).await.0, Some(0));
        }
        let logged = server.read_log().matches("\"credential_expires\"").count();
        assert_eq!(logged, usize::from(expected != CredentialHealth::Valid), "{}", server.read_log());
        server.stop_and_check_leaks().await.unwrap();
    }
}

#[tokio::test]
async fn logout_runs_at_the_provider_and_marks_the_credential_needs_auth() {
    let (flags, server, id) = start_with_credential("").await;
    let (code, _, stderr) = run_cli_text(&server, &["credentials", "logout", &id]).await;
    assert!(code == Some(1) && stderr.contains("add --yes") && !flags.path("revoked").exists(), "{stderr}");
    let (code, stdout, _) = run_cli_text(&server, &["credentials", "logout", &id, "--yes"]).await;
    assert_eq!((code, stdout.contains("Signed out at the provider")), (Some(0), true), "{stdout}");
    assert_eq!(stdout.matches("exited with code 0").count(), 1, "{stdout}");
    let (_, stdout, _) = run_cli_text(&server, &["credentials", "show", &id]).await;
    assert!(stdout.lines().all(|line| !line.trim_start().starts_with("user")), "{stdout}");
    assert!(flags.path("revoked").exists(), "the logout reached the provider");
    let found = credential_meta(&server, &id).await;
    assert_eq!(found.health, CredentialHealth::NeedsAuth);
    assert!(found.health_detail.contains("signed out"), "{}", found.health_detail);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn failed_logout_keeps_the_credential_unless_forced() {
    let (flags, server, id) = start_with_credential("").await;
    flags.set("stuck");
    let (code, _, stderr) = run_cli_text(&server, &["credentials", "delete", &id, "--logout", "--yes"]).await;
    assert_eq!(
        (code, stderr.contains("exited with 4") && stderr.contains("was not deleted")),
        (Some(1), true),
        "{stderr}"
    );
    assert_eq!(credential_meta(&server, &id).await.health, CredentialHealth::Valid);
    let (code, stdout, _) =
        run_cli_text(&server, &["credentials", "delete", &id, "--logout", "--force", "--yes"]).await;
    assert_eq!(
        (code, stdout.contains("Not signed out") && stdout.contains("was deleted")),
        (Some(0), true),
        "{stdout}"
    );
    let list: CredentialList = server.backend_client().unwrap().list_credentials().await.unwrap();
    assert_eq!(list.credentials, []);
    assert!(!flags.path("revoked").exists());
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn delete_with_logout_signs_out_before_deleting() {
    let (flags, server, id) = start_with_credential("").await;
    let (code, stdout, stderr) = run_cli_text(&server, &["credentials", "delete", &id, "--logout", "--yes"]).await;
    assert_eq!((code, stdout.contains("was deleted")), (Some(0), true), "{stdout}{stderr}");
    assert!(flags.path("revoked").exists());
    let (code, _, stderr) = run_cli_text(&server, &["credentials", "show", &id]).await;
    assert_eq!((code, stderr.contains("no such credential")), (Some(1), true), "{stderr}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn credentials_are_listed_shown_and_leased_as_text_and_as_json() {
    let (_flags, server, id) = start_with_credential("").await;
    let (code, stdout, _) = run_cli_text(&server, &["credentials", "list"]).await;
    assert_eq!((code, stdout.contains(&id) && stdout.contains("valid")), (Some(0), true), "{stdout}");
    let (_, stdout, _) = run_cli_text(&server, &["credentials", "list", "--json"]).await;
    assert_eq!(serde_json::from_str::<CredentialList>(&stdout).unwrap().credentials[0].id.as_str(), id);
    let (_, stdout, _) = run_cli_text(&server, &["credentials", "show", &id]).await;
    assert!(
        stdout.contains(ScriptedProvider::CREDENTIAL_PATH)
            && stdout.contains("sealed and stored")
            && !stdout.contains("first"),
        "{stdout}"
    );
    let (file, dir) = (server.path().join("auth.json"), server.path().join("home"));
    std::fs::create_dir(&dir).unwrap();
    for (out, written) in [(&file, file.clone()), (&dir, dir.join(ScriptedProvider::CREDENTIAL_PATH))] {
        let (code, _, stderr) =
            run_cli_text(&server, &["credentials", "lease", &id, "--out", out.to_str().unwrap()]).await;
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(std::fs::read_to_string(&written).unwrap(), CONTENT);
        std::fs::remove_file(written).unwrap();
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn deliver_once_credential_is_not_leased_when_the_output_file_is_not_writable() {
    let flags = Flags::new();
    let provider = provider(&flags).with_descriptor_key("policy", json!("deliver_once"));
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let id = sign_in(&flags, &server).await;
    let (file, dir) = (server.path().join("auth.json"), server.path().join("home"));
    std::fs::write(&file, "mine").unwrap();
    std::fs::create_dir_all(dir.join(ScriptedProvider::CREDENTIAL_PATH)).unwrap();
    let none = server.path().join("none/auth.json");
    for (out, why) in
        [(&file, "exists; --overwrite"), (&dir, "exists; --overwrite"), (&none, "there is no such directory")]
    {
        let (code, _, stderr) =
            run_cli_text(&server, &["credentials", "lease", &id, "--out", out.to_str().unwrap()]).await;
        assert_eq!((code, stderr.contains(why) && stderr.contains(&id)), (Some(1), true), "{stderr}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    let (code, _, stderr) =
        run_cli_text(&server, &["credentials", "lease", &id, "--overwrite", "--out", file.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "it was still stored: {stderr}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), CONTENT);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let (code, _, stderr) =
        run_cli_text(&server, &["credentials", "lease", &id, "--overwrite", "--out", file.to_str().unwrap()]).await;
    assert_eq!((code, stderr.contains("delivered at")), (Some(1), true), "{stderr}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn login_starts_no_session_when_the_output_file_is_not_writable() {
    let flags = Flags::new();
    let provider = provider(&flags).with_descriptor_key("policy", json!("keep_in_machine"));
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let (file, free) = (server.path().join("auth.json"), server.path().join("free.json"));
    std::fs::write(&file, "mine").unwrap();
    for (out, why) in [(&file, "exists; --overwrite"), (&free, "stays in this machine")] {
        let out = out.to_str().unwrap();
        let (code, _, stderr) = run_cli_text(&server, &["login", "scripted", "--no-open", "--out", out]).await;
        assert_eq!((code, stderr.contains(why)), (Some(1), true), "{stderr}");
    }
    let list: SessionList = server.operator_client().unwrap().get("/api/sessions").await.unwrap().parse().unwrap();
    assert_eq!(list.sessions, []);
    drop(flags);
    server.stop_and_check_leaks().await.unwrap();
}

/// The renewal session that the command line has started.
async fn wait_renewal_session(server: &TestServer) -> SessionView {
    let until = Instant::now() + WAIT_MAX;
    loop {
        let list: SessionList = server.operator_client().unwrap().get("/api/sessions").await.unwrap().parse().unwrap();
        if let Some(session) = list.sessions.into_iter().find(|session| session.renews.is_some()) {
            return session;
        }
        assert!(Instant::now() < until, "no session was started");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn renewal_keeps_the_credential_id_and_restores_the_health() {
    let (flags, server, id) = start_with_credential("").await;
    let api = server.backend_client().unwrap();
    flags.set("revoked");
    let (code, ..) = run_cli_text(&server, &["credentials", "check", &id]).await;
    assert_eq!(code, Some(1));
    std::fs::remove_file(flags.path("revoked")).unwrap();
    let mut command = cli_command(&server, &["credentials", "renew", &id, "--no-open"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut output = String::new();
    let read_output = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            output.push_str(&line);
            output.push('\n');
        }
    };
    timeout(Duration::from_millis(CLI_MS_MAX), read_output).await.unwrap();
    assert!(child.wait().await.unwrap().success(), "{output}");
    assert!(
        output.contains("/dashboard/remote-cli/auth?session=")
            && output.contains(&format!("credential {id} was renewed")),
        "{output}"
    );
    let session = wait_renewal_session(&server).await;
    assert_eq!(session.renews.as_ref().map(ToString::to_string), Some(id.clone()));
    assert_eq!(
        api.get_session(&session.id).await.unwrap().status,
        SessionStatus::Completed,
        "the session belongs to the owner of the credential"
    );
    let renewed = credential_meta(&server, &id).await;
    assert_eq!((renewed.health, renewed.session), (CredentialHealth::Valid, session.id));
    assert_eq!(api.list_credentials().await.unwrap().credentials.len(), 1);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn renewal_requires_the_owner_and_the_same_provider() {
    let (flags, server, id) = start_with_credential("").await;
    let api = server.backend_client().unwrap();
    let request =
        |provider: &str, renews: &str| StartRequest { renews: Some(renews.into()), ..StartRequest::new(provider) };
    for (api, provider, renews, expected) in [
        (server.other_backend_client().unwrap(), "scripted", id.as_str(), (403, "not_owner")),
        (api.clone(), "scripted", "crd_00000000000000000000000000", (404, "unknown_credential")),
        (api.clone(), "scripted", "all", (400, "malformed")),
    ] {
        let body = serde_json::to_value(request(provider, renews)).unwrap();
        let answer = api.post("/api/auth/start", body).await.unwrap();
        assert_eq!((answer.status, answer.problem().unwrap().code.as_str()), expected, "{renews}");
    }
    // An operator may renew it; the session belongs to the owner.
    let body = serde_json::to_value(request("scripted", &id)).unwrap();
    let started: StartResponse =
        server.operator_client().unwrap().post("/api/auth/start", body).await.unwrap().parse().unwrap();
    assert_eq!(api.get_session(&started.session.id).await.unwrap().renews.unwrap().as_str(), id);
    drop(flags);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn due_credentials_are_checked_in_the_background() {
    let settings = "[credentials]\ncheck_every_s = 2\n[machines]\nmachines_max = 2\n";
    let (flags, server, id) = start_with_credential(settings).await;
    let (api, operator) = (server.backend_client().unwrap(), server.operator_client().unwrap());
    flags.set("revoked");
    let until = Instant::now() + WAIT_MAX;
    while credential_meta(&server, &id).await.health != CredentialHealth::NeedsAuth {
        assert!(Instant::now() < until, "no check ran");
        sleep(Duration::from_millis(50)).await;
    }
    let list: SessionList = api.get("/api/sessions").await.unwrap().parse().unwrap();
    let check =
        list.sessions.iter().find(|session| session.credential_use.is_some()).expect("the owner can see the check");
    let accepted = api.wait_entry(&check.id, TimelineKind::Accepted).await.unwrap();
    assert_eq!(accepted.data["purpose"], "check");
    let metrics = operator.get("/metrics").await.unwrap().text;
    assert!(metrics.contains("anteroom_credentials{health=\"needs_auth\"} 1"), "{metrics}");
    assert!(server.read_log().contains("check_started"));
    // The credential is valid again at the provider: the next check reports it.
    std::fs::remove_file(flags.path("revoked")).unwrap();
    let until = Instant::now() + WAIT_MAX;
    while credential_meta(&server, &id).await.health != CredentialHealth::Valid {
        assert!(Instant::now() < until, "no second check ran");
        sleep(Duration::from_millis(50)).await;
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn background_check_does_not_use_a_machine_slot_that_a_user_needs() {
    let settings = "[credentials]\ncheck_every_s = 1\n[machines]\nmachines_max = 1\n";
    let flags = Flags::new();
    let idle =
        ScriptedProvider::new("idle", Script::new([Step::print_line("Nothing to do"), flags.wait_step("never")]));
    let config = TestConfig::with_providers([provider(&flags), idle]).with_settings(settings);
    let server = TestServer::start(config).await.unwrap();
    let id = sign_in(&flags, &server).await;
    let api = server.backend_client().unwrap();
    let user_session = api.start_session("idle").await.unwrap().session.id;
    api.wait_status(&user_session, SessionStatus::VmStarted).await.unwrap();
    let since = credential_meta(&server, &id).await.checked_at;
    // Several check intervals.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(credential_meta(&server, &id).await.checked_at, since, "a user has the only machine slot");
    api.cancel_session(&user_session).await.unwrap();
    let until = Instant::now() + WAIT_MAX;
    while credential_meta(&server, &id).await.checked_at == since {
        assert!(Instant::now() < until, "the slot is free and no check ran");
        sleep(Duration::from_millis(50)).await;
    }
    server.stop_and_check_leaks().await.unwrap();
}
