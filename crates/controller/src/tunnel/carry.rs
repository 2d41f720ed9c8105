//! The two phases of a tunnel and its two pumps.
//!
//! One task, two futures: `up` owns the reading half of the WebSocket and the writing half of the stream, `down` the
//! other two halves and the ping. They share a [`Pulse`].

use super::{Activity, Ending, TunnelEnd, TunnelReport, TunnelSettings, Watch, close_frame, farewell, frame};
use anteroom_wire::{Problem, ProblemBody};
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

type Sink = SplitSink<WebSocket, Message>;
type Source = SplitStream<WebSocket>;
/// Hears a text message; an error closes the tunnel with that problem.
type Control = Box<dyn FnMut(&str) -> Result<(), ProblemBody> + Send>;

/// One viewer's way to one stream of a machine.
pub struct Tunnel {
    settings: TunnelSettings,
    ending: Ending,
    activity: Arc<Activity>,
    control: Option<Control>,
    watch: Option<Watch>,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Tunnel {
    /// `ending` closes it with its cause; `activity` is touched by everything the viewer sends.
    pub fn new(settings: TunnelSettings, ending: Ending, activity: Arc<Activity>) -> Self {
        Self { settings, ending, activity, control: None, watch: None }
    }

    /// For a viewer that only looks: of what it sends, the machine gets what makes pictures and nothing that acts, and
    /// nothing of it counts as use.
    #[must_use]
    pub fn view_only(mut self) -> Self {
        self.watch = Some(Watch::new(self.settings.message_bytes_max));
        self
    }

    /// Takes text messages (terminals: `{"type":"resize",…}`). Without this a text message closes the tunnel.
    #[must_use]
    pub fn with_control(mut self, control: impl FnMut(&str) -> Result<(), ProblemBody> + Send + 'static) -> Self {
        self.control = Some(Box::new(control));
        self
    }

    /// Opens the stream, carries bytes both ways until one side ends, and closes the WebSocket with the code and reason
    /// of that end. While `connect` runs, what the viewer sends is kept (up to `early_bytes_max`, then not read).
    pub async fn run<S, C>(self, socket: WebSocket, connect: C) -> TunnelReport
    where
        S: AsyncRead + AsyncWrite + Send,
        C: Future<Output = Result<S, ProblemBody>> + Send,
    {
        let Self { settings, ending, activity, control, watch } = self;
        let (sink, source) = socket.split();
        let pulse = Pulse::new();
        let bytes_max = settings.message_bytes_max;
        let mut viewer = Viewer { source, control, watch, activity, pulse: &pulse, bytes_max };
        let mut machine = Machine { sink, settings: &settings, pulse: &pulse };
        let end = tokio::select! {
            biased;
            cause = ending.ended() => TunnelEnd::Ended(cause),
            end = both(&mut viewer, &mut machine, connect) => end,
        };
        let end = match end {
            // The machine's end and the news of why race each other: give the news a moment.
            TunnelEnd::StreamEnded(error) => {
                match timeout(Duration::from_millis(settings.verdict_ms_max), ending.ended()).await {
                    Ok(cause) => TunnelEnd::Ended(cause),
                    Err(_) => TunnelEnd::StreamEnded(error),
                }
            }
            other @ (TunnelEnd::ViewerClosed(_)
            | TunnelEnd::ViewerLost
            | TunnelEnd::ViewerSilent
            | TunnelEnd::ViewerWrong(_)
            | TunnelEnd::Refused(_)
            | TunnelEnd::Ended(_)) => other,
        };
        let (mut sink, mut source) = (machine.sink, viewer.source);
        let goodbye = farewell(&mut sink, &mut source, closing(&end));
        // A viewer that does not take the close in time is dropped.
        let _ = timeout(Duration::from_millis(settings.close_ms_max), goodbye).await;
        TunnelReport {
            bytes_up: pulse.bytes_up.load(Relaxed),
            bytes_down: pulse.bytes_down.load(Relaxed),
            duration_ms: pulse.now_ms(),
            connected: pulse.connected.load(Relaxed),
            end,
        }
    }
}

/// The close frame for an end; `None` when the viewer itself closed or is lost.
fn closing(end: &TunnelEnd) -> Option<CloseFrame> {
    match end {
        TunnelEnd::ViewerClosed(_) | TunnelEnd::ViewerLost => None,
        TunnelEnd::ViewerSilent => Some(close_frame(Problem::Idle)),
        TunnelEnd::ViewerWrong(body) | TunnelEnd::Refused(body) => {
            Some(frame(body.close_code, &format!("{}: {}", body.code, body.sentence)))
        }
        TunnelEnd::StreamEnded(_) => Some(close_frame(Problem::DesktopUnreachable)),
        TunnelEnd::Ended(problem) => Some(close_frame(*problem)),
    }
}

/// Connecting, then carrying.
async fn both<S, C>(viewer: &mut Viewer<'_>, machine: &mut Machine<'_>, connect: C) -> TunnelEnd
where
    S: AsyncRead + AsyncWrite + Send,
    C: Future<Output = Result<S, ProblemBody>> + Send,
{
    let mut early = BytesMut::new();
    let settings = machine.settings;
    let stream = tokio::select! {
        connected = timeout(Duration::from_millis(settings.connect_ms_max), connect) => match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(body)) => return TunnelEnd::Refused(body),
            Err(_) => {
                let detail = format!("not open after {} ms", settings.connect_ms_max);
                return TunnelEnd::Refused(Problem::NotReady.with(detail));
            }
        },
        end = viewer.keep(&mut early, settings.early_bytes_max) => return end,
        end = machine.down(tokio::io::empty(), false) => return end,
    };
    machine.pulse.connected.store(true, Relaxed);
    let (reader, writer) = tokio::io::split(stream);
    tokio::select! {
        end = viewer.up(writer, early.freeze()) => end,
        end = machine.down(reader, true) => end,
    }
}

