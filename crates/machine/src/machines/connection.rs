//! A machine's connections: dialled from time zero without fixed waits, kept up as long as the machine lives.
//!
//! ```text
//!  agent: dial ─▶ resync ─▶ HTTP/2 ─▶ hello, again until all stages are up ─▶ Ready ─▶ (broken) ─▶ dial …
//!                                                                              │ ▲
//!                                                              (silent too long) ▼ │ (connection_events again: same streams)
//!                                                                             Waiting ─▶ (still silent) ─▶ Hung
//!  host:  dial ─▶ resync ─▶ HTTP/2 served ─▶ (broken) ─▶ dial …
//! ```
//!
//! A machine that has been ready once, under this server or one before it, owes a sign of life, whether its channel stands or
//! is dialled again; before that, only the deadline of its start counts.

use super::{
    Machines, ProcessInfo,
    liveness::{ActivityCounter, IdleTimer, MonitoredStream},
};
use crate::{
    channel::{AgentClient, AgentError, CallLimits, HostService, KeepAlive, ResyncError, resync, serve},
    run_dir::RunDir,
    spec::{AGENT_SOCKET, HOST_SOCKET},
    state::{Channels, Event, Timings},
};
use anteroom_wire::{
    MachineId,
    agent::{Hello, PROTOCOL, Stage, StageState},
    channel::ECHO_MS_MAX,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{net::UnixStream, sync::mpsc, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Between two tries to dial a socket, milliseconds: at first, and at most.
const DIAL_EVERY_MS: (u64, u64) = (2, 100);

/// What the driver hears.
#[derive(Debug)]
pub(super) enum ConnectionEvent {
    /// Something that changes the state.
    Event(Event),
    /// Not the machine we meant.
    Mismatch { expected: String, found: String },
    /// It was ready and gave no sign of life for too long.
    Hung { unanswered_ms: u64 },
}

/// Why there is no connection (yet).
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("the socket cannot be reached: {0}")]
    Dial(io::Error),
    #[error("the agent does not echo (yet)")]
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
    limits: Limits,
    activity: ActivityCounter,
    events: mpsc::Sender<ConnectionEvent>,
    tasks: TaskTracker,
    over: CancellationToken,
}

/// How long a machine may be silent.
#[derive(Clone, Copy)]
struct Limits {
    ping_every: Duration,
    lost: Duration,
    hung: Duration,
}

/// How a connection that was up came to its end.
enum Ended {
    /// It broke; `told`: the machine had left `Ready` before, for its silence.
    Broke { told: bool },
    /// Nothing was connection_events for too long.
    Hung { unanswered_ms: u64 },
}

/// What a machine's connections are about.
pub(super) struct ConnectParams {
    /// The image its agent must name.
    pub(super) image_hash: String,
    /// From when on times count.
    pub(super) began: Instant,
    pub(super) process_info: Arc<OnceLock<ProcessInfo>>,
    /// How long the first echo may take.
    pub(super) first_wait: Duration,
    /// Whether it was ready before.
    pub(super) was_ready: bool,
}

/// Starts the two tasks that keep the machine connected until `over`.
pub(super) fn spawn(
    machines: &Machines,
    id: &MachineId,
    params: ConnectParams,
    events: mpsc::Sender<ConnectionEvent>,
    over: &CancellationToken,
) {
    let settings = &machines.inner.settings;
    let run_dir = machines.run_dir_of(id);
    let ms = Duration::from_millis;
    let limits = Limits {
        ping_every: ms(settings.ping_every_ms),
        lost: ms(settings.ping_ms_max),
        hung: ms(settings.liveness_timeout_ms),
    };
    let pings = KeepAlive { every: limits.ping_every, max: limits.hung };
    let host = keep_host(run_dir.clone(), id.clone(), machines.inner.host.clone(), params.first_wait, pings);
    let connector = Connector {
        run_dir,
        params,
        calls: settings.calls,
        probe_every: ms(settings.probe_every_ms),
        limits,
        activity: ActivityCounter::default(),
        events,
        tasks: machines.inner.tasks.clone(),
        over: over.clone(),
    };
    machines.inner.tasks.spawn(over.clone().run_until_cancelled_owned(connector.keep_agent()));
    machines.inner.tasks.spawn(over.clone().run_until_cancelled_owned(host));
}

