//! Validation of the settings, and connections to servers that work, misbehave or do not answer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use anteroom_wire::Problem;
use std::{future::Future, net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

/// What a desktop without a password sends until the end of its handshake, and a viewer gets.
const OPENED: &[u8] = b"RFB 003.008\n\x01\x01\0\0\0\0";
/// What a viewer sends.
const VIEWER: &[u8] = b"RFB 003.008\n\x01";

fn token_file(dir: &tempfile::TempDir, name: &str, token: &str, mode: u32) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, token).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn load(text: &str) -> Result<ExternalMachines, Vec<String>> {
    ExternalMachines::load(&toml::from_str(text).unwrap())
}

#[test]
fn machine_is_parsed_with_its_timeouts_and_only_the_hash_of_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let token = token_file(&dir, "token", "a-token-of-the-agent\n", 0o600);
    let text = format!(
        "[desk]\ndesktop = 'ws://192.168.100.2:6080/x?token=secret'\nallow_unencrypted = true\nagent_token_file = {token:?}\nconnect_ms_max = 500\n"
    );
    let machines = load(&text).unwrap();
    let desk = machines.get("desk").unwrap();
    assert_eq!((desk.connect_ms_max, desk.greeting_ms_max), (500, 5_000));
    assert_eq!((desk.desktop_endpoint.host.as_str(), desk.desktop_endpoint.port), ("192.168.100.2", 6080));
    assert_eq!(desk.desktop_endpoint.path, "/x?token=secret");
    assert_eq!(desk.desktop_endpoint.to_string(), "ws://192.168.100.2:6080/x", "the query is not printed");
    assert!(!format!("{desk:?}").contains("secret") && !format!("{desk:?}").contains("a-token"));
    assert!(machines.has_agent_token(&Sha256Hex::of_bytes(b"a-token-of-the-agent")));
    assert!(!machines.has_agent_token(&Sha256Hex::of_bytes(b"another")));
    assert_eq!(
        (machines.comma_separated_names().as_str(), ExternalMachines::default().comma_separated_names().as_str()),
        ("desk", "none")
    );
    assert_eq!(machines.too_slow_for(5_499).len(), 1);
    assert_eq!(machines.too_slow_for(5_500).len(), 0);
}

#[test]
fn each_invalid_address_is_rejected_with_its_reason() {
    let good = |text| DesktopEndpoint::parse(text).unwrap().to_string();
    assert_eq!(good("vnc://desk"), "vnc://desk:5900");
    assert_eq!(good("vnc://[fd00::1]:5901/"), "vnc://[fd00::1]:5901");
    assert_eq!(good("WS://desk"), "ws://desk:80/");
    assert_eq!(good("wss://desk/x?token=secret"), "wss://desk:443/x");
    assert_eq!(good("vncs://desk"), "vncs://desk:5900");
    assert_eq!(good("vencrypt://[::1]:5901"), "vencrypt://[::1]:5901");
    for (text, why) in [
        ("desk:5900", "not an address"),
        ("", "not an address"),
        ("vncs://desk/path", "has a path"),
        ("http://desk/", "scheme \"http\""),
        ("vnc://", "cannot be read"),
        ("vnc://:5900", "no host"),
        ("vnc://desk:0", "port"),
        ("vnc://desk:99999", "port"),
        ("vnc://desk/path", "has a path"),
        ("vnc://user:pass@desk", "user name or password"),
        ("ws://a b/", "cannot be read"),
    ] {
        let found = DesktopEndpoint::parse(text).unwrap_err().to_string();
        assert!(found.contains(why), "{text}: {found}");
    }
}

