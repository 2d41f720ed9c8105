//! A tool that writes its credential before it knows whether it can work with the account, and needs a setting for some accounts.

use crate::{
    Flags,
    command_line::{CLI_MS_MAX, cli_command, run_cli, start_use, text},
    exec::TestTerminal,
    problem_of,
};
use anteroom_testbed::{ApiClient, ScriptedProvider, TestConfig, TestServer};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{ProviderList, SessionStatus, SessionView, StartRequest},
    diagnosis::{Diagnosis, Verdict},
    situation::Situation,
};
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use tokio::time::timeout;

const REFUSAL: &str = "This account requires setting the TOOL_PROJECT env var";
const FILE: &str = ".scripted/.env";

/// Writes its credential, then shows its prompt if it has a project that exists, else why it does not work with the account.
fn provider() -> ScriptedProvider {
    let script = format!(
        "mkdir -p .scripted; test -e {path} || echo '{{\"token\":\"t0ken\"}}' > {path}; \
         case $(cat {FILE}) in PROJECT=good-*) echo 'Ready for work';; '') echo '{REFUSAL}';; *) echo 'Failed: no such project';; esac; \
         exec cat",
        path = ScriptedProvider::CREDENTIAL_PATH,
    );
    ScriptedProvider::idle("scripted")
        .with_descriptor_key("argv", json!(["/bin/sh", "-c", script]))
        .with_descriptor_key(
            "sign_in",
            json!({ "done": "(?m)^Ready for work", "failed": "(?m)^(This account requires .*|Failed: .*)$" }),
        )
        .with_descriptor_key("lanes", json!(["terminal"]))
        .with_descriptor_key(
            "credential",
            json!({
                "paths": [ScriptedProvider::CREDENTIAL_PATH], "companions": [FILE], "required": ["/token"], "usable_when_done": true,
            }),
        )
        .with_descriptor_key(
            "settings",
            json!([{
                "id": "project", "label": "Project", "pattern": "[a-z][a-z0-9-]*", "expected_format": "Small letters and digits.",
                "needed_when": "TOOL_PROJECT", "file": { "path": FILE, "content": "PROJECT={value}\n" },
            }]),
        )
}

async fn start_server() -> (Flags, TestServer, ApiClient) {
    let server = TestServer::start(TestConfig::with_provider(provider())).await.unwrap();
    let api = server.backend_client().unwrap();
    (Flags::new(), server, api)
}

async fn paste(api: &ApiClient, id: &SessionId, text: &str) -> anteroom_testbed::ApiResponse {
    api.post(&format!("/api/auth/session/{id}/paste"), json!({ "text": text })).await.unwrap()
}

async fn wait_asked(api: &ApiClient, id: &SessionId, why: &str) -> SessionView {
    let asks = |view: &SessionView| view.sign_in.prompt.is_some() && view.sign_in.failed.as_deref() == Some(why);
    api.wait_until(id, "asking for the setting", asks).await.unwrap()
}

