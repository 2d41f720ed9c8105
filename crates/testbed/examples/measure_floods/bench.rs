//! The server that is flooded, its sessions, and what a flood costs. Responses are read as JSON, so that another release's server can
//! be measured.

use crate::observer::{Observed, Observer};
use anteroom_rfb::client::ViewerSocket;
use anteroom_testbed::{
    ApiClient, PlainProcess, ScriptedProvider, TestConfig, TestServer, WAIT_MAX, eventually,
    processes::read_resource_usage,
};
use anyhow::Context;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use std::{
    fmt::Display,
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// The token of the external machine's agent.
pub(crate) const AGENT_TOKEN: &str = "the-token-of-a-hostile-agent";
/// How long after a flood the memory is measured again.
const REST_AFTER: Duration = Duration::from_secs(10);
/// Reads and viewers before the memory at rest is measured: the first ones load code.
const WARM_UP: Duration = Duration::from_secs(4);

pub(crate) struct Bench {
    pub(crate) server: TestServer,
    pub(crate) attacker: ApiClient,
    /// The session whose viewer floods.
    pub(crate) attacked: String,
    /// How long a flood lasts.
    pub(crate) duration: Duration,
    /// The session of the other backend, whose status is read.
    read: String,
    other_token: String,
    attacker_token: String,
    rest_kib: u64,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// Starts the server, or that of another build, with a session of the attacker, one on an external machine, and one of
    /// another backend.
    pub(crate) async fn start(duration: Duration, program: Option<PathBuf>) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let token_file = dir.path().join("token");
        fs::write(&token_file, AGENT_TOKEN)?;
        fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600))?;
        // Releases before HTTP/2 was a setting always served it.
        let http2 = if program.is_none() { "[http]\nhttp2 = true\n" } else { "" };
        let settings = format!(
            "[log]\nlevel = 'info'\n{http2}[external_machines.desk]\ndesktop = 'vnc://127.0.0.1:1'\nagent_token_file = {token_file:?}\n"
        );
        let provider = ScriptedProvider::idle("idle").without_descriptor_key("sign_in_hosts");
        let providers = vec![provider.with_descriptor_key("lanes", json!(["terminal"]))];
        let machines = PlainProcess { providers, program, ..PlainProcess::default() };
        let server = TestServer::start(TestConfig::new(machines).with_settings(&settings)).await?;
        let attacker = server.backend_client()?.without_response_recording();
        let other = server.other_backend_client()?.without_response_recording();
        let attacked = start_session(&attacker, json!({ "provider": "idle" })).await?;
        start_session(&attacker, json!({ "provider": "idle", "machine": "desk" })).await?;
        let read = start_session(&other, json!({ "provider": "idle" })).await?;
        let [attacker_token, other_token] = [0, 1].map(|number| server.backend_tokens()[number].expose().to_owned());
        let mut bench =
            Self { server, attacker, attacked, duration, read, other_token, attacker_token, rest_kib: 0, _dir: dir };
        bench.warm_up().await?;
        bench.rest_kib = bench.memory_kib()?;
        Ok(bench)
    }

    async fn warm_up(&self) -> anyhow::Result<()> {
        let observer = self.observe()?;
        let _desktop = self.open_desktop().await?;
        let _terminal = self.open_socket("terminal", "terminal").await?;
        sleep(WARM_UP).await;
        observer.finish().map(drop)
    }

    /// A line of a request head that authenticates the attacker, who is a backend.
    pub(crate) fn attacker_line(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.attacker_token)
    }

    fn observe(&self) -> anyhow::Result<Observer> {
        let address = self.server.address()?;
        let request = format!(
            "GET /api/auth/session/{} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            self.read, self.other_token
        );
        Ok(Observer::start(self.server.server_pid()?, address, request))
    }

    /// No flood.
    pub(crate) async fn rest(&self) -> anyhow::Result<String> {
        sleep(self.duration).await;
        Ok("idle".to_owned())
    }

    /// Prints a row for one flood, which returns what its client did.
    pub(crate) async fn measure(
        &self,
        name: &str,
        flood: impl Future<Output = anyhow::Result<String>>,
    ) -> anyhow::Result<()> {
        let (database, log, observer) = (self.database_kib().await?, self.log_lines(), self.observe()?);
        let flooded = flood.await;
        let observed = observer.finish()?;
        let flooded = flooded.with_context(|| name.to_owned())?;
        sleep(REST_AFTER).await;
        let Observed { reads, failed, peak_kib } = observed;
        let after = self.mib_over_rest(self.memory_kib()?);
        let grown = self.database_kib().await?.saturating_sub(database);
        let kept = self.log_lines();
        let log = if kept >= log { "kept".to_owned() } else { format!("{} of {log} lines lost", log - kept) };
        let [p50, p95] = [50, 95].map(|percent| ms(reads.nearest_rank_percentile(percent)));
        let reads = format!("p50 {p50}, p95 {p95}, max {} (n = {})", ms(reads.max()), reads.count());
        let peak = self.mib_over_rest(peak_kib);
        println!("| {name} | {flooded} | {peak} | {after} | {reads} | {failed} | {grown} | {log} |");
        Ok(())
    }

    fn memory_kib(&self) -> anyhow::Result<u64> {
        Ok(read_resource_usage(self.server.server_pid()?).context("the server's memory")?.resident_kib)
    }

    fn mib_over_rest(&self, kib: u64) -> u64 {
        kib.saturating_sub(self.rest_kib) / 1024
    }

    /// The pages of the database that are in use, KiB.
    async fn database_kib(&self) -> anyhow::Result<u64> {
        let file = self.server.state_dir().join("anteroom.db");
        let mut database = SqliteConnectOptions::new().filename(file).read_only(true).connect().await?;
        let used = "SELECT (page_count - freelist_count) * page_size / 1024 \
                    FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        let used: i64 = sqlx::query_scalar(used).fetch_one(&mut database).await?;
        Ok(u64::try_from(used)?)
    }

    /// The lines of the log about the other backend's session.
    fn log_lines(&self) -> usize {
        let files = fs::read_dir(self.server.state_dir().join("log")).into_iter().flatten().flatten();
        let texts = files.map(|file| fs::read(file.path()).unwrap_or_default());
        texts.map(|text| String::from_utf8_lossy(&text).matches(&self.read).count()).sum()
    }

    /// Opens a WebSocket of the attacked session.
    pub(crate) async fn open_socket(&self, endpoint: &str, purpose: &str) -> anyhow::Result<ViewerSocket> {
        let path = format!("/api/auth/session/{}", self.attacked);
        let ticket = post(&self.attacker, &format!("{path}/ticket"), json!({ "purpose": purpose })).await?;
        let protocols = format!("binary, ticket.{}", ticket["ticket"].as_str().context("a ticket")?);
        Ok(self.attacker.open_websocket(&format!("{path}/{endpoint}"), &protocols, false).await?)
    }

    /// Ends the server.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.server.stop_and_check_leaks().await
    }
}

/// Milliseconds with one digit.
fn ms(took: Duration) -> impl Display {
    format!("{:.1}", took.as_secs_f64() * 1_000.0)
}

async fn post(client: &ApiClient, path: &str, body: Value) -> anyhow::Result<Value> {
    client.post(path, body).await?.parse()
}

/// Starts a session and waits until its machine runs; returns its id.
async fn start_session(client: &ApiClient, request: Value) -> anyhow::Result<String> {
    let started = post(client, "/api/auth/start", request).await?;
    let id = started["session"]["id"].as_str().context("a session's id")?.to_owned();
    let path = format!("/api/auth/session/{id}");
    let running = async || {
        let session: Value = client.get(&path).await?.parse()?;
        Ok((session["status"] == "vm_started").then_some(()))
    };
    eventually("the machine runs", WAIT_MAX, running).await?;
    Ok(id)
}

/// The time that is left until then.
pub(crate) fn left_until(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}
