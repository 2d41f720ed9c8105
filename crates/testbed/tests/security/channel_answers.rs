//! An agent whose answers and streams are endless, late, deep or large, and an agent that uses what belongs to another machine.

use crate::hostile_machine::{
    Answer, Behaviour, HostileMachine, HostileMachines, SETTINGS, accept, agent_info, agent_request, answer, post,
};
use anteroom_machine::ByteStream;
use anteroom_testbed::{WAIT_MAX, eventually};
use anteroom_wire::{
    Problem, SessionId,
    agent::{EVENTS_PATH, STORE_CREDENTIAL_PATH},
    api::SessionStatus,
    diagnosis::Verdict,
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use serde_json::json;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::{io::AsyncWriteExt, sync::watch};

/// The most bytes of an error's body.
const ERROR_BYTES_MAX: usize = 8 * 1024;
/// What the agent sends on each raw stream, bytes.
const FLOOD_BYTES: u64 = 200 * 1024 * 1024;
/// The time of a machine to become ready, milliseconds.
const READY_MS_MAX: u64 = 15_000;

/// A body without an end.
fn endless(status: u16) -> Answer {
    let piece = Frame::data(Bytes::from(vec![b'"'; 16_000]));
    let body = stream::repeat_with(move || Ok::<_, Infallible>(Frame::data(piece.data_ref().unwrap().clone())));
    Response::builder().status(status).body(StreamBody::new(body).boxed_unsync()).unwrap()
}

/// A body that begins and never continues.
fn stalled() -> Answer {
    let body = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"{\"lines\":[")))]);
    Response::new(StreamBody::new(body.chain(stream::pending())).boxed_unsync())
}

const HOSTILE_LINE: &str = "\"\\u001b[31m\\u202e<script>alert(1)</script>\",";

/// A screen that a hostile agent answers with; the number names which.
fn hostile_screen(number: usize) -> Answer {
    match number {
        0 => answer(200, format!("{{\"lines\":[\"{}\"]}}", "x".repeat(3 << 20))),
        1 => answer(200, format!("{{\"lines\":[{}\"x\"]}}", HOSTILE_LINE.repeat(30_000))),
        2 => answer(200, "[".repeat(100_000)),
        3 => answer(200, format!("{{\"lines\":[{}\"\"]}}", "\"\",".repeat(340_000))),
        4 => answer(302, ""),
        5 => endless(200),
        6 => answer(200, "{\"lines\":[1e999999999,-0,\"\\ud800\"]}"),
        7 => endless(500),
        8 => answer(200, vec![0xff; 1_000]),
        _ => stalled(),
    }
}
const SCREENS: usize = 10;

/// A server with a session whose agent answers requests for the screen with [`hostile_screen`] of the current number.
async fn start_with_screens() -> (HostileMachines, SessionId, Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let machines = HostileMachines::start(SETTINGS).await;
    let number = Arc::new(AtomicUsize::new(0));
    let current = Arc::clone(&number);
    let screens = move |path: &str| (path == "/screen").then(|| hostile_screen(current.load(Relaxed)));
    let (id, machine) =
        machines.start_claimed(Behaviour { answer: Some(Arc::new(screens)), ..Behaviour::default() }).await;
    (machines, id, number, machine.agent)
}

fn require_clean(text: &str, what: &str) {
    assert!(text.len() < ERROR_BYTES_MAX, "{what}: {} bytes", text.len());
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{what}: {text:?}");
}

#[tokio::test]
async fn channel_answers_that_are_large_deep_late_or_endless_are_refused() {
    let (machines, id, current, agent) = start_with_screens().await;
    for number in 0..SCREENS {
        current.store(number, Relaxed);
        let found = machines.api.get(&format!("/api/auth/session/{id}/screen")).await.unwrap();
        assert_eq!(found.status, Problem::AgentUnreachable.http_status(), "{number}: {}", found.text);
        require_clean(&found.text, &format!("screen {number}"));
        machines.require_unaffected(&format!("screen {number}")).await;
    }
    assert_eq!(machines.api.get_session(&id).await.unwrap().generation, 1);
    agent.abort();
    machines.end().await;
}

#[tokio::test]
async fn channel_answers_to_many_requests_at_once_are_held_within_the_limit() {
    let (machines, id, current, agent) = start_with_screens().await;
    for number in [3, 5] {
        current.store(number, Relaxed);
        let path = format!("/api/auth/session/{id}/screen");
        let requests = stream::iter(0..40).map(|_| machines.api.get(&path)).buffer_unordered(40);
        let statuses: Vec<u16> = requests.map(|found| found.unwrap().status).collect().await;
        assert!(statuses.iter().all(|status| *status != 200), "{statuses:?}");
        machines.require_unaffected(&format!("screen {number}")).await;
    }
    agent.abort();
    machines.end().await;
}

