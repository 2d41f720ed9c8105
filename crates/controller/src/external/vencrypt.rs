//! VeNCrypt: RFB's security type for TLS (number 19). TLS is ended here, so that viewers need not know it.
//!
//! ```text
//!  viewer                                    this server                              desktop
//!                                              ◀─ version ─▶  19 ─▶  0.2 ─▶  X509None or X509Vnc ─▶  TLS handshake
//!   ◀─ version, one security type: None or VNC ─┘
//!   ── version, that type ─▶ ✗ (checked, dropped)
//!   ◀─ challenge, result, desktop … ────────────────────────── inside TLS ───────────────────────────▶
//! ```
//!
//! Subtypes without a certificate (`TLSNone`, `TLSVnc`) are not used: any computer between the hosts could answer in the desktop's place.

use super::tls::{DesktopTls, TlsFault};
use anteroom_rfb::handshake::{PROTOCOL_VERSION, SECURITY_NONE, SECURITY_VNC_AUTHENTICATION};
use anteroom_tunnel::PrefixedStream;
use bytes::Bytes;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::client::TlsStream;

const SECURITY_VENCRYPT: u8 = 19;
const VENCRYPT_VERSION: [u8; 2] = [0, 2];
const X509_NONE: u32 = 260;
const X509_VNC: u32 = 261;
/// Version and security type of the viewer.
const VIEWER_HANDSHAKE_BYTES: usize = PROTOCOL_VERSION.len() + 1;

/// Why a desktop's VeNCrypt handshake failed. The sentence contains no address.
#[derive(Debug, thiserror::Error)]
pub enum VencryptFault {
    /// It does not offer VeNCrypt, or an older RFB than 3.8.
    #[error("it does not offer VeNCrypt")]
    NotOffered,
    /// It offers VeNCrypt without a certificate, or with a user name.
    #[error("it offers neither X509None nor X509Vnc")]
    NoCertificate,
    /// It rejected the connection or VeNCrypt's version.
    #[error("it rejected the VeNCrypt handshake")]
    Rejected,
    /// The stream ended.
    #[error("it closed during the VeNCrypt handshake")]
    Closed(#[from] io::Error),
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] TlsFault),
}

/// A desktop after its VeNCrypt handshake.
pub(super) type VencryptStream<S> = PrefixedStream<AfterViewerHandshake<TlsStream<S>>>;

/// The handshake after the desktop's greeting has been read, to the end of the TLS handshake. The returned stream starts with a greeting and an offer
/// of one security type, as a desktop without VeNCrypt sends them.
pub(super) async fn open<S>(
    tls: &DesktopTls,
    greeting: &[u8],
    mut stream: S,
) -> Result<VencryptStream<S>, VencryptFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if greeting != PROTOCOL_VERSION {
        return Err(VencryptFault::NotOffered);
    }
    stream.write_all(PROTOCOL_VERSION).await?;
    let count = stream.read_u8().await?;
    let mut types = vec![0; usize::from(count)];
    stream.read_exact(&mut types).await?;
    if count == 0 {
        return Err(VencryptFault::Rejected);
    }
    if !types.contains(&SECURITY_VENCRYPT) {
        return Err(VencryptFault::NotOffered);
    }
    stream.write_all(&[SECURITY_VENCRYPT]).await?;
    let security_type = select_subtype(&mut stream).await?;
    let stream = tls.connect(stream).await?;
    let offer = [&PROTOCOL_VERSION[..], &[1, security_type]].concat();
    Ok(PrefixedStream::new(Bytes::from(offer), AfterViewerHandshake { stream, security_type, checked_bytes: 0 }))
}

/// Agrees on a subtype with a certificate; returns the security type that follows inside TLS.
pub(super) async fn select_subtype<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<u8, VencryptFault> {
    let mut newest = [0; 2];
    stream.read_exact(&mut newest).await?;
    if newest < VENCRYPT_VERSION {
        return Err(VencryptFault::Rejected);
    }
    stream.write_all(&VENCRYPT_VERSION).await?;
    if stream.read_u8().await? != 0 {
        return Err(VencryptFault::Rejected);
    }
    let mut subtypes = Vec::new();
    for _ in 0..stream.read_u8().await? {
        subtypes.push(stream.read_u32().await?);
    }
    let known = [(X509_NONE, SECURITY_NONE), (X509_VNC, SECURITY_VNC_AUTHENTICATION)];
    let (subtype, security_type) =
        known.into_iter().find(|(subtype, _)| subtypes.contains(subtype)).ok_or(VencryptFault::NoCertificate)?;
    stream.write_u32(subtype).await?;
    match stream.read_u8().await? {
        1 => Ok(security_type),
        _ => Err(VencryptFault::Rejected),
    }
}

/// A stream whose first written bytes are the viewer's part of the handshake that is already done: they are checked and dropped.
pub(super) struct AfterViewerHandshake<S> {
    stream: S,
    security_type: u8,
    checked_bytes: usize,
}

impl<S> AfterViewerHandshake<S> {
    /// Checks the next bytes of the viewer's handshake; returns how many of `bytes` belong to it.
    fn check(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let expected = [&PROTOCOL_VERSION[..], &[self.security_type]].concat();
        let rest = expected.get(self.checked_bytes..).unwrap_or_default();
        let count = rest.len().min(bytes.len());
        if bytes[..count] != rest[..count] {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the viewer must use RFB 3.8 and the security type that it was offered",
            ));
        }
        self.checked_bytes += count;
        Ok(count)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AfterViewerHandshake<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AfterViewerHandshake<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.checked_bytes < VIEWER_HANDSHAKE_BYTES && !buf.is_empty() {
            return Poll::Ready(self.check(buf));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn handshake_of_a_viewer_is_dropped_in_pieces_of_any_size_and_nothing_else_is() {
        for piece_bytes in 1..40 {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let mut stream = AfterViewerHandshake { stream: ours, security_type: 2, checked_bytes: 0 };
            for piece in b"RFB 003.008\n\x02RFB 003.008\n\x02".chunks(piece_bytes) {
                stream.write_all(piece).await.unwrap();
            }
            drop(stream);
            let mut passed = Vec::new();
            theirs.read_to_end(&mut passed).await.unwrap();
            assert_eq!(passed, b"RFB 003.008\n\x02", "{piece_bytes}");
        }
    }

    #[tokio::test]
    async fn viewer_with_another_version_or_security_type_is_an_error() {
        for bytes in [&b"RFB 003.003\n"[..], b"RFB 003.008\n\x01", b"x"] {
            let (ours, _theirs) = tokio::io::duplex(64);
            let mut stream = AfterViewerHandshake { stream: ours, security_type: 2, checked_bytes: 0 };
            assert_eq!(stream.write_all(bytes).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
