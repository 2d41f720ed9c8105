//! Uses of one credential take turns, so that no token is used twice and none is lost (report R16).
//!
//! The tool of these tests rotates its token as OAuth providers do (RFC 9700 §4.14): each token is accepted once, and one that is used
//! again is refused.

use crate::{
    Flags,
    command_line::{CLI_MS_MAX, cli_command, run_cli, sign_in, start_use, text},
};
use anteroom_testbed::{ApiClient, ScriptedProvider, TestConfig, TestServer, WAIT_MAX};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{Lease, SessionList, SessionStatus, SessionView, StartRequest},
    diagnosis::Verdict,
};
use serde_json::json;
use std::{process::Stdio, time::Duration};
use tokio::time::timeout;

pub(crate) const CONTENT: &str = "{\"token\": \"token1\"}";

/// The issuer is a directory: `current` has the one token that it accepts, `refused` exists once another one was used.
pub(crate) struct Issuer<'a>(&'a Flags);

impl<'a> Issuer<'a> {
    pub(crate) fn new(flags: &'a Flags) -> Self {
        std::fs::write(flags.path("current"), "token1").unwrap();
        Self(flags)
    }

    /// The command of the tool `name`: exchanges its token for the next one, waits for the flag `end_NAME`, then writes the new one.
    pub(crate) fn exchange(&self, name: &str) -> Vec<String> {
        let path = |flag: &str| self.0.path(flag).display().to_string();
        let file = ScriptedProvider::CREDENTIAL_PATH;
        let script = format!(
            "old=$(sed 's/.*: \"//;s/\".*//' {file}); [ \"$old\" = \"$(cat {current})\" ] || {{ touch {refused}; exit 3; }}\n\
             new=$old$old; echo $new | cut -c1-40 >{current}.new; mv {current}.new {current}; touch {exchanged}\n\
             while [ ! -e {end} ]; do sleep 0.05; done\n\
             printf '{{\"token\": \"%s\"}}' \"$(cat {current})\" >{file}.new; mv {file}.new {file}",
            current = path("current"),
            refused = path("refused"),
            exchanged = path(&format!("exchanged_{name}")),
            end = path(&format!("end_{name}")),
        );
        ["sh", "-c", &script].map(str::to_owned).to_vec()
    }

    fn current(&self) -> String {
        std::fs::read_to_string(self.0.path("current")).unwrap().trim().to_owned()
    }

    pub(crate) fn assert_nothing_refused(&self) {
        assert!(!self.0.path("refused").exists(), "a token was used twice");
    }
}

async fn start(flags: &Flags, is_never_refreshed: bool) -> (TestServer, String) {
    start_with(flags, is_never_refreshed, "").await
}

/// A tool whose credential is used by its commands.
pub(crate) fn tool(flags: &Flags, is_never_refreshed: bool) -> ScriptedProvider {
    let rules = json!({
        "paths": [ScriptedProvider::CREDENTIAL_PATH], "required": ["/token"], "status_argv": ["sh", "-c", "echo Logged in"],
        "status_matches": "Logged in", "never_refreshed": is_never_refreshed,
    });
    flags.provider(CONTENT).with_descriptor_key("credential", rules)
}

async fn start_with(flags: &Flags, is_never_refreshed: bool, settings: &str) -> (TestServer, String) {
    let provider = tool(flags, is_never_refreshed);
    let settings = format!("{settings}[limits.sessions]\nreconcile_every_ms = 100\n");
    let server = TestServer::start(TestConfig::with_provider(provider).with_settings(&settings)).await.unwrap();
    let id = sign_in(flags, &server).await;
    (server, id)
}

pub(crate) async fn exec(api: &ApiClient, id: &str, argv: Vec<String>) -> SessionView {
    start_use(api, id, json!({ "purpose": "exec", "argv": argv })).await
}

/// Waits until the session waits for the use of the other one.
pub(crate) async fn wait_behind(api: &ApiClient, session: &SessionId, other: &SessionId) {
    let waits = |view: &SessionView| view.credential_use.as_ref().and_then(|using| using.waits_for.clone());
    api.wait_until(session, "behind the other use", |view| waits(view).as_ref() == Some(other)).await.unwrap();
}

/// Waits until any session waits for another use.
async fn wait_any_behind(api: &ApiClient) {
    let waits = |view: &SessionView| view.credential_use.as_ref().is_some_and(|using| using.waits_for.is_some());
    let is_waiting = async || {
        let list: SessionList = api.get("/api/sessions").await.unwrap().parse().unwrap();
        list.sessions.iter().any(waits)
    };
    let wait = async {
        while !is_waiting().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_MAX, wait).await.unwrap();
}

