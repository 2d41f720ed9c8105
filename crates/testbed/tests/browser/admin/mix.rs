//! A server with 200 sessions of a scripted mix, of several callers, users and tools.

use super::receiver::Receiver;
use anteroom_testbed::{ApiClient, Script, ScriptedProvider, Step, TestConfig, TestServer};
use anteroom_wire::{
    MachineId, Secret, SessionId, TimelineKind,
    api::{SessionStatus, StartRequest},
    diagnosis::Verdict,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::Path};

const UNREACHABLE: &str = "login.example:443";
const DENIED: &str = "tracker.example:8443";
const RARELY_DENIED: &str = "ads.example:443";

/// Sessions by what becomes of them.
pub(crate) const BLOCKED: usize = 12;
pub(crate) const DECLINED: usize = 6;
pub(crate) const TOOL_MISSING: usize = 6;
pub(crate) const IDLE: usize = 6;
pub(crate) const COMPLETED: usize = 75;
pub(crate) const EXPIRING: usize = 5;
pub(crate) const COMPLETED_DENIED: usize = 40;
pub(crate) const CANCELLED: usize = 26;
pub(crate) const KILLED: usize = 10;
pub(crate) const LIVE: usize = 8;
pub(crate) const QUEUED: usize = 6;
pub(crate) const ALL: usize = BLOCKED
    + DECLINED
    + TOOL_MISSING
    + IDLE
    + COMPLETED
    + EXPIRING
    + COMPLETED_DENIED
    + CANCELLED
    + KILLED
    + LIVE
    + QUEUED;
const _: () = assert!(ALL == 200, "the mix has 200 sessions");

const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// What the test knows about the server.
pub(crate) struct Mix {
    _dir: tempfile::TempDir,
    _receiver: Receiver,
    pub(crate) server: TestServer,
    pub(crate) without_egress: BTreeSet<SessionId>,
    pub(crate) declined: BTreeSet<SessionId>,
    pub(crate) killed: BTreeSet<SessionId>,
    pub(crate) live: Vec<SessionId>,
    pub(crate) queued: BTreeSet<SessionId>,
    /// A session that an operator ended.
    pub(crate) ended_by_operator: SessionId,
    /// The name of a token that an operator created and that started sessions.
    pub(crate) token: &'static str,
    pub(crate) person_link: String,
}

fn providers(dir: &Path) -> Vec<ScriptedProvider> {
    let connect = |authority: &str| Step::ProxyConnect { authority: authority.to_owned() };
    let write = |content: &Value| Step::write(ScriptedProvider::CREDENTIAL_PATH, content.to_string());
    let wait = || Step::WaitForFile { path: dir.join("never"), ms_max: 600_000 };
    let soon_ms = anteroom_controller::unix_time::now_unix_ms() + 3 * DAY_MS;
    let complete = || write(&json!({ "token": "x" }));
    let expiry = json!({
        "paths": [ScriptedProvider::CREDENTIAL_PATH],
        "required": ["/token"],
        "expires_at": { "pointer": "/expires", "unit": "unix_ms" },
    });
    let declined = Script::new([Step::print_line("the sign-in was denied"), Step::Exit { code: 1 }]);
    vec![
        ScriptedProvider::new("quick", Script::new([complete()])),
        ScriptedProvider::new("expiring", Script::new([write(&json!({ "token": "x", "expires": soon_ms }))]))
            .with_descriptor_key("credential", expiry),
        ScriptedProvider::new("curious", Script::new([connect(DENIED), complete()])),
        ScriptedProvider::new("waits", Script::new([connect(RARELY_DENIED), wait()])),
        ScriptedProvider::idle("idle"),
        ScriptedProvider::new("blocked", Script::new([connect(UNREACHABLE), Step::Exit { code: 1 }]))
            .with_egress("login.example", 443),
        ScriptedProvider::new("declined", declined),
        ScriptedProvider::new("missing", Script::default()).with_descriptor_key("argv", json!(["/nonexistent/tool"])),
    ]
}