#[test]
fn all_errors_of_all_machines_are_reported_at_once_without_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let open = token_file(&dir, "open", "a-token-that-is-open", 0o644);
    let short = token_file(&dir, "short", "short-one", 0o600);
    let empty = token_file(&dir, "empty", "", 0o600);
    let spaced = token_file(&dir, "spaced", "two words of a token", 0o600);
    let good = token_file(&dir, "good", "a-token-of-the-agent", 0o600);
    let text = format!(
        "[a]\ndesktop = 'tcp://x'\nagent_token_file = '/nonexistent/token'\nconnect_ms_max = 5\nspeed = 1\n\
         [b]\nagent_token_file = {open:?}\ngreeting_ms_max = 'x'\n\
         ['C D']\ndesktop = 'vnc://localhost'\nagent_token_file = {short:?}\n\
         [d]\ndesktop = 5\n\
         [e]\ndesktop = 'vnc://127.0.0.1'\nagent_token_file = {empty:?}\n\
         [f]\ndesktop = 'vnc://127.0.0.1'\nagent_token_file = {spaced:?}\n\
         [g]\ndesktop = 'vnc://127.0.0.1'\nagent_token_file = {good:?}\n\
         [h]\ndesktop = 'vnc://127.0.0.1'\nagent_token_file = {good:?}\n\
         [i]\ndesktop = 'vnc://127.0.0.1'\nagent_token_file = {:?}\n",
        dir.path()
    );
    let text = format!("j = 3\n{text}");
    let errors = load(&text).unwrap_err();
    let all = errors.join("\n");
    for part in [
        "external_machines.a.desktop has the scheme \"tcp\"",
        "external_machines.a.agent_token_file \"/nonexistent/token\" cannot be read",
        "external_machines.a.connect_ms_max is 5",
        "external_machines.a.speed is not a setting",
        "external_machines.b.desktop is missing",
        "can be read by other users (mode 0644): set mode 600",
        "external_machines.b.greeting_ms_max",
        "external_machines.C D: a name has",
        "external_machines.C D.agent_token_file",
        "external_machines.d.desktop must be a string",
        "external_machines.d.agent_token_file is missing",
        "external_machines.e.agent_token_file",
        "external_machines.f.agent_token_file",
        "external_machines.h and g have the same agent token",
        "external_machines.i.agent_token_file",
        "external_machines.j must be a table",
    ] {
        assert!(all.contains(part), "{part} in\n{all}");
    }
    for token in ["a-token-that-is-open", "short-one", "two words", "a-token-of-the-agent"] {
        assert!(!all.contains(token), "{token} in\n{all}");
    }
}

#[test]
fn unencrypted_desktop_on_another_host_is_rejected_unless_it_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let load = |desktop: &str, more: &str| {
        let token = token_file(&dir, "token", "a-token-of-the-agent", 0o600);
        load(&format!("[desk]\ndesktop = '{desktop}'\nagent_token_file = {token:?}\n{more}\n"))
    };
    for desktop in ["ws://127.0.0.1:1/", "vnc://[::1]:1", "vnc://localhost", "vnc://127.8.8.8"] {
        assert!(load(desktop, "").unwrap().unencrypted_names().is_empty(), "{desktop}");
    }
    for desktop in ["ws://desk/", "vnc://192.168.100.2", "vnc://localhost.example", "vnc://[fd00::1]", "vnc://0.0.0.0"]
    {
        let errors = load(desktop, "").unwrap_err().join("\n");
        assert!(errors.contains("external_machines.desk.desktop is on another host and not encrypted"), "{errors}");
        assert!(load(desktop, "allow_unencrypted = false").is_err());
        assert_eq!(load(desktop, "allow_unencrypted = true").unwrap().unencrypted_names(), ["desk"]);
    }
    for desktop in ["wss://desk/", "vncs://192.168.100.2", "vencrypt://desk"] {
        let pin = format!("certificate_sha256 = '{}'", "0F:".repeat(31) + "0f");
        assert!(load(desktop, &pin).unwrap().unencrypted_names().is_empty(), "{desktop}");
    }
}

