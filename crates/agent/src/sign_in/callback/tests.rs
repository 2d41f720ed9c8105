//! Which URLs belong to a sign-in, and what is requested from the tool's listener.

use super::*;
use anteroom_wire::chain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const KNOWN: &str =
    "https://id.example/authorize?client_id=x&redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback&state=s%2B1";

fn mismatch(text: &str, known: &[&str], path: Option<&str>) -> Option<String> {
    check_callback_url(&CallbackUrl::parse(text).unwrap(), known, path).err().map(|error| error.to_string())
}

#[test]
fn port_path_and_state_must_match_the_sign_in() {
    let good = "http://localhost:1455/auth/callback?code=1&state=s%2B1";
    assert_eq!(mismatch(good, &[KNOWN], None), None);
    assert_eq!(mismatch(good, &[KNOWN], Some("/auth/callback")), None);
    assert_eq!(mismatch("http://127.0.0.1:1455/auth/callback?state=s+1&error=denied", &[KNOWN], None), None);
    let differing = |parts: &str| Some(format!("not the same as in this sign-in: {parts}"));
    for (text, parts) in [
        ("http://localhost:1456/auth/callback?code=1&state=s%2B1", "port"),
        ("http://localhost:1455/callback?code=1&state=s%2B1", "path"),
        ("http://localhost:1455/auth/callback?code=1&state=other", "state"),
        ("http://localhost:1455/auth/callback?code=1", "state"),
        ("http://localhost/x?state=other", "port, path, state"),
    ] {
        assert_eq!(mismatch(text, &[KNOWN], None), differing(parts), "{text}");
    }
    assert_eq!(mismatch(good, &[KNOWN], Some("/other")), differing("path"));
}

#[test]
fn matching_sign_in_is_searched_in_all_urls() {
    let remote = "https://id.example/authorize?redirect_uri=https%3A%2F%2Fid.example%2Fcode&state=s";
    let other = KNOWN.replace("1455", "999");
    let good = "http://localhost:1455/auth/callback?code=1&state=s%2B1";
    assert_eq!(mismatch(good, &[remote, &other, KNOWN], None), None);
    assert!(mismatch(good, &[remote, "https://id.example/z-opaque"], None).unwrap().contains("does not wait"));
    assert!(mismatch(good, &[], None).unwrap().contains("does not wait"));
}

#[test]
fn redirect_is_followed_only_to_the_tool() {
    let address = CallbackUrl::parse("http://localhost:1455/auth/callback?x=1").unwrap();
    let next = |location: &str| resolve_redirect(&address, "/auth/callback?x=1", location);
    assert_eq!(next("http://127.0.0.1:1455/success?id=1#x").as_deref(), Some("/success?id=1"));
    assert_eq!(next("/success").as_deref(), Some("/success"));
    assert_eq!(next("success?y").as_deref(), Some("/auth/success?y"));
    assert_eq!(next("?y").as_deref(), Some("/auth/callback?y"));
    for other in [
        "https://id.example/done",
        "http://localhost:80/",
        "//id.example/",
        "javascript://x",
        "https://localhost:1455/",
        "",
    ] {
        assert_eq!(next(other), None, "{other}");
    }
}

/// Answers each connection in turn; returns the requests.
async fn listener(answers: Vec<&'static str>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            requests.push(String::from_utf8(head).unwrap());
        }
        requests
    });
    (port, served)
}

#[tokio::test]
async fn query_is_relayed_byte_for_byte_and_the_last_status_is_returned() {
    let (port, served) = listener(vec![
        "HTTP/1.1 302 Found\r\nLocation: /success\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone",
    ])
    .await;
    let text = format!("http://localhost:{port}/callback?code=a%2fB+c%20&&x=%zz&state=1#top");
    assert_eq!(request_callback(&CallbackUrl::parse(&text).unwrap()).await.unwrap(), StatusCode::OK);
    let requests = served.await.unwrap();
    assert!(requests[0].starts_with("GET /callback?code=a%2fB+c%20&&x=%zz&state=1 HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[0].to_lowercase().contains(&format!("\r\nhost: localhost:{port}\r\n")), "{}", requests[0]);
    assert!(requests[1].starts_with("GET /success HTTP/1.1\r\n"), "{}", requests[1]);
}

#[tokio::test]
async fn redirect_to_another_host_is_the_response() {
    let (port, served) =
        listener(vec!["HTTP/1.1 302 Found\r\nLocation: https://id.example/done\r\nContent-Length: 0\r\n\r\n"]).await;
    let text = format!("http://127.0.0.1:{port}/callback");
    assert_eq!(request_callback(&CallbackUrl::parse(&text).unwrap()).await.unwrap(), StatusCode::FOUND);
    assert_eq!(served.await.unwrap().len(), 1);
}

#[tokio::test]
async fn closed_listener_or_closed_connection_is_a_failure() {
    let port = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
    let text = format!("http://127.0.0.1:{port}/callback");
    let error = request_callback(&CallbackUrl::parse(&text).unwrap()).await.unwrap_err();
    assert!(
        matches!(&error, CallbackError::NotConnected(_))
            && error.to_string().contains("no connection to the tool's listener"),
        "{error}"
    );
    let (port, _served) = listener(vec![""]).await;
    let text = format!("http://127.0.0.1:{port}/callback?code=s3cret");
    let error = request_callback(&CallbackUrl::parse(&text).unwrap()).await.unwrap_err();
    assert!(matches!(&error, CallbackError::BrokeOff(_)) && !chain(&error).contains("s3cret"), "{error}");
}
