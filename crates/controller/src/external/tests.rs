//! Settings with their faults, and dialling servers that behave well, badly or not at all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use anteroom_wire::Problem;
use std::{future::Future, net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

const GREETING: &[u8] = b"RFB 003.008\n";

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
fn a_machine_is_read_with_its_limits_and_only_the_hash_of_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let token = token_file(&dir, "token", "a-token-of-the-agent\n", 0o600);
    let text = format!(
        "[desk]\ndesktop = 'ws://192.168.100.2:6080/x?token=secret'\nagent_token_file = {token:?}\nconnect_ms_max = 500\n"
    );
    let machines = load(&text).unwrap();
    let desk = machines.get("desk").unwrap();
    assert_eq!((desk.connect_ms_max, desk.greeting_ms_max), (500, 5_000));
    assert_eq!((desk.desktop.host.as_str(), desk.desktop.port), ("192.168.100.2", 6080));
    assert_eq!(desk.desktop.path, "/x?token=secret");
    assert_eq!(desk.desktop.to_string(), "ws://192.168.100.2:6080/x", "an operator is not shown the query");
    assert!(!format!("{desk:?}").contains("secret") && !format!("{desk:?}").contains("a-token"));
    assert!(machines.has_agent(&Sha256Hex::of(b"a-token-of-the-agent")));
    assert!(!machines.has_agent(&Sha256Hex::of(b"another")));
    assert_eq!((machines.names().as_str(), ExternalMachines::default().names().as_str()), ("desk", "none"));
    assert_eq!(machines.too_slow_for(5_499).len(), 1);
    assert_eq!(machines.too_slow_for(5_500).len(), 0);
}

#[test]
fn addresses_are_told_apart_and_each_wrong_one_is_refused_for_its_reason() {
    let good = |text| Address::parse(text).unwrap().to_string();
    assert_eq!(good("vnc://desk"), "vnc://desk:5900");
    assert_eq!(good("vnc://[fd00::1]:5901/"), "vnc://[fd00::1]:5901");
    assert_eq!(good("WS://desk"), "ws://desk:80/");
    for (text, why) in [
        ("desk:5900", "no address"),
        ("", "no address"),
        ("wss://desk/", "scheme wss"),
        ("http://desk/", "scheme \"http\""),
        ("vnc://", "cannot be read"),
        ("vnc://:5900", "no host"),
        ("vnc://desk:0", "port"),
        ("vnc://desk:99999", "port"),
        ("vnc://desk/path", "has a path"),
        ("vnc://user:pass@desk", "user name or password"),
        ("ws://a b/", "cannot be read"),
    ] {
        let found = Address::parse(text).unwrap_err();
        assert!(found.contains(why), "{text}: {found}");
    }
}

#[test]
fn all_faults_of_all_machines_are_reported_at_once_and_no_token_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let open = token_file(&dir, "open", "a-token-that-is-open", 0o644);
    let short = token_file(&dir, "short", "short-one", 0o600);
    let empty = token_file(&dir, "empty", "", 0o600);
    let spaced = token_file(&dir, "spaced", "two words of a token", 0o600);
    let good = token_file(&dir, "good", "a-token-of-the-agent", 0o600);
    let text = format!(
        "[a]\ndesktop = 'tcp://x'\nagent_token_file = '/nonexistent/token'\nconnect_ms_max = 5\nspeed = 1\n\
         [b]\nagent_token_file = {open:?}\ngreeting_ms_max = 'x'\n\
         ['C D']\ndesktop = 'vnc://c'\nagent_token_file = {short:?}\n\
         [d]\ndesktop = 5\n\
         [e]\ndesktop = 'vnc://e'\nagent_token_file = {empty:?}\n\
         [f]\ndesktop = 'vnc://f'\nagent_token_file = {spaced:?}\n\
         [g]\ndesktop = 'vnc://g'\nagent_token_file = {good:?}\n\
         [h]\ndesktop = 'vnc://h'\nagent_token_file = {good:?}\n\
         [i]\ndesktop = 'vnc://i'\nagent_token_file = {:?}\n",
        dir.path()
    );
    let text = format!("j = 3\n{text}");
    let faults = load(&text).unwrap_err();
    let all = faults.join("\n");
    for part in [
        "external_machines.a.desktop has the scheme \"tcp\"",
        "external_machines.a.agent_token_file \"/nonexistent/token\" cannot be read",
        "external_machines.a.connect_ms_max is 5",
        "external_machines.a.speed is not a setting",
        "external_machines.b.desktop is missing",
        "may be read by others (mode 0644): chmod 600 it",
        "external_machines.b.greeting_ms_max",
        "external_machines.C D: a name has",
        "external_machines.C D.agent_token_file",
        "external_machines.d.desktop must be a text",
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
fn only_what_is_new_about_a_machine_is_news() {
    let machines = ExternalMachines::default();
    let [one, two] = [1, 2].map(|number| SessionId::from_parts(number, [0; 10]));
    let refused = Some(Problem::ExternalRefused);
    for (session, fault, news) in [
        (&one, refused, true),
        (&one, refused, false),
        (&one, Some(Problem::ExternalSilent), true),
        (&one, None, true),
        (&one, None, false),
        (&one, refused, true),
        (&two, refused, true),
    ] {
        assert_eq!(machines.is_news("desk", session, fault), news, "{session} {fault:?}");
    }
}

fn machine(scheme: &str, at: SocketAddr) -> ExternalMachine {
    ExternalMachine {
        name: "desk".to_owned(),
        desktop: Address::parse(&format!("{scheme}://{at}/")).unwrap(),
        agent_token: Sha256Hex::of(b"token"),
        connect_ms_max: 900,
        greeting_ms_max: 400,
    }
}

/// A server that does this with its one connection, and what a dial to it comes to.
async fn dialled<F, Fut>(scheme: &str, serve: F) -> Result<Vec<u8>, Problem>
where
    F: FnOnce(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    let found = match dial(&machine(scheme, at)).await {
        Ok(mut stream) => {
            let mut said = vec![0; GREETING.len() + 4];
            stream.read_exact(&mut said).await.unwrap();
            stream.write_all(b"back").await.unwrap();
            stream.flush().await.unwrap();
            Ok(said)
        }
        Err(fault) => {
            assert!(!fault.detail.contains("127.0.0.1") && !fault.detail.is_empty(), "{fault:?}");
            Err(fault.problem)
        }
    };
    if found.is_ok() {
        server.await.unwrap();
    }
    found
}

async fn heard_back(stream: &mut TcpStream) {
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"back");
}

