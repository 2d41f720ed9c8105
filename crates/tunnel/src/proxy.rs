//! Copies bytes between a viewer's WebSocket and a machine's stream.
//!
//! One task runs two futures: [`ViewerSource::copy_to_machine`] owns the reading half of the WebSocket and the writing half of the
//! stream; [`ViewerSink::copy_to_viewer`] owns the other two halves and sends the pings. They share a [`TunnelState`].

use super::{
    CloseSignal, SessionActivity, TunnelEnd, TunnelReport, TunnelSettings, ViewOnlyFilter, ViewerError,
    close_handshake, frame, problem_close_frame,
};
use crate::{desktop_input::DesktopInput, security_offer::SecurityOffer, viewer_rate::ViewerRate};
use anteroom_wire::{Problem, ProblemBody, time::to_millis};
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::{Bytes, BytesMut};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tokio_util::io::poll_read_buf;

type Sink = SplitSink<WebSocket, Message>;
type Source = SplitStream<WebSocket>;
/// Called for each text message; an error closes the tunnel with that problem.
type Control = Box<dyn FnMut(&str) -> Result<(), ProblemBody> + Send>;

/// A connection between one viewer and one stream of a machine.
pub struct Tunnel {
    settings: TunnelSettings,
    close_signal: CloseSignal,
    activity: Arc<SessionActivity>,
    control: Option<Control>,
    view_only: Option<ViewOnlyFilter>,
    desktop_input: Option<DesktopInput>,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Tunnel {
    /// A tunnel that closes with the cause of `close_signal`. Every message from the viewer updates `activity`.
    pub fn new(settings: TunnelSettings, close_signal: CloseSignal, activity: Arc<SessionActivity>) -> Self {
        Self { settings, close_signal, activity, control: None, view_only: None, desktop_input: None }
    }

    /// Limits the rates of RFB messages from the viewer. Messages of which only the newest counts are merged, others wait.
    #[must_use]
    pub fn to_desktop(mut self) -> Self {
        self.desktop_input = Some(DesktopInput::new(self.settings.message_bytes_max));
        self
    }

    /// Makes the viewer view-only: the machine receives only the messages that request pictures, no input, and the viewer's
    /// messages do not count as activity.
    #[must_use]
    pub fn view_only(mut self) -> Self {
        self.view_only = Some(ViewOnlyFilter::new(self.settings.message_bytes_max));
        self
    }

    /// Passes text messages to `control` (terminals: `{"type":"resize",…}`). Without it a text message closes the tunnel.
    #[must_use]
    pub fn with_text_message_handler(
        mut self,
        control: impl FnMut(&str) -> Result<(), ProblemBody> + Send + 'static,
    ) -> Self {
        self.control = Some(Box::new(control));
        self
    }

    /// Opens the stream, copies bytes in both directions until one side ends, and closes the WebSocket with the code and
    /// reason of that end. While `connect` runs, up to `early_bytes_max` bytes from the viewer are buffered; then the WebSocket
    /// is not read until the stream is open.
    pub async fn run<S, C>(self, socket: WebSocket, connect: C) -> TunnelReport
    where
        S: AsyncRead + AsyncWrite + Send,
        C: Future<Output = Result<S, ProblemBody>> + Send,
    {
        let Self { settings, close_signal, activity, control, view_only, desktop_input } = self;
        let (socket_sink, socket_source) = socket.split();
        let state = TunnelState::new();
        let bytes_max = settings.message_bytes_max;
        let offer = view_only.as_ref().map(ViewOnlyFilter::offer);
        let mut source = ViewerSource {
            socket: socket_source,
            control,
            view_only,
            desktop_input,
            rate: ViewerRate::new(),
            end: None,
            activity,
            state: &state,
            bytes_max,
        };
        let mut sink = ViewerSink { socket: socket_sink, settings: &settings, state: &state, offer };
        let end = tokio::select! {
            biased;
            cause = close_signal.wait_closed() => TunnelEnd::Closed(cause),
            end = connect_and_copy(&mut source, &mut sink, connect) => end,
        };
        let end = match end {
            // The stream can end before the session publishes the reason: wait a moment for the reason.
            TunnelEnd::StreamEnded(error) => {
                match timeout(Duration::from_millis(settings.close_reason_wait_ms), close_signal.wait_closed()).await {
                    Ok(cause) => TunnelEnd::Closed(cause),
                    Err(_) => TunnelEnd::StreamEnded(error),
                }
            }
            other @ (TunnelEnd::ViewerClosed(_)
            | TunnelEnd::ViewerLost
            | TunnelEnd::ViewerTimeout
            | TunnelEnd::ViewerProtocolError(_)
            | TunnelEnd::ConnectFailed(_)
            | TunnelEnd::Closed(_)) => other,
        };
        let (mut sink, mut source) = (sink.socket, source.socket);
        let handshake = close_handshake(&mut sink, &mut source, end_frame(&end, Problem::DesktopUnreachable));
        // A viewer that does not answer the close frame in time is disconnected.
        let _ = timeout(Duration::from_millis(settings.close_handshake_ms_max), handshake).await;
        TunnelReport {
            bytes_up: state.bytes_up.load(Relaxed),
            bytes_down: state.bytes_down.load(Relaxed),
            duration_ms: state.now_ms(),
            was_connected: state.connected.load(Relaxed),
            end,
        }
    }
}

/// The close frame for an end; `None` when the viewer closed the WebSocket or its connection is lost. `stream_ended`: the problem if the
/// machine ended the stream.
pub(crate) fn end_frame(end: &TunnelEnd, stream_ended: Problem) -> Option<CloseFrame> {
    match end {
        TunnelEnd::ViewerClosed(_) | TunnelEnd::ViewerLost => None,
        TunnelEnd::ViewerTimeout => Some(problem_close_frame(Problem::IdleTimeout)),
        TunnelEnd::ViewerProtocolError(body) | TunnelEnd::ConnectFailed(body) => {
            Some(frame(body.close_code, &format!("{}: {}", body.code, body.sentence)))
        }
        TunnelEnd::StreamEnded(_) => Some(problem_close_frame(stream_ended)),
        TunnelEnd::Closed(cause) => Some(problem_close_frame((*cause).into())),
    }
}

/// Waits for `connect`, then copies bytes until one side ends.
async fn connect_and_copy<S, C>(source: &mut ViewerSource<'_>, sink: &mut ViewerSink<'_>, connect: C) -> TunnelEnd
where
    S: AsyncRead + AsyncWrite + Send,
    C: Future<Output = Result<S, ProblemBody>> + Send,
{
    let mut first_bytes = BytesMut::new();
    let settings = sink.settings;
    let stream = tokio::select! {
        connected = timeout(Duration::from_millis(settings.connect_ms_max), connect) => match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(body)) => return TunnelEnd::ConnectFailed(body),
            Err(_) => {
                let detail = format!("not open after {} ms", settings.connect_ms_max);
                return TunnelEnd::ConnectFailed(Problem::NotReady.with_detail(detail));
            }
        },
        end = source.buffer_until_connected(&mut first_bytes, settings.early_bytes_max) => return end,
        end = sink.copy_to_viewer(tokio::io::empty(), false) => return end,
    };
    sink.state.connected.store(true, Relaxed);
    let (reader, writer) = tokio::io::split(stream);
    tokio::select! {
        end = source.copy_to_machine(writer, first_bytes.freeze()) => end,
        end = sink.copy_to_viewer(reader, true) => end,
    }
}