#[tokio::test]
async fn channel_answers_to_input_of_a_viewer_are_bounded_and_clean() {
    let problem = json!({
        "code": "not_yours", "sentence": "x\u{1b}[2J", "detail": "D".repeat(5_000) + "\u{1b}[31m\u{202e}", "remedy": "r",
        "close_code": 4403,
    });
    let answers = move |path: &str| match path {
        "/paste" => {
            Some(answer(200, format!("{{\"interpreted_as\":\"prompt\",\"id\":\"{}\"}}", "x\\u001b".repeat(5_000))))
        }
        "/input" => Some(answer(418, problem.to_string())),
        "/open-url" => Some(endless(204)),
        _ => None,
    };
    let machines = HostileMachines::start(SETTINGS).await;
    let (id, machine) =
        machines.start_claimed(Behaviour { answer: Some(Arc::new(answers)), ..Behaviour::default() }).await;
    for (verb, body) in [
        ("paste", json!({ "text": "a code" })),
        ("type", json!({ "text": "a text", "press_enter": true })),
        ("open-url", json!({ "url": "https://example.com/" })),
    ] {
        let found = machines.api.post(&format!("/api/auth/session/{id}/{verb}"), body).await.unwrap();
        require_clean(&found.text, verb);
        machines.require_unaffected(verb).await;
    }
    machine.agent.abort();
    machines.end().await;
}

#[tokio::test]
async fn channel_answer_to_hello_that_is_too_large_is_named_by_the_diagnosis() {
    let mut info = agent_info();
    info.capabilities = vec!["z".repeat(1_000).into(); 500];
    let hello = serde_json::to_vec(&info).unwrap();
    let answers = move |path: &str| (path == "/hello").then(|| answer(200, hello.clone()));
    let machines = HostileMachines::start_with(SETTINGS, Some(READY_MS_MAX)).await;
    let (id, HostileMachine { agent, controller, .. }) = machines.start_session().await;
    let behaviour = Behaviour { answer: Some(Arc::new(answers)), ..Behaviour::default() };
    let agent = tokio::spawn(crate::hostile_machine::serve_agent(agent, behaviour, watch::channel(None).0));
    machines.api.wait_status(&id, SessionStatus::Failed).await.unwrap();
    let found = machines.api.wait_verdict(&id, Verdict::ReadyTimeout).await.unwrap();
    assert!(found.sentence.contains("length limit exceeded"), "{}", found.sentence);
    machines.require_unaffected("hello").await;
    agent.abort();
    drop(controller);
    machines.end().await;
}

/// Writes to each raw stream: a greeting of RFB, then these bytes until the limit.
fn flood(sent: Arc<AtomicU64>) -> impl Fn(&str, ByteStream) -> BoxFuture<'static, ()> + Send + Sync {
    move |authority, mut stream| {
        let (sent, is_desktop) = (Arc::clone(&sent), authority.starts_with("desktop"));
        async move {
            let piece = if is_desktop { vec![0; 60_000] } else { b"\x1b]0;t\x07\x1b[2J".repeat(5_000) };
            if is_desktop && stream.write_all(b"RFB 003.008\n").await.is_err() {
                return;
            }
            while sent.load(Relaxed) < FLOOD_BYTES && stream.write_all(&piece).await.is_ok() {
                sent.fetch_add(u64::try_from(piece.len()).unwrap(), Relaxed);
            }
        }
        .boxed()
    }
}

#[tokio::test]
async fn channel_streams_that_flood_viewers_who_do_not_read_are_held_back() {
    let machines = HostileMachines::start(SETTINGS).await;
    let sent = Arc::new(AtomicU64::new(0));
    let stream = flood(Arc::clone(&sent));
    let (id, machine) =
        machines.start_claimed(Behaviour { stream: Some(Arc::new(stream)), ..Behaviour::default() }).await;
    let mut viewers = Vec::new();
    for _ in 0..4 {
        viewers.push(machines.api.open_desktop_socket(&id).await.unwrap());
        viewers.push(machines.api.open_terminal_socket(&id).await.unwrap());
    }
    let mut before = u64::MAX;
    let held_back = async || {
        let (now, earlier) = (sent.load(Relaxed), before);
        before = now;
        Ok((now > 0 && now == earlier).then_some(()))
    };
    eventually("the flood is held back", WAIT_MAX, held_back).await.unwrap();
    assert!(sent.load(Relaxed) < FLOOD_BYTES, "{sent:?} bytes");
    machines.require_unaffected("flood of streams").await;
    assert_eq!(machines.api.get_session(&id).await.unwrap().status, SessionStatus::VmStarted);
    drop(viewers);
    machine.agent.abort();
    machines.end().await;
}

