//! The little of RFB (RFC 6143) that the agent speaks itself: is somebody there, and "have this size".

use anteroom_wire::agent::Geometry;
use std::{io, path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// One exchange with the display server, from connecting on.
const EXCHANGE_MS_MAX: u64 = 5_000;
const VERSION: &[u8; 12] = b"RFB 003.008\n";
/// The pseudo-encoding of the extension that knows sizes.
const EXTENDED_DESKTOP_SIZE: i32 = -308;
const NAME_BYTES_MAX: u32 = 4 * 1024;

/// Connects and reads the greeting.
pub(crate) async fn greet(socket: &Path) -> io::Result<()> {
    limited(async {
        let mut stream = UnixStream::connect(socket).await?;
        read_greeting(&mut stream).await
    })
    .await
}

/// Asks the display server for `size` and waits until it has it.
pub(crate) async fn resize(socket: &Path, size: Geometry) -> io::Result<()> {
    limited(async {
        let mut stream = UnixStream::connect(socket).await?;
        if join(&mut stream).await? == size {
            return Ok(());
        }
        let mut ask = vec![2, 0, 0, 1]; // SetEncodings, one
        ask.extend(EXTENDED_DESKTOP_SIZE.to_be_bytes());
        // The server speaks of sizes only in updates: ask for one of a single pixel.
        ask.extend([3, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
        ask.extend([251, 0]); // SetDesktopSize
        ask.extend(size.width.to_be_bytes());
        ask.extend(size.height.to_be_bytes());
        ask.extend([1, 0]); // one screen
        ask.extend([0; 8]); // its id 0, at 0,0
        ask.extend(size.width.to_be_bytes());
        ask.extend(size.height.to_be_bytes());
        ask.extend([0; 4]);
        stream.write_all(&ask).await?;
        drop(stream.shutdown().await);
        // A new client is told the size there is.
        loop {
            let mut again = UnixStream::connect(socket).await?;
            if join(&mut again).await? == size {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

async fn limited<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(Duration::from_millis(EXCHANGE_MS_MAX), exchange).await?
}

async fn read_greeting(stream: &mut UnixStream) -> io::Result<()> {
    let mut greeting = [0; 12];
    stream.read_exact(&mut greeting).await?;
    if !greeting.starts_with(b"RFB ") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what answers on the desktop's socket is not RFB"));
    }
    Ok(())
}

/// Greets, takes security type "none", joins as one of several viewers. The size of the desktop.
async fn join(stream: &mut UnixStream) -> io::Result<Geometry> {
    read_greeting(stream).await?;
    stream.write_all(VERSION).await?;
    let count = stream.read_u8().await?;
    let mut types = vec![0; usize::from(count)];
    stream.read_exact(&mut types).await?;
    if !types.contains(&1) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the display server asks for a password"));
    }
    stream.write_all(&[1]).await?;
    if stream.read_u32().await? != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.write_all(&[1]).await?; // shared
    let (width, height) = (stream.read_u16().await?, stream.read_u16().await?);
    let mut format = [0; 16];
    stream.read_exact(&mut format).await?;
    let name = stream.read_u32().await?.min(NAME_BYTES_MAX);
    stream.read_exact(&mut vec![0; name as usize]).await?;
    Ok(Geometry { width, height })
}