#[tokio::test]
async fn a_vnc_server_is_opened_and_not_a_byte_of_it_is_lost_however_it_comes() {
    let whole = dialled("vnc", |mut stream| async move {
        stream.write_all(b"RFB 003.008\nmore").await.unwrap();
        heard_back(&mut stream).await;
    });
    let slow = dialled("vnc", |mut stream| async move {
        for byte in b"RFB 003.008\nmore" {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        heard_back(&mut stream).await;
    });
    for said in [whole.await, slow.await] {
        assert_eq!(said.unwrap(), b"RFB 003.008\nmore");
    }
}

/// Takes the handshake and gives the socket to `serve`.
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
async fn a_websockify_is_opened_and_the_greeting_may_come_in_pieces() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let said = dialled("ws", |stream| {
        as_websockify(stream, async |socket| {
            for part in [&b"RFB 003"[..], b".008\nmo", b"re"] {
                socket.send(Message::binary(part)).await.unwrap();
            }
            let back = socket.next().await.unwrap().unwrap();
            assert_eq!(back.into_data(), &b"back"[..]);
        })
    });
    assert_eq!(said.await.unwrap(), b"RFB 003.008\nmore");
}

#[tokio::test]
async fn a_websockify_whose_vnc_server_is_away_is_named_with_its_close_code() {
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
    let fault = dial(&machine("ws", at)).await.map(|_| ()).unwrap_err();
    assert_eq!(fault.problem, Problem::ExternalClosed);
    assert_eq!(fault.detail, "it closed before its greeting (WebSocket close code 1011)", "and not what it said");
}

#[tokio::test]
async fn each_way_of_not_being_a_desktop_has_its_name() {
    let silent = dialled("vnc", async |stream| {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    });
    assert_eq!(silent.await, Err(Problem::ExternalSilent));
    let silent = dialled("ws", async |stream| {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    });
    assert_eq!(silent.await, Err(Problem::ExternalSilent), "no answer to the handshake");
    let silent =
        dialled("ws", |stream| as_websockify(stream, async |_| tokio::time::sleep(Duration::from_secs(60)).await));
    assert_eq!(silent.await, Err(Problem::ExternalSilent), "a handshake and then nothing");
    let half = dialled("vnc", async |mut stream| {
        stream.write_all(b"RFB 003").await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    assert_eq!(half.await, Err(Problem::ExternalSilent), "half a greeting");
    assert_eq!(dialled("vnc", async |stream| drop(stream)).await, Err(Problem::ExternalClosed));
    assert_eq!(
        dialled("ws", async |mut stream| drop(stream.read(&mut [0; 4096]).await)).await,
        Err(Problem::ExternalClosed)
    );
    for banner in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"RFB 3.8\n", b"RFB 003.008\r", b"\0"] {
        let other = dialled("vnc", async |mut stream: TcpStream| {
            stream.write_all(banner).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        assert_eq!(other.await, Err(Problem::ExternalWrongProtocol), "{banner:?}");
    }
    for answer in ["HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "RFB 003.008\n\r\n\r\n"] {
        let other = dialled("ws", async |mut stream: TcpStream| {
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        assert_eq!(other.await, Err(Problem::ExternalWrongProtocol), "{answer}");
    }
}

#[tokio::test]
async fn the_status_of_a_refused_handshake_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    let fault = dial(&machine("ws", at)).await.map(|_| ()).unwrap_err();
    assert_eq!(fault.detail, "it answers the WebSocket handshake with HTTP status 403");
}

#[tokio::test]
async fn a_closed_port_is_refused_and_a_full_backlog_is_a_timeout_within_the_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    let fault = dial(&machine("vnc", at)).await.map(|_| ()).unwrap_err();
    assert_eq!(fault.problem, Problem::ExternalRefused, "{fault:?}");

    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let at = listener.local_addr().unwrap();
    // Nobody accepts: two fill the backlog, further ones are not answered.
    let mut kept = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(at)).await {
        kept.push(stream);
    }
    let began = Instant::now();
    let fault = dial(&machine("ws", at)).await.map(|_| ()).unwrap_err();
    assert_eq!(fault.problem, Problem::ExternalTimeout, "{fault:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(kept);
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_no_route_and_is_not_repeated() {
    let mut machine = machine("vnc", "127.0.0.1:1".parse().unwrap());
    machine.desktop = Address::parse("vnc://desk.invalid").unwrap();
    machine.connect_ms_max = 10_000;
    let fault = dial(&machine).await.map(|_| ()).unwrap_err();
    assert!([Problem::ExternalNoRoute, Problem::ExternalTimeout].contains(&fault.problem), "{fault:?}");
    assert!(!fault.detail.contains("desk"), "{fault:?}");
}
