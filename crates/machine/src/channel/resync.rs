//! The nonce exchange at the start of each connection. The pipe may contain half a frame of an earlier controller's connection.

use anteroom_wire::channel::{
    ECHO_WAIT_MS_MAX, NONCE_BYTES, PADDING_BYTES, format_echo_line, format_go_line, format_nonce_line,
};
use parking_lot::Mutex;
use std::{io, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest wait for one echo, milliseconds.
const LONGEST_ECHO_WAIT_MS: u64 = 3_000;

/// Bytes that the controller discards while it waits for an echo. A machine that was connected before has at most what fills the windows of
/// HTTP/2 and the buffers of the channel.
pub const BYTES_BEFORE_ECHO_MAX: usize = 32 * 1024 * 1024;

/// Why a channel could not be resynchronized.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResyncError {
    #[error("the channel cannot be read or written")]
    Io(#[source] io::Error),
    #[error("the machine closed the channel")]
    Closed,
    #[error("the machine sent {BYTES_BEFORE_ECHO_MAX} bytes without the echo of a nonce")]
    TooManyBytes,
    #[error("the operating system returned no random bytes")]
    Random(#[source] getrandom::Error),
}

/// The nonce whose echo the reader expects; `None` before the first nonce.
type Expected = Mutex<Option<String>>;

fn expect(expected: &Expected, echo: Option<String>) {
    *expected.lock() = echo;
}

fn nonce() -> Result<String, ResyncError> {
    let mut bytes = [0u8; NONCE_BYTES];
    getrandom::fill(&mut bytes).map_err(ResyncError::Random)?;
    Ok(hex::encode(bytes))
}

/// Sends nonces until the latest one is echoed, then sends the go line. All bytes read before that echo are discarded.
/// Has no timeout; the caller sets one. Waits `first_wait` for the first echo (a machine that is being cloned
/// needs a moment), [`ECHO_WAIT_MS_MAX`] for the second, and twice as long for each after it, up to a maximum. `on_timeout` is
/// called for each echo that did not arrive in time.
pub(crate) async fn resync<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    first_wait: Duration,
    on_timeout: impl FnMut(),
) -> Result<(), ResyncError> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let expected = Expected::default();
    // The latest nonce can only be echoed when it was written completely: the writer then waits or writes padding. An agent
    // reads lines, so a partial padding (newlines) does no harm.
    let hex = tokio::select! {
        read = await_echo(&mut reader, &expected) => read?,
        wrote = send_nonces(&mut writer, &expected, first_wait, on_timeout) => match wrote {
            Ok(never) => match never {},
            Err(error) => return Err(error),
        },
    };
    writer.write_all(format_go_line(&hex).as_bytes()).await.map_err(ResyncError::Io)?;
    writer.flush().await.map_err(ResyncError::Io)
}

async fn send_nonces<W: AsyncWrite + Unpin>(
    writer: &mut W,
    expected: &Expected,
    first_wait: Duration,
    mut on_timeout: impl FnMut(),
) -> Result<std::convert::Infallible, ResyncError> {
    let pad = vec![b'\n'; PADDING_BYTES];
    let mut wait = first_wait;
    let mut next_wait = Duration::from_millis(ECHO_WAIT_MS_MAX);
    loop {
        let hex = nonce()?;
        expect(expected, Some(hex.clone()));
        writer.write_all(format_nonce_line(&hex).as_bytes()).await.map_err(ResyncError::Io)?;
        writer.flush().await.map_err(ResyncError::Io)?;
        tokio::time::sleep(wait).await;
        wait = next_wait;
        // A slow guest must be able to catch up: it reads the whole padding before each nonce, and only the latest counts.
        next_wait = (next_wait * 2).min(Duration::from_millis(LONGEST_ECHO_WAIT_MS));
        on_timeout();
        writer.write_all(&pad).await.map_err(ResyncError::Io)?;
    }
}

/// Reads until the expected echo; returns its nonce.
async fn await_echo<R: AsyncRead + Unpin>(reader: &mut R, expected: &Expected) -> Result<String, ResyncError> {
    let mut chunk = vec![0u8; 64 * 1024];
    let (mut scanner, mut discarded) = (EchoScanner::default(), 0_usize);
    loop {
        let count = reader.read(&mut chunk).await.map_err(ResyncError::Io)?;
        if count == 0 {
            return Err(ResyncError::Closed);
        }
        discarded = discarded.saturating_add(count);
        if discarded > BYTES_BEFORE_ECHO_MAX {
            return Err(ResyncError::TooManyBytes);
        }
        let nonce = expected.lock().clone();
        if scanner.finds_echo(chunk.get(..count).unwrap_or_default(), nonce.as_deref())
            && let Some(hex) = nonce
        {
            return Ok(hex);
        }
    }
}

