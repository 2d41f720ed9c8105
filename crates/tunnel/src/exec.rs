//! Connects the WebSocket of an exec channel ([`anteroom_wire::exec`]) to a stream of a machine's agent.
//!
//! Messages pass one by one: at most one is in flight in each direction, so a client that does not read stops the command, and input that
//! the command does not read never stops a signal. A client that does not read is not disconnected: its output may be in a pager. It
//! is lost with its connection, and idle when it sends neither a message nor a pong.

use super::{CloseSignal, SessionActivity, TunnelEnd, TunnelSettings, close_handshake, frame, proxy::end_frame};
use anteroom_wire::{
    Problem, ProblemBody,
    exec::{
        CLOSE, EXEC_SUBPROTOCOL, ExecExit, ExecStart, ExecStatus, PAYLOAD_BYTES_MAX, RESIZE, SIGNAL, START_BYTES_MAX,
        STATUS, STDERR, STDIN, STDIN_WINDOW_BYTES, STDOUT, WINDOW, complete_message_length, length_prefix,
    },
    json_fault,
    time::to_millis,
};
use axum::{
    extract::ws::{Message, WebSocket, WebSocketUpgrade, close_code},
    response::Response,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::task::TaskTracker;

type Sink = SplitSink<WebSocket, Message>;
type Source = SplitStream<WebSocket>;

/// Bytes of messages that a client may send before the machine is connected.
const EARLY_BYTES_MAX: usize = STDIN_WINDOW_BYTES + 2 * PAYLOAD_BYTES_MAX;

/// Answers the handshake of an exec channel and runs `serve` with the socket. `tasks` counts the connection until `serve` is done.
pub fn accept_exec_websocket<F, Fut>(upgrade: WebSocketUpgrade, tasks: &TaskTracker, serve: F) -> Response
where
    F: FnOnce(WebSocket) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let token = tasks.token();
    upgrade
        .protocols([EXEC_SUBPROTOCOL])
        .max_message_size(START_BYTES_MAX)
        .max_frame_size(START_BYTES_MAX)
        .read_buffer_size(2 * PAYLOAD_BYTES_MAX)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * PAYLOAD_BYTES_MAX)
        .on_upgrade(move |socket| async move {
            serve(socket).await;
            drop(token);
        })
}

/// The connection between one client and one command.
#[derive(Debug)]
pub struct ExecTunnel {
    settings: TunnelSettings,
    close_signal: CloseSignal,
    activity: Arc<SessionActivity>,
}

/// Statistics and end of an exec channel, for the log and the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecReport {
    /// Bytes from the client.
    pub bytes_up: u64,
    /// Bytes to the client.
    pub bytes_down: u64,
    /// From accepted to closed, milliseconds.
    pub duration_ms: u64,
    /// The command's exit code, if the client was sent it.
    pub exit_code: Option<u8>,
    /// How it ended otherwise.
    pub end: Option<TunnelEnd>,
}

impl ExecTunnel {
    /// A tunnel that closes with the cause of `close_signal`. Every message and pong of the client updates `activity`.
    pub fn new(settings: TunnelSettings, close_signal: CloseSignal, activity: Arc<SessionActivity>) -> Self {
        Self { settings, close_signal, activity }
    }

    /// Reads the start, opens the stream and copies messages until the command has exited or one side is lost.
    pub async fn run<S, C, F>(self, socket: WebSocket, connect: C) -> ExecReport
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
        C: FnOnce(ExecStart) -> F,
        F: Future<Output = Result<S, ProblemBody>>,
    {
        let started = Instant::now();
        let (sink, source) = socket.split();
        let mut client = Client { sink, source, activity: self.activity, bytes_up: 0, bytes_down: 0 };
        let mut stream = None;
        let end = tokio::select! {
            biased;
            cause = self.close_signal.wait_closed() => Err(TunnelEnd::Closed(cause)),
            end = connect_and_copy(&mut client, &self.settings, connect, &mut stream) => end,
        };
        let end = match end {
            // The stream can end before the session publishes the reason: wait a moment for the reason.
            Err(TunnelEnd::StreamEnded(error)) => {
                let wait = Duration::from_millis(self.settings.close_reason_wait_ms);
                let cause = timeout(wait, self.close_signal.wait_closed()).await;
                Err(cause.map_or(TunnelEnd::StreamEnded(error), TunnelEnd::Closed))
            }
            other => other,
        };
        client.close(&end, &self.settings, &self.close_signal).await;
        // The agent completes the use now: the client has everything.
        drop(stream);
        ExecReport {
            bytes_up: client.bytes_up,
            bytes_down: client.bytes_down,
            duration_ms: to_millis(started.elapsed()),
            exit_code: end.as_ref().ok().copied(),
            end: end.err(),
        }
    }
}

