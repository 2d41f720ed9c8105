//! What a guest writes, on the operator's terminal, in the API and in the log.

use crate::{
    hostile_agent::{HostileAgent, hostile_events},
    idle_session::Idle,
};
use anteroom_testbed::WAIT_MAX;
use anteroom_wire::{TimelineKind, guest_text::is_shown_unchanged};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::AsyncReadExt;

/// Asserts that a text moves no terminal and reorders no line.
fn assert_plain(text: &str, what: &str) {
    if let Some(found) = text.chars().find(|c| *c != '\n' && !is_shown_unchanged(*c)) {
        panic!("{what} has {found:?}:\n{text}");
    }
    assert!(!text.contains("\nFORGED"), "{what} has a forged line:\n{text}");
}

fn assert_plain_json(value: &Value, what: &str) {
    match value {
        Value::String(text) => {
            assert_plain(text, what);
            assert!(!text.contains('\n'), "{what}: {text:?}");
        }
        Value::Array(values) => values.iter().for_each(|value| assert_plain_json(value, what)),
        Value::Object(fields) => fields.values().for_each(|value| assert_plain_json(value, what)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[tokio::test]
async fn s12_what_a_guest_writes_moves_no_terminal_and_is_plain_in_the_api_and_the_log() {
    let (agent, id) = HostileAgent::start("").await;
    for event in hostile_events() {
        assert_eq!(agent.send(vec![event.clone()]).await, 204, "{event}");
    }
    agent.api.wait_entry(&id, TimelineKind::UnexpectedUrl).await.unwrap();
    let id = id.to_string();
    for path in [String::new(), "/events".into(), "/diagnosis".into()] {
        let answer = agent.api.get(&format!("/api/auth/session/{id}{path}")).await.unwrap();
        assert_plain_json(&answer.parse().unwrap(), &format!("the response of {path}"));
    }
    for arguments in [
        vec!["sessions"],
        vec!["sessions", &id],
        vec!["sessions", &id, "--json"],
        vec!["diagnose", &id],
        vec!["diagnose", &id, "--json"],
        vec!["logs", &id],
        vec!["logs"],
        vec!["doctor"],
        vec!["token", "list"],
        vec!["credentials", "list"],
        vec!["providers", "list"],
    ] {
        let output = agent.run_cli(&arguments).await;
        for bytes in [&output.stdout, &output.stderr] {
            assert_plain(&String::from_utf8(bytes.clone()).unwrap(), &format!("anteroom {arguments:?}"));
        }
    }
    let log = std::fs::read_to_string(agent.server.state_dir().join("log/anteroom.jsonl")).unwrap();
    assert_plain(&log, "the log");
    agent.end().await;
}

#[tokio::test]
async fn s12_login_prints_nothing_of_a_guest_that_moves_the_terminal() {
    let agent = HostileAgent::start_server("").await;
    let mut command = agent.server.anteroom_command().unwrap();
    command.args(["login", "scripted", "--machine", "desk", "--no-open"]);
    let mut login = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let operator = agent.server.operator_client().unwrap();
    let started = async || {
        let list: anteroom_wire::api::SessionList = operator.get("/api/sessions").await?.parse()?;
        Ok(list.sessions.into_iter().find(|view| view.status == anteroom_wire::api::SessionStatus::VmStarted))
    };
    let view = anteroom_testbed::eventually("the session runs", WAIT_MAX, started).await.unwrap();
    for event in hostile_events() {
        agent.send(vec![event]).await;
    }
    operator.wait_entry(&view.id, TimelineKind::UnexpectedUrl).await.unwrap();
    operator.cancel_session(&view.id).await.unwrap();
    let (mut out, mut error) = (String::new(), String::new());
    login.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    login.stderr.take().unwrap().read_to_string(&mut error).await.unwrap();
    tokio::time::timeout(WAIT_MAX, login.wait()).await.unwrap().unwrap();
    assert!(out.contains("accounts-google.evil.example, which is not a page of Scripted tool"), "{out}");
    assert_plain(&out, "the output");
    assert_plain(&error, "the errors");
    assert!(!out.contains("Your Google password"), "a prompt has the words of the descriptor:\n{out}");
    agent.end().await;
}

#[tokio::test]
async fn s12_names_that_are_not_shown_as_they_are_are_refused() {
    let idle = Idle::start("").await;
    let operator = idle.server.operator_client().unwrap();
    let invitations = format!("{}/invitations", idle.path());
    for name in ["  ", "a\u{202e}nimda", "a\u{200b}", "a\u{1b}[2J", "a\r\nSet-Cookie: a=b"] {
        let answers = [
            operator.post("/api/tokens", json!({ "name": name })).await.unwrap(),
            idle.api.post(&invitations, json!({ "name": name })).await.unwrap(),
            idle.api.post("/api/auth/start", json!({ "provider": "scripted", "user_id": name })).await.unwrap(),
        ];
        for answer in answers {
            assert_eq!((answer.status, answer.problem().unwrap().code.as_str()), (400, "malformed"), "{name:?}");
        }
    }
    let started = idle.api.post("/api/auth/start", json!({ "provider": "scripted", "user_id": "李雷" })).await.unwrap();
    assert_eq!(started.status, 202, "{}", started.text);
    idle.finish().await;
}
