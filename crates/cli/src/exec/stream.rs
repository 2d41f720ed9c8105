//! The exec channel from the client's side: opens the WebSocket, and copies standard streams, signals and sizes.
//!
//! Output is written by a task of its own: while it is blocked, the server is not read, and the command stops; signals still pass.

use super::{CommandStage, signals::SignalForCommand, tty};
use crate::client::{ApiClient, ClientError, LocalWebSocket};
use anteroom_wire::{
    EndReason, Problem, SessionId,
    exec::{
        CLOSE, EXEC_SUBPROTOCOL, ExecSize, ExecStart, ExecStatus, ExecTty, PAYLOAD_BYTES_MAX, RESIZE, SIGNAL, STATUS,
        STDERR, STDIN, STDIN_WINDOW_BYTES, STDOUT, WINDOW,
    },
};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};
use tokio_tungstenite::tungstenite::Message;

/// Delay between two connection attempts, milliseconds.
const RETRY_MS: u64 = 200;
/// Number of reads of standard input that are buffered.
const INPUT_READS_MAX: usize = 4;
/// Columns and rows without a local terminal.
const DEFAULT_SIZE: ExecSize = ExecSize { width: 80, height: 24 };

/// How an exec channel ended.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    /// The command has exited, with this code.
    Exited {
        /// The exit code.
        code: u8,
        /// Why it was not run.
        message: Option<String>,
    },
    /// The session has ended.
    SessionOver,
    /// The connection was lost while the command ran, for this reason.
    Lost(String),
    /// The local output cannot be written.
    OutputClosed(io::Error),
}

/// The local ends of a command's streams.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    /// Standard input; `None`: nothing, its end at once.
    pub(crate) input: Option<Arc<File>>,
    /// Standard output.
    pub(crate) stdout: Arc<File>,
    /// Standard error.
    pub(crate) stderr: Arc<File>,
}

impl Streams {
    /// The standard streams of this process.
    ///
    /// # Errors
    /// One of them is closed.
    pub(crate) fn standard() -> io::Result<Self> {
        Ok(Self {
            input: Some(duplicate(rustix::stdio::stdin())?),
            stdout: duplicate(rustix::stdio::stdout())?,
            stderr: duplicate(rustix::stdio::stderr())?,
        })
    }
}

/// Another descriptor of the same file, without a buffer in this process.
fn duplicate(fd: impl AsFd) -> io::Result<Arc<File>> {
    Ok(Arc::new(File::from(rustix::io::dup(fd)?)))
}

/// An exec channel of a session.
pub(crate) struct ExecStream<'a> {
    /// The server.
    pub(crate) client: &'a ApiClient,
    /// The session.
    pub(crate) session: &'a SessionId,
    /// What to run.
    pub(crate) start: ExecStart,
    /// Whether standard input is a terminal that becomes raw while the command runs.
    pub(crate) is_raw: bool,
    /// Signals for the command.
    pub(crate) signals: mpsc::UnboundedReceiver<SignalForCommand>,
    /// The stage of the session; with [`CommandStage::Ended`] no further connection is tried.
    pub(crate) stage: watch::Receiver<CommandStage>,
    /// Set when the command runs.
    pub(crate) started: watch::Sender<bool>,
}