/// Connects the machine and copies. `stream` keeps the stream: the agent waits for its end. Returns the exit code.
async fn connect_and_copy<S, C, F>(
    client: &mut Client,
    settings: &TunnelSettings,
    connect: C,
    stream: &mut Option<S>,
) -> Result<u8, TunnelEnd>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    C: FnOnce(ExecStart) -> F,
    F: Future<Output = Result<S, ProblemBody>>,
{
    let connect_max = Duration::from_millis(settings.connect_ms_max);
    let start = timeout(connect_max, client.next_start()).await.map_err(|_| TunnelEnd::ViewerTimeout)?;
    let start = match start {
        Err(TunnelEnd::ViewerProtocolError(body)) => return Err(client.refuse(body).await),
        other => other?,
    };
    let ping_every = Duration::from_millis(settings.ping_every_ms.max(1));
    let mut early = BytesMut::new();
    let (sink, mut source) = client.split();
    let connected = tokio::select! {
        connected = timeout(connect_max, connect(start)) => connected,
        end = source.read_early(&mut early) => return Err(end),
        end = send_pings(sink, ping_every) => match end {
            Ok(never) => match never {},
            Err(end) => return Err(end),
        },
    };
    let connected = match connected {
        Ok(Err(body)) if body.code == Problem::Malformed.code() => return Err(client.refuse(body).await),
        Ok(connected) => connected.map_err(TunnelEnd::ConnectFailed)?,
        Err(_) => return Err(TunnelEnd::ConnectFailed(Problem::NotReady.with_detail("the machine is not connected"))),
    };
    let (reader, writer) = tokio::io::split(stream.insert(connected));
    let (sink, mut source) = client.split();
    tokio::select! {
        end = copy_to_client(reader, sink, ping_every) => end,
        end = source.copy_to_machine(writer, early) => Err(end),
    }
}

/// The client's WebSocket.
struct Client {
    sink: Sink,
    source: Source,
    activity: Arc<SessionActivity>,
    bytes_up: u64,
    bytes_down: u64,
}

/// The sending half, which counts.
struct ToClient<'a> {
    sink: &'a mut Sink,
    bytes: &'a mut u64,
}

/// The receiving half, which counts.
struct FromClient<'a> {
    source: &'a mut Source,
    activity: &'a SessionActivity,
    bytes: &'a mut u64,
}

impl Client {
    fn split(&mut self) -> (ToClient<'_>, FromClient<'_>) {
        let to = ToClient { sink: &mut self.sink, bytes: &mut self.bytes_down };
        (to, FromClient { source: &mut self.source, activity: &self.activity, bytes: &mut self.bytes_up })
    }

    /// The first message: text.
    async fn next_start(&mut self) -> Result<ExecStart, TunnelEnd> {
        match self.split().1.next_frame().await? {
            // The parser's message could quote the command.
            Message::Text(text) => serde_json::from_str(&text).map_err(|error| {
                malformed(format!("the start: {}", json_fault::describe::<ExecStart>(text.as_bytes(), &error)))
            }),
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {
                Err(malformed("the start: expected JSON as a text message".to_owned()))
            }
        }
    }

    /// Says why the start is refused in a last message, as for a command that could not be run: a close frame has place for few bytes.
    async fn refuse(&mut self, body: ProblemBody) -> TunnelEnd {
        let status = ExecStatus {
            reason: Some("BadRequest".to_owned()),
            ..ExecExit::not_run(body.detail.as_deref().unwrap_or(&body.sentence)).into()
        };
        let mut message = vec![STATUS];
        message.extend(serde_json::to_vec(&status).unwrap_or_default());
        match self.split().0.send(Message::Binary(message.into())).await {
            Ok(()) => TunnelEnd::ViewerProtocolError(body),
            Err(end) => end,
        }
    }

    /// Closes the WebSocket. With an exit code this waits until the client has read everything.
    async fn close(&mut self, end: &Result<u8, TunnelEnd>, settings: &TunnelSettings, close_signal: &CloseSignal) {
        let close_frame = match end {
            Ok(_) => Some(frame(close_code::NORMAL, "the command has exited")),
            Err(TunnelEnd::ViewerProtocolError(body)) => {
                let why = body.detail.as_ref().unwrap_or(&body.sentence);
                Some(frame(body.close_code, &format!("{}: {why}", body.code)))
            }
            Err(end) => end_frame(end, Problem::AgentUnreachable),
        };
        let handshake = close_handshake(&mut self.sink, &mut self.source, close_frame);
        if end.is_ok() {
            tokio::select! {
                () = handshake => {}
                _ = close_signal.wait_closed() => {}
            }
        } else {
            let _ = timeout(Duration::from_millis(settings.close_handshake_ms_max), handshake).await;
        }
    }
}

fn malformed(detail: String) -> TunnelEnd {
    TunnelEnd::ViewerProtocolError(Problem::Malformed.with_detail(detail))
}