/// Times of pings, backpressure and byte counters, shared by both directions. Times are milliseconds since the start.
struct TunnelState {
    started: Instant,
    /// When the oldest ping was sent after which there was no activity of the viewer; 0: none.
    ping_sent_ms: AtomicU64,
    /// Whether a write to the machine blocks, so that the viewer's messages are not read.
    is_backpressured: AtomicBool,
    /// Whether the stream was open.
    connected: AtomicBool,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

impl TunnelState {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            ping_sent_ms: AtomicU64::new(0),
            is_backpressured: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
        }
    }

    fn now_ms(&self) -> u64 {
        to_millis(self.started.elapsed())
    }

    /// Records activity of the viewer: pings sent before do not time out.
    fn viewer_active(&self) {
        self.ping_sent_ms.store(0, Relaxed);
    }

    fn ping_sent(&self) {
        let _ = self.ping_sent_ms.compare_exchange(0, self.now_ms().max(1), Relaxed, Relaxed);
    }

    fn has_timed_out(&self, pong_ms_max: u64) -> bool {
        let sent = self.ping_sent_ms.load(Relaxed);
        sent != 0 && !self.is_backpressured.load(Relaxed) && self.now_ms().saturating_sub(sent) > pong_ms_max
    }
}

/// The receiving half of the viewer's WebSocket.
struct ViewerSource<'a> {
    socket: Source,
    control: Option<Control>,
    view_only: Option<ViewOnlyFilter>,
    desktop_input: Option<DesktopInput>,
    rate: ViewerRate,
    /// How the viewer's side ended, while its last bytes are written.
    end: Option<TunnelEnd>,
    activity: Arc<SessionActivity>,
    state: &'a TunnelState,
    bytes_max: usize,
}