/// The files of the session's credential, path → content.
async fn stored_files(api: &ApiClient, id: &SessionId) -> Vec<(String, String)> {
    let view = api.wait_status(id, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    lease.files.iter().map(|file| (file.path.clone(), text(file.content.expose()))).collect()
}

#[tokio::test]
async fn r07_refused_credential_does_not_complete_the_session_and_the_setting_that_it_needs_can_be_given() {
    let (_flags, server, api) = start_server().await;
    let id = api.start_session("scripted").await.unwrap().session.id;
    let view = wait_asked(&api, &id, REFUSAL).await;
    let prompt = view.sign_in.prompt.unwrap();
    assert_eq!((prompt.id.as_str(), prompt.label.as_str(), prompt.secret), ("project", "Project", false));
    assert_eq!(view.for_person.situation, Situation::SettingNeeded);
    assert_eq!(view.credential, None);
    let entry = api.wait_entry(&id, TimelineKind::CandidateRejected).await.unwrap();
    assert!(entry.data["why"].as_str().unwrap().starts_with("it is complete"), "{entry:?}");
    let answer = api.get(&format!("/api/auth/session/{id}/diagnosis")).await.unwrap();
    let diagnosis: Diagnosis = answer.parse().unwrap();
    assert_eq!(diagnosis.verdict, Verdict::CredentialNotConfirmed, "{}", diagnosis.sentence);
    assert!(diagnosis.sentence.contains(REFUSAL), "{}", diagnosis.sentence);

    let (status, code, detail) = problem_of(&paste(&api, &id, "Not This").await);
    assert_eq!((status, code.as_str()), (422, "wrong_answer"));
    assert!(detail.contains("Small letters and digits."), "{detail}");
    let given = paste(&api, &id, "missing-one").await;
    assert_eq!(given.parse::<Value>().unwrap(), json!({ "interpreted_as": "setting", "id": "project" }));
    wait_asked(&api, &id, "Failed: no such project").await;
    assert_eq!(paste(&api, &id, "good-one").await.status, 200);
    let token = (ScriptedProvider::CREDENTIAL_PATH.to_owned(), "{\"token\":\"t0ken\"}\n".to_owned());
    assert_eq!(stored_files(&api, &id).await, [token, (FILE.to_owned(), "PROJECT=good-one\n".to_owned())]);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r07_setting_given_at_the_start_is_stored_and_used_with_the_credential() {
    let (_flags, server, api) = start_server().await;
    let request = |id: &str, value: &str| StartRequest {
        settings: [(id.to_owned(), value.to_owned())].into(),
        ..StartRequest::new("scripted")
    };
    for (id, value, expected) in [("other", "good", "no setting"), ("project", "a\nX=1", "Small letters and digits.")] {
        let answer = api.post("/api/auth/start", json!(request(id, value))).await.unwrap();
        let (status, code, detail) = problem_of(&answer);
        assert_eq!((status, code.as_str()), (400, "malformed"));
        assert!(detail.contains(expected), "{detail}");
    }
    let id = api.start_session_with(&request("project", "good-one")).await.unwrap().session.id;
    let files = stored_files(&api, &id).await;
    assert_eq!(files[1], (FILE.to_owned(), "PROJECT=good-one\n".to_owned()));

    let credential = api.get_session(&id).await.unwrap().credential.unwrap().id;
    let used = json!({ "purpose": "exec", "argv": ["/bin/sh", "-c", format!("grep -q good-one {FILE}")] });
    let answer = api.post(&format!("/api/credentials/{credential}/use"), used).await.unwrap();
    let id = answer.parse::<anteroom_wire::api::StartResponse>().unwrap().session.id;
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    assert_eq!(view.credential_use.unwrap().exit_code, Some(0));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r07_renewal_is_not_asked_for_the_setting_again_also_after_uses_and_may_have_another() {
    let (_flags, server, api) = start_server().await;
    let id = api.start_session("scripted").await.unwrap().session.id;
    wait_asked(&api, &id, REFUSAL).await;
    assert_eq!(paste(&api, &id, "good-one").await.status, 200);
    let credential = api.wait_status(&id, SessionStatus::Completed).await.unwrap().credential.unwrap().id;
    let change = format!("echo '{{\"token\":\"newer\"}}' > {}", ScriptedProvider::CREDENTIAL_PATH);
    let used =
        start_use(&api, credential.as_str(), json!({ "purpose": "exec", "argv": ["/bin/sh", "-c", change] })).await;
    api.wait_entry(&used.id, TimelineKind::CredentialRefreshed).await.unwrap();
    api.wait_status(&used.id, SessionStatus::Completed).await.unwrap();
    for (settings, project) in [(vec![], "good-one"), (vec![("project", "good-two")], "good-two"), (vec![], "good-two")]
    {
        let request = StartRequest {
            renews: Some(credential.to_string()),
            settings: settings.into_iter().map(|(id, value)| (id.to_owned(), value.to_owned())).collect(),
            ..StartRequest::new("scripted")
        };
        let id = api.start_session_with(&request).await.unwrap().session.id;
        let files = stored_files(&api, &id).await;
        assert_eq!(files[1], (FILE.to_owned(), format!("PROJECT={project}\n")));
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r07_setting_survives_a_replaced_machine_and_is_in_the_list_of_providers() {
    let (_flags, server, api) = start_server().await;
    let list: ProviderList = api.get("/api/providers").await.unwrap().parse().unwrap();
    let scripted = list.providers.iter().find(|provider| provider.id.as_str() == "scripted").unwrap();
    assert_eq!(scripted.settings[0].id, "project");
    let request = StartRequest {
        settings: [("project".to_owned(), "missing-one".to_owned())].into(),
        ..StartRequest::new("scripted")
    };
    let id = api.start_session_with(&request).await.unwrap().session.id;
    wait_asked(&api, &id, "Failed: no such project").await;
    api.post(&format!("/api/auth/session/{id}/restart"), json!({})).await.unwrap();
    let replaced = |view: &SessionView| view.generation == 2 && view.sign_in.failed.is_some();
    let view = api.wait_until(&id, "refused in the second machine", replaced).await.unwrap();
    assert_eq!(view.sign_in.failed.as_deref(), Some("Failed: no such project"));
    api.cancel_session(&id).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r07_login_gives_a_setting_or_asks_for_it_in_the_terminal() {
    let (_flags, server, _) = start_server().await;
    let operator = server.operator_client().unwrap();
    let newest_project = async || {
        let id = operator.list_credentials().await.unwrap().credentials.remove(0).id;
        let lease = operator.lease_credential(&id).await.unwrap();
        String::from_utf8(lease.files[1].content.expose().to_vec()).unwrap()
    };
    let done = run_cli(&server, &["login", "scripted", "--no-open", "--setting", "project=good-one"]).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(newest_project().await, "PROJECT=good-one\n");
    for (setting, expected) in
        [("project=Not This", "Small letters"), ("other=x", "no setting"), ("project", "NAME=VALUE")]
    {
        let done = run_cli(&server, &["login", "scripted", "--no-open", "--setting", setting]).await;
        assert!(!done.status.success() && text(&done.stderr).contains(expected), "{setting}: {}", text(&done.stderr));
    }

    let (mut terminal, tty) = TestTerminal::open(100, 30);
    let mut command = cli_command(&server, &["login", "scripted", "--no-open"]);
    let stream = || Stdio::from(tty.try_clone().unwrap());
    command.stdin(stream()).stdout(stream()).stderr(stream());
    let mut child = command.spawn().unwrap();
    terminal.wait_output("Project (Small letters and digits.): ").await;
    terminal.type_keys(b"Not This\n");
    terminal.wait_output("can have several lines.\r\n  → Project (Small letters and digits.): ").await;
    terminal.type_keys(b"good-two\n");
    terminal.wait_output("is stored as ").await;
    assert!(timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap().success());
    assert_eq!(newest_project().await, "PROJECT=good-two\n");
    server.stop_and_check_leaks().await.unwrap();
}