impl ExecStream<'_> {
    /// Runs the command: connects until the machine is ready, then copies until it has exited.
    ///
    /// # Errors
    /// The session belongs to another caller, or the command is refused.
    pub(crate) async fn run(mut self, streams: Streams) -> anyhow::Result<StreamEnd> {
        let mut resized = signal(SignalKind::window_change())?;
        loop {
            match self.open().await {
                Ok(socket) => match self.exchange(socket, streams.clone(), &mut resized).await {
                    StreamEnd::Lost(_) if !*self.started.borrow() => {}
                    end @ (StreamEnd::Exited { .. }
                    | StreamEnd::SessionOver
                    | StreamEnd::Lost(_)
                    | StreamEnd::OutputClosed(_)) => return Ok(end),
                },
                Err(ClientError::Api(body)) if !is_temporary(&body.code) => {
                    return if self.is_over() {
                        Ok(StreamEnd::SessionOver)
                    } else {
                        Err(ClientError::Api(body).into())
                    };
                }
                // The machine or the server is not ready: `watch::follow_session` reports it.
                Err(_) => {}
            }
            if self.is_over() {
                return Ok(StreamEnd::SessionOver);
            }
            tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
        }
    }

    fn is_over(&self) -> bool {
        *self.stage.borrow() == CommandStage::Ended
    }

    async fn open(&self) -> Result<LocalWebSocket, ClientError> {
        let path = format!("/api/auth/session/{}/exec", self.session);
        self.client.open_websocket(&path, EXEC_SUBPROTOCOL).await
    }

    async fn exchange(&mut self, socket: LocalWebSocket, streams: Streams, resized: &mut Signal) -> StreamEnd {
        let (mut sink, source) = socket.split();
        if let Err(error) = self.send_start(&mut sink).await {
            return StreamEnd::Lost(error.to_string());
        }
        let Streams { input, stdout, stderr } = streams;
        let (granted, mut grants) = watch::channel(None);
        let mut reader = tokio::spawn(read_messages(source, Outputs { stdout, stderr, granted }));
        let mut unread = Some(input);
        let (mut parts, mut sent_bytes) = (None, 0);
        loop {
            let window = *grants.borrow_and_update();
            if window.is_some()
                && let Some(input) = unread.take()
            {
                self.begin();
                parts = Some(read_input(input));
            }
            let has_room = window.is_some_and(|granted| STDIN_WINDOW_BYTES + granted >= sent_bytes + PAYLOAD_BYTES_MAX);
            let mut sent = None;
            let message = tokio::select! {
                // A size or a signal is sent before a key that was typed after it.
                biased;
                ended = &mut reader => return ended.unwrap_or_else(|error| StreamEnd::Lost(error.to_string())),
                changed = grants.changed() => match changed {
                    Ok(()) => continue,
                    // The reader has ended.
                    Err(_) => return reader.await.unwrap_or_else(|error| StreamEnd::Lost(error.to_string())),
                },
                Some(received) = self.signals.recv() => {
                    sent = Some(received.sent);
                    message(SIGNAL, received.signal.name().as_bytes())
                }
                _ = resized.recv(), if self.start.tty.is_some() => size_message(tty::exec_size().unwrap_or(DEFAULT_SIZE)),
                part = next_part(&mut parts), if has_room => match part {
                    Some(part) => {
                        sent_bytes += part.len() - 1;
                        Message::Binary(part)
                    }
                    None => {
                        parts = None;
                        message(CLOSE, &[STDIN])
                    }
                },
            };
            // An error: the reader finds the reason, or the exit status.
            let _ = sink.send(message).await;
            if let Some(sent) = sent {
                let _ = sent.send(());
            }
        }
    }

    async fn send_start(
        &mut self,
        sink: &mut SplitSink<LocalWebSocket, Message>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        if let Some(tty) = &mut self.start.tty {
            let size = tty::exec_size().unwrap_or(DEFAULT_SIZE);
            (tty.cols, tty.rows) = (size.width, size.height);
        }
        Ok(sink.send(Message::text(serde_json::to_string(&self.start)?)).await?)
    }

    /// The command runs.
    fn begin(&self) {
        if self.is_raw
            && let Err(error) = tty::enable_raw_mode()
        {
            super::print_status(&format!("the terminal cannot be used: {error}"));
        }
        self.started.send_replace(true);
    }
}

/// The pseudo-terminal that a command gets, with the type of the local terminal.
pub(super) fn local_tty() -> ExecTty {
    let term = std::env::var("TERM").ok().filter(|term| !term.is_empty());
    ExecTty {
        cols: DEFAULT_SIZE.width,
        rows: DEFAULT_SIZE.height,
        term: term.unwrap_or_else(|| "xterm-256color".to_owned()),
    }
}