#[test]
fn each_invalid_setting_of_certificates_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let not_pem = token_file(&dir, "not-pem", "no certificate", 0o600);
    for (desktop, more, expected) in [
        ("vncs://desk", "ca_file = '/nonexistent'".to_owned(), ".ca_file /nonexistent cannot be read"),
        ("vncs://desk", format!("ca_file = {not_pem:?}"), "contains no certificate"),
        ("vncs://desk", "ca_file = 3".to_owned(), ".ca_file must be a string"),
        ("vncs://desk", "certificate_sha256 = 'abc'".to_owned(), ".certificate_sha256 must have 64"),
        (
            "vncs://desk",
            "ca_file = 'x'\ncertificate_sha256 = 'x'".to_owned(),
            "has both ca_file and certificate_sha256",
        ),
        ("vncs://a_*b", format!("certificate_sha256 = '{}'", "00".repeat(32)), ".desktop names a host for which"),
        ("vnc://127.0.0.1", format!("certificate_sha256 = '{}'", "00".repeat(32)), ".desktop is not encrypted"),
        ("vnc://desk", "allow_unencrypted = 'yes'".to_owned(), ".allow_unencrypted must be true or false"),
    ] {
        let token = token_file(&dir, "token", "a-token-of-the-agent", 0o600);
        let errors = load(&format!("[desk]\ndesktop = '{desktop}'\nagent_token_file = {token:?}\n{more}\n"));
        let errors = errors.unwrap_err().join("\n");
        assert!(errors.contains("external_machines.desk") && errors.contains(expected), "{expected}: {errors}");
    }
}

#[test]
fn password_file_and_user_are_read_and_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let token = token_file(&dir, "token", "a-token-of-the-agent", 0o600);
    let load = |desktop: &str, more: &str| {
        load(&format!("[desk]\ndesktop = '{desktop}'\nagent_token_file = {token:?}\n{more}\n"))
    };
    for (text, password) in [("secret 1\n", "secret 1"), ("secret 1\r\n", "secret 1"), ("secret 1 ", "secret 1 ")] {
        let file = token_file(&dir, "password", text, 0o600);
        let machines = load("ws://127.0.0.1/", &format!("password_file = {file:?}\nuser = 'ann'")).unwrap();
        let login = machines.get("desk").unwrap().login.clone().unwrap();
        assert_eq!((login.user.as_deref(), login.password.expose()), (Some("ann"), password));
        assert!(!format!("{machines:?}").contains("secret 1"));
    }
    let open = token_file(&dir, "open", "secret 1", 0o640);
    let empty = token_file(&dir, "empty", "\n", 0o600);
    let two = token_file(&dir, "two", "secret 1\nsecret 1\n", 0o600);
    let long = token_file(&dir, "long", &"x".repeat(300), 0o600);
    let good = token_file(&dir, "good", "secret 1", 0o600);
    for (desktop, more, expected) in [
        ("vnc://127.0.0.1", format!("password_file = {open:?}"), "can be read by other users (mode 0640)"),
        ("vnc://127.0.0.1", format!("password_file = {empty:?}"), "must contain one line with a password"),
        ("vnc://127.0.0.1", format!("password_file = {two:?}"), "must contain one line with a password"),
        ("vnc://127.0.0.1", format!("password_file = {long:?}"), "must contain one line with a password"),
        ("vnc://127.0.0.1", "password_file = '/nonexistent'".to_owned(), ".password_file \"/nonexistent\" cannot"),
        ("vnc://127.0.0.1", "password_file = 5".to_owned(), ".password_file must be a string"),
        ("ws://127.0.0.1", "user = 'ann'".to_owned(), ".user needs password_file"),
        ("vnc://127.0.0.1", format!("password_file = {good:?}\nuser = 'ann'"), ".user is for ws://"),
        ("ws://127.0.0.1", format!("password_file = {good:?}\nuser = 'a:b'"), ".user must have 1 to 128 bytes"),
        ("ws://127.0.0.1", format!("password_file = {good:?}\nuser = ''"), ".user must have 1 to 128 bytes"),
    ] {
        let errors = load(desktop, &more).unwrap_err().join("\n");
        assert!(errors.contains(expected) && !errors.contains("secret 1"), "{expected}: {errors}");
    }
}

#[test]
fn only_a_changed_dial_result_is_new() {
    let machines = ExternalMachines::default();
    let [one, two] = [1, 2].map(|number| SessionId::from_parts(number, [0; 10]));
    let refused = Some(Problem::ExternalRefused);
    for (session, failure, is_new) in [
        (&one, refused, true),
        (&one, refused, false),
        (&one, Some(Problem::ExternalSilent), true),
        (&one, None, true),
        (&one, None, false),
        (&one, refused, true),
        (&two, refused, true),
    ] {
        assert_eq!(machines.record_dial_result("desk", session, failure), is_new, "{session} {failure:?}");
    }
}

