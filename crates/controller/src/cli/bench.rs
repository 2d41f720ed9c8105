//! `anteroom bench start`: a session's start, stage by stage, and the memory of an idle machine. Runs a server of its own
//! on a free port with a state directory of its own, and looks at it as a viewer does: over HTTP and a WebSocket.

use super::{machine_environment, print_line};
use crate::{
    config::Config,
    random,
    rfb::{RfbClient, ViewerSocket},
    server::{self, Server, StateDir},
};
use anteroom_store::{NewCaller, Role, Sha256Hex};
use anteroom_wire::{
    CallerId,
    api::{SessionView, StartRequest, StartResponse, Ticket, Timeline},
};
use anyhow::Context;
use clap::Subcommand;
use comfy_table::{Table, presets};
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// How long one look at a desktop may take, milliseconds.
const LOOK_MS_MAX: u64 = 60_000;
/// Machines whose memory is looked at together.
const IDLE_MACHINES: u32 = 4;
/// The provider that only waits.
const WAITING: &str = "waiting";
/// How long they are left alone before.
const IDLE_S: u64 = 3;

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Time from asking for a session to its first full picture, and the memory of an idle machine.
    Start {
        /// Sessions, one after the other.
        #[arg(long, default_value_t = 30)]
        count: u32,
        /// The tool to start. Default: none, the terminal waits.
        #[arg(long, default_value = WAITING)]
        provider: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Milliseconds since the session was asked for.
#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    accepted: f64,
    process: f64,
    agent: f64,
    claimed: f64,
    greeted: f64,
    picture: f64,
}

