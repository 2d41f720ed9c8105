//! `anteroom bench start`: measures the start of a session by stage, and the memory of an idle machine. Starts a separate server
//! on a free port with a temporary state directory and uses it as a viewer does: over HTTP and a WebSocket.

use super::{machine_environment, print_line, table::Table};
use anteroom_controller::{config::Config, limits::ServerLimits, random};
use anteroom_rfb::client::{RfbClient, ViewerSocket};
use anteroom_server::{Server, StateDir};
use anteroom_store::{NewCaller, Role};
use anteroom_wire::{
    CallerId, TimelineKind,
    api::{SessionView, StartRequest, StartResponse, Ticket, Timeline},
};
use anyhow::Context;
use clap::Subcommand;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// Timeout of one request, milliseconds.
const REQUEST_MS_MAX: u64 = 60_000;
/// Number of idle machines whose memory is measured.
const IDLE_MACHINES: u32 = 4;
/// The id of a provider whose tool only waits.
const WAITING: &str = "waiting";
/// Idle time before memory is measured, seconds.
const IDLE_S: u64 = 3;

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Measure the time from a start request to the first complete desktop frame, and the memory of an idle machine.
    Start {
        /// Number of sessions, started one after the other.
        #[arg(long, default_value_t = 30)]
        count: u32,
        /// The tool to start. Default: a program that only waits.
        #[arg(long, default_value = WAITING)]
        provider: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Times of one start, milliseconds since the start request.
#[derive(Debug, Clone, Copy, Default)]
struct StartTimes {
    accepted: f64,
    process: f64,
    agent: f64,
    claimed: f64,
    rfb_handshake: f64,
    first_frame: f64,
}

/// A stage's name and its time.
type Column = (&'static str, fn(&StartTimes) -> f64);

const STAGES: [Column; 6] = [
    ("accepted (202)", |times| times.accepted),
    ("cloned (process runs)", |times| times.process),
    ("agent answers", |times| times.agent),
    ("claimed", |times| times.claimed),
    ("desktop handshake done", |times| times.rfb_handshake),
    ("first complete frame", |times| times.first_frame),
];

pub(super) async fn run(mut config: Config, command: BenchCommand) -> anyhow::Result<ExitCode> {
    let BenchCommand::Start { count, provider, json } = command;
    let state = tempfile::tempdir()?;
    config.state_dir = state.path().to_owned();
    config.listen = ([127, 0, 0, 1], 0).into();
    config.public_url = None;
    config.providers.insert(WAITING.into(), waiting_provider().context("the waiting provider is invalid")?);
    let environment = machine_environment::prepare_machine_environment(&config).await?;
    let dir = StateDir::lock(&config.state_dir)?;
    let server = anteroom_server::start_server(config, ServerLimits::default(), &dir, environment, true).await?;
    let measured = measure(&server, &provider, count).await;
    let stopped = stop_machines(&server).await;
    server.stop().await;
    // The first error is the cause of the following ones.
    let (times, memory) = measured?;
    stopped?;
    report(&times, &memory, json)?;
    Ok(ExitCode::SUCCESS)
}

/// A provider whose tool only waits, so that only the machine is measured.
fn waiting_provider() -> Result<toml::Table, toml::de::Error> {
    toml::from_str(
        r#"
        name = "Waiting"
        cli = "anteroom-demo"
        argv = ["cat"]
        lanes = ["terminal"]
        next_action = "Nothing: this measures."
        policy = "store"
        egress = []
        credential = { paths = [".waiting"], required = ["/never"] }
        "#,
    )
}

/// Stops all machines, so that none outlives the benchmark.
async fn stop_machines(server: &Server) -> anyhow::Result<()> {
    for (machine, _) in server.app.machines.list() {
        server.app.machines.stop(&machine, anteroom_machine::StopReason::Operator);
    }
    let removed = async {
        while server.app.machines.count() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), removed).await.context("the machines were not removed within 30 s")
}

type Memories = Vec<anteroom_machine::MemoryUsage>;

async fn measure(server: &Server, provider: &str, count: u32) -> anyhow::Result<(Vec<StartTimes>, Memories)> {
    let client = Viewer::new(server, provider).await?;
    let mut times = Vec::new();
    // The first start is not counted: it warms the page cache.
    for number in 0..=count {
        let (id, start) = client.start().await?;
        client.cancel(&id).await?;
        if number > 0 {
            times.push(start);
        }
    }
    let mut idle = Vec::new();
    for _ in 0..IDLE_MACHINES.min(server.app.config().machines.machines_max) {
        idle.push(client.start().await?.0);
    }
    tokio::time::sleep(Duration::from_secs(IDLE_S)).await;
    let memories = server
        .app
        .machines
        .list()
        .iter()
        .filter_map(|(machine, _)| server.app.machines.memory_usage(machine))
        .collect();
    for id in idle {
        client.cancel(&id).await?;
    }
    Ok((times, memories))
}

struct Viewer {
    http: reqwest::Client,
    base: String,
    token: String,
    provider: String,
}

impl Viewer {
    async fn new(server: &Server, provider: &str) -> anyhow::Result<Self> {
        let token = random::random_token("ant_");
        let (id, now) = (random::random_id(CallerId::from_parts), anteroom_controller::unix_time::now_unix_ms());
        let caller = NewCaller::api_token(id, Role::Backend, "bench", &token, now);
        server.app.store.create_caller(&caller).await?;
        Ok(Self {
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(REQUEST_MS_MAX)).build()?,
            base: format!("{}", server.address),
            token: token.expose().to_owned(),
            provider: provider.to_owned(),
        })
    }

    async fn post<B: serde::Serialize, T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> anyhow::Result<T> {
        let request = self.http.post(format!("http://{}{path}", self.base)).bearer_auth(&self.token).json(body);
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        anyhow::ensure!(status.is_success(), "POST {path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Starts one session and waits for its first complete frame. Returns the session's id and the times.
    async fn start(&self) -> anyhow::Result<(String, StartTimes)> {
        let start = Instant::now();
        let request = StartRequest::new(&self.provider);
        let started: StartResponse = self.post("/api/auth/start", &request).await?;
        let accepted = millis(start);
        let id = started.session.id.to_string();
        let path = format!("/api/auth/session/{id}");
        let ticket: Ticket = self.post(&format!("{path}/ticket"), &serde_json::json!({ "purpose": "desktop" })).await?;
        let url = format!("ws://{}{path}/novnc/websock", self.base);
        let protocols = format!("binary, ticket.{}", ticket.ticket);
        let bearer = format!("Bearer {}", self.token);
        let headers = [("sec-websocket-protocol", &*protocols), ("authorization", &*bearer)];
        let socket = ViewerSocket::connect(&url, &headers, REQUEST_MS_MAX).await?;
        let mut desktop = RfbClient::connect(socket, REQUEST_MS_MAX).await?;
        let rfb_handshake = millis(start);
        desktop.request_full_frame().await?;
        let first_frame = millis(start);
        let times = self.server_times(&path, accepted).await?;
        Ok((id, StartTimes { rfb_handshake, first_frame, ..times }))
    }

    /// The times of the stages in the server, from the timeline.
    async fn server_times(&self, path: &str, accepted: f64) -> anyhow::Result<StartTimes> {
        let request = self.http.get(format!("http://{}{path}/events", self.base)).bearer_auth(&self.token);
        let timeline: Timeline = request.send().await?.json().await?;
        let at = |kind: TimelineKind| -> anyhow::Result<f64> {
            let entry = timeline.entries.iter().find(|entry| entry.kind == kind);
            let entry = entry.with_context(|| format!("the timeline has no {kind}"))?;
            let at: jiff::Timestamp = entry.at.parse()?;
            #[expect(clippy::cast_precision_loss, reason = "present Unix times fit in the mantissa")]
            Ok(at.as_millisecond() as f64)
        };
        let ready = timeline
            .entries
            .iter()
            .find(|entry| entry.kind == TimelineKind::MachineReady)
            .context("the timeline has no machine_ready")?;
        let timing = |name: &str| ready.data["timings"][name].as_f64().unwrap_or(f64::NAN);
        let requested = at(TimelineKind::MachineRequested)? - at(TimelineKind::Accepted)?;
        Ok(StartTimes {
            accepted,
            process: requested + timing("spawned_ms"),
            agent: requested + timing("ready_ms"),
            claimed: at(TimelineKind::MachineReady)? - at(TimelineKind::Accepted)?,
            ..StartTimes::default()
        })
    }

    /// Cancels the session and waits until its machine has exited, so that starts do not affect each other.
    async fn cancel(&self, id: &str) -> anyhow::Result<()> {
        let path = format!("/api/auth/session/{id}");
        let _: SessionView = self.post(&format!("{path}/cancel"), &()).await?;
        let exited = async {
            loop {
                let request = self.http.get(format!("http://{}{path}/events", self.base)).bearer_auth(&self.token);
                let timeline: Timeline = request.send().await?.json().await?;
                if timeline.entries.iter().any(|entry| entry.kind == TimelineKind::MachineExited) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), exited).await.context("the machine did not exit within 30 s")?
    }
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

/// The nearest-rank percentile; `share` is 0 to 1.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small counts"
    )]
    let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len().max(1));
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

