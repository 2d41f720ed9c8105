//! What people bring back from their browser or a mail, through the API, to tools in machines: it is carried on or refused, and is
//! never typed where the tool reads nothing.

use crate::{Flags, problem_of};
use anteroom_testbed::{ApiClient, ApiResponse, Step, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    SessionId,
    api::{SessionStatus, SessionView},
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const QUERY: &str = "code=ac_canary5c1e.yyyy&scope=openid+profile&state=STATE1234";

/// A tool's listener for its callback; machines that are plain processes share the loopback interface. Returns its port and the targets
/// that were requested.
async fn callback_listener() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let targets = Arc::new(Mutex::new(Vec::new()));
    let requested = Arc::clone(&targets);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
            requested.lock().unwrap().push(line.split(' ').nth(1).unwrap_or_default().to_owned());
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        }
    });
    (port, targets)
}

/// Pastes a text, as soon as the rate of the session permits it.
async fn paste(api: &ApiClient, id: &SessionId, text: &str) -> ApiResponse {
    let attempt = async || {
        let answer = api.post(&format!("/api/auth/session/{id}/paste"), json!({ "text": text })).await?;
        Ok((answer.status != 429).then_some(answer))
    };
    eventually("a paste is permitted", WAIT_MAX, attempt).await.unwrap()
}

async fn screen(api: &ApiClient, id: &SessionId) -> String {
    api.get(&format!("/api/auth/session/{id}/screen")).await.unwrap().text
}

#[tokio::test]
async fn r04_a_callback_in_any_form_reaches_the_waiting_tool_and_nothing_else_does() {
    let (port, targets) = callback_listener().await;
    let url = format!(
        "https://id.example/authorize?client_id=x&redirect_uri=http%3A%2F%2Flocalhost%3A{port}%2Fauth%2Fcallback&state=STATE1234"
    );
    let flags = Flags::new();
    let steps = [Step::OpenUrlWithBrowser { url: url.clone() }, flags.wait_step("never")];
    let provider = flags.provider_with_steps(steps);
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();

    let whole = format!("http://localhost:{port}/auth/callback?{QUERY}");
    let refused = [
        ("ac_canary5c1e.yyyy".to_owned(), "callback_expected"),
        ("Your code is ac_canary5c1e.yyyy.".to_owned(), "callback_expected"),
        ("about:blank".to_owned(), "callback_expected"),
        (url.clone(), "sign_in_page_pasted"),
        (format!("<{}>", url.replace('&', "&amp;")), "sign_in_page_pasted"),
        ("https://id.example/login/password".to_owned(), "sign_in_page_pasted"),
        (whole.replace("STATE1234", "OF-YESTERDAY"), "wrong_callback"),
        ("code=ac_canary5c1e.yyyy".to_owned(), "wrong_callback"),
        ("?code=ac_canary5c1e.yyyy&state=OF-YESTERDAY".to_owned(), "wrong_callback"),
        (whole.replace("/auth/callback", "/other"), "wrong_callback"),
    ];
    for (text, expected) in refused {
        let answer = paste(&api, &id, &text).await;
        let (status, code, detail) = problem_of(&answer);
        assert_eq!((status, code.as_str()), (422, expected), "{text}: {detail}");
        assert!(answer.problem().unwrap().for_person.ends_with('.'));
        assert!(!answer.text.contains("canary"), "{}", answer.text);
    }
    assert!(targets.lock().unwrap().is_empty(), "nothing was requested");

    let escaped = whole.replace('&', "&amp;");
    let forms = [
        whole.clone(),
        whole.replace("http://", "https://"),
        whole.replace("http://", ""),
        whole.replace("localhost", "toybox"),
        format!("?{QUERY}"),
        QUERY.to_owned(),
        format!("  {whole} \r\n"),
        whole.replace("&scope", "\n&scope"),
        whole.replace("&scope", " &scope"),
        format!("\"{whole}\""),
        format!("<{whole}>"),
        escaped.clone(),
        format!("<a href=\"{escaped}\">{escaped}</a>"),
        format!("{whole}{whole}"),
        format!("{whole}\n{whole}"),
        format!("It ended at {whole} and nothing loaded."),
    ];
    for text in &forms {
        let answer = paste(&api, &id, text).await;
        let result = answer.parse::<Value>().unwrap_or_default();
        assert_eq!(result, json!({ "interpreted_as": "callback", "status": 200 }), "{text:?}: {}", answer.text);
    }
    let targets = targets.lock().unwrap().clone();
    assert_eq!(targets.len(), forms.len());
    assert!(targets.iter().all(|target| *target == format!("/auth/callback?{QUERY}")), "{targets:?}");
    assert!(!screen(&api, &id).await.contains("canary"), "nothing was typed");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r04_a_tool_that_waits_for_its_device_code_is_sent_nothing() {
    let flags = Flags::new();
    let steps =
        [Step::print_line("Open https://id.example/device and enter code: ABCD-1234"), flags.wait_step("never")];
    let server = TestServer::start(TestConfig::with_provider(flags.provider_with_steps(steps))).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_until(&id, "showing the code", |view| view.sign_in.device_code.is_some()).await.unwrap();
    for (text, expected) in [
        ("canary", (409, "no_prompt")),
        ("https://id.example/device", (422, "sign_in_page_pasted")),
        ("http://localhost:1455/callback?code=canary&state=x", (422, "wrong_callback")),
    ] {
        let (status, code, _) = problem_of(&paste(&api, &id, text).await);
        assert_eq!((status, code.as_str()), expected, "{text}");
    }
    assert!(!screen(&api, &id).await.contains("canary"));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r04_a_code_in_a_mail_is_typed_at_the_prompt_without_the_mail() {
    let flags = Flags::new();
    let ask = json!({ "label": "The code", "pattern": "[a-z0-9]{8,}#[a-z0-9]{8,}", "expected_format": "Two halves." });
    let steps = [
        Step::print_line("Open https://id.example/authorize?state=bbbbbbb2"),
        Step::Print { text: "Paste code: ".to_owned() },
        Step::ReadLine,
        Step::write(anteroom_testbed::ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"{line}\"}"),
    ];
    let provider = flags
        .provider_with_steps(steps)
        .with_descriptor_key("prompts", json!([{ "id": "code", "matches": r"Paste code:\s*\z", "ask": ask }]));
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    let asks = |view: &SessionView| view.sign_in.prompt.is_some();
    api.wait_until(&id, "asking", asks).await.unwrap();
    for (text, expected) in [
        ("https://id.example/authorize?state=bbbbbbb2", "sign_in_page_pasted"),
        ("Dear customer, thank you for signing in.", "wrong_answer"),
        ("https://id.example/code?code=aaaaaaa1&state=of-another", "wrong_callback"),
    ] {
        let (status, code, _) = problem_of(&paste(&api, &id, text).await);
        assert_eq!((status, code.as_str()), (422, expected), "{text}");
    }
    let mail = "Hello,\r\n\r\nyour code is: aaaaaaa1#bbbbbbb2.\r\nIt works once.\r\n";
    let answer = paste(&api, &id, mail).await;
    assert_eq!(answer.parse::<Value>().unwrap(), json!({ "interpreted_as": "prompt", "id": "code" }));
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), b"{\"token\": \"aaaaaaa1#bbbbbbb2\"}");
    server.stop_and_check_leaks().await.unwrap();
}