/// Dials until there is a stream in step. `tried` hears why not (yet).
async fn reach(
    run_dir: &Path,
    name: &str,
    activity: &ActivityCounter,
    first_wait: Duration,
    mut tried: impl FnMut(&ConnectError),
) -> MonitoredStream<UnixStream> {
    let (mut every_ms, every_ms_max) = DIAL_EVERY_MS;
    loop {
        let error = match dial(run_dir, name).await {
            Ok(stream) => {
                let mut stream = MonitoredStream::new(stream, activity.clone());
                match resync(&mut stream, first_wait, || tried(&ConnectError::NoEcho)).await {
                    Ok(()) => return stream,
                    Err(error) => ConnectError::Resync(error),
                }
            }
            Err(error) => ConnectError::Dial(error),
        };
        tried(&error);
        tokio::time::sleep(Duration::from_millis(every_ms)).await;
        every_ms = (every_ms * 3 / 2 + 1).min(every_ms_max);
    }
}

async fn dial(run_dir: &Path, name: &str) -> io::Result<UnixStream> {
    RunDir::open(run_dir.to_owned())?.dial(name).await
}

async fn keep_host(run_dir: PathBuf, machine: MachineId, service: HostService, first_wait: Duration, pings: KeepAlive) {
    // What a hung agent's kernel still delivers here is no sign of its life.
    let (mut wait, unheeded) = (first_wait, ActivityCounter::default());
    loop {
        let not_yet = |error: &ConnectError| tracing::trace!(%machine, %error, "the host channel is not up");
        let stream = reach(&run_dir, HOST_SOCKET, &unheeded, wait, not_yet).await;
        if let Err(error) = serve(stream, machine.clone(), service.clone(), pings).await {
            tracing::debug!(%machine, %error, "the host channel broke");
        }
        wait = Duration::from_millis(ECHO_MS_MAX);
    }
}