#[tokio::test]
async fn channel_requests_with_the_token_of_another_machine_are_refused() {
    let machines = HostileMachines::start(SETTINGS).await;
    let (_, first) = machines.start_claimed(Behaviour::default()).await;
    let (id, second) = machines.start_claimed(Behaviour::default()).await;
    let (own, others) = (first.claim.agent_token.expose(), second.claim.agent_token.expose());
    let event = r#"{"events":[{"number":1,"at_unix_ms":1,"kind":"cli_started"}]}"#;
    let file = json!({ "path": ".scripted/auth.json", "mode": 384, "content": "e30=" });
    let delivery = |session: &SessionId| {
        json!({ "session": session, "generation": 1, "provider": "scripted", "files": [file] }).to_string()
    };
    let statuses = post(
        accept(&first.controller).await,
        vec![
            agent_request(EVENTS_PATH, own, event),
            agent_request(EVENTS_PATH, others, event),
            agent_request(STORE_CREDENTIAL_PATH, others, delivery(&id)),
            agent_request(STORE_CREDENTIAL_PATH, own, delivery(&id)),
            agent_request(STORE_CREDENTIAL_PATH, "", delivery(&id)),
        ],
    )
    .await;
    assert_eq!(statuses, [204, 401, 401, 401, 401]);
    assert_eq!(machines.api.get_session(&id).await.unwrap().status, SessionStatus::VmStarted);
    assert!(machines.api.list_credentials().await.unwrap().credentials.is_empty());
    first.agent.abort();
    second.agent.abort();
    machines.end().await;
}

/// Values that no agent sends: numbers out of range, other types, controls, depth.
fn hostile_bodies() -> Vec<String> {
    let event = |number: &str, at: &str, more: &str| {
        format!(
            r#"{{"events":[{{"number":{number},"at_unix_ms":{at},"kind":"cli_exited","code":1,"last_lines":[]{more}}}]}}"#
        )
    };
    let numbers = ["-1", "0", "1e400", "-9223372036854775809", "18446744073709551615", "1.5", "null", "\"1\"", "[]"];
    let numbered = numbers.iter().map(|number| event(number, "1", ""));
    let timed = numbers.iter().map(|at| event("2", at, ""));
    let others = [
        event("3", "1", r#","code":99999999999999999999"#),
        event("4", "1", r#","last_lines":"\u0000""#),
        event("5", "1", r#","\u0000\u001b[2J":1"#),
        format!(r#"{{"events":{}}}"#, "[".repeat(500_000)),
        r#"{"events":[{"number":6,"at_unix_ms":1,"kind":"\u0000\ud800"}]}"#.to_owned(),
        r#"{"events":{}}"#.to_owned(),
        String::new(),
        "\u{feff}{}".to_owned(),
        format!("{{\"events\":[{}]}}", vec!["{}"; 300_000].join(",")),
    ];
    numbered.chain(timed).chain(others).collect()
}

#[tokio::test]
async fn channel_requests_with_values_out_of_range_are_client_errors_or_without_effect() {
    let machines = HostileMachines::start(SETTINGS).await;
    let (id, machine) = machines.start_claimed(Behaviour::default()).await;
    let token = machine.claim.agent_token.expose();
    let events = hostile_bodies().into_iter().map(|body| agent_request(EVENTS_PATH, token, body));
    let deliveries = ["-1", "0", "4294967296", "1e9", "null"].map(|generation| {
        let body = format!(r#"{{"session":"{id}","generation":{generation},"provider":"\u001b","files":[]}}"#);
        agent_request(STORE_CREDENTIAL_PATH, token, body)
    });
    let statuses = post(accept(&machine.controller).await, events.chain(deliveries).collect()).await;
    assert!(statuses.iter().all(|status| *status == 204 || (400..500).contains(status)), "{statuses:?}");
    let timeline = machines.api.get_timeline(&id).await.unwrap();
    for entry in &timeline {
        require_clean(&entry.data.to_string(), &entry.sentence);
    }
    let view = machines.api.get_session(&id).await.unwrap();
    assert_eq!((view.status, view.generation), (SessionStatus::VmStarted, 1), "{view:?}");
    machines.require_unaffected("values out of range").await;
    machine.agent.abort();
    machines.end().await;
}
