//! The agent as an RFB client (RFC 6143) of the display server: probes it, sets its size, makes a connection in advance for a viewer, and
//! requests a first picture to warm it up.

use anteroom_wire::agent::Geometry;
use std::{io, path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// The whole exchange with the display server, including the connect.
const EXCHANGE_MS_MAX: u64 = 5_000;
/// The protocol version of the agent, and the only one for which it makes a handshake in advance.
pub(crate) const VERSION: &[u8; 12] = b"RFB 003.008\n";
/// Security type "none".
pub(crate) const NO_SECURITY: u8 = 1;
/// The ExtendedDesktopSize pseudo-encoding.
const EXTENDED_DESKTOP_SIZE: i32 = -308;
const NAME_BYTES_MAX: u32 = 4 * 1024;
/// The warm-up ends when nothing has arrived for this long, …
const QUIET_MS: u64 = 300;
/// … or when this much has arrived (a raw picture of the largest size is 33 MB).
const WARM_UP_BYTES_MAX: usize = 48 * 1024 * 1024;

/// The `ServerInit` message of the display server, which begins with the desktop's size.
#[derive(Debug)]
pub(crate) struct ServerInit(Vec<u8>);

impl ServerInit {
    /// The whole message, to be sent to a viewer.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn size(&self) -> Geometry {
        let number = |at: usize| self.0.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
        Geometry { width: number(0), height: number(2) }
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
        if handshake(&mut stream, true).await?.size() == size {
            return Ok(());
        }
        let mut request = vec![2, 0, 0, 1]; // SetEncodings, one
        request.extend(EXTENDED_DESKTOP_SIZE.to_be_bytes());
        // The server sends the size only in updates: request one of a single pixel.
        request.extend([3, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
        request.extend([251, 0]); // SetDesktopSize
        request.extend(size.width.to_be_bytes());
        request.extend(size.height.to_be_bytes());
        request.extend([1, 0]); // one screen
        request.extend([0; 8]); // its id 0, at 0,0
        request.extend(size.width.to_be_bytes());
        request.extend(size.height.to_be_bytes());
        request.extend([0; 4]);
        stream.write_all(&request).await?;
        drop(stream.shutdown().await);
        // A new client gets the present size.
        loop {
            let mut again = UnixStream::connect(socket).await?;
            if handshake(&mut again, true).await?.size() == size {
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

/// Connects for a viewer that got the greeting [`VERSION`] and answered `version`. The rest of the handshake is the viewer's.
pub(crate) async fn connect_with_version(socket: &Path, version: [u8; 12]) -> io::Result<UnixStream> {
    limited(async {
        let mut stream = UnixStream::connect(socket).await?;
        if read_greeting(&mut stream).await? != *VERSION {
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
        let size = handshake(&mut stream, true).await?.size();
        // SetPixelFormat as viewers do: 32 bits, depth 24, little endian, true colour, red << 16, green << 8, blue.
        let mut request = vec![0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
        request.extend([2, 0]); // SetEncodings
        request.extend(u16::try_from(encodings.len()).unwrap_or(0).to_be_bytes());
        request.extend(encodings.iter().flat_map(|encoding| encoding.to_be_bytes()));
        request.extend([3, 0, 0, 0, 0, 0]); // the whole picture
        request.extend(size.width.to_be_bytes());
        request.extend(size.height.to_be_bytes());
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
    if read_greeting(stream).await? != *VERSION {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the display server does not speak RFB 3.8"));
    }
    stream.write_all(VERSION).await?;
    let count = stream.read_u8().await?;
    let mut types = vec![0; usize::from(count)];
    stream.read_exact(&mut types).await?;
    if !types.contains(&NO_SECURITY) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the display server asks for a password"));
    }
    stream.write_all(&[NO_SECURITY]).await?;
    if stream.read_u32().await? != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.write_all(&[u8::from(shared)]).await?;
    // Width, height, pixel format, the name's length; then the name.
    let mut init = vec![0; 24];
    stream.read_exact(&mut init).await?;
    let name = u32::from_be_bytes([init[20], init[21], init[22], init[23]]);
    if name > NAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the desktop's name is too long"));
    }
    init.resize(24 + name as usize, 0);
    stream.read_exact(&mut init[24..]).await?;
    Ok(ServerInit(init))
}
