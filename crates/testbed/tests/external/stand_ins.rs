//! Desktops of other makers that Debian does not have: the handshakes byte for byte as these makers' servers do them, and behind each the
//! picture of the fake RFB server.

use crate::vnc_server::PASSWORD;
use anteroom_rfb::handshake::PROTOCOL_VERSION;
use anteroom_testbed::FakeRfbServer;
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{SinkExt, StreamExt};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy_bidirectional, duplex},
    net::{TcpListener, TcpStream, UnixStream},
    task::JoinSet,
};
use tokio_tungstenite::tungstenite::{
    Message,
    handshake::server::{ErrorResponse, Request, Response},
};

pub(crate) const SIZE: (u16, u16) = (1367, 769);

/// The challenge of all stand-ins, and the response to it for [`PASSWORD`] (computed with OpenSSL's DES).
pub(crate) const CHALLENGE: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
pub(crate) const RESPONSE: [u8; 16] =
    [0xb8, 0x66, 0x92, 0x41, 0x25, 0xc8, 0xee, 0xbb, 0x9d, 0xeb, 0xc1, 0xdb, 0x61, 0xc5, 0x38, 0xe2];

/// The RFB handshake of a stand-in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rfb {
    /// The greeting, the version that the client must answer, and the security types.
    Types(&'static [u8; 12], &'static [u8; 12], &'static [u8]),
    /// RFB 3.3: the server selects the type.
    Selects(&'static [u8; 12], u32),
    /// It offers no type, but a reason.
    Refuses(&'static str),
    /// Only a greeting.
    Greeting(&'static [u8; 12]),
}

pub(crate) const RFB_3_8: Rfb = Rfb::Types(PROTOCOL_VERSION, PROTOCOL_VERSION, &[1]);

/// The WebSocket handshake of a stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Web {
    /// RFB over TCP.
    No,
    /// Without `Origin`: 404 (KasmVNC).
    OriginOr404,
    /// The same, and HTTP Basic with the user `ann`.
    Basic,
    /// Without `Origin`: closed (libvncserver, the C websockify).
    OriginOrClosed,
    /// An answer without a subprotocol, whatever was asked for.
    NoSubprotocol,
    /// The subprotocol of old websockifies.
    Base64,
    /// Always this status.
    Status(u16),
}

/// A stand-in that listens on loopback. Ends when dropped.
pub(crate) struct StandIn {
    pub(crate) at: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
    _picture: FakeRfbServer,
    _dir: tempfile::TempDir,
}

impl StandIn {
    pub(crate) async fn start(web: Web, rfb: Rfb) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("rfb");
        let picture = FakeRfbServer::start(&socket, "a desk of another maker", SIZE.0, SIZE.1).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                let socket = socket.clone();
                connections.spawn(async move {
                    // An error: the other side has closed.
                    let _ = serve(stream, web, rfb, &socket).await;
                });
            }
        });
        Self { at, accepted, _tasks: tasks, _picture: picture, _dir: dir }
    }

    /// The connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

async fn serve(stream: TcpStream, web: Web, rfb: Rfb, socket: &std::path::Path) -> io::Result<()> {
    if web == Web::No {
        return bridge(stream, rfb, socket).await;
    }
    match accept_websocket(stream, web).await {
        Some(stream) => bridge(stream, rfb, socket).await,
        None => Ok(()),
    }
}

/// Does the handshake and then copies to and from the picture.
async fn bridge<S>(mut stream: S, rfb: Rfb, socket: &std::path::Path) -> io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if !handshake(&mut stream, rfb).await? {
        // The other side closes after its answer.
        let _ = stream.read(&mut [0; 64]).await;
        return Ok(());
    }
    let mut picture = UnixStream::connect(socket).await?;
    picture.read_exact(&mut [0; 12]).await?;
    picture.write_all(PROTOCOL_VERSION).await?;
    picture.read_exact(&mut [0; 2]).await?;
    picture.write_all(&[1]).await?;
    picture.read_exact(&mut [0; 4]).await?;
    copy_bidirectional(&mut stream, &mut picture).await?;
    Ok(())
}

