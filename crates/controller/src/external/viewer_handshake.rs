//! The viewer's side of a handshake that this server has done with the desktop.
//!
//! The viewer receives an offer of RFB 3.8 with one security type, whatever the desktop speaks. Its answer (version and type, 13 bytes) is checked
//! and dropped. Each message is sent after the answer that it follows: noVNC does not look for another one behind the version. When the viewer itself authenticates, the challenge and the response pass; to a failed SecurityResult of a desktop that
//! speaks RFB 3.3 or 3.7, which has no reason, one is added.

use anteroom_rfb::handshake::{
    CHALLENGE_RESPONSE_BYTES, PROTOCOL_VERSION, SECURITY_NONE, SECURITY_OK, encode_security_failure,
};
use anteroom_tunnel::ViewerError;
use anteroom_wire::Problem;
use bytes::{Buf, Bytes, BytesMut};
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Version and security type of the viewer.
const VIEWER_BYTES: usize = PROTOCOL_VERSION.len() + 1;
/// The desktop's bytes that are read while the viewer has not answered: a challenge is one of 16.
const EARLY_BYTES_MAX: usize = 64;
/// The desktop's bytes until the end of its SecurityResult, for VNC authentication.
const RESULT_END: usize = CHALLENGE_RESPONSE_BYTES + SECURITY_OK.len();

/// For a desktop that waits for ClientInit: viewers get security type None and its result.
pub(super) fn offer_none<S>(stream: S) -> AfterViewerHandshake<S> {
    let mut offered = AfterViewerHandshake::new(stream, SECURITY_NONE, false);
    offered.messages.push_back((VIEWER_BYTES, Bytes::from_static(&SECURITY_OK)));
    offered
}

/// For a desktop whose security type is selected: the viewer does the rest. `adds_reason`: it is VNC authentication, and the desktop sends
/// no reason when it fails.
pub(super) fn offer_type<S>(stream: S, security_type: u8, adds_reason: bool) -> AfterViewerHandshake<S> {
    AfterViewerHandshake::new(stream, security_type, adds_reason)
}

/// A stream which first does the viewer's handshake. Its first written bytes are the viewer's part of the handshake that is already done: they are checked and dropped.
pub(super) struct AfterViewerHandshake<S> {
    stream: S,
    security_type: u8,
    checked_bytes: usize,
    /// What the viewer gets before the desktop's next bytes, each after this many bytes of the viewer.
    messages: VecDeque<(usize, Bytes)>,
    /// Waits for the viewer's next bytes.
    reader: Option<Waker>,
    /// Bytes of the desktop that were read before the viewer could get them.
    early: BytesMut,
    /// Until the SecurityResult has been read, if a reason must be added to it: the bytes so far.
    result: Option<Vec<u8>>,
}

impl<S> AfterViewerHandshake<S> {
    fn new(stream: S, security_type: u8, adds_reason: bool) -> Self {
        let messages = VecDeque::from([
            (0, Bytes::from_static(PROTOCOL_VERSION)),
            (PROTOCOL_VERSION.len(), Bytes::from(vec![1, security_type])),
        ]);
        let result = adds_reason.then(Vec::new);
        Self { stream, security_type, checked_bytes: 0, messages, reader: None, early: BytesMut::new(), result }
    }

    /// Checks the next bytes of the viewer's handshake; returns how many of `bytes` belong to it.
    fn check(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let expected = [&PROTOCOL_VERSION[..], &[self.security_type]].concat();
        let rest = expected.get(self.checked_bytes..).unwrap_or_default();
        let count = rest.len().min(bytes.len());
        if bytes[..count] != rest[..count] {
            let detail = format!("this desktop needs RFB 3.8 and security type {}", self.security_type);
            return Err(ViewerError::new(Problem::ViewerHandshake.with_detail(detail)).into());
        }
        self.checked_bytes += count;
        Ok(count)
    }

    /// Reads the desktop's next bytes; after a failed SecurityResult there is a reason to send.
    fn read_result(&mut self, bytes: &[u8]) {
        let Some(seen) = &mut self.result else { return };
        seen.extend_from_slice(&bytes[..bytes.len().min(RESULT_END - seen.len())]);
        if seen.len() < RESULT_END {
            return;
        }
        if seen[CHALLENGE_RESPONSE_BYTES..] != SECURITY_OK {
            let failure = encode_security_failure("The desktop rejected the password.");
            self.messages.push_back((0, Bytes::from(failure).slice(SECURITY_OK.len()..)));
        }
        self.result = None;
    }
}