fn report(times: &[StartTimes], memories: &Memories, json: bool) -> anyhow::Result<()> {
    let rows: Vec<(&str, f64, f64)> = STAGES
        .iter()
        .map(|(name, read)| {
            let mut values: Vec<f64> = times.iter().map(read).collect();
            (*name, percentile(&mut values, 0.5), percentile(&mut values, 0.95))
        })
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "the memory of a machine fits in the mantissa")]
    let mib = |read: fn(&anteroom_machine::MemoryUsage) -> u64| {
        let mut values: Vec<f64> = memories.iter().map(|memory| read(memory) as f64 / (1 << 20) as f64).collect();
        percentile(&mut values, 0.5)
    };
    let (pss, private) = (mib(|memory| memory.pss_bytes), mib(|memory| memory.private_bytes));
    if json {
        let stages: Vec<_> = rows
            .iter()
            .map(|(name, p50, p95)| serde_json::json!({ "stage": name, "p50_ms": p50, "p95_ms": p95 }))
            .collect();
        let all = serde_json::json!({ "starts": times.len(), "stages": stages, "machines": memories.len(),
            "memory_mib_p50": { "proportional": pss, "private": private } });
        print_line(serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    let mut table = Table::new(["from the start request to …", "p50 ms", "p95 ms"]);
    for (name, p50, p95) in rows {
        table.add_row([name.to_owned(), format!("{p50:.0}"), format!("{p95:.0}")]);
    }
    print_line(table);
    print_line(format_args!("\n{} sequential starts.", times.len()));
    print_line(format_args!(
        "Memory of an idle machine (median of {}): {pss:.0} MiB proportional, {private:.0} MiB private.",
        memories.len()
    ));
    Ok(())
}