/// What both pumps know of the connection's life. Times are milliseconds since it began.
struct Pulse {
    began: Instant,
    /// When the oldest ping without a sign of life after it was sent; 0: none.
    asked_ms: AtomicU64,
    /// Whether `up` waits for the machine and so cannot hear the viewer.
    deaf: AtomicBool,
    /// Whether the stream was open.
    connected: AtomicBool,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

impl Pulse {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            asked_ms: AtomicU64::new(0),
            deaf: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn heard(&self) {
        self.asked_ms.store(0, Relaxed);
    }

    fn asked(&self) {
        let _ = self.asked_ms.compare_exchange(0, self.now_ms().max(1), Relaxed, Relaxed);
    }

    fn is_silent(&self, pong_ms_max: u64) -> bool {
        let asked = self.asked_ms.load(Relaxed);
        asked != 0 && !self.deaf.load(Relaxed) && self.now_ms().saturating_sub(asked) > pong_ms_max
    }
}

/// The viewer's side: what it sends.
struct Viewer<'a> {
    source: Source,
    control: Option<Control>,
    watch: Option<Watch>,
    activity: Arc<Activity>,
    pulse: &'a Pulse,
    bytes_max: usize,
}

impl Viewer<'_> {
    /// The next bytes from the viewer, or how it ended.
    async fn next(&mut self) -> Result<Bytes, TunnelEnd> {
        loop {
            let message = match self.source.next().await {
                Some(Ok(message)) => message,
                // Broken, or not WebSocket at all: there is nobody to explain it to.
                Some(Err(_)) | None => return Err(TunnelEnd::ViewerLost),
            };
            self.pulse.heard();
            match message {
                Message::Binary(bytes) if bytes.len() > self.bytes_max => {
                    let detail = format!("a message has at most {} bytes", self.bytes_max);
                    return Err(TunnelEnd::ViewerWrong(Problem::TooLarge.with(detail)));
                }
                Message::Binary(bytes) => match &mut self.watch {
                    Some(watch) => {
                        let passed = watch.pass(&bytes).map_err(TunnelEnd::ViewerWrong)?;
                        if !passed.is_empty() {
                            return Ok(passed);
                        }
                    }
                    None => {
                        self.activity.touch();
                        return Ok(bytes);
                    }
                },
                Message::Text(text) => {
                    self.activity.touch();
                    let heard = match &mut self.control {
                        Some(control) if text.len() <= self.bytes_max => control(text.as_str()),
                        Some(_) => Err(Problem::TooLarge.with("")),
                        None => Err(Problem::Malformed.with("only binary messages here")),
                    };
                    heard.map_err(TunnelEnd::ViewerWrong)?;
                }
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(frame) => return Err(TunnelEnd::ViewerClosed(frame.map(|frame| frame.code))),
            }
        }
    }

    /// Keeps what the viewer sends while there is no stream yet. Ends only with the viewer.
    async fn keep(&mut self, early: &mut BytesMut, bytes_max: usize) -> TunnelEnd {
        while early.len() < bytes_max {
            match self.next().await {
                Ok(bytes) => early.extend_from_slice(&bytes),
                Err(end) => return end,
            }
        }
        self.pulse.deaf.store(true, Relaxed);
        std::future::pending().await
    }

    /// From the viewer to the machine.
    async fn up<W: AsyncWrite>(&mut self, writer: W, early: Bytes) -> TunnelEnd {
        let mut writer = std::pin::pin!(writer);
        let mut bytes = early;
        loop {
            if !bytes.is_empty() {
                self.pulse.deaf.store(true, Relaxed);
                let written = async {
                    writer.write_all(&bytes).await?;
                    writer.flush().await
                };
                if let Err(error) = written.await {
                    return TunnelEnd::StreamEnded(Some(error.to_string()));
                }
                self.pulse.bytes_up.fetch_add(bytes.len() as u64, Relaxed);
            }
            // Pings that went unheard meanwhile do not count.
            self.pulse.heard();
            self.pulse.deaf.store(false, Relaxed);
            bytes = match self.next().await {
                Ok(bytes) => bytes,
                Err(end) => return end,
            };
        }
    }
}