impl ViewerSource<'_> {
    /// The next message from the viewer, at the rate at which a viewer may send. Cancel-safe.
    async fn next_message(&mut self) -> Option<Message> {
        self.rate.wait_permitted().await;
        // An error: the connection is broken or does not speak WebSocket, so a close frame could not be delivered.
        let message = self.socket.next().await?.ok()?;
        self.rate.take(&message);
        self.state.viewer_active();
        Some(message)
    }

    /// The next bytes from the viewer, or how it ended. Cancel-safe.
    async fn next_bytes(&mut self) -> Result<Bytes, TunnelEnd> {
        loop {
            let Some(message) = self.next_message().await else { return Err(TunnelEnd::ViewerLost) };
            match message {
                Message::Binary(bytes) if bytes.len() > self.bytes_max => {
                    let detail = format!("a message has at most {} bytes", self.bytes_max);
                    return Err(TunnelEnd::ViewerProtocolError(Problem::TooLarge.with_detail(detail)));
                }
                Message::Binary(bytes) => match &mut self.view_only {
                    Some(filter) => {
                        let allowed = filter.filter(&bytes).map_err(TunnelEnd::ViewerProtocolError)?;
                        if !allowed.is_empty() {
                            return Ok(allowed);
                        }
                    }
                    None => {
                        self.activity.record();
                        return Ok(bytes);
                    }
                },
                Message::Text(text) => {
                    self.activity.record();
                    let result = match &mut self.control {
                        Some(control) if text.len() <= self.bytes_max => control(text.as_str()),
                        Some(_) => Err(Problem::TooLarge.with_detail("")),
                        None => Err(Problem::Malformed.with_detail("expected a binary message")),
                    };
                    result.map_err(TunnelEnd::ViewerProtocolError)?;
                }
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(frame) => return Err(TunnelEnd::ViewerClosed(frame.map(|frame| frame.code))),
            }
        }
    }

    /// The next bytes to write to the machine, or how the viewer ended.
    async fn next_input(&mut self) -> Result<Bytes, TunnelEnd> {
        if let Some(end) = self.end.take() {
            return Err(end);
        }
        loop {
            let now = Instant::now().into_std();
            let Some(input) = &mut self.desktop_input else { return self.next_bytes().await };
            let ready = input.take_ready(now).map_err(TunnelEnd::ViewerProtocolError)?;
            if !ready.is_empty() {
                return Ok(ready);
            }
            let (is_full, ready_at) = (input.is_full(), input.ready_at(now));
            let received = tokio::select! {
                received = self.next_bytes(), if !is_full => received,
                () = sleep_until(ready_at.unwrap_or(now).into()), if ready_at.is_some() => continue,
            };
            let Some(input) = &mut self.desktop_input else { return received };
            match received {
                Ok(bytes) => input.push(&bytes, now).map_err(TunnelEnd::ViewerProtocolError)?,
                Err(end) => {
                    self.end = Some(end);
                    return Ok(input.finish());
                }
            }
        }
    }

    /// Buffers the viewer's bytes while the stream is not open. Returns only when the viewer's side ends.
    async fn buffer_until_connected(&mut self, buffer: &mut BytesMut, bytes_max: usize) -> TunnelEnd {
        while buffer.len() < bytes_max {
            match self.next_bytes().await {
                Ok(bytes) => buffer.extend_from_slice(&bytes),
                Err(end) => return end,
            }
        }
        self.state.is_backpressured.store(true, Relaxed);
        std::future::pending().await
    }

    /// Copies from the viewer to the machine, `first_bytes` first.
    async fn copy_to_machine<W: AsyncWrite>(&mut self, writer: W, first_bytes: Bytes) -> TunnelEnd {
        let mut writer = std::pin::pin!(writer);
        let mut bytes = first_bytes;
        if let Some(input) = &mut self.desktop_input
            && let Err(body) = input.push(&std::mem::take(&mut bytes), Instant::now().into_std())
        {
            return TunnelEnd::ViewerProtocolError(body);
        }
        loop {
            if !bytes.is_empty() {
                self.state.is_backpressured.store(true, Relaxed);
                let written = async {
                    writer.write_all(&bytes).await?;
                    writer.flush().await
                };
                if let Err(error) = written.await {
                    return match ViewerError::of(&error) {
                        Some(body) => TunnelEnd::ViewerProtocolError(body.clone()),
                        None => TunnelEnd::StreamEnded(Some(error.to_string())),
                    };
                }
                self.state.bytes_up.fetch_add(bytes.len() as u64, Relaxed);
            }
            // Answers to pings were not read during the write: those pings do not time out.
            self.state.viewer_active();
            self.state.is_backpressured.store(false, Relaxed);
            bytes = match self.next_input().await {
                Ok(bytes) => bytes,
                Err(end) => return end,
            };
        }
    }
}

