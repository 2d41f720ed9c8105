//! Connects to the machine's terminal: obtains a ticket, opens a WebSocket and copies bytes in both directions. Reconnects when
//! the machine is replaced.

use super::{CommandStage, SIZE_WITHOUT_TERMINAL, scrollback::Scrollback, tty};
use crate::client::{ApiClient, ClientError, LocalWebSocket};
use anteroom_wire::{
    EndReason, Problem, SessionId,
    agent::TerminalSize,
    api::{ScreenView, Ticket},
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use std::{
    io::{Read, Write},
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_tungstenite::tungstenite::Message;

/// Delay between two connection attempts, milliseconds.
const RETRY_MS: u64 = 200;
/// Interval between two screen snapshots when the output is not a terminal, milliseconds.
const SNAPSHOT_INTERVAL_MS: u64 = 250;
/// Size of one read of standard input, bytes.
const INPUT_BYTES: usize = 4 * 1024;
/// Number of reads that are buffered.
const INPUT_READS_MAX: usize = 16;
/// End of input at the beginning of a line: Ctrl-D.
const END_OF_INPUT: &[u8] = b"\x04";
/// End of input within a line: the first Ctrl-D only submits the line.
const END_WITHIN_LINE: &[u8] = b"\x04\x04";

/// A connection to the machine's terminal.
pub(super) struct Attachment<'a> {
    client: &'a ApiClient,
    session: &'a SessionId,
    stage: watch::Receiver<CommandStage>,
    /// Whether standard input and output are a terminal.
    is_interactive: bool,
    /// Standard input; `None` before the command runs and after its end.
    input: Option<mpsc::Receiver<Vec<u8>>>,
    scrollback: Scrollback,
    /// Set from the first output on, if interactive.
    raw_mode: Option<tty::RawMode>,
}

/// The reason why a socket ended.
enum SocketEnd {
    /// The server closed it, or the connection was lost.
    Closed,
    /// The server closed it because the session has ended.
    SessionOver,
    /// A local error: standard output cannot be written.
    Failed(anyhow::Error),
}

impl<'a> Attachment<'a> {
    pub(super) fn new(
        client: &'a ApiClient,
        session: &'a SessionId,
        stage: watch::Receiver<CommandStage>,
        is_interactive: bool,
    ) -> Self {
        Self { client, session, stage, is_interactive, input: None, scrollback: Scrollback::default(), raw_mode: None }
    }

    /// Copies bytes until the session has ended.
    ///
    /// # Errors
    /// The terminal cannot be read or written, or the session belongs to another caller.
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        let mut resized = signal(SignalKind::window_change())?;
        loop {
            match self.open().await {
                Ok(socket) => match self.copy(socket, &mut resized).await {
                    SocketEnd::Closed => {}
                    SocketEnd::SessionOver => return Ok(()),
                    SocketEnd::Failed(error) => return Err(error),
                },
                // The terminal is not ready, the session has ended, or the server is not reachable: `watch::follow` reports it.
                Err(ClientError::Api(body)) if body.code == Problem::NotOwner.code() => {
                    return Err(ClientError::Api(body).into());
                }
                Err(_) => {}
            }
            if *self.stage.borrow() == CommandStage::Ended {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
        }
    }

    async fn open(&self) -> Result<LocalWebSocket, ClientError> {
        let path = format!("/api/auth/session/{}", self.session);
        let request = serde_json::json!({ "purpose": "terminal" });
        let ticket: Ticket = self.client.call(Method::POST, &format!("{path}/ticket"), Some(&request)).await?;
        // The size is set before the first byte: a snapshot before a later resize could show only a part of the screen.
        let TerminalSize { cols, rows } = self.size();
        let path = format!("{path}/terminal?cols={cols}&rows={rows}");
        self.client.open_websocket(&path, &format!("binary, ticket.{}", ticket.ticket)).await
    }

    fn size(&self) -> TerminalSize {
        if self.is_interactive { tty::terminal_size().unwrap_or(SIZE_WITHOUT_TERMINAL) } else { SIZE_WITHOUT_TERMINAL }
    }

    async fn copy(&mut self, mut socket: LocalWebSocket, resized: &mut Signal) -> SocketEnd {
        let (mut has_output, mut is_changed) = (false, false);
        let mut snapshots = tokio::time::interval_at(Instant::now(), Duration::from_millis(SNAPSHOT_INTERVAL_MS));
        loop {
            let is_running = *self.stage.borrow_and_update() == CommandStage::Running;
            // Input before the first output could be lost: the terminal may not exist yet.
            if is_running && has_output && self.input.is_none() {
                self.input = Some(read_input());
            }
            let is_interactive = self.is_interactive;
            let sent = tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        is_changed = true;
                        if let Err(error) = self.show(&bytes) {
                            return SocketEnd::Failed(error.into());
                        }
                        // The first output shows that the terminal exists and can be resized.
                        if has_output {
                            continue;
                        }
                        has_output = true;
                        socket.send(resize_message(self.size())).await
                    }
                    Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == EndReason::CLOSE_CODE => {
                        return SocketEnd::SessionOver;
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return SocketEnd::Closed,
                    Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                },
                _ = resized.recv(), if is_interactive => socket.send(resize_message(self.size())).await,
                part = next_input(&mut self.input), if has_output => socket.send(Message::Binary(Bytes::from(part))).await,
                _ = snapshots.tick(), if !is_interactive && is_changed && is_running => {
                    is_changed = false;
                    match self.print_new_lines().await {
                        Ok(()) => continue,
                        Err(error) => return SocketEnd::Failed(error.into()),
                    }
                }
                _ = self.stage.changed() => continue,
            };
            if sent.is_err() {
                return SocketEnd::Closed;
            }
        }
    }

    /// Writes output bytes to the local terminal if interactive; switches it to raw mode first.
    fn show(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if !self.is_interactive {
            return Ok(());
        }
        if self.raw_mode.is_none() {
            self.raw_mode = Some(tty::RawMode::enable()?);
        }
        write_stdout(bytes)
    }

    /// Prints the new lines of the machine's terminal.
    async fn print_new_lines(&mut self) -> std::io::Result<()> {
        // Errors are ignored: the last screen is printed when the session has ended.
        let path = format!("/api/auth/session/{}/screen", self.session);
        match self.client.get::<ScreenView>(&path).await {
            Ok(screen) => print_lines(&self.scrollback.new_lines(screen.lines, false)),
            Err(_) => Ok(()),
        }
    }

    /// Restores the local terminal.
    pub(super) fn restore_local_terminal(&mut self) {
        self.raw_mode = None;
    }

    /// Prints the last screen: if interactive all of it, since the alternate screen was closed; otherwise only the new lines.
    pub(super) fn print_last_screen(&mut self, lines: Vec<String>) -> std::io::Result<()> {
        if self.is_interactive { print_lines(&lines) } else { print_lines(&self.scrollback.new_lines(lines, true)) }
    }
}