impl FromClient<'_> {
    /// The next text or binary message.
    async fn next_frame(&mut self) -> Result<Message, TunnelEnd> {
        loop {
            let Some(Ok(message)) = self.source.next().await else { return Err(TunnelEnd::ViewerLost) };
            self.activity.record();
            match message {
                Message::Close(frame) => return Err(TunnelEnd::ViewerClosed(frame.map(|frame| frame.code))),
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Text(_) | Message::Binary(_) => return Ok(message),
            }
        }
    }

    /// The next message for the machine.
    async fn next_message(&mut self) -> Result<Bytes, TunnelEnd> {
        let Message::Binary(message) = self.next_frame().await? else {
            return Err(malformed("expected a binary message".to_owned()));
        };
        match message.first() {
            Some(&(STDIN | RESIZE | SIGNAL | CLOSE)) if message.len() <= PAYLOAD_BYTES_MAX + 1 => {
                *self.bytes += message.len() as u64;
                Ok(message)
            }
            Some(&(STDIN | RESIZE | SIGNAL | CLOSE)) => {
                let detail = format!("a message has at most {PAYLOAD_BYTES_MAX} bytes");
                Err(TunnelEnd::ViewerProtocolError(Problem::TooLarge.with_detail(detail)))
            }
            Some(_) | None => Err(malformed("a client sends on the channels 0, 4, 5 and 255".to_owned())),
        }
    }

    /// Keeps messages while the machine is being connected. Returns only when the client's side ends.
    async fn read_early(&mut self, early: &mut BytesMut) -> TunnelEnd {
        loop {
            match self.next_message().await {
                Ok(message) if early.len() + message.len() <= EARLY_BYTES_MAX => put_message(early, &message),
                Ok(_) => return TunnelEnd::ViewerProtocolError(Problem::TooLarge.with_detail("before the start")),
                Err(end) => return end,
            }
        }
    }

    async fn copy_to_machine(&mut self, mut writer: impl AsyncWrite + Unpin, mut messages: BytesMut) -> TunnelEnd {
        loop {
            let written = async {
                writer.write_all_buf(&mut messages).await?;
                writer.flush().await
            };
            if let Err(error) = written.await {
                return TunnelEnd::StreamEnded(Some(error.to_string()));
            }
            match self.next_message().await {
                Ok(message) => put_message(&mut messages, &message),
                Err(end) => return end,
            }
        }
    }
}

fn put_message(messages: &mut BytesMut, message: &[u8]) {
    messages.reserve(size_of::<u32>() + message.len());
    messages.put_slice(&length_prefix(message.len()));
    messages.put_slice(message);
}

impl ToClient<'_> {
    async fn send(&mut self, message: Message) -> Result<(), TunnelEnd> {
        self.sink.send(message).await.map_err(|_| TunnelEnd::ViewerLost)
    }
}

async fn send_pings(mut client: ToClient<'_>, every: Duration) -> Result<Infallible, TunnelEnd> {
    loop {
        tokio::time::sleep(every).await;
        client.send(Message::Ping(Bytes::new())).await?;
    }
}

/// Copies messages of the machine until the exit status, which is returned.
async fn copy_to_client(
    mut reader: impl AsyncRead + Unpin,
    mut client: ToClient<'_>,
    ping_every: Duration,
) -> Result<u8, TunnelEnd> {
    let mut ping = interval_at(Instant::now() + ping_every, ping_every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = BytesMut::new();
    loop {
        let length = complete_message_length(&buffer, PAYLOAD_BYTES_MAX);
        let Some(length) = length.map_err(|error| TunnelEnd::StreamEnded(Some(error.to_string())))? else {
            buffer.reserve(PAYLOAD_BYTES_MAX);
            tokio::select! {
                read = reader.read_buf(&mut buffer) => match read {
                    Ok(0) => return Err(TunnelEnd::StreamEnded(None)),
                    Ok(_) => {}
                    Err(error) => return Err(TunnelEnd::StreamEnded(Some(error.to_string()))),
                },
                _ = ping.tick() => client.send(Message::Ping(Bytes::new())).await?,
            }
            continue;
        };
        buffer.advance(size_of::<u32>());
        let message = buffer.split_to(length).freeze();
        *client.bytes += message.len() as u64;
        match message[0] {
            STDOUT | STDERR | WINDOW => client.send(Message::Binary(message)).await?,
            STATUS => {
                let (code, status) = to_client_status(&message[1..])?;
                client.send(Message::Binary(status)).await?;
                return Ok(code);
            }
            other => return Err(TunnelEnd::StreamEnded(Some(format!("a message on channel {other}")))),
        }
    }
}

/// The agent's exit status, cleaned, as the message for a client.
fn to_client_status(payload: &[u8]) -> Result<(u8, Bytes), TunnelEnd> {
    let invalid = |_| TunnelEnd::StreamEnded(Some("an invalid exit status".to_owned()));
    let exit: ExecExit = serde_json::from_slice(payload).map_err(invalid)?;
    let code = exit.exit_code;
    let status = serde_json::to_vec(&ExecStatus::from(exit)).map_err(invalid)?;
    let message = [&[STATUS][..], &status].concat();
    Ok((code, message.into()))
}