/// The sending half of the viewer's WebSocket: the machine's bytes and the pings.
struct ViewerSink<'a> {
    socket: Sink,
    /// For a view-only viewer: what the machine offers.
    offer: Option<SecurityOffer>,
    settings: &'a TunnelSettings,
    state: &'a TunnelState,
}

impl ViewerSink<'_> {
    /// Copies from the machine to the viewer and sends a ping every `ping_every_ms`. While `is_connected` is false there is no stream
    /// and only pings are sent.
    async fn copy_to_viewer<R: AsyncRead>(&mut self, reader: R, is_connected: bool) -> TunnelEnd {
        let mut reader = std::pin::pin!(reader);
        let every = Duration::from_millis(self.settings.ping_every_ms.max(1));
        let mut ping = interval_at(Instant::now() + every, every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let chunk = self.settings.chunk_bytes.max(1);
        loop {
            let sent = tokio::select! {
                read = read_chunk(reader.as_mut(), chunk), if is_connected => match read {
                    Ok(bytes) if bytes.is_empty() => return TunnelEnd::StreamEnded(None),
                    Ok(bytes) => {
                        if let Some(offer) = &self.offer {
                            offer.read(&bytes);
                        }
                        let count = bytes.len();
                        let sent = self.send(Message::Binary(bytes)).await;
                        self.state.bytes_down.fetch_add(count as u64, Relaxed);
                        sent
                    }
                    Err(error) => return TunnelEnd::StreamEnded(Some(error.to_string())),
                },
                _ = ping.tick() => {
                    if self.state.has_timed_out(self.settings.pong_ms_max) {
                        return TunnelEnd::ViewerTimeout;
                    }
                    let sent = self.send(Message::Ping(Bytes::new())).await;
                    self.state.ping_sent();
                    sent
                }
            };
            if let Err(end) = sent {
                return end;
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), TunnelEnd> {
        let stall_max = Duration::from_millis(self.settings.stall_ms_max);
        let mut sending = std::pin::pin!(self.socket.send(message));
        let first_poll = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await;
        if let Poll::Ready(sent) = first_poll {
            return sent.map_err(|_| TunnelEnd::ViewerLost);
        }
        match timeout(stall_max, sending).await {
            Ok(Ok(())) => {
                // The send buffer was full and has space again, so the viewer reads. A slow viewer reads all data that
                // was sent before a ping until it can answer the ping.
                self.state.viewer_active();
                Ok(())
            }
            Ok(Err(_)) => Err(TunnelEnd::ViewerLost),
            Err(_) => Err(TunnelEnd::ViewerTimeout),
        }
    }
}

/// The next bytes, at most so many; none: the end. Their buffer exists only while there are some, so that an idle viewer holds none.
/// Cancel-safe.
async fn read_chunk<R: AsyncRead>(mut reader: Pin<&mut R>, bytes_max: usize) -> io::Result<Bytes> {
    poll_fn(|context| {
        let mut bytes = BytesMut::with_capacity(bytes_max);
        let read = ready!(poll_read_buf(reader.as_mut(), context, &mut bytes));
        Poll::Ready(read.map(|_| bytes.freeze()))
    })
    .await
}
