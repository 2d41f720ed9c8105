//! A machine's connections: dialled from the start without fixed waits, redialled until the machine has exited.
//!
//! ```text
//!  agent: dial ─▶ resync ─▶ HTTP/2 ─▶ hello, again until all stages are up ─▶ Ready ─▶ (broken) ─▶ dial …
//!                                                                              │ ▲
//!                                                            (no bytes for long) ▼ │ (bytes received: same streams)
//!                                                                             Waiting ─▶ (still no bytes) ─▶ Hung
//!  controller channel: dial ─▶ resync ─▶ HTTP/2 served ─▶ (broken) ─▶ dial …
//! ```
//!
//! A connection that violates the protocol is closed; a machine that goes on is stopped ([`ChannelFaults`]).
//!
//! The liveness timeout applies to a machine that was ready once, under this server or an earlier one, whether its channel is
//! open or being redialled. Before that, only the start deadline applies.

use super::{
    AgentTarget, Machines, ProcessInfo,
    channel_faults::{ChannelFaults, ShortConnections},
    dial::{AgentPort, dial},
    liveness::{ActivityCounter, IdleTimer, MonitoredStream},
};
use crate::{
    channel::{
        AgentClient, AgentError, BYTES_BEFORE_ECHO_MAX, CallLimits, ChannelViolation, ControllerService,
        FirstViolation, GuardedStream, KeepAlive, MachineRole, ResyncError, resync, serve,
    },
    spec::ChannelTransport,
    state::{Channels, Event, StartTimings},
};
use anteroom_wire::{
    MachineId,
    agent::{AgentInfo, PROTOCOL_VERSION, Stage, StageState},
    channel::ECHO_WAIT_MS_MAX,
    time::to_millis,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{net::UnixStream, sync::mpsc, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Interval between two attempts to dial a socket, milliseconds: at first, and at most.
const DIAL_INTERVAL_MS: (u64, u64) = (2, 100);

/// A message to the machine task.
#[derive(Debug)]
pub(super) enum ConnectionEvent {
    /// A lifecycle event.
    Lifecycle(Event),
    /// The agent has another protocol version or image than expected.
    Mismatch { expected: String, found: String },
    /// The liveness timeout expired.
    Hung { unanswered_ms: u64 },
    /// The machine violated the protocol of a channel repeatedly.
    Violation { channel: &'static str, violation: String },
}

/// Why a connection is not established (yet).
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("the socket cannot be reached: {0}")]
    Dial(io::Error),
    #[error("the agent has not echoed the nonce yet")]
    NoEcho,
    #[error("{0}")]
    Resync(ResyncError),
    #[error("{0}")]
    Agent(AgentError),
}

struct Connector {
    run_dir: PathBuf,
    params: ConnectParams,
    calls: CallLimits,
    probe_every: Duration,
    timeouts: LivenessTimeouts,
    activity: ActivityCounter,
    faults: Arc<ChannelFaults>,
    events: mpsc::Sender<ConnectionEvent>,
    tasks: TaskTracker,
    disconnect: CancellationToken,
}

/// How long a machine may send nothing.
#[derive(Clone, Copy)]
struct LivenessTimeouts {
    ping_every: Duration,
    /// Until it is no longer ready.
    not_ready: Duration,
    /// Until it has hung.
    hung: Duration,
}

/// A connection of the agent channel that was resynchronized.
struct Opened {
    at: Instant,
    violation: FirstViolation,
}

/// How an established connection ended.
enum ConnectionEnd {
    /// It broke; `reported`: the machine had already left `Ready` because it sent nothing.
    Broken { reported: bool },
    /// The liveness timeout expired.
    Hung { unanswered_ms: u64 },
}

/// Parameters of a machine's connections.
pub(super) struct ConnectParams {
    pub(super) target: AgentTarget,
    /// When the machine was requested or adopted: the origin of [`StartTimings`].
    pub(super) requested_at: Instant,
    pub(super) process_info: Arc<OnceLock<ProcessInfo>>,
    /// How long to wait for the first echo.
    pub(super) first_echo_wait: Duration,
    /// Whether it was ready before.
    pub(super) was_ready: bool,
}

/// Starts the two tasks that keep the machine connected until `disconnect` is cancelled.
pub(super) fn spawn_connections(
    machines: &Machines,
    id: &MachineId,
    params: ConnectParams,
    events: mpsc::Sender<ConnectionEvent>,
    disconnect: &CancellationToken,
) {
    let settings = &machines.inner.settings;
    let run_dir = machines.run_dir_of(id);
    let ms = Duration::from_millis;
    let timeouts = LivenessTimeouts {
        ping_every: ms(settings.ping_every_ms),
        not_ready: ms(settings.ping_ms_max),
        hung: ms(settings.liveness_timeout_ms),
    };
    let keep_alive = KeepAlive { interval: timeouts.ping_every, timeout: timeouts.hung };
    let faults = Arc::new(ChannelFaults::new(id.clone(), events.clone()));
    let controller_channel = ControllerChannel {
        run_dir: run_dir.clone(),
        transport: params.target.transport,
        machine: id.clone(),
        service: machines.inner.controller_service.clone(),
        first_wait: params.first_echo_wait,
        keep_alive,
        faults: faults.clone(),
    };
    let connector = Connector {
        run_dir,
        params,
        calls: settings.call_limits,
        probe_every: ms(settings.probe_every_ms),
        timeouts,
        activity: ActivityCounter::default(),
        faults,
        events,
        tasks: machines.inner.tasks.clone(),
        disconnect: disconnect.clone(),
    };
    machines.inner.tasks.spawn(disconnect.clone().run_until_cancelled_owned(connector.connect_agent()));
    machines.inner.tasks.spawn(disconnect.clone().run_until_cancelled_owned(controller_channel.serve()));
}

/// Dials until a stream has been resynchronized. `on_error` is called for every failed attempt.
async fn dial_until_synced(
    run_dir: &Path,
    (transport, port): (ChannelTransport, AgentPort),
    activity: &ActivityCounter,
    first_wait: Duration,
    mut on_error: impl FnMut(&ConnectError),
) -> MonitoredStream<UnixStream> {
    let (mut interval_ms, interval_ms_max) = DIAL_INTERVAL_MS;
    loop {
        let error = match dial(run_dir, transport, port).await {
            Ok(stream) => {
                let mut stream = MonitoredStream::new(stream, activity.clone());
                match resync(&mut stream, first_wait, || on_error(&ConnectError::NoEcho)).await {
                    Ok(()) => return stream,
                    Err(error) => ConnectError::Resync(error),
                }
            }
            Err(error) => ConnectError::Dial(error),
        };
        on_error(&error);
        tokio::time::sleep(Duration::from_millis(interval_ms)).await;
        interval_ms = (interval_ms * 3 / 2 + 1).min(interval_ms_max);
    }
}

/// The channel on which the controller is HTTP/2's server.
struct ControllerChannel {
    run_dir: PathBuf,
    transport: ChannelTransport,
    machine: MachineId,
    service: ControllerService,
    first_wait: Duration,
    keep_alive: KeepAlive,
    faults: Arc<ChannelFaults>,
}

impl ControllerChannel {
    /// Serves one connection after another.
    async fn serve(self) {
        let Self { run_dir, machine, faults, keep_alive, .. } = &self;
        // The kernel of a guest with a hung agent may still deliver bytes here, so they do not count as activity.
        let (mut wait, ignored) = (self.first_wait, ActivityCounter::default());
        let (port, mut short) = (AgentPort::ControllerServer, ShortConnections::default());
        loop {
            let on_error = |error: &ConnectError| {
                record_flood(faults, port, error);
                tracing::trace!(%machine, %error, "controller channel attempt failed");
            };
            let stream = dial_until_synced(run_dir, (self.transport, port), &ignored, wait, on_error).await;
            let (stream, began) = (GuardedStream::new(stream, MachineRole::Client, keep_alive.timeout), Instant::now());
            let violation = stream.violation();
            if let Err(error) = serve(stream, machine.clone(), self.service.clone(), *keep_alive).await {
                tracing::debug!(%machine, %error, "controller channel broke");
            }
            if let Some(violation) = violation.take() {
                faults.record(port, &violation);
            }
            tokio::time::sleep(short.connection_ended(faults, port, began.elapsed())).await;
            wait = Duration::from_millis(ECHO_WAIT_MS_MAX);
        }
    }
}

/// Records that a machine sent bytes without end instead of an echo.
fn record_flood(faults: &ChannelFaults, port: AgentPort, error: &ConnectError) {
    if matches!(error, ConnectError::Resync(ResyncError::TooManyBytes)) {
        faults.record(port, &ChannelViolation::NoEcho { bytes_max: BYTES_BEFORE_ECHO_MAX });
    }
}

impl Connector {
    fn elapsed_ms(&self) -> u64 {
        to_millis(self.params.requested_at.elapsed())
    }

    async fn send_event(&self, event: Event) {
        // Fails when the machine task has ended; this task is then cancelled.
        let _ = self.events.send(ConnectionEvent::Lifecycle(event)).await;
    }

    async fn connect_agent(self) {
        let mut wait = self.params.first_echo_wait;
        let mut idle = IdleTimer::new(self.activity.clone(), self.timeouts.ping_every);
        let mut was_ready = self.params.was_ready;
        let mut short = ShortConnections::default();
        loop {
            let (mut timings, mut opened) = (StartTimings::default(), None);
            let connected = tokio::select! {
                connected = self.connect(wait, &mut timings, &mut opened) => connected,
                unanswered_ms = idle.wait_idle(self.timeouts.hung), if was_ready => {
                    return self.report_hung(unanswered_ms).await;
                }
            };
            wait = Duration::from_millis(ECHO_WAIT_MS_MAX);
            let lost = match connected {
                Ok((agent, hello)) => {
                    timings.ready_ms = self.elapsed_ms();
                    let channels = Channels { agent, agent_info: Arc::new(hello), timings };
                    was_ready = true;
                    idle.reset();
                    match self.monitor(channels, &mut idle).await {
                        ConnectionEnd::Broken { reported: true } => None,
                        ConnectionEnd::Broken { reported: false } => Some("the agent's channel broke".to_owned()),
                        ConnectionEnd::Hung { unanswered_ms } => return self.report_hung(unanswered_ms).await,
                    }
                }
                Err(Some(error)) => Some(error.to_string()),
                // Mismatch: the machine task stops the machine.
                Err(None) => return,
            };
            let violation = opened.as_ref().and_then(|opened: &Opened| opened.violation.take());
            if let Some(violation) = &violation {
                self.faults.record(AgentPort::AgentServer, violation);
            }
            if let Some(error) = lost {
                let error = violation.map_or(error, |violation| violation.to_string());
                self.send_event(Event::ChannelLost { error }).await;
            }
            if let Some(Opened { at, .. }) = opened {
                let pause = short.connection_ended(&self.faults, AgentPort::AgentServer, at.elapsed());
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Monitors an established connection until it ends. A machine that sends nothing for `ping_ms_max` leaves `Ready`; it
    /// is ready again, with the same streams, as soon as it sends something.
    async fn monitor(&self, channels: Channels, idle: &mut IdleTimer) -> ConnectionEnd {
        loop {
            self.send_event(Event::BecameReady(channels.clone())).await;
            let idle_ms = tokio::select! {
                () = channels.agent.wait_closed() => return ConnectionEnd::Broken { reported: false },
                idle_ms = idle.wait_idle(self.timeouts.not_ready) => idle_ms,
            };
            self.send_event(Event::ChannelLost { error: format!("no answer to pings for {idle_ms} ms") }).await;
            tokio::select! {
                () = channels.agent.wait_closed() => return ConnectionEnd::Broken { reported: true },
                active = idle.wait_active(self.timeouts.hung) => if let Err(unanswered_ms) = active {
                    return ConnectionEnd::Hung { unanswered_ms };
                }
            }
        }
    }

    async fn report_hung(&self, unanswered_ms: u64) {
        // Fails when the machine task has ended; this task is then cancelled.
        let _ = self.events.send(ConnectionEvent::Hung { unanswered_ms }).await;
    }

    /// Connects and waits until the machine is ready. `Err(None)`: protocol or image mismatch, already sent to the machine task.
    async fn connect(
        &self,
        first_wait: Duration,
        timings: &mut StartTimings,
        opened: &mut Option<Opened>,
    ) -> Result<(AgentClient, AgentInfo), Option<ConnectError>> {
        // If the queue is full, only an attempt count is lost.
        let report_attempt = |error: &ConnectError| {
            record_flood(&self.faults, AgentPort::AgentServer, error);
            let event = Event::StageAttempted { stage: Stage::Channel, error: Some(error.to_string()) };
            let _ = self.events.try_send(ConnectionEvent::Lifecycle(event));
        };
        let port = (self.params.target.transport, AgentPort::AgentServer);
        let stream = dial_until_synced(&self.run_dir, port, &self.activity, first_wait, report_attempt).await;
        timings.channel_ms = self.elapsed_ms();
        timings.spawned_ms =
            self.params.process_info.get().map_or(timings.channel_ms, |process_info| process_info.reported_after_ms);
        let stream = GuardedStream::new(stream, MachineRole::Server, self.timeouts.hung);
        *opened = Some(Opened { at: Instant::now(), violation: stream.violation() });
        let handshake = AgentClient::handshake(stream, self.calls, self.timeouts.ping_every).await;
        let (agent, connection) = handshake.map_err(|error| Some(ConnectError::Agent(error)))?;
        // Ends with the stream, or with the machine's other tasks.
        self.tasks.spawn(self.disconnect.clone().run_until_cancelled_owned(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "agent channel broke");
            }
        }));
        loop {
            match agent.agent_info().await {
                Ok(hello) => {
                    if timings.agent_info_ms == 0 {
                        timings.agent_info_ms = self.elapsed_ms();
                    }
                    if let Some((expected, found)) = mismatch(&hello, &self.params.target.image_hash) {
                        let _ = self.events.send(ConnectionEvent::Mismatch { expected, found }).await;
                        return Err(None);
                    }
                    match first_missing_stage(&hello) {
                        None => return Ok((agent, hello)),
                        Some((stage, error)) => self.send_event(Event::StageAttempted { stage, error }).await,
                    }
                }
                Err(error) if agent.is_closed() => return Err(Some(ConnectError::Agent(error))),
                Err(error) => {
                    let event = Event::StageAttempted { stage: Stage::Hello, error: Some(error.to_string()) };
                    self.send_event(event).await;
                }
            }
            tokio::time::sleep(self.probe_every).await;
        }
    }
}

/// The expected and the reported version or image, if they differ.
fn mismatch(hello: &AgentInfo, image_hash: &str) -> Option<(String, String)> {
    if hello.protocol != PROTOCOL_VERSION {
        let text = |protocol: u32| format!("agent protocol {protocol}");
        return Some((text(PROTOCOL_VERSION), text(hello.protocol)));
    }
    (hello.image_hash != image_hash).then(|| (format!("image {image_hash}"), format!("image {}", hello.image_hash)))
}

/// The first required stage that is not up, with its last error. The tool starts only after a claim. In a claimed machine the
/// user may close the browser or the terminal, so only the display is required.
pub(crate) fn first_missing_stage(hello: &AgentInfo) -> Option<(Stage, Option<String>)> {
    let is_required = |stage: Stage| match stage {
        Stage::Cli => false,
        Stage::WindowManager | Stage::Terminal | Stage::Browser => hello.claimed_by.is_none(),
        Stage::Process | Stage::Channel | Stage::Hello | Stage::Display => true,
    };
    hello
        .stages
        .iter()
        .find(|report| is_required(report.stage) && report.state != StageState::Ready)
        .map(|report| (report.stage, report.last_error.clone().map(Into::into)))
}