/// The machine's side: what it sends, and the ping.
struct Machine<'a> {
    sink: Sink,
    settings: &'a TunnelSettings,
    pulse: &'a Pulse,
}

impl Machine<'_> {
    /// From the machine to the viewer, with a ping now and then. `open` is false while there is no stream yet: then it
    /// only pings.
    async fn down<R: AsyncRead>(&mut self, reader: R, open: bool) -> TunnelEnd {
        let mut reader = std::pin::pin!(reader);
        let every = Duration::from_millis(self.settings.ping_every_ms.max(1));
        let mut ping = interval_at(Instant::now() + every, every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let chunk = self.settings.chunk_bytes.max(1);
        let mut buffer = BytesMut::new();
        loop {
            if open {
                buffer.reserve(chunk);
            }
            let mut room = (&mut buffer).limit(chunk);
            let sent = tokio::select! {
                read = reader.read_buf(&mut room), if open => match read {
                    Ok(0) => return TunnelEnd::StreamEnded(None),
                    Ok(count) => {
                        let sent = self.send(Message::Binary(buffer.split().freeze())).await;
                        self.pulse.bytes_down.fetch_add(count as u64, Relaxed);
                        sent
                    }
                    Err(error) => return TunnelEnd::StreamEnded(Some(error.to_string())),
                },
                _ = ping.tick() => {
                    if self.pulse.is_silent(self.settings.pong_ms_max) {
                        return TunnelEnd::ViewerSilent;
                    }
                    let sent = self.send(Message::Ping(Bytes::new())).await;
                    self.pulse.asked();
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
        let mut sending = std::pin::pin!(self.sink.send(message));
        let at_once = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await;
        if let Poll::Ready(sent) = at_once {
            return sent.map_err(|_| TunnelEnd::ViewerLost);
        }
        match timeout(stall_max, sending).await {
            Ok(Ok(())) => {
                // There was no room and now there is: the other side takes what it was sent. A slow viewer has much to read
                // before it comes to the ping.
                self.pulse.heard();
                Ok(())
            }
            Ok(Err(_)) => Err(TunnelEnd::ViewerLost),
            Err(_) => Err(TunnelEnd::ViewerSilent),
        }
    }
}