/// The machines and idle time of the phases, which [`change_phase`] replaces.
const WAITING_PHASE: [&str; 2] = ["idle_s_max = 600", "machines_max = 40"];
const EXPIRING_PHASE: [&str; 2] = ["idle_s_max = 1", "machines_max = 40"];
const MAIN_PHASE: [&str; 2] = ["idle_s_max = 601", "machines_max = 8"];

fn settings(receiver: &Receiver, dir: &Path) -> String {
    let rates = ["read", "change", "start", "ticket", "login"]
        .map(|class| format!("[limits.rates.{class}]\nper_s = 10000\nburst = 100000\n"));
    let [idle, machines] = WAITING_PHASE;
    format!(
        "[sessions]\n{idle}\nrestarts_max = 0\nqueue_max = 200\nqueue_by_caller_max = 200\ncapture_stable_ms = 50\n\
         [machines]\n{machines}\n[limits.sessions]\nreconcile_every_ms = 50\n{}{}",
        receiver.settings(dir),
        rates.concat()
    )
}

/// Restarts the server with the settings of another phase.
async fn change_phase(server: &mut TestServer, before: [&str; 2], after: [&str; 2]) {
    server.stop_server().await.unwrap();
    let config = server.path().join("config.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    for (before, after) in before.iter().zip(after) {
        assert!(text.contains(before), "{text}");
        text = text.replace(before, after);
    }
    std::fs::write(config, text).unwrap();
    server.start_server().await.unwrap();
}

async fn start(api: &ApiClient, provider: &str, count: usize) -> Vec<SessionId> {
    let one = async |number: usize| {
        let request = StartRequest { user_id: Some(format!("{provider}-{number}")), ..StartRequest::new(provider) };
        api.start_session_with(&request).await.unwrap().session.id
    };
    join_all((0..count).map(one)).await
}

async fn wait_status(api: &ApiClient, sessions: &[SessionId], status: SessionStatus) {
    join_all(sessions.iter().map(async |id| api.wait_status(id, status).await.unwrap())).await;
}

/// The machine that was requested for the session, once its tool runs.
pub(crate) async fn machine_of(api: &ApiClient, id: &SessionId) -> MachineId {
    api.wait_entry(id, TimelineKind::CliStarted).await.unwrap();
    let requested = api.wait_entry(id, TimelineKind::MachineRequested).await.unwrap();
    requested.data["machine"].as_str().unwrap().parse().unwrap()
}

impl Mix {
    /// The name of the backend that started most sessions.
    pub(crate) async fn backend_name(&self) -> String {
        name_of(&self.server.backend_client().unwrap()).await
    }

    pub(crate) async fn operator_name(&self) -> String {
        name_of(&self.server.operator_client().unwrap()).await
    }

    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().await;
        // A port without a listener: it was free a moment ago.
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut config = TestConfig::with_providers(providers(dir.path()))
            .with_settings(&settings(&receiver, dir.path()))
            .with_host_override(UNREACHABLE, closed);
        config.machines.in_memory = true;
        let mut server = TestServer::start(config).await.unwrap();
        let Expired { without_egress, declined } = expire_sessions(&mut server).await;
        let (api, other) = (server.backend_client().unwrap(), server.other_backend_client().unwrap());
        let (quick, expiring, curious) = tokio::join!(
            start(&api, "quick", COMPLETED),
            start(&api, "expiring", EXPIRING),
            start(&other, "curious", COMPLETED_DENIED)
        );
        wait_status(&api, &quick, SessionStatus::Completed).await;
        wait_status(&api, &expiring, SessionStatus::Completed).await;
        wait_status(&other, &curious, SessionStatus::Completed).await;
        let token = "reports";
        let ended_by_operator = cancel_sessions(&server, token).await;
        let killed = kill_machines(&server, &api).await;
        server.wait_machines_removed().await.unwrap();
        let live = start(&api, "waits", LIVE).await;
        join_all(live.iter().map(async |id| api.wait_entry(id, TimelineKind::EgressDenied).await.unwrap())).await;
        let queued = start(&other, "waits", QUEUED).await.into_iter().collect();
        let person_link = look_at_desktop(&server, &live[0]).await;
        Self {
            _dir: dir,
            _receiver: receiver,
            server,
            without_egress,
            declined,
            killed,
            live,
            queued,
            ended_by_operator,
            token,
            person_link,
        }
    }
}