/// Whether the client has signed in.
async fn handshake<S>(stream: &mut S, rfb: Rfb) -> io::Result<bool>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut version = [0; 12];
    let (selected, has_results, has_reasons) = match rfb {
        Rfb::Greeting(greeting) => {
            stream.write_all(greeting).await?;
            return Ok(false);
        }
        Rfb::Refuses(reason) => {
            stream.write_all(PROTOCOL_VERSION).await?;
            stream.read_exact(&mut version).await?;
            stream.write_all(&[0]).await?;
            stream.write_u32(reason.len().try_into().unwrap()).await?;
            stream.write_all(reason.as_bytes()).await?;
            return Ok(false);
        }
        Rfb::Selects(greeting, security_type) => {
            stream.write_all(greeting).await?;
            stream.read_exact(&mut version).await?;
            assert_eq!(&version, b"RFB 003.003\n");
            stream.write_u32(security_type).await?;
            (u8::try_from(security_type).unwrap(), false, false)
        }
        Rfb::Types(greeting, answer, types) => {
            stream.write_all(greeting).await?;
            stream.read_exact(&mut version).await?;
            assert_eq!(&version, answer);
            stream.write_all(&[u8::try_from(types.len()).unwrap()]).await?;
            stream.write_all(types).await?;
            let selected = stream.read_u8().await?;
            assert!(types.contains(&selected), "{selected} is not among {types:?}");
            (selected, answer == PROTOCOL_VERSION, answer == PROTOCOL_VERSION)
        }
    };
    if selected == 2 {
        stream.write_all(&CHALLENGE).await?;
        let mut response = [0; 16];
        stream.read_exact(&mut response).await?;
        let is_right = response == RESPONSE;
        stream.write_u32(u32::from(!is_right)).await?;
        if !is_right && has_reasons {
            let reason = "password check failed!";
            stream.write_u32(reason.len().try_into().unwrap()).await?;
            stream.write_all(reason.as_bytes()).await?;
        }
        return Ok(is_right);
    }
    assert_eq!(selected, 1, "a type that the stand-in does not do");
    if has_results {
        stream.write_u32(0).await?;
    }
    Ok(true)
}

/// Answers the WebSocket handshake; `None`: with an error.
async fn accept_websocket(stream: TcpStream, web: Web) -> Option<DuplexStream> {
    if web == Web::OriginOrClosed && !peeked_head(&stream).await.to_ascii_lowercase().contains("\r\norigin: http") {
        return None;
    }
    #[expect(clippy::result_large_err, reason = "the signature that the library asks for")]
    let answer = move |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        let reject = |status: u16| {
            let mut rejected = ErrorResponse::new(None);
            *rejected.status_mut() = status.try_into().unwrap();
            Err(rejected)
        };
        let origin = request.headers().get("origin").and_then(|origin| origin.to_str().ok());
        let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or("");
        let is_own_origin = origin == Some(&format!("http://{host}"));
        let basic = format!("Basic {}", STANDARD.encode(format!("ann:{PASSWORD}")));
        let has_login = request.headers().get("authorization").is_some_and(|value| value == basic.as_str());
        match web {
            Web::Status(status) => return reject(status),
            Web::OriginOr404 | Web::Basic if !is_own_origin => return reject(404),
            Web::Basic if !has_login => return reject(401),
            Web::No | Web::OriginOr404 | Web::Basic | Web::OriginOrClosed | Web::NoSubprotocol | Web::Base64 => {}
        }
        if web != Web::NoSubprotocol {
            let subprotocol = if web == Web::Base64 { "base64" } else { "binary" };
            response.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol.parse().unwrap());
        }
        Ok(response)
    };
    let socket = tokio_tungstenite::accept_hdr_async(stream, answer).await.ok()?;
    let (ours, theirs) = duplex(64 * 1024);
    tokio::spawn(async move {
        let (mut sink, mut source) = socket.split();
        let (mut reader, mut writer) = tokio::io::split(theirs);
        let to_viewer = async {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count) = reader.read(&mut buffer).await
                && count > 0
                && sink.send(Message::binary(buffer[..count].to_vec())).await.is_ok()
            {}
        };
        let from_viewer = async {
            while let Some(Ok(message)) = source.next().await {
                if message.is_binary() && writer.write_all(&message.into_data()).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = to_viewer => {}
            () = from_viewer => {}
        }
    });
    Some(ours)
}

/// The head of the HTTP request, which stays in the stream.
async fn peeked_head(stream: &TcpStream) -> String {
    let mut buffer = [0; 4096];
    loop {
        let count = stream.peek(&mut buffer).await.unwrap_or(0);
        let head = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if count == 0 || head.contains("\r\n\r\n") {
            return head;
        }
        tokio::task::yield_now().await;
    }
}
