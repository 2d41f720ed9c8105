//! The way to the machine's terminal: a ticket, a WebSocket, bytes both ways; again when the machine is replaced.

use super::{Stage, WITHOUT_TERMINAL, scroll::Scroll, tty};
use crate::cli::client::{Client, ClientError, LocalSocket};
use anteroom_wire::{
    Problem, SessionId,
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

/// Between two tries to attach.
const AGAIN_MS: u64 = 200;
/// Between two looks at a terminal that is printed as lines.
const LOOK_EVERY_MS: u64 = 250;
/// Bytes of the keyboard, or of a pipe, that are read at once; so many such parts wait.
const INPUT_BYTES: usize = 4 * 1024;
const INPUT_PARTS: usize = 16;
/// What ends an input at a terminal.
const END_OF_INPUT: &[u8] = b"\x04";
/// The same where a line was begun: the first only hands that over.
const END_WITHIN_LINE: &[u8] = b"\x04\x04";

/// The machine's terminal at this one's place.
pub(super) struct Attachment<'a> {
    client: &'a Client,
    session: &'a SessionId,
    stage: watch::Receiver<Stage>,
    is_person: bool,
    /// Standard input; `None` before the command runs and after its end.
    input: Option<mpsc::Receiver<Vec<u8>>>,
    scroll: Scroll,
    /// From the first picture on, where a person sits here.
    raw: Option<tty::Raw>,
}

/// Why a socket ended.
enum Ended {
    /// The server closed it, or it broke.
    Closed,
    /// The server closed it since the session is over.
    Over,
    /// This side cannot go on.
    Failed(anyhow::Error),
}

impl<'a> Attachment<'a> {
    pub(super) fn new(
        client: &'a Client,
        session: &'a SessionId,
        stage: watch::Receiver<Stage>,
        is_person: bool,
    ) -> Self {
        Self { client, session, stage, is_person, input: None, scroll: Scroll::default(), raw: None }
    }

    /// Carries bytes until the session is over.
    ///
    /// # Errors
    /// This side cannot go on.
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        let mut resized = signal(SignalKind::window_change())?;
        loop {
            match self.open().await {
                Ok(socket) => match self.carry(socket, &mut resized).await {
                    Ended::Closed => {}
                    Ended::Over => return Ok(()),
                    Ended::Failed(error) => return Err(error),
                },
                // Not ready yet, over, or the server is away: the follower knows more.
                Err(ClientError::Refused(body)) if body.code == Problem::NotOwner.code() => {
                    return Err(ClientError::Refused(body).into());
                }
                Err(_) => {}
            }
            if *self.stage.borrow() == Stage::Over {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
        }
    }

    async fn open(&self) -> Result<LocalSocket, ClientError> {
        let path = format!("/api/auth/session/{}", self.session);
        let wanted = serde_json::json!({ "purpose": "terminal" });
        let ticket: Ticket = self.client.call(Method::POST, &format!("{path}/ticket"), Some(&wanted)).await?;
        // As large as it will be from the first byte on: what is looked at before a change of size may be a part of it.
        let TerminalSize { cols, rows } = self.size();
        let path = format!("{path}/terminal?cols={cols}&rows={rows}");
        self.client.socket(&path, &format!("binary, ticket.{}", ticket.ticket)).await
    }

    fn size(&self) -> TerminalSize {
        Some(()).filter(|()| self.is_person).and_then(|()| tty::size()).unwrap_or(WITHOUT_TERMINAL)
    }

    async fn carry(&mut self, mut socket: LocalSocket, resized: &mut Signal) -> Ended {
        let (mut is_sized, mut changed) = (false, false);
        let mut looks = tokio::time::interval_at(Instant::now(), Duration::from_millis(LOOK_EVERY_MS));
        loop {
            let runs = *self.stage.borrow_and_update() == Stage::Running;
            // What is typed before there is anything to see may find no terminal yet.
            if runs && is_sized && self.input.is_none() {
                self.input = Some(read_input());
            }
            let is_person = self.is_person;
            let sent = tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        changed = true;
                        if let Err(error) = self.show(&bytes) {
                            return Ended::Failed(error.into());
                        }
                        // Only a terminal that is there has a size to change.
                        if is_sized {
                            continue;
                        }
                        is_sized = true;
                        socket.send(resize(self.size())).await
                    }
                    Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == Problem::SessionEnded.close_code() => {
                        return Ended::Over;
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ended::Closed,
                    Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                },
                _ = resized.recv(), if is_person => socket.send(resize(self.size())).await,
                part = next(&mut self.input), if is_sized => socket.send(Message::Binary(Bytes::from(part))).await,
                _ = looks.tick(), if !is_person && changed && runs => {
                    changed = false;
                    match self.look().await {
                        Ok(()) => continue,
                        Err(error) => return Ended::Failed(error.into()),
                    }
                }
                _ = self.stage.changed() => continue,
            };
            if sent.is_err() {
                return Ended::Closed;
            }
        }
    }

    /// Gives the bytes to the person's terminal, which is raw from the first on.
    fn show(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if !self.is_person {
            return Ok(());
        }
        if self.raw.is_none() {
            self.raw = Some(tty::Raw::begin()?);
        }
        put(bytes)
    }

    /// Prints what is new on the machine's terminal.
    async fn look(&mut self) -> std::io::Result<()> {
        // A machine that is just going is looked at once more at the end.
        let path = format!("/api/auth/session/{}/screen", self.session);
        match self.client.get::<ScreenView>(&path).await {
            Ok(screen) => print(&self.scroll.fresh(screen.lines, false)),
            Err(_) => Ok(()),
        }
    }

    /// The person's terminal as it was before.
    pub(super) fn let_go(&mut self) {
        self.raw = None;
    }

    /// Prints the last screen: all of it where it stood on a terminal's other screen, which is gone; else what was not printed before.
    pub(super) fn last_screen(&mut self, lines: Vec<String>) -> std::io::Result<()> {
        if self.is_person { print(&lines) } else { print(&self.scroll.fresh(lines, true)) }
    }
}

fn resize(size: TerminalSize) -> Message {
    Message::text(format!("{{\"type\":\"resize\",\"cols\":{},\"rows\":{}}}", size.cols, size.rows))
}

fn put(bytes: &[u8]) -> std::io::Result<()> {
    tokio::task::block_in_place(|| {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    })
}

fn print(lines: &[String]) -> std::io::Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    put(text.as_bytes())
}

/// The next part of the input; waits for ever when there is none.
async fn next(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Vec<u8> {
    let part = match input {
        Some(input) => input.recv().await,
        None => None,
    };
    match part {
        Some(part) => part,
        None => std::future::pending().await,
    }
}

/// Reads standard input on a thread of its own, which ends with this program: a read of a terminal cannot be given up. The end of a
/// pipe or a file is told as a person at a terminal would.
fn read_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(INPUT_PARTS);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut part = [0; INPUT_BYTES];
        let mut is_line_whole = true;
        while let Ok(count) = stdin.read(&mut part) {
            let bytes = match part[..count].last() {
                Some(last) => {
                    is_line_whole = matches!(last, b'\n' | b'\r');
                    &part[..count]
                }
                None if is_line_whole => END_OF_INPUT,
                None => END_WITHIN_LINE,
            };
            if sender.blocking_send(bytes.to_vec()).is_err() || count == 0 {
                return;
            }
        }
    });
    receiver
}