fn machine(scheme: &str, at: SocketAddr) -> ExternalMachine {
    ExternalMachine {
        name: "desk".to_owned(),
        desktop_endpoint: DesktopEndpoint::parse(&format!("{scheme}://{at}/")).unwrap(),
        encryption: Encryption::None,
        agent_token: Sha256Hex::of_bytes(b"token"),
        login: None,
        connect_ms_max: 900,
        greeting_ms_max: 400,
    }
}

/// Runs `serve` with one connection and returns the result of dialling it: the first bytes, or the problem.
async fn dial_server<F, Fut>(scheme: &str, serve: F) -> Result<Vec<u8>, Problem>
where
    F: FnOnce(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    let found = match dial_desktop(&machine(scheme, at), false).await {
        Ok(mut stream) => {
            let mut bytes = vec![0; OPENED.len() + 4];
            stream.read_exact(&mut bytes[..12]).await.unwrap();
            stream.write_all(VIEWER).await.unwrap();
            stream.read_exact(&mut bytes[12..]).await.unwrap();
            stream.write_all(b"back").await.unwrap();
            stream.flush().await.unwrap();
            Ok(bytes)
        }
        Err(failure) => {
            assert!(!failure.to_string().contains("127.0.0.1") && !failure.to_string().is_empty(), "{failure:?}");
            Err(failure.to_problem())
        }
    };
    if found.is_ok() {
        server.await.unwrap();
    }
    found
}

/// The handshake of this server, and then the viewer's bytes.
async fn expect_reply(stream: &mut TcpStream) {
    let mut back = [0; 17];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, *[VIEWER, b"back"].concat());
}

#[tokio::test]
async fn vnc_server_is_opened_and_no_byte_is_lost_for_any_packet_sizes() {
    let whole = dial_server("vnc", |mut stream| async move {
        stream.write_all(&[OPENED, b"more"].concat()).await.unwrap();
        expect_reply(&mut stream).await;
    });
    let slow = dial_server("vnc", |mut stream| async move {
        for byte in [OPENED, b"more"].concat() {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        expect_reply(&mut stream).await;
    });
    for bytes in [whole.await, slow.await] {
        assert_eq!(bytes.unwrap(), [OPENED, b"more"].concat());
    }
}

/// Answers the WebSocket handshake and passes the socket to `serve`.
async fn as_websockify(stream: TcpStream, serve: impl AsyncFnOnce(&mut tokio_tungstenite::WebSocketStream<TcpStream>)) {
    use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
    #[expect(clippy::result_large_err, reason = "the signature that the library asks for")]
    fn binary(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        response.headers_mut().insert("Sec-WebSocket-Protocol", "binary".parse().unwrap());
        Ok(response)
    }
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, binary).await.unwrap();
    serve(&mut socket).await;
}

#[tokio::test]
async fn websockify_is_opened_with_a_greeting_in_several_messages() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let bytes = dial_server("ws", |stream| {
        as_websockify(stream, async |socket| {
            for part in [&b"RFB 003"[..], b".008\n\x01", b"\x01\0\0\0", b"\0mo", b"re"] {
                socket.send(Message::binary(part)).await.unwrap();
            }
            let mut back = Vec::new();
            while back.len() < VIEWER.len() + 4 {
                back.extend(socket.next().await.unwrap().unwrap().into_data());
            }
            assert_eq!(back, [VIEWER, b"back"].concat());
        })
    });
    assert_eq!(bytes.await.unwrap(), [OPENED, b"more"].concat());
}

#[tokio::test]
async fn close_code_of_websockify_without_vnc_server_is_reported() {
    use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        as_websockify(stream, async |socket| {
            let frame = CloseFrame { code: CloseCode::Error, reason: "Failed to connect to 10.0.0.7:5900".into() };
            socket.close(Some(frame)).await.unwrap();
        })
        .await;
    });
    let failure = dial_desktop(&machine("ws", at), false).await.map(|_| ()).unwrap_err();
    assert_eq!(failure.to_problem(), Problem::ExternalClosed);
    assert_eq!(
        failure.to_string(),
        "it closed before its greeting (WebSocket close code 1011)",
        "without the reason of the close frame"
    );
}