async fn wait_file(flags: &Flags, name: &str) {
    let wait = async {
        while !flags.path(name).exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_MAX, wait).await.unwrap();
}

async fn stored_token(api: &ApiClient, id: &str) -> String {
    let lease: Lease = api.post(&format!("/api/credentials/{id}/lease"), json!({})).await.unwrap().parse().unwrap();
    String::from_utf8(lease.files[0].content.expose().to_vec()).unwrap()
}

#[tokio::test]
async fn r16_uses_take_turns_and_the_newest_token_is_never_lost() {
    let flags = Flags::new();
    let issuer = Issuer::new(&flags);
    let (server, id) = start(&flags, false).await;
    let api = server.backend_client().unwrap();
    let first = exec(&api, &id, issuer.exchange("first")).await;
    api.wait_entry(&first.id, TimelineKind::CliStarted).await.unwrap();
    let second = exec(&api, &id, issuer.exchange("second")).await;
    wait_behind(&api, &second.id, &first.id).await;
    let waiting = api.wait_entry(&second.id, TimelineKind::CredentialUseWaiting).await.unwrap();
    assert!(waiting.sentence.contains(first.id.as_str()), "{}", waiting.sentence);
    assert_eq!(api.get_diagnosis(&second.id).await.unwrap().verdict, Verdict::CredentialInUse);
    let check = start_use(&api, &id, json!({ "purpose": "check" })).await;
    wait_behind(&api, &check.id, &first.id).await;
    flags.set("end_first");
    flags.set("end_second");
    for session in [&first.id, &second.id] {
        let view = api.wait_status(session, SessionStatus::Completed).await.unwrap();
        assert_eq!(view.credential_use.unwrap().exit_code, Some(0));
        api.wait_entry(session, TimelineKind::CredentialRefreshed).await.unwrap();
    }
    api.wait_status(&check.id, SessionStatus::Completed).await.unwrap();
    issuer.assert_nothing_refused();
    assert_eq!(stored_token(&api, &id).await, format!("{{\"token\": \"{}\"}}", issuer.current()));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r16_exec_says_that_it_waits_and_a_lease_between_two_uses_gets_the_newest_token() {
    let flags = Flags::new();
    let issuer = Issuer::new(&flags);
    let (server, id) = start(&flags, false).await;
    let api = server.backend_client().unwrap();
    let first = exec(&api, &id, issuer.exchange("first")).await;
    api.wait_entry(&first.id, TimelineKind::CliStarted).await.unwrap();
    let arguments =
        [vec!["exec".to_owned(), "--credential".to_owned(), id.clone(), "--".to_owned()], issuer.exchange("second")];
    let arguments = arguments.concat();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = cli_command(&server, &arguments);
    let second = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_any_behind(&api).await;
    let (lessee, leased) = (server.backend_client().unwrap(), id.clone());
    let lease = tokio::spawn(async move { stored_token(&lessee, &leased).await });
    wait_file(&flags, "exchanged_first").await;
    let rotated = issuer.current();
    assert!(!lease.is_finished(), "it waits for the end of the use");
    flags.set("end_first");
    assert_eq!(lease.await.unwrap(), format!("{{\"token\": \"{rotated}\"}}"));
    flags.set("end_second");
    let done = timeout(Duration::from_millis(CLI_MS_MAX), second.wait_with_output()).await.unwrap().unwrap();
    let stderr = text(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{stderr}");
    let expected = format!("another use of this credential is running ({}); waiting", first.id);
    assert!(stderr.contains(&expected), "{stderr}");
    issuer.assert_nothing_refused();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r16_the_end_of_a_holder_frees_its_turn_and_a_restart_keeps_it() {
    let flags = Flags::new();
    let issuer = Issuer::new(&flags);
    let (mut server, id) = start(&flags, false).await;
    let api = server.backend_client().unwrap();
    let first = exec(&api, &id, issuer.exchange("first")).await;
    api.wait_entry(&first.id, TimelineKind::CliStarted).await.unwrap();
    server.kill_server().await.unwrap();
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    api.wait_entry(&first.id, TimelineKind::MachineAdopted).await.unwrap();
    let second = start_use(&api, &id, json!({ "purpose": "check" })).await;
    wait_behind(&api, &second.id, &first.id).await;
    api.cancel_session(&first.id).await.unwrap();
    api.wait_status(&second.id, SessionStatus::Completed).await.unwrap();
    api.wait_entry(&second.id, TimelineKind::CredentialUseTurn).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r16_a_use_whose_machine_is_killed_frees_its_turn() {
    let flags = Flags::new();
    let issuer = Issuer::new(&flags);
    let (server, id) = start_with(&flags, false, "[sessions]\nrestarts_max = 0\n").await;
    let api = server.backend_client().unwrap();
    let first = exec(&api, &id, issuer.exchange("first")).await;
    wait_file(&flags, "exchanged_first").await;
    let second = start_use(&api, &id, json!({ "purpose": "check" })).await;
    wait_behind(&api, &second.id, &first.id).await;
    server.kill_machine(&server.list_machines().remove(0)).unwrap();
    assert!(
        api.wait_status(&first.id, SessionStatus::Failed).await.unwrap().credential_use.unwrap().exit_code.is_none()
    );
    api.wait_status(&second.id, SessionStatus::Completed).await.unwrap();
    api.wait_entry(&second.id, TimelineKind::CredentialUseTurn).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r16_a_renewal_takes_its_turn_and_the_next_use_begins_with_its_bytes() {
    let flags = Flags::new();
    let issuer = Issuer::new(&flags);
    let (server, id) = start(&flags, false).await;
    let api = server.backend_client().unwrap();
    std::fs::remove_file(flags.path("go")).unwrap();
    let first = exec(&api, &id, issuer.exchange("first")).await;
    wait_file(&flags, "exchanged_first").await;
    let request = StartRequest { renews: Some(id.clone()), ..StartRequest::new("scripted") };
    let renewal = api.start_session_with(&request).await.unwrap().session.id;
    let waiting = api.wait_entry(&renewal, TimelineKind::CredentialUseWaiting).await.unwrap();
    assert!(waiting.sentence.contains(first.id.as_str()), "{}", waiting.sentence);
    assert_eq!(api.get_diagnosis(&renewal).await.unwrap().verdict, Verdict::CredentialInUse);
    flags.set("end_first");
    api.wait_status(&first.id, SessionStatus::Completed).await.unwrap();
    api.wait_until(&renewal, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let check =
        start_use(&api, &id, json!({ "purpose": "exec", "argv": ["cat", ScriptedProvider::CREDENTIAL_PATH] })).await;
    wait_behind(&api, &check.id, &renewal).await;
    flags.set("go");
    let renewed = api.wait_status(&renewal, SessionStatus::Completed).await.unwrap();
    assert_eq!(renewed.credential.unwrap().id.as_str(), id);
    api.wait_status(&check.id, SessionStatus::Completed).await.unwrap();
    assert_eq!(stored_token(&api, &id).await, CONTENT, "no earlier use has replaced it");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r16_uses_of_a_credential_that_is_never_refreshed_run_in_parallel() {
    let flags = Flags::new();
    let (server, id) = start(&flags, true).await;
    let api = server.backend_client().unwrap();
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", flags.path("end").display());
    let argv = || ["sh", "-c", &wait].map(str::to_owned).to_vec();
    let (first, second) = (exec(&api, &id, argv()).await, exec(&api, &id, argv()).await);
    for session in [&first.id, &second.id] {
        api.wait_entry(session, TimelineKind::CliStarted).await.unwrap();
    }
    let lease: Lease = api.post(&format!("/api/credentials/{id}/lease"), json!({})).await.unwrap().parse().unwrap();
    assert_eq!((lease.notice, lease.credential.refreshable), (None, false));
    let note = lease.credential.sign_out_note.expect("the tool has no command that signs out");
    assert!(note.starts_with("Scripted tool has no command that signs out at its provider"), "{note}");
    flags.set("end");
    for session in [&first.id, &second.id] {
        api.wait_status(session, SessionStatus::Completed).await.unwrap();
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r16_a_leased_copy_is_described_and_r38_a_sign_out_says_whom_it_signs_out() {
    let flags = Flags::new();
    let provider = flags
        .provider(CONTENT)
        .with_descriptor_key("logout_argv", json!(["true"]))
        .with_descriptor_key("logout_scope", json!("account"));
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let id = sign_in(&flags, &server).await;
    let out = server.path().join("auth.json");
    let done = run_cli(&server, &["credentials", "lease", &id, "--out", out.to_str().unwrap()]).await;
    let stderr = text(&done.stderr);
    assert!(stderr.contains("This copy and the stored credential share their tokens"), "{stderr}");
    let note = "This also signs out Scripted tool everywhere for this account.";
    let done = run_cli(&server, &["credentials", "show", &id]).await;
    assert!(text(&done.stdout).contains(note), "{}", text(&done.stdout));
    let done = run_cli(&server, &["credentials", "delete", &id, "--logout", "--yes"]).await;
    assert_eq!((done.status.code(), text(&done.stderr).contains(note)), (Some(0), true), "{}", text(&done.stderr));
    server.stop_and_check_leaks().await.unwrap();
}