impl Connector {
    fn since(&self) -> u64 {
        u64::try_from(self.params.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn tell(&self, event: Event) {
        // The driver is removed: so will be this task.
        let _ = self.events.send(ConnectionEvent::Event(event)).await;
    }

    async fn tried(&self, stage: Stage, error: Option<String>) {
        self.tell(Event::StageAttempted { stage, error }).await;
    }

    async fn keep_agent(self) {
        let mut wait = self.params.first_wait;
        let mut silence = IdleTimer::new(self.activity.clone(), self.limits.ping_every);
        let mut was_ready = self.params.was_ready;
        loop {
            let mut timings = Timings::default();
            let connected = tokio::select! {
                connected = self.connect(wait, &mut timings) => connected,
                unanswered_ms = silence.lasts(self.limits.hung), if was_ready => {
                    return self.say_hung(unanswered_ms).await;
                }
            };
            wait = Duration::from_millis(ECHO_MS_MAX);
            let error = match connected {
                Ok((agent, hello)) => {
                    timings.ready_ms = self.since();
                    let channels = Channels { agent, hello: Arc::new(hello), timings };
                    was_ready = true;
                    silence.begin();
                    match self.attend(channels, &mut silence).await {
                        Ended::Broke { told: true } => continue,
                        Ended::Broke { told: false } => "the agent's channel broke".to_owned(),
                        Ended::Hung { unanswered_ms } => return self.say_hung(unanswered_ms).await,
                    }
                }
                Err(Some(error)) => error.to_string(),
                // Not our machine: the driver ends it.
                Err(None) => return,
            };
            self.tell(Event::ChannelLost { error }).await;
        }
    }

    /// A connection that is up, to its end. A machine that falls silent leaves `Ready`, and is ready again with the same
    /// streams as soon as it is connection_events.
    async fn attend(&self, channels: Channels, silence: &mut IdleTimer) -> Ended {
        loop {
            self.tell(Event::BecameReady(channels.clone())).await;
            let silent_ms = tokio::select! {
                () = channels.agent.closed() => return Ended::Broke { told: false },
                silent_ms = silence.lasts(self.limits.lost) => silent_ms,
            };
            self.tell(Event::ChannelLost { error: format!("no answer to pings for {silent_ms} ms") }).await;
            tokio::select! {
                () = channels.agent.closed() => return Ended::Broke { told: true },
                connection_events = silence.ends_within(self.limits.hung) => if let Err(unanswered_ms) = connection_events {
                    return Ended::Hung { unanswered_ms };
                }
            }
        }
    }

    async fn say_hung(&self, unanswered_ms: u64) {
        // The driver is removed: so will be this task.
        let _ = self.events.send(ConnectionEvent::Hung { unanswered_ms }).await;
    }

    /// From nothing to ready. `Err(None)`: it is not the machine we meant.
    async fn connect(
        &self,
        first_wait: Duration,
        timings: &mut Timings,
    ) -> Result<(AgentClient, Hello), Option<ConnectError>> {
        // A full queue loses a count, nothing else.
        let not_yet = |error: &ConnectError| {
            let event = Event::StageAttempted { stage: Stage::Channel, error: Some(error.to_string()) };
            let _ = self.events.try_send(ConnectionEvent::Event(event));
        };
        let stream = reach(&self.run_dir, AGENT_SOCKET, &self.activity, first_wait, not_yet).await;
        timings.channel_ms = self.since();
        timings.spawned_ms =
            self.params.process_info.get().map_or(timings.channel_ms, |process_info| process_info.after_ms);
        let begun = AgentClient::begin(stream, self.calls, self.limits.ping_every).await;
        let (agent, carry) = begun.map_err(|error| Some(ConnectError::Agent(error)))?;
        // Ends with the stream, or with the machine's other tasks.
        self.tasks.spawn(self.over.clone().run_until_cancelled_owned(async move {
            if let Err(error) = carry.await {
                tracing::debug!(%error, "an agent's channel broke");
            }
        }));
        loop {
            match agent.hello().await {
                Ok(hello) => {
                    if timings.hello_ms == 0 {
                        timings.hello_ms = self.since();
                    }
                    if let Some((expected, found)) = mismatch(&hello, &self.params.image_hash) {
                        let _ = self.events.send(ConnectionEvent::Mismatch { expected, found }).await;
                        return Err(None);
                    }
                    match missing(&hello) {
                        None => return Ok((agent, hello)),
                        Some((stage, error)) => self.tried(stage, error).await,
                    }
                }
                Err(error) if agent.is_closed() => return Err(Some(ConnectError::Agent(error))),
                Err(error) => self.tried(Stage::Hello, Some(error.to_string())).await,
            }
            tokio::time::sleep(self.probe_every).await;
        }
    }
}

/// What was expected and what was found, if they differ.
fn mismatch(hello: &Hello, image_hash: &str) -> Option<(String, String)> {
    if hello.protocol != PROTOCOL {
        let text = |protocol: u32| format!("agent protocol {protocol}");
        return Some((text(PROTOCOL), text(hello.protocol)));
    }
    (hello.image_hash != image_hash).then(|| (format!("image {image_hash}"), format!("image {}", hello.image_hash)))
}

/// The first stage that is not up and why. The tool comes only after a claim; in a claimed machine people may do as they
/// like (close the browser), so only the display counts.
pub(crate) fn missing(hello: &Hello) -> Option<(Stage, Option<String>)> {
    let counts = |stage: Stage| match stage {
        Stage::Cli => false,
        Stage::WindowManager | Stage::Terminal | Stage::Browser => hello.claimed.is_none(),
        Stage::Process | Stage::Channel | Stage::Hello | Stage::Display => true,
    };
    hello
        .stages
        .iter()
        .find(|report| counts(report.stage) && report.state != StageState::Ready)
        .map(|report| (report.stage, report.last_error.clone()))
}