#[tokio::test]
async fn each_kind_of_failure_has_its_problem() {
    let silent = dial_server("vnc", async |stream| {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    });
    assert_eq!(silent.await, Err(Problem::ExternalSilent));
    let silent = dial_server("ws", async |stream| {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    });
    assert_eq!(silent.await, Err(Problem::ExternalSilent), "no answer to the handshake");
    let silent =
        dial_server("ws", |stream| as_websockify(stream, async |_| tokio::time::sleep(Duration::from_secs(60)).await));
    assert_eq!(silent.await, Err(Problem::ExternalSilent), "a handshake and then nothing");
    let half = dial_server("vnc", async |mut stream| {
        stream.write_all(b"RFB 003.008\n\x02\x01").await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    assert_eq!(half.await, Err(Problem::ExternalSilent), "half an offer");
    let half = dial_server("vnc", async |mut stream| {
        stream.write_all(b"RFB 003.008\n\x01\x01").await.unwrap();
        stream.read_exact(&mut [0; 13]).await.unwrap();
    });
    assert_eq!(half.await, Err(Problem::ExternalClosed), "no result");
    let half = dial_server("vnc", async |mut stream| {
        stream.write_all(b"RFB 003").await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    assert_eq!(half.await, Err(Problem::ExternalSilent), "half a greeting");
    assert_eq!(dial_server("vnc", async |stream| drop(stream)).await, Err(Problem::ExternalClosed));
    assert_eq!(
        dial_server("ws", async |mut stream| drop(stream.read(&mut [0; 4096]).await)).await,
        Err(Problem::ExternalClosed)
    );
    for banner in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"RFB 3.8\n", b"RFB 003.008\r", b"\0"] {
        let other = dial_server("vnc", async |mut stream: TcpStream| {
            stream.write_all(banner).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        assert_eq!(other.await, Err(Problem::ExternalWrongProtocol), "{banner:?}");
    }
    for answer in ["HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "RFB 003.008\n\r\n\r\n"] {
        let other = dial_server("ws", async |mut stream: TcpStream| {
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        assert_eq!(other.await, Err(Problem::ExternalWrongProtocol), "{answer}");
    }
}

#[tokio::test]
async fn http_status_of_a_rejected_handshake_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    let failure = dial_desktop(&machine("ws", at), false).await.map(|_| ()).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "it answered the WebSocket handshake with HTTP status 403: it does not accept this host; allow it there"
    );
}

#[tokio::test]
async fn closed_port_is_refused_and_full_backlog_is_a_timeout_within_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    let failure = dial_desktop(&machine("vnc", at), false).await.map(|_| ()).unwrap_err();
    assert_eq!(failure.to_problem(), Problem::ExternalRefused, "{failure:?}");

    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let at = listener.local_addr().unwrap();
    // No connection is accepted: two fill the backlog, further ones are not answered.
    let mut kept = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(at)).await {
        kept.push(stream);
    }
    let started = Instant::now();
    let failure = dial_desktop(&machine("ws", at), false).await.map(|_| ()).unwrap_err();
    assert_eq!(failure.to_problem(), Problem::ExternalTimeout, "{failure:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    drop(kept);
}

#[tokio::test]
async fn unknown_name_is_no_route_and_is_not_in_the_detail() {
    let mut machine = machine("vnc", "127.0.0.1:1".parse().unwrap());
    machine.desktop_endpoint = DesktopEndpoint::parse("vnc://desk.invalid").unwrap();
    machine.connect_ms_max = 10_000;
    let failure = dial_desktop(&machine, false).await.map(|_| ()).unwrap_err();
    assert!([Problem::ExternalNoRoute, Problem::ExternalTimeout].contains(&failure.to_problem()), "{failure:?}");
    assert!(!failure.to_string().contains("desk"), "{failure:?}");
}
