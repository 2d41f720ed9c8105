//! `anteroom attach SESSION`: the session's terminal in this terminal, as the page shows it. Connects again when the machine is replaced.

use super::{print_status, stream::is_temporary, tty};
use crate::client::{ApiClient, ClientError, LocalWebSocket};
use anteroom_wire::{EndReason, SessionId, agent::TerminalSize, api::Ticket};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use std::{
    io::{IsTerminal, Read, Write},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::Message;

/// Delay between two connection attempts, milliseconds.
const RETRY_MS: u64 = 500;
/// Size of one read of standard input, bytes.
const INPUT_BYTES: usize = 4 * 1024;
/// Number of reads that are buffered.
const INPUT_READS_MAX: usize = 16;
/// Size of the machine's terminal if that of the local one is not known.
const DEFAULT_SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

#[derive(Debug, clap::Args)]
pub(crate) struct AttachArguments {
    /// The session's id; see `anteroom sessions`.
    session: SessionId,
}

/// Why a socket ended.
enum SocketEnd {
    /// The server closed it, or the connection was lost.
    Closed,
    /// The session has ended.
    SessionOver(String),
    /// The user detached, or the local terminal is closed.
    Detached,
}

pub(crate) async fn run(client: &ApiClient, arguments: AttachArguments) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        "standard input and output must be a terminal"
    );
    let [mut terminated, mut hung_up] = [signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    let attached = tokio::select! {
        attached = attach(client, &arguments.session) => attached.map(|()| 0),
        _ = terminated.recv() => Ok(143),
        _ = hung_up.recv() => Ok(129),
    };
    tty::restore();
    attached.map(ExitCode::from)
}

async fn attach(client: &ApiClient, session: &SessionId) -> anyhow::Result<()> {
    let mut resized = signal(SignalKind::window_change())?;
    let mut input = None;
    loop {
        match open(client, session).await {
            Ok(socket) => match copy(socket, &mut input, &mut resized).await? {
                SocketEnd::Closed => print_status("the connection was closed; connecting again"),
                SocketEnd::Detached => {
                    tty::restore();
                    print_status(&format!("detached; again: anteroom attach {session}"));
                    return Ok(());
                }
                SocketEnd::SessionOver(reason) => {
                    tty::restore();
                    print_status(&format!("the session has ended ({reason})"));
                    return Ok(());
                }
            },
            Err(ClientError::Api(body)) if !is_temporary(&body.code) => return Err(ClientError::Api(body).into()),
            Err(ClientError::Api(_)) => {}
            Err(error @ ClientError::TokenRefused { .. }) => return Err(error.into()),
            Err(
                error @ (ClientError::NoServer { .. }
                | ClientError::Unreachable { .. }
                | ClientError::InvalidResponse(_)),
            ) => {
                if input.is_none() {
                    return Err(error.into());
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
    }
}

async fn open(client: &ApiClient, session: &SessionId) -> Result<LocalWebSocket, ClientError> {
    let path = format!("/api/auth/session/{session}");
    let request = serde_json::json!({ "purpose": "terminal" });
    let ticket: Ticket = client.call(Method::POST, &format!("{path}/ticket"), Some(&request)).await?;
    let TerminalSize { cols, rows } = size();
    let path = format!("{path}/terminal?cols={cols}&rows={rows}");
    client.open_websocket(&path, &format!("binary, ticket.{}", ticket.ticket)).await
}

fn size() -> TerminalSize {
    tty::exec_size()
        .map_or(DEFAULT_SIZE, |size| TerminalSize { cols: size.width.clamp(2, 500), rows: size.height.clamp(2, 300) })
}

async fn copy(
    mut socket: LocalWebSocket,
    input: &mut Option<mpsc::Receiver<Vec<u8>>>,
    resized: &mut Signal,
) -> anyhow::Result<SocketEnd> {
    let mut detach = DetachKeys::default();
    loop {
        let sent = tokio::select! {
            // A size is sent before a key that was typed after it; a key does not wait for the end of a long output.
            biased;
            _ = resized.recv() => {
                let TerminalSize { cols, rows } = size();
                socket.send(Message::text(format!("{{\"type\":\"resize\",\"cols\":{cols},\"rows\":{rows}}}"))).await
            }
            part = next_input(input) => {
                let Some(part) = part else { return Ok(SocketEnd::Detached) };
                let Some(part) = detach.filter(part) else { return Ok(SocketEnd::Detached) };
                socket.send(Message::Binary(Bytes::from(part))).await
            }
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    if input.is_none() {
                        tty::enable_raw_mode()?;
                        *input = Some(read_input());
                    }
                    write_stdout(&bytes)?;
                    continue;
                }
                Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == EndReason::CLOSE_CODE => {
                    return Ok(SocketEnd::SessionOver(frame.reason.to_string()));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(SocketEnd::Closed),
                Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
            },
        };
        if sent.is_err() {
            return Ok(SocketEnd::Closed);
        }
    }
}

/// Recognises `~.` at the beginning of a line, as `ssh` does.
#[derive(Default)]
struct DetachKeys {
    typed: Typed,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Typed {
    #[default]
    LineStart,
    Tilde,
    Other,
}

impl DetachKeys {
    /// The input for the machine; `None`: the user detaches. A `~` at the beginning of a line waits for the next key.
    fn filter(&mut self, input: Vec<u8>) -> Option<Vec<u8>> {
        let mut passed = Vec::with_capacity(input.len() + 1);
        for byte in input {
            match (self.typed, byte) {
                (Typed::Tilde, b'.') => return None,
                (Typed::Tilde, b'~') => {
                    passed.push(b'~');
                    self.typed = Typed::Other;
                    continue;
                }
                (Typed::Tilde, _) => passed.push(b'~'),
                (Typed::LineStart, b'~') => {
                    self.typed = Typed::Tilde;
                    continue;
                }
                (Typed::LineStart | Typed::Other, _) => {}
            }
            passed.push(byte);
            self.typed = if matches!(byte, b'\r' | b'\n') { Typed::LineStart } else { Typed::Other };
        }
        Some(passed)
    }
}

fn write_stdout(bytes: &[u8]) -> std::io::Result<()> {
    tokio::task::block_in_place(|| {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    })
}

/// The next input; `None`: it has ended; pending for ever before the first output.
async fn next_input(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

/// Reads standard input in a thread that ends with the process: a read of a terminal cannot be cancelled.
fn read_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(INPUT_READS_MAX);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0; INPUT_BYTES];
        while let Ok(count @ 1..) = stdin.read(&mut buffer) {
            if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tilde_and_full_stop_at_the_beginning_of_a_line_detach() {
        let filter = |parts: &[&str]| {
            let mut keys = DetachKeys::default();
            let passed: Option<Vec<Vec<u8>>> = parts.iter().map(|part| keys.filter(part.as_bytes().to_vec())).collect();
            passed.map(|parts| String::from_utf8(parts.concat()).unwrap())
        };
        assert_eq!(filter(&["~."]), None);
        assert_eq!(filter(&["ls\r~", "."]), None);
        assert_eq!(filter(&["a~.\r"]), Some("a~.\r".to_owned()));
        assert_eq!(filter(&["~/bin\r", "~~.\r"]), Some("~/bin\r~.\r".to_owned()));
    }
}
