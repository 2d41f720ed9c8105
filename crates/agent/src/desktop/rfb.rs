//! The agent as an RFB client (RFC 6143) of the display server: probes it, sets its size, makes a connection in advance for a viewer, and
//! requests a first picture to warm it up.

use anteroom_rfb::{
    client_messages::{encode_set_desktop_size, encode_set_encodings, encode_set_pixel_format, encode_update_request},
    handshake::{PROTOCOL_VERSION, SECURITY_NONE, ServerInitHead},
};
use anteroom_wire::agent::Geometry;
use std::{io, path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// The whole exchange with the display server, including the connect.
const EXCHANGE_MS_MAX: u64 = 5_000;
/// The ExtendedDesktopSize pseudo-encoding.
const EXTENDED_DESKTOP_SIZE: i32 = -308;
const NAME_BYTES_MAX: u32 = 4 * 1024;
/// The warm-up ends when nothing has arrived for this long, …
const QUIET_MS: u64 = 300;
/// … or when this much has arrived (a raw picture of the largest size is 33 MB).
const WARM_UP_BYTES_MAX: usize = 48 * 1024 * 1024;

/// The `ServerInit` message of the display server, which begins with the desktop's size.
#[derive(Debug)]
pub(crate) struct ServerInit {
    bytes: Vec<u8>,
    size: Geometry,
}

impl ServerInit {
    /// The whole message, to be sent to a viewer.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Connects and reads the greeting.
pub(crate) async fn probe(socket: &Path) -> io::Result<()> {
    limited(async {
        let mut stream = UnixStream::connect(socket).await?;
        read_greeting(&mut stream).await.map(drop)
    })
    .await
}

/// Sets the desktop's size and waits until it has changed.
pub(crate) async fn resize(socket: &Path, size: Geometry) -> io::Result<()> {
    limited(async {
        let mut stream = UnixStream::connect(socket).await?;
        if handshake(&mut stream, true).await?.size == size {
            return Ok(());
        }
        let mut request = encode_set_encodings([EXTENDED_DESKTOP_SIZE]);
        // The server sends the size only in updates: request one of a single pixel.
        request.extend(encode_update_request(false, 1, 1));
        request.extend(encode_set_desktop_size(size.width, size.height));
        stream.write_all(&request).await?;
        drop(stream.shutdown().await);
        // A new client gets the present size.
        loop {
            let mut again = UnixStream::connect(socket).await?;
            if handshake(&mut again, true).await?.size == size {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Connects and completes the handshake. `shared`: other viewers stay connected.
pub(crate) async fn connect(socket: &Path, shared: bool) -> io::Result<(UnixStream, ServerInit)> {
    limited(async {
        let mut stream = UnixStream::connect(socket).await?;
        let init = handshake(&mut stream, shared).await?;
        Ok((stream, init))
    })
    .await
}

/// Connects for a viewer that got the greeting [`PROTOCOL_VERSION`] and answered `version`. The rest of the handshake is the viewer's.
pub(crate) async fn connect_with_version(socket: &Path, version: [u8; 12]) -> io::Result<UnixStream> {
    limited(async {
        let mut stream = UnixStream::connect(socket).await?;
        if read_greeting(&mut stream).await? != *PROTOCOL_VERSION {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the display server sends another greeting now"));
        }
        stream.write_all(&version).await?;
        Ok(stream)
    })
    .await
}

/// Requests the whole picture in `encodings` and drops it. Then the code that the display server needs for a picture is in memory, not on
/// the compressed disk.
pub(crate) async fn warm_up(socket: &Path, encodings: &[i32]) -> io::Result<()> {
    limited(async {
        let mut stream = UnixStream::connect(socket).await?;
        let size = handshake(&mut stream, true).await?.size;
        let mut request = encode_set_pixel_format();
        request.extend(encode_set_encodings(encodings.iter().copied()));
        request.extend(encode_update_request(false, size.width, size.height));
        stream.write_all(&request).await?;
        stream.readable().await?;
        let (mut buf, mut total) = (vec![0; 64 * 1024], 0);
        while total < WARM_UP_BYTES_MAX {
            match tokio::time::timeout(Duration::from_millis(QUIET_MS), stream.read(&mut buf)).await {
                Ok(Ok(n)) if n > 0 => total += n,
                Ok(Ok(_)) | Err(_) => break,
                Ok(Err(error)) => return Err(error),
            }
        }
        Ok(())
    })
    .await
}

async fn limited<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(Duration::from_millis(EXCHANGE_MS_MAX), exchange).await?
}

async fn read_greeting(stream: &mut UnixStream) -> io::Result<[u8; 12]> {
    let mut greeting = [0; 12];
    stream.read_exact(&mut greeting).await?;
    if !greeting.starts_with(b"RFB ") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the server on the desktop's socket does not speak RFB",
        ));
    }
    Ok(greeting)
}

/// Completes the handshake, with security type "none".
async fn handshake(stream: &mut UnixStream, shared: bool) -> io::Result<ServerInit> {
    if read_greeting(stream).await? != *PROTOCOL_VERSION {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the display server does not speak RFB 3.8"));
    }
    stream.write_all(PROTOCOL_VERSION).await?;
    let count = stream.read_u8().await?;
    let mut types = vec![0; usize::from(count)];
    stream.read_exact(&mut types).await?;
    if !types.contains(&SECURITY_NONE) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the display server asks for a password"));
    }
    stream.write_all(&[SECURITY_NONE]).await?;
    if stream.read_u32().await? != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.write_all(&[u8::from(shared)]).await?;
    let mut head = [0; ServerInitHead::BYTES];
    stream.read_exact(&mut head).await?;
    let ServerInitHead { width, height, name_bytes } = ServerInitHead::parse(&head);
    if name_bytes > NAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the desktop's name is too long"));
    }
    let mut bytes = head.to_vec();
    bytes.resize(head.len() + name_bytes as usize, 0);
    stream.read_exact(&mut bytes[head.len()..]).await?;
    Ok(ServerInit { bytes, size: Geometry { width, height } })
}
