//! Sign-ins that do not go on although their tool reports no error: what the person's page and the diagnosis say.

use crate::{Flags, fixture::start_session_with};
use anteroom_testbed::{ApiClient, ScriptedProvider, Step, TestConfig};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{SessionView, StartRequest},
    diagnosis::Verdict,
    provider::Lane,
    situation::{PersonAction, Phase, Situation},
};
use serde_json::json;

async fn wait(api: &ApiClient, id: &SessionId, situation: Situation) -> SessionView {
    api.wait_until(id, situation.code(), |view| view.for_person.situation == situation).await.unwrap()
}

/// A tool that says that it is signed in.
fn signed_in(flags: &Flags, steps: impl IntoIterator<Item = Step>) -> ScriptedProvider {
    let done = [Step::print_line("All done"), flags.wait_step("end")];
    flags
        .provider_with_steps(steps.into_iter().chain(done))
        .with_descriptor_key("sign_in", json!({ "url": r"https?://[^\s]+", "done": "(?m)^All done" }))
}

#[tokio::test]
async fn a_credential_elsewhere_is_not_claimed_to_be_saved() {
    let flags = Flags::new();
    let provider = signed_in(&flags, [Step::write(".scripted/other.json", "{\"token\": \"t0ken\"}")]);
    let (server, api, id) = start_session_with(TestConfig::with_provider(provider)).await;
    wait(&api, &id, Situation::Saving).await;
    // While the tool runs, and after its end.
    for _ in 0..2 {
        let view = wait(&api, &id, Situation::NotSaved).await;
        assert_eq!(view.for_person.phase, Phase::Failed);
        assert!(view.for_person.sentence.ends_with(&format!("Tell {}.", view.owner_name)), "{:?}", view.for_person);
        let found = api.wait_verdict(&id, Verdict::CredentialNotFound).await.unwrap();
        assert!(
            found.sentence.contains(".scripted/other.json") && found.remedy.contains("`credential.paths`"),
            "{found:?}"
        );
        assert!(!found.sentence.contains("t0ken"));
        flags.set("end");
        api.wait_entry(&id, TimelineKind::CliExited).await.unwrap();
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn a_credential_that_is_incomplete_or_not_confirmed_is_not_claimed_to_be_saved() {
    let incomplete = |flags: &Flags| signed_in(flags, [Step::write(ScriptedProvider::CREDENTIAL_PATH, "{}")]);
    let unconfirmed = |flags: &Flags| {
        let written = Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"t0ken\"}");
        let status = anteroom_testbed::Script::new([Step::print_line("signed in as Ada")]);
        signed_in(flags, [written]).with_status(status, "logged in")
    };
    type Tool = fn(&Flags) -> ScriptedProvider;
    let cases: [(Tool, _, _, _); 2] = [
        (incomplete, Verdict::CredentialInvalidFormat, "`required`", "is incomplete"),
        (unconfirmed, Verdict::CredentialNotConfirmed, "`status_matches`", "is not confirmed"),
    ];
    for (provider, verdict, remedy, entry) in cases {
        let flags = Flags::new();
        flags.set("end");
        let (server, api, id) = start_session_with(TestConfig::with_provider(provider(&flags))).await;
        wait(&api, &id, Situation::NotSaved).await;
        let found = api.wait_verdict(&id, verdict).await.unwrap();
        assert!(found.remedy.contains(remedy), "{}", found.remedy);
        let rejected = api.wait_entry(&id, TimelineKind::CandidateRejected).await.unwrap();
        assert!(rejected.sentence.contains(entry), "{}", rejected.sentence);
        server.stop_and_check_leaks().await.unwrap();
    }
}

/// A tool with a device code as the user sees it, and the rule that finds it.
fn with_code(flags: &Flags, rule: &str) -> ScriptedProvider {
    let steps = [
        Step::print_line("https://id.example/device"),
        Step::print_line("Enter this: ABCD-1234"),
        flags.wait_step("never"),
    ];
    flags
        .provider_with_steps(steps)
        .with_descriptor_key("lanes", json!(["device_code"]))
        .with_descriptor_key("sign_in", json!({ "url": r"https?://[^\s]+", "code": rule, "code_s_max": 3 }))
}

#[tokio::test]
async fn a_code_whose_time_is_up_is_replaced_by_a_new_one() {
    let flags = Flags::new();
    let config = TestConfig::with_provider(with_code(&flags, "Enter this: ([A-Z]{4}-[0-9]{4})"));
    let (server, api, id) = start_session_with(config).await;
    wait(&api, &id, Situation::YourTurn).await;
    let view = wait(&api, &id, Situation::CodeExpired).await;
    assert_eq!(view.for_person.actions, [PersonAction::RestartTool]);
    api.wait_verdict(&id, Verdict::CodeExpired).await.unwrap();
    let again = api.post(&format!("/api/auth/session/{id}/method"), json!({ "method": view.method })).await.unwrap();
    assert_eq!(again.status, 200, "{}", again.text);
    wait(&api, &id, Situation::YourTurn).await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn a_code_that_no_rule_finds_is_read_in_the_terminal() {
    let flags = Flags::new();
    let config = TestConfig::with_provider(with_code(&flags, "Your code is ([A-Z]{4})"));
    let (server, api, id) = start_session_with(config).await;
    assert!(!wait(&api, &id, Situation::YourTurn).await.lanes.contains(&Lane::Terminal));
    let view = wait(&api, &id, Situation::CodeInTerminal).await;
    assert_eq!(view.for_person.actions, [PersonAction::UseTerminal, PersonAction::OpenLink]);
    assert!(view.lanes.contains(&Lane::Terminal));
    let found = api.wait_verdict(&id, Verdict::WaitingForUser).await.unwrap();
    assert!(found.sentence.contains("`sign_in.code`") && found.remedy.contains("`sign_in.code`"), "{found:?}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn an_answer_is_checked_until_the_tool_reacts() {
    let flags = Flags::new();
    let steps = [
        Step::print_line("https://id.example/authorize"),
        Step::Print { text: "Paste the code: ".to_owned() },
        Step::ReadLine,
        flags.wait_step("checked"),
        Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"x\"}"),
    ];
    let ask = json!([{ "id": "code", "matches": "(?m)^Paste the code:\\s*$", "ask": { "label": "The code" } }]);
    let provider = flags.provider_with_steps(steps).with_descriptor_key("prompts", ask);
    let (mut server, api, id) = start_session_with(TestConfig::with_provider(provider)).await;
    api.wait_until(&id, "asking", |view| view.sign_in.prompt.is_some()).await.unwrap();
    let answer = api.post(&format!("/api/auth/session/{id}/paste"), json!({ "text": "abc" })).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    let view = wait(&api, &id, Situation::Checking).await;
    assert_eq!(view.for_person.title, "Scripted tool is checking…");
    server.kill_server().await.unwrap();
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    api.wait_entry(&id, TimelineKind::MachineAdopted).await.unwrap();
    wait(&api, &id, Situation::Checking).await;
    flags.set("checked");
    wait(&api, &id, Situation::Connected).await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn causes_outlive_a_restart_of_the_server() {
    let flags = Flags::new();
    let connect = |authority: &str| Step::ProxyConnect { authority: authority.to_owned() };
    let reserved = tokio::net::TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = reserved.local_addr().unwrap();
    let failed = json!({ "label": "other", "sign_in": { "failed": "(?m)^error: (.*)$" } });
    let script = |authority: &str| [connect(authority), Step::print_line("error: no network"), Step::Exit { code: 1 }];
    let provider = flags
        .provider_with_steps(script("login.example:443"))
        .with_egress("login.example", 443)
        .with_descriptor_key("label", json!("first"))
        .with_method(
            "denied",
            anteroom_testbed::Script::new([
                connect("denied.example:443"),
                Step::print_line("error: cannot reach denied.example"),
                Step::Exit { code: 1 },
            ]),
            failed,
        );
    let config = TestConfig::with_provider(provider).with_host_override("login.example:443", closed);
    let (mut server, api, unreachable) = start_session_with(config).await;
    let request = StartRequest { method: Some("denied".to_owned()), ..StartRequest::new("scripted") };
    let denied = api.start_session_with(&request).await.unwrap().session.id;
    let sessions = [(&unreachable, Situation::HostUnreachable), (&denied, Situation::HostDenied)];
    let mut before = Vec::new();
    for (id, situation) in sessions {
        api.wait_entry(id, TimelineKind::CliExited).await.unwrap();
        before.push(wait(&api, id, situation).await.for_person.sentence);
    }
    server.kill_server().await.unwrap();
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    for ((id, situation), before) in sessions.into_iter().zip(before) {
        api.wait_entry(id, TimelineKind::MachineAdopted).await.unwrap();
        let view = wait(&api, id, situation).await;
        assert_eq!(view.for_person.sentence, before);
    }
    server.stop_and_check_leaks().await.unwrap();
}