async fn name_of(client: &ApiClient) -> String {
    let caller: Value = client.get("/api/me").await.unwrap().parse().unwrap();
    caller["name"].as_str().unwrap().to_owned()
}

/// Sessions that expired after their sign-in failed.
struct Expired {
    without_egress: BTreeSet<SessionId>,
    declined: BTreeSet<SessionId>,
}

/// Starts the sessions that expire, waits until each has failed in its way, and lets all expire at once.
async fn expire_sessions(server: &mut TestServer) -> Expired {
    let api = server.backend_client().unwrap();
    let mut all = Vec::new();
    for (provider, count, verdict) in [
        ("blocked", BLOCKED, Some(Verdict::EgressUnreachable)),
        ("declined", DECLINED, Some(Verdict::CliFailed)),
        ("missing", TOOL_MISSING, Some(Verdict::CliNotStarted)),
        ("waits", IDLE, None),
    ] {
        let started = start(&api, provider, count).await;
        for id in &started {
            match verdict {
                Some(verdict) => _ = api.wait_verdict(id, verdict).await.unwrap(),
                None => _ = api.wait_entry(id, TimelineKind::EgressDenied).await.unwrap(),
            }
        }
        all.push(started);
    }
    change_phase(server, WAITING_PHASE, EXPIRING_PHASE).await;
    wait_status(&server.backend_client().unwrap(), &all.concat(), SessionStatus::Expired).await;
    server.wait_machines_removed().await.unwrap();
    change_phase(server, EXPIRING_PHASE, MAIN_PHASE).await;
    let ids = |index: usize| all[index].iter().cloned().collect();
    Expired { without_egress: ids(0), declined: ids(1) }
}

/// Cancels sessions: most by their owner, one by an operator, and two that a new token started. Returns the operator's.
async fn cancel_sessions(server: &TestServer, token: &str) -> SessionId {
    let operator = server.operator_client().unwrap();
    let created = operator.post("/api/tokens", json!({ "name": token, "role": "backend" })).await.unwrap();
    let created: Value = created.parse().unwrap();
    let reports = server.client_with_token(&Secret::new(created["secret"].as_str().unwrap().to_owned())).unwrap();
    let api = server.backend_client().unwrap();
    for id in start(&reports, "idle", 2).await {
        reports.cancel_session(&id).await.unwrap();
    }
    let mut sessions = start(&api, "idle", CANCELLED - 2).await;
    let by_operator = sessions.pop().unwrap();
    operator.cancel_session(&by_operator).await.unwrap();
    join_all(sessions.iter().map(async |id| api.cancel_session(id).await.unwrap())).await;
    by_operator
}

async fn kill_machines(server: &TestServer, api: &ApiClient) -> BTreeSet<SessionId> {
    let sessions = start(api, "idle", KILLED).await;
    // Any of them may be the ones that wait in the queue.
    let kill = async |id| {
        let machine = machine_of(api, id).await;
        server.kill_machine(&machine).unwrap();
        api.wait_status(id, SessionStatus::Failed).await.unwrap();
    };
    join_all(sessions.iter().map(kill)).await;
    sessions.into_iter().collect()
}

/// Owner and operator look at the desktop of the session. Returns a link for its person.
async fn look_at_desktop(server: &TestServer, id: &SessionId) -> String {
    for client in [server.backend_client().unwrap(), server.operator_client().unwrap()] {
        let mut viewer = client.connect_view_only_desktop(id).await.unwrap();
        viewer.request_full_frame().await.unwrap();
    }
    let path = format!("/api/auth/session/{id}/links");
    let link: Value = server.operator_client().unwrap().post(&path, json!({})).await.unwrap().parse().unwrap();
    link["url"].as_str().unwrap().to_owned()
}
