//! A desktop that sends what it is asked for: one pixel, or many bytes.

use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Bytes of a long answer.
pub(super) const LONG_BYTES: usize = 256 << 20;
/// An answer with one pixel, bytes.
pub(super) const PIXEL_BYTES: usize = 20;

/// A request for an update of the screen: one pixel, or [`LONG_BYTES`] of nothing.
pub(super) fn request(is_long: bool) -> [u8; 10] {
    [3, 0, 0, 0, 0, 0, 0, if is_long { 2 } else { 1 }, 0, 1]
}

/// Starts the desktop; it runs until the program ends.
pub(super) async fn start() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A viewer that is gone ends it.
            tokio::spawn(async move { serve(stream).await.ok() });
        }
    });
    Ok(address)
}

async fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"RFB 003.008\n").await?;
    stream.read_exact(&mut [0; 12]).await?;
    // No security.
    stream.write_all(&[1, 1]).await?;
    stream.read_u8().await?;
    stream.write_all(&[0; 4]).await?;
    // Whether the desktop is shared.
    stream.read_u8().await?;
    let format = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
    stream.write_all(&[&[0, 64, 0, 64][..], &format, &[0, 0, 0, 4], b"desk"].concat()).await?;
    let (long, mut message) = (vec![0; 64 << 10], [0; 20]);
    loop {
        let rest = match stream.read_u8().await? {
            0 => 19,
            2 => {
                stream.read_u8().await?;
                let encodings = usize::from(stream.read_u16().await?);
                let mut skipped = vec![0; 4 * encodings];
                stream.read_exact(&mut skipped).await?;
                continue;
            }
            3 => 9,
            4 => 7,
            5 => 5,
            other => anyhow::bail!("message {other}"),
        };
        let kind = rest;
        stream.read_exact(&mut message[..rest]).await?;
        if kind != 9 {
            continue;
        }
        if message[6] == 2 {
            for _ in 0..LONG_BYTES / long.len() {
                stream.write_all(&long).await?;
            }
        } else {
            stream.write_all(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]).await?;
        }
    }
}