/// Finds an echo in a stream that is read in pieces.
#[derive(Debug, Default)]
pub(crate) struct EchoScanner {
    /// The end of the bytes so far, which may be the start of an echo.
    tail: Vec<u8>,
}

impl EchoScanner {
    /// Whether the echo of the nonce `hex` ends within these next bytes. Without a nonce nothing is found.
    pub(crate) fn finds_echo(&mut self, bytes: &[u8], hex: Option<&str>) -> bool {
        self.tail.extend_from_slice(bytes);
        let line_bytes = format_echo_line(&"0".repeat(NONCE_BYTES * 2)).len();
        let found = hex.is_some_and(|hex| {
            let line = format_echo_line(hex);
            self.tail.windows(line_bytes).any(|window| window == line.as_bytes())
        });
        let excess = self.tail.len().saturating_sub(line_bytes - 1);
        self.tail.drain(..excess);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    /// A fake agent: echoes every nonce after the first `ignored` ones until the go line; returns the nonce of that line.
    async fn agent(mut stream: DuplexStream, ignored: usize, garbage: &[u8]) -> (String, DuplexStream) {
        stream.write_all(garbage).await.unwrap();
        let (mut line, mut seen) = (Vec::new(), 0);
        loop {
            let byte = stream.read_u8().await.unwrap();
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            if let Some(hex) = text.strip_prefix("N ") {
                seen += 1;
                if seen > ignored {
                    stream.write_all(format_echo_line(hex).as_bytes()).await.unwrap();
                }
            } else if let Some(hex) = text.strip_prefix("G ") {
                return (hex.to_owned(), stream);
            }
        }
    }

    #[tokio::test]
    async fn resync_succeeds_after_megabytes_of_stale_bytes() {
        let (mut ours, theirs) = duplex(64 * 1024);
        let garbage: Vec<u8> = (0..2_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let agent = tokio::spawn(async move { agent(theirs, 0, &garbage).await });
        resync(&mut ours, Duration::from_millis(ECHO_WAIT_MS_MAX), || ()).await.unwrap();
        ours.write_all(b"after").await.unwrap();
        let (hex, mut theirs) = agent.await.unwrap();
        assert_eq!(hex.len(), NONCE_BYTES * 2);
        let mut after = [0u8; 5];
        theirs.read_exact(&mut after).await.unwrap();
        assert_eq!(&after, b"after");
    }

    #[tokio::test(start_paused = true)]
    async fn nonce_is_sent_again_without_an_echo_and_an_old_echo_does_not_count() {
        let (mut ours, theirs) = duplex(256 * 1024);
        let old = format_echo_line(&"a".repeat(NONCE_BYTES * 2));
        let agent = tokio::spawn(async move { agent(theirs, 3, old.as_bytes()).await });
        let mut tries = 0;
        resync(&mut ours, Duration::from_millis(ECHO_WAIT_MS_MAX), || tries += 1).await.unwrap();
        assert!(tries >= 3, "{tries}");
        agent.await.unwrap();
    }

    #[tokio::test]
    async fn machine_that_sends_bytes_without_end_instead_of_the_echo_is_an_error() {
        let (mut ours, theirs) = duplex(1024 * 1024);
        let (mut reader, mut writer) = tokio::io::split(theirs);
        let sender = tokio::spawn(async move { while writer.write_all(&[b'x'; 64 * 1024]).await.is_ok() {} });
        let drain = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
        let error = resync(&mut ours, Duration::from_millis(ECHO_WAIT_MS_MAX), || ()).await.unwrap_err();
        assert!(matches!(error, ResyncError::TooManyBytes), "{error}");
        drop(ours);
        sender.await.unwrap();
        drain.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn closed_channel_is_an_error() {
        let (mut ours, theirs) = duplex(1024);
        drop(theirs);
        assert!(matches!(
            resync(&mut ours, Duration::from_millis(ECHO_WAIT_MS_MAX), || ()).await,
            Err(ResyncError::Closed | ResyncError::Io(_))
        ));
    }
}
