//! A desktop that sends what it is asked for: one pixel, or many bytes.

use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};

/// Bytes of a long answer.
pub(super) const LONG_BYTES: usize = 256 << 20;
/// Bytes that are written at once.
const PART_BYTES: usize = 256 << 10;
/// An answer with one pixel, bytes.
pub(super) const PIXEL_BYTES: usize = 20;

/// An answer as large as a picture, bytes.
pub(super) const PICTURE_BYTES: usize = 256 << 10;
/// Bytes a second of a connection with 1 Gbit/s.
pub(super) const PACED_BYTES_A_SECOND: u64 = 117_000_000;

/// What the desktop sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One pixel.
    Pixel = 1,
    /// [`LONG_BYTES`] of nothing.
    Long = 2,
    /// The same with [`PACED_BYTES_A_SECOND`].
    Paced = 3,
    /// [`PICTURE_BYTES`].
    Picture = 4,
}

/// A request for an update of the screen.
pub(super) fn request(wanted: Wanted) -> [u8; 10] {
    [3, 0, 0, 0, 0, 0, 0, wanted as u8, 0, 1]
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
    let mut message = [0; 20];
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
        match message[6] {
            2 => send(&mut stream, LONG_BYTES, None).await?,
            3 => send(&mut stream, LONG_BYTES, Some(PACED_BYTES_A_SECOND)).await?,
            4 => send(&mut stream, PICTURE_BYTES, None).await?,
            _ => stream.write_all(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]).await?,
        }
    }
}

async fn send(stream: &mut TcpStream, bytes: usize, bytes_a_second: Option<u64>) -> anyhow::Result<()> {
    let (part, began) = (vec![0; PART_BYTES], Instant::now());
    for sent in 0..bytes / PART_BYTES {
        if let Some(bytes_a_second) = bytes_a_second {
            let micros = (sent * PART_BYTES) as u64 * 1_000_000 / bytes_a_second;
            sleep_until(began + Duration::from_micros(micros)).await;
        }
        stream.write_all(&part).await?;
    }
    Ok(())
}