/// A stage's name and how to read its mark.
type Column = (&'static str, fn(&Marks) -> f64);

const STAGES: [Column; 6] = [
    ("accepted (202)", |marks| marks.accepted),
    ("cloned (process runs)", |marks| marks.process),
    ("agent answers", |marks| marks.agent),
    ("claimed", |marks| marks.claimed),
    ("desktop greets the viewer", |marks| marks.greeted),
    ("first full picture", |marks| marks.picture),
];

pub(super) async fn run(mut config: Config, command: BenchCommand) -> anyhow::Result<ExitCode> {
    let BenchCommand::Start { count, provider, json } = command;
    let state = tempfile::tempdir()?;
    config.state_dir = state.path().to_owned();
    config.listen = ([127, 0, 0, 1], 0).into();
    config.public_url = None;
    config.providers.insert(WAITING.into(), waiting().context("the waiting provider")?);
    let environment = machine_environment::prepare(&config).await?;
    let dir = StateDir::take(&config.state_dir)?;
    let server = server::start(config, &dir, environment, true).await?;
    let measured = measure(&server, &provider, count).await;
    let emptied = empty(&server).await;
    server.stop().await;
    // What went wrong first is the cause of what follows.
    let (marks, memory) = measured?;
    emptied?;
    report(&marks, &memory, json)?;
    Ok(ExitCode::SUCCESS)
}

/// A provider whose tool only waits, so that the figures are the machine's own.
fn waiting() -> Result<toml::Table, toml::de::Error> {
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

/// Ends what is left, so that no machine outlives the bench.
async fn empty(server: &Server) -> anyhow::Result<()> {
    for (machine, _) in server.app.machines.list() {
        server.app.machines.stop(&machine, anteroom_machine::StopReason::Operator);
    }
    let gone = async {
        while server.app.machines.count() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.context("machines did not end")
}

type Memories = Vec<anteroom_machine::Memory>;

async fn measure(server: &Server, provider: &str, count: u32) -> anyhow::Result<(Vec<Marks>, Memories)> {
    let client = Viewer::new(server, provider).await?;
    let mut marks = Vec::new();
    // The first start also warms the page cache and QEMU's own files.
    for number in 0..=count {
        let (id, mark) = client.start().await?;
        client.cancel(&id).await?;
        if number > 0 {
            marks.push(mark);
        }
    }
    let mut idle = Vec::new();
    for _ in 0..IDLE_MACHINES.min(server.app.config.machines.machines_max) {
        idle.push(client.start().await?.0);
    }
    tokio::time::sleep(Duration::from_secs(IDLE_S)).await;
    let memories =
        server.app.machines.list().iter().filter_map(|(machine, _)| server.app.machines.memory(machine)).collect();
    for id in idle {
        client.cancel(&id).await?;
    }
    Ok((marks, memories))
}

struct Viewer {
    http: reqwest::Client,
    base: String,
    token: String,
    provider: String,
}

impl Viewer {
    async fn new(server: &Server, provider: &str) -> anyhow::Result<Self> {
        let token = random::token("ant_");
        let caller = NewCaller {
            id: random::id(CallerId::from_parts),
            role: Role::Backend,
            name: "bench".into(),
            token: Sha256Hex::of_secret(&token),
            created_at_ms: crate::clock::now(),
            expires_at_ms: None,
        };
        server.app.store.create_caller(&caller).await?;
        Ok(Self {
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(LOOK_MS_MAX)).build()?,
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

    /// One start, up to the whole picture.
    async fn start(&self) -> anyhow::Result<(String, Marks)> {
        let began = Instant::now();
        let request = StartRequest {
            provider: self.provider.clone(),
            user_id: None,
            return_url: None,
            idempotency_key: None,
            machine: None,
            method: None,
            renews: None,
        };
        let started: StartResponse = self.post("/api/auth/start", &request).await?;
        let accepted = millis(began);
        let id = started.session.id.to_string();
        let path = format!("/api/auth/session/{id}");
        let ticket: Ticket = self.post(&format!("{path}/ticket"), &serde_json::json!({ "purpose": "desktop" })).await?;
        let url = format!("ws://{}{path}/novnc/websock", self.base);
        let protocols = format!("binary, ticket.{}", ticket.ticket);
        let socket = ViewerSocket::dial(&url, &[("sec-websocket-protocol", &protocols)], LOOK_MS_MAX).await?;
        let mut desktop = RfbClient::connect(socket, LOOK_MS_MAX).await?;
        let greeted = millis(began);
        desktop.whole_frame().await?;
        let picture = millis(began);
        let marks = self.marks(&path, accepted).await?;
        Ok((id, Marks { greeted, picture, ..marks }))
    }

    /// The stages in between, from the timeline: the server's own clock, from the session's acceptance.
    async fn marks(&self, path: &str, accepted: f64) -> anyhow::Result<Marks> {
        let request = self.http.get(format!("http://{}{path}/events", self.base)).bearer_auth(&self.token);
        let timeline: Timeline = request.send().await?.json().await?;
        let at = |kind: &str| -> anyhow::Result<f64> {
            let entry = timeline.entries.iter().find(|entry| entry.kind == kind);
            let entry = entry.with_context(|| format!("the timeline has no {kind}"))?;
            let at: jiff::Timestamp = entry.at.parse()?;
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of today fit")]
            Ok(at.as_millisecond() as f64)
        };
        let ready = timeline.entries.iter().find(|entry| entry.kind == "machine_ready").context("not ready")?;
        let timing = |name: &str| ready.data["timings"][name].as_f64().unwrap_or(f64::NAN);
        let asked = at("machine_requested")? - at("accepted")?;
        Ok(Marks {
            accepted,
            process: asked + timing("spawned_ms"),
            agent: asked + timing("ready_ms"),
            claimed: at("machine_ready")? - at("accepted")?,
            ..Marks::default()
        })
    }

    /// Ends the session and waits until its machine is gone, so that starts do not disturb each other.
    async fn cancel(&self, id: &str) -> anyhow::Result<()> {
        let path = format!("/api/auth/session/{id}");
        let _: SessionView = self.post(&format!("{path}/cancel"), &()).await?;
        let gone = async {
            loop {
                let request = self.http.get(format!("http://{}{path}/events", self.base)).bearer_auth(&self.token);
                let timeline: Timeline = request.send().await?.json().await?;
                if timeline.entries.iter().any(|entry| entry.kind == "machine_exited") {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.context("the machine did not end")?
    }
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

/// The value below which `share` of all lie (nearest rank).
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

fn report(marks: &[Marks], memories: &Memories, json: bool) -> anyhow::Result<()> {
    let rows: Vec<(&str, f64, f64)> = STAGES
        .iter()
        .map(|(name, read)| {
            let mut values: Vec<f64> = marks.iter().map(read).collect();
            (*name, percentile(&mut values, 0.5), percentile(&mut values, 0.95))
        })
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "bytes of a machine fit")]
    let mib = |read: fn(&anteroom_machine::Memory) -> u64| {
        let mut values: Vec<f64> = memories.iter().map(|memory| read(memory) as f64 / (1 << 20) as f64).collect();
        percentile(&mut values, 0.5)
    };
    let (pss, private) = (mib(|memory| memory.pss_bytes), mib(|memory| memory.private_bytes));
    if json {
        let stages: Vec<_> = rows
            .iter()
            .map(|(name, p50, p95)| serde_json::json!({ "stage": name, "p50_ms": p50, "p95_ms": p95 }))
            .collect();
        let all = serde_json::json!({ "starts": marks.len(), "stages": stages, "machines": memories.len(),
            "memory_mib_p50": { "proportional": pss, "private": private } });
        print_line(serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["from asking to …", "p50 ms", "p95 ms"]);
    for (name, p50, p95) in rows {
        table.add_row([name.to_owned(), format!("{p50:.0}"), format!("{p95:.0}")]);
    }
    print_line(table);
    print_line(format_args!("\n{} starts, one after the other.", marks.len()));
    print_line(format_args!(
        "Memory of an idle machine (median of {}): {pss:.0} MiB proportional, {private:.0} MiB private.",
        memories.len()
    ));
    Ok(())
}