/// Whether a later attempt may succeed.
pub(super) fn is_temporary(code: &str) -> bool {
    [
        Problem::NotReady,
        Problem::AgentUnreachable,
        Problem::TooManyRequests,
        Problem::ShuttingDown,
        Problem::ClusterContactLost,
    ]
    .map(Problem::code)
    .contains(&code)
}

fn message(channel: u8, payload: &[u8]) -> Message {
    Message::Binary([&[channel], payload].concat().into())
}

fn size_message(size: ExecSize) -> Message {
    message(RESIZE, &serde_json::to_vec(&size).unwrap_or_default())
}

/// The next part of the input as a message; `None`: its end; pending for ever without an input.
async fn next_part(parts: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match parts {
        Some(parts) => parts.recv().await,
        None => std::future::pending().await,
    }
}

/// Reads the input in a thread that ends with the process: a read of a terminal cannot be cancelled.
fn read_input(input: Option<Arc<File>>) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(INPUT_READS_MAX);
    if let Some(file) = input {
        std::thread::spawn(move || {
            let mut buffer = vec![STDIN; 1 + PAYLOAD_BYTES_MAX];
            loop {
                match (&*file).read(&mut buffer[1..]) {
                    Ok(0) => return,
                    Ok(count) => {
                        if sender.blocking_send(Bytes::copy_from_slice(&buffer[..=count])).is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
            }
        });
    }
    receiver
}

/// What the messages of the server change.
struct Outputs {
    stdout: Arc<File>,
    stderr: Arc<File>,
    /// Bytes of input that the machine has granted; `None`: the command does not run yet.
    granted: watch::Sender<Option<usize>>,
}

/// Reads messages until the channel has ended.
async fn read_messages(mut source: SplitStream<LocalWebSocket>, outputs: Outputs) -> StreamEnd {
    let mut exited = None;
    loop {
        let received = source.next().await;
        match received {
            Some(Ok(Message::Binary(bytes))) => match outputs.handle(&bytes) {
                Ok(None) => {}
                Ok(end) => exited = end,
                Err(error) => return StreamEnd::OutputClosed(error),
            },
            Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(frame))) if exited.is_none() => {
                exited = Some(match frame {
                    Some(frame) if u16::from(frame.code) == EndReason::CLOSE_CODE => StreamEnd::SessionOver,
                    Some(frame) => StreamEnd::Lost(frame.reason.to_string()),
                    None => StreamEnd::Lost("the server closed it".to_owned()),
                });
            }
            Some(Ok(Message::Close(_))) => {}
            Some(Err(error)) => return exited.unwrap_or_else(|| StreamEnd::Lost(error.to_string())),
            None => return exited.unwrap_or_else(|| StreamEnd::Lost("the connection was closed".to_owned())),
        }
    }
}

impl Outputs {
    /// Handles a message. Returns the end of the command if it is the exit status.
    fn handle(&self, bytes: &[u8]) -> io::Result<Option<StreamEnd>> {
        let Some((channel, payload)) = bytes.split_first() else { return Ok(None) };
        match *channel {
            STDOUT => tokio::task::block_in_place(|| (&*self.stdout).write_all(payload))?,
            STDERR => tokio::task::block_in_place(|| (&*self.stderr).write_all(payload))?,
            WINDOW => {
                let bytes = payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                self.granted.send_modify(|granted| *granted = Some(granted.unwrap_or(0).saturating_add(bytes)));
            }
            STATUS => {
                let lost = || StreamEnd::Lost("its exit status is malformed".to_owned());
                let status: Option<ExecStatus> = serde_json::from_slice(payload).ok();
                let end = status.and_then(|status| {
                    let code = status.exit_code()?;
                    Some(StreamEnd::Exited { code, message: status.message })
                });
                return Ok(Some(end.unwrap_or_else(lost)));
            }
            _ => {}
        }
        Ok(None)
    }
}
