//! Pasted callback URLs: the agent forwards them to the loopback listener of the tool.

use crate::{
    fixture::*,
    prompts::{paste_accepted, paste_rejected, provider_asking_for_a_code, start, wait_prompt, wait_url},
};
use anteroom_wire::{
    Problem,
    agent::{AgentEvent, PasteResult, SignInEvent},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// A tool's loopback listener: answers two requests; its task returns the request lines.
async fn callback_listener() -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = [
        "HTTP/1.1 302 Found\r\nLocation: /success\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    ];
    let listener_task = tokio::spawn(async move {
        let mut request_lines = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            request_lines.push(String::from_utf8(head).unwrap().lines().next().unwrap().to_owned());
        }
        request_lines
    });
    (port, listener_task)
}

#[tokio::test]
async fn pasted_callback_url_reaches_the_listener_only_if_it_matches_the_sign_in() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    let (port, listener_task) = callback_listener().await;
    let url =
        format!("https://a.example/authorize?redirect_uri=http%3A%2F%2Flocalhost%3A{port}%2Fcallback&state=right%2B1");
    let mut tool = provider(&format!("\"$BROWSER\" '{url}'; cat"));
    tool.sign_in.callback_path = Some("/callback".into());
    fixture.claim(&mut sender, tool).await;
    wait_url(&fixture, &url).await;
    let at = format!("http://localhost:{port}/callback");
    for (text, part) in [
        (format!("{at}?code=1&state=of-another"), "state"),
        (format!("{at}?code=1"), "state"),
        (format!("{at}/x?code=1&state=right%2B1"), "path"),
        (format!("http://localhost:{}/callback?code=1&state=right%2B1", port.wrapping_add(1)), "port"),
    ] {
        let (code, detail) = paste_rejected(&mut sender, &text).await;
        assert_eq!(code, Problem::WrongCallback.code(), "{text}");
        assert!(detail.ends_with(&format!(": {part}")), "{detail}");
    }
    assert!(!listener_task.is_finished());
    let good = format!("{at}?code=a%2fb&state=right%2B1&scope=x+y");
    assert_eq!(paste_accepted(&mut sender, &good).await, PasteResult::Callback { status: 200 });
    let request_lines = listener_task.await.unwrap();
    assert_eq!(request_lines, ["GET /callback?code=a%2fb&state=right%2B1&scope=x+y HTTP/1.1", "GET /success HTTP/1.1"]);
    // The listener is closed by now.
    assert_eq!(paste_rejected(&mut sender, &good).await.0, Problem::CallbackFailed.code());
    fixture
        .wait_event("callback event", |event| {
            matches!(event, AgentEvent::SignIn(SignInEvent::PasteAccepted(PasteResult::Callback { status: 200 })))
                .then_some(())
        })
        .await;
    let events = serde_json::to_string(&fixture.controller.lock().unwrap().events).unwrap();
    assert!(!events.contains("a%2fb") && !events.contains("of-another"), "{events}");
}

#[tokio::test]
async fn callback_url_is_rejected_if_no_sign_in_url_redirects_to_loopback() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider_asking_for_a_code()).await;
    wait_prompt(&fixture, &mut sender, |open| open.is_some()).await;
    assert_callback_not_expected(&mut sender).await;
    assert!(!fixture.home("codes").exists());

    let fixture = start().await;
    let mut sender = fixture.connect().await;
    let url = "https://a.example/authorize?redirect_uri=https%3A%2F%2Fb.example%2Fcallback&state=x";
    fixture.claim(&mut sender, provider(&format!("\"$BROWSER\" '{url}'; cat"))).await;
    wait_url(&fixture, url).await;
    assert_callback_not_expected(&mut sender).await;
}

async fn assert_callback_not_expected(sender: &mut Sender) {
    let (code, detail) = paste_rejected(sender, "http://localhost:1455/callback?code=12345678&state=x").await;
    assert_eq!(code, Problem::WrongCallback.code());
    assert!(detail.contains("does not wait"), "{detail}");
}