fn resize_message(size: TerminalSize) -> Message {
    Message::text(format!("{{\"type\":\"resize\",\"cols\":{},\"rows\":{}}}", size.cols, size.rows))
}

fn write_stdout(bytes: &[u8]) -> std::io::Result<()> {
    tokio::task::block_in_place(|| {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    })
}

fn print_lines(lines: &[String]) -> std::io::Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    write_stdout(text.as_bytes())
}

/// The next input; pending forever if there is none.
async fn next_input(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Vec<u8> {
    let part = match input {
        Some(input) => input.recv().await,
        None => None,
    };
    match part {
        Some(part) => part,
        None => std::future::pending().await,
    }
}

/// Reads standard input in a separate thread that ends with the process, because a read of a terminal cannot be cancelled. The end
/// of a pipe or file is sent as Ctrl-D.
fn read_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(INPUT_READS_MAX);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0; INPUT_BYTES];
        let mut is_line_complete = true;
        while let Ok(count) = stdin.read(&mut buffer) {
            let bytes = match buffer[..count].last() {
                Some(last) => {
                    is_line_complete = matches!(last, b'\n' | b'\r');
                    &buffer[..count]
                }
                None if is_line_complete => END_OF_INPUT,
                None => END_WITHIN_LINE,
            };
            if sender.blocking_send(bytes.to_vec()).is_err() || count == 0 {
                return;
            }
        }
    });
    receiver
}