impl<S: AsyncRead + Unpin> AfterViewerHandshake<S> {
    /// While the viewer has not answered: ready when the desktop's stream ends.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; EARLY_BYTES_MAX];
        while self.early.len() < EARLY_BYTES_MAX {
            let mut read = ReadBuf::new(&mut space[..EARLY_BYTES_MAX - self.early.len()]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.early.extend_from_slice(read.filled());
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AfterViewerHandshake<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let checked_bytes = self.checked_bytes;
        if let Some((after_bytes, message)) = self.messages.front_mut() {
            if checked_bytes < *after_bytes {
                self.reader = Some(cx.waker().clone());
                return self.poll_end(cx);
            }
            let count = message.len().min(buf.remaining());
            buf.put_slice(&message[..count]);
            message.advance(count);
            if message.is_empty() {
                self.messages.pop_front();
            }
            return Poll::Ready(Ok(()));
        }
        if !self.early.is_empty() {
            let count = self.early.len().min(buf.remaining());
            let bytes = self.early.split_to(count);
            buf.put_slice(&bytes);
            self.read_result(&bytes);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.read_result(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AfterViewerHandshake<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.checked_bytes < VIEWER_BYTES && !buf.is_empty() {
            let checked = self.check(buf);
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
            return Poll::Ready(checked);
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn handshake_of_a_viewer_is_dropped_in_pieces_of_any_size_and_nothing_else_is() {
        for piece_bytes in 1..40 {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let mut stream = offer_type(ours, 2, false);
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
    async fn each_message_waits_for_the_answer_before_it() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let (mut reader, mut writer) = tokio::io::split(offer_none(ours));
        for (sent, wanted) in [(&b""[..], &b"RFB 003.008\n"[..]), (b"RFB 003.008\n", b"\x01\x01"), (b"\x01", &[0; 4])] {
            writer.write_all(sent).await.unwrap();
            let mut read = [0; 64];
            let count = reader.read(&mut read).await.unwrap();
            assert_eq!(&read[..count], wanted);
        }
    }

    #[tokio::test]
    async fn end_of_the_desktop_is_seen_while_the_viewer_has_not_answered_and_no_byte_is_lost() {
        for sent in [0, 16, 500] {
            let (ours, mut theirs) = tokio::io::duplex(1_024);
            let (mut reader, mut writer) = tokio::io::split(offer_type(ours, 2, false));
            reader.read_exact(&mut [0; 12]).await.unwrap();
            theirs.write_all(&vec![7; sent]).await.unwrap();
            if sent == 0 {
                drop(theirs);
                assert_eq!(reader.read(&mut [0; 1]).await.unwrap(), 0);
                continue;
            }
            let mut read = Vec::new();
            let reading = async {
                reader.read_to_end(&mut read).await.unwrap();
            };
            let answering = async {
                tokio::task::yield_now().await;
                writer.write_all(b"RFB 003.008\n\x02").await.unwrap();
                drop(theirs);
            };
            tokio::join!(reading, answering);
            assert_eq!(read, [&[1, 2][..], &vec![7; sent]].concat());
        }
    }

    #[tokio::test]
    async fn viewer_with_another_version_or_security_type_is_an_error() {
        for bytes in [&b"RFB 003.003\n"[..], b"RFB 003.008\n\x01", b"x"] {
            let (ours, _theirs) = tokio::io::duplex(64);
            let mut stream = offer_type(ours, 2, false);
            let error = stream.write_all(bytes).await.unwrap_err();
            assert_eq!(ViewerError::of(&error).unwrap().code, "viewer_handshake");
        }
    }

    #[tokio::test]
    async fn only_a_failed_result_of_an_old_desktop_gets_a_reason() {
        for (result, adds_reason) in [(0_u8, true), (1, true), (2, true), (1, false)] {
            for piece_bytes in [1, 7, 64] {
                let (ours, mut theirs) = tokio::io::duplex(64);
                let sent = [&[9; 16][..], &[0, 0, 0, result], b"more"].concat();
                let writing = tokio::spawn(async move {
                    for piece in sent.chunks(piece_bytes) {
                        theirs.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                });
                let mut read = Vec::new();
                let mut stream = offer_type(ours, 2, adds_reason);
                stream.write_all(b"RFB 003.008\n\x02").await.unwrap();
                stream.read_to_end(&mut read).await.unwrap();
                writing.await.unwrap();
                let text = String::from_utf8_lossy(&read[14..]).into_owned();
                assert_eq!(text.contains("rejected the password"), adds_reason && result != 0, "{result} {text:?}");
                assert!(read.starts_with(&[b"RFB 003.008\n\x01\x02", &[9; 16][..], &[0, 0, 0, result]].concat()));
            }
        }
    }
}
