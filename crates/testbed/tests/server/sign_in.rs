//! Successful sign-ins.

use crate::{Flags, URL, start_idle, start_session_with};
use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, script::WriteMode};
use anteroom_wire::TimelineKind;
use anteroom_wire::api::{SessionStatus, StartRequest};

#[tokio::test]
async fn leased_credential_has_the_exact_bytes_of_the_tool() {
    let flags = Flags::new();
    let content = "{\"token\": \"canary-1\",\n  \"unknown\" : [1, 2.50]}\n";
    let (server, api, id) = start_session_with(TestConfig::with_provider(flags.provider(content))).await;
    let view = api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    assert_eq!((view.status, view.sign_in.url.as_deref()), (SessionStatus::Authenticating, Some(URL)));
    flags.set("go");
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let credential = view.credential.unwrap();
    let lease = api.lease_credential(&credential.id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), content.as_bytes());
    assert_eq!((lease.files[0].path.as_str(), lease.files[0].mode), (ScriptedProvider::CREDENTIAL_PATH, 0o600));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn partial_or_wrong_format_files_do_not_complete_a_session() {
    let flags = Flags::new();
    let write = |content: &str, mode| Step::WriteFile {
        path: ScriptedProvider::CREDENTIAL_PATH.into(),
        content: content.to_owned(),
        mode,
    };
    let provider = flags.provider_with_steps([
        write("{\"other\": 1}", WriteMode::Truncate),
        flags.wait_step("halves"),
        write("{\"token\": \"whole\"}", WriteMode::InHalves { wait_ms: 1_000 }),
    ]);
    let (server, api, id) = start_session_with(TestConfig::with_provider(provider)).await;
    let entry = api.wait_entry(&id, TimelineKind::CandidateRejected).await.unwrap();
    assert!(format!("{} {}", entry.sentence, entry.data).contains("/token"), "the missing key is named: {entry:?}");
    flags.set("halves");
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), b"{\"token\": \"whole\"}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn status_command_must_confirm_the_credential() {
    let flags = Flags::new();
    let status = Script::new([wait_for_flag(&flags, "signed-in"), Step::print_line("Logged in using a test")]);
    let provider = flags.provider_with_steps([
        Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"x\"}"),
        flags.wait_step("never"),
    ]);
    let (server, api, id) =
        start_session_with(TestConfig::with_provider(provider.with_status(status, "Logged in"))).await;
    api.wait_entry(&id, TimelineKind::CandidateRejected).await.unwrap();
    assert_eq!(api.get_session(&id).await.unwrap().status, SessionStatus::VmStarted);
    flags.set("signed-in");
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

/// A status command that fails until the flag is set.
fn wait_for_flag(flags: &Flags, name: &str) -> Step {
    Step::ExpectFile { path: flags.path(name), output: "checked".to_owned() }
}

#[tokio::test]
async fn pasted_code_reaches_the_tools_prompt() {
    let flags = Flags::new();
    let provider = flags.provider_with_steps([
        Step::print_line("Open https://id.example/device and paste the code here:"),
        Step::ReadLine,
        Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"from {line}\"}"),
    ]);
    let (server, api, id) = start_session_with(TestConfig::with_provider(provider)).await;
    let view = api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    assert_eq!(view.sign_in.url.as_deref(), Some("https://id.example/device"));
    let code = serde_json::json!({ "code": "the-code#1" });
    assert_eq!(api.post(&format!("/api/auth/session/{id}/code"), code).await.unwrap().status, 204);
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), b"{\"token\": \"from the-code#1\"}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn terminal_answers_the_cursor_position_query() {
    let flags = Flags::new();
    let provider = flags.provider_with_steps([
        Step::QueryCursor { ms_max: 30_000 },
        Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"x\"}"),
    ]);
    let (server, api, id) = start_session_with(TestConfig::with_provider(provider)).await;
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn concurrent_starts_with_one_idempotency_key_create_one_session() {
    let (_flags, server) = start_idle("").await;
    let api = server.backend_client().unwrap();
    let request = |user: &str| StartRequest {
        user_id: Some(user.into()),
        idempotency_key: Some("once".into()),
        ..StartRequest::new("scripted")
    };
    let ada = request("ada");
    let (one, two) = tokio::join!(api.start_session_with(&ada), api.start_session_with(&ada));
    assert_eq!(one.unwrap().session.id, two.unwrap().session.id);
    let other = api.post("/api/auth/start", serde_json::to_value(request("bob")).unwrap()).await.unwrap();
    assert_eq!(other.problem().unwrap().code, "idempotency_key_reused");
    server.stop_and_check_leaks().await.unwrap();
}
