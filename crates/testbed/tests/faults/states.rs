//! A server with one session in every state, each held there by a real condition.
//!
//! | state | held by |
//! |---|---|
//! | `vm_creating`, queued | all machine slots are in use |
//! | `vm_creating`, machine requested | the machine's keeper is paused before it starts the machine |
//! | `vm_created` | the machine's display is paused |
//! | `vm_started` | the tool waits |
//! | `authenticating` | the tool opens a URL and waits |
//! | `authenticating`, delivering | the database rejects this one credential; the agent keeps it and retries |
//! | `vm_stopped` | the machine was killed, and the keeper of the next one is paused |

use crate::viewer::Viewer;
use anteroom_testbed::{
    ApiClient, PausePoint, PlainProcess, Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX,
    measure_recovery::current_machine, processes,
};
use anteroom_wire::{
    MachineId, SessionId, TimelineKind,
    agent::Stage,
    api::{SessionStatus, SessionView},
};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{fmt, fs, time::Duration};
use tokio::time::{Instant, sleep};

/// The state in which a session is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Queued,
    MachineRequested,
    Created,
    Started,
    Authenticating,
    Delivering,
    Stopped,
    Completed,
    Failed,
    Cancelled,
    Expired,
}

impl State {
    pub(crate) const ALL: [Self; 11] = [
        Self::Queued,
        Self::MachineRequested,
        Self::Created,
        Self::Started,
        Self::Authenticating,
        Self::Delivering,
        Self::Stopped,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The status in the API.
    pub(crate) fn status(self) -> SessionStatus {
        match self {
            Self::Queued | Self::MachineRequested => SessionStatus::VmCreating,
            Self::Created => SessionStatus::VmCreated,
            Self::Started => SessionStatus::VmStarted,
            Self::Authenticating | Self::Delivering => SessionStatus::Authenticating,
            Self::Stopped => SessionStatus::VmStopped,
            Self::Completed => SessionStatus::Completed,
            Self::Failed => SessionStatus::Failed,
            Self::Cancelled => SessionStatus::Cancelled,
            Self::Expired => SessionStatus::Expired,
        }
    }

    /// Whether a viewer gets a picture.
    pub(crate) fn has_desktop(self) -> bool {
        matches!(self, Self::Started | Self::Authenticating | Self::Delivering)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Queued => "`vm_creating`, queued",
            Self::MachineRequested => "`vm_creating`, machine requested",
            Self::Created => "`vm_created`",
            Self::Started => "`vm_started`",
            Self::Authenticating => "`authenticating`",
            Self::Delivering => "`authenticating`, delivering",
            Self::Stopped => "`vm_stopped`",
            Self::Completed => "`completed`",
            Self::Failed => "`failed`",
            Self::Cancelled => "`cancelled`",
            Self::Expired => "`expired`",
        })
    }
}

/// A session that is held in a state.
#[derive(Debug)]
pub(crate) struct HeldSession {
    pub state: State,
    pub id: SessionId,
    pub viewer: Option<Viewer>,
    /// 1 for the first machine.
    pub generation: u32,
}

/// The server and its held sessions.
pub(crate) struct FaultFixture {
    pub server: TestServer,
    pub sessions: Vec<HeldSession>,
}

/// Machine slots: as many as the states before the queued one need.
const MACHINES: u32 = 6;

/// The configuration of all fixtures. `http.drain_ms_max` is short so that held sessions do not prolong a graceful stop.
const SETTINGS: &str = "
[log]
level = 'info'
[machines]
machines_max = 6
disk_free_mib_min = 0
[sessions]
socket_wait_ms_max = 240000
[limits.store]
busy_ms_max = 20000
[limits.machines]
ping_every_ms = 200
ping_ms_max = 600
liveness_timeout_ms = 2000
[limits.sessions]
reconcile_every_ms = 100
delivery_retry_ms_max = 500
[limits.tunnel]
stall_ms_max = 2000
[http]
drain_ms_max = 3000
";

/// Waits for flag files in the machine's home directory: at `url` it opens a URL, at `go` it writes the credential.
fn provider() -> ScriptedProvider {
    ScriptedProvider::new(
        "scripted",
        Script::new([
            wait("url"),
            Step::OpenUrlWithBrowser { url: URL.to_owned() },
            wait("go"),
            Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"x\"}"),
            wait("never"),
        ]),
    )
}

/// Providers with the same tool, which ends with exit code 3 at the flag `crash`: in `vm_started`, in `authenticating` and during the delivery.
fn crashing_providers() -> [ScriptedProvider; 3] {
    let url = || Step::OpenUrlWithBrowser { url: URL.to_owned() };
    let crash = || [wait("crash"), Step::Exit { code: 3 }];
    let write = || Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"x\"}");
    let provider = |id: &str, steps: Vec<Step>| ScriptedProvider::new(id, Script::new(steps));
    [
        provider("crash_started", crash().into()),
        provider("crash_authenticating", [vec![wait("url"), url()], crash().into()].concat()),
        provider("crash_delivering", [vec![wait("url"), url(), wait("go"), write()], crash().into()].concat()),
    ]
}

const URL: &str = "https://id.example/authorize?state=1";

fn wait(flag: &str) -> Step {
    Step::WaitForFile { path: flag.into(), ms_max: 600_000 }
}

/// Options of a fixture.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FixtureOptions {
    /// Its tools can crash.
    pub tools_can_crash: bool,
    /// Its viewers stop reading after the first picture.
    pub stalled_viewers: bool,
    /// Its server has a short database timeout.
    pub short_database_timeout: bool,
}

impl FaultFixture {
    /// Starts sessions in all states.
    pub(crate) async fn start(options: FixtureOptions) -> Self {
        Self::start_prepared(options, |_| ()).await
    }

    /// Starts sessions in all states; `prepare` is called while the server is stopped.
    pub(crate) async fn start_prepared(options: FixtureOptions, prepare: impl FnOnce(&TestServer)) -> Self {
        let mut providers = vec![provider()];
        providers.extend(crashing_providers());
        let busy = if options.short_database_timeout { "busy_ms_max = 2500" } else { "busy_ms_max = 20000" };
        let config =
            TestConfig::with_providers(providers).with_settings(&SETTINGS.replace("busy_ms_max = 20000", busy));
        let server = TestServer::start(config).await.unwrap();
        let mut fixture = Self { server, sessions: Vec::new() };
        fixture.start_expired_session(prepare).await;
        fixture.start_ended_sessions().await;
        fixture.start_active_sessions(options).await;
        fixture
    }

    pub(crate) fn api(&self) -> ApiClient {
        self.server.backend_client().unwrap()
    }

    pub(crate) fn add(&mut self, state: State, id: SessionId, viewer: Option<Viewer>, generation: u32) {
        self.sessions.push(HeldSession { state, id, viewer, generation });
    }

    /// An idle session expires on a server with a short idle timeout, which is then restarted with the usual one.
    async fn start_expired_session(&mut self, prepare: impl FnOnce(&TestServer)) {
        let config = self.server.path().join("config.toml");
        let config_text = fs::read_to_string(&config).unwrap();
        let short_idle_text = config_text.replace("[sessions]", "[sessions]\nidle_s_max = 1");
        assert_ne!(config_text, short_idle_text);
        self.server.stop_server().await.unwrap();
        prepare(&self.server);
        fs::write(&config, short_idle_text).unwrap();
        self.server.start_server().await.unwrap();
        let id = self.api().start_session("scripted").await.unwrap().session.id;
        self.api().wait_status(&id, SessionStatus::Expired).await.unwrap();
        self.server.wait_machines_removed().await.unwrap();
        self.server.stop_server().await.unwrap();
        fs::write(&config, config_text).unwrap();
        self.server.start_server().await.unwrap();
        self.add(State::Expired, id, None, 1);
    }

    async fn start_ended_sessions(&mut self) {
        let api = self.api();
        let id = self.start_ready("scripted").await;
        self.set_flag(&id, "url").await;
        self.set_flag(&id, "go").await;
        api.wait_status(&id, SessionStatus::Completed).await.unwrap();
        self.add(State::Completed, id, None, 1);
        let id = self.start_ready("scripted").await;
        api.cancel_session(&id).await.unwrap();
        self.add(State::Cancelled, id, None, 1);
        let id = self.start_ready("scripted").await;
        let mut generation = 1;
        loop {
            kill_machine(&self.server, &id).await;
            let next = generation + 1;
            let view = api
                .wait_until(&id, "replaced or failed", |view| {
                    view.status.is_ended() || view.generation == next && view.status == SessionStatus::VmStarted
                })
                .await
                .unwrap();
            if view.status == SessionStatus::Failed {
                break;
            }
            generation = next;
        }
        self.add(State::Failed, id, None, generation);
        self.server.wait_machines_removed().await.unwrap();
    }

    async fn start_active_sessions(&mut self, options: FixtureOptions) {
        let provider = |crashing: &'static str| if options.tools_can_crash { crashing } else { "scripted" };
        let id = self.start_ready(provider("crash_started")).await;
        self.add_with_viewer(State::Started, id, options).await;

        let id = self.start_ready(provider("crash_authenticating")).await;
        self.set_flag(&id, "url").await;
        self.api().wait_status(&id, SessionStatus::Authenticating).await.unwrap();
        self.add_with_viewer(State::Authenticating, id, options).await;

        let id = self.start_ready(provider("crash_delivering")).await;
        reject_credential(&self.server, &id).await;
        self.set_flag(&id, "url").await;
        self.set_flag(&id, "go").await;
        self.api().wait_entry(&id, TimelineKind::DeliveryRetry).await.unwrap();
        self.add_with_viewer(State::Delivering, id, options).await;

        let stopped = self.start_ready("scripted").await;
        self.server.pause(PausePoint::DesktopStart).unwrap();
        self.start_created(options).await;

        self.server.pause(PausePoint::KeeperStart).unwrap();
        kill_machine(&self.server, &stopped).await;
        self.wait_machine_requested(&stopped, 2).await;
        self.api().wait_status(&stopped, SessionStatus::VmStopped).await.unwrap();
        self.add_with_viewer(State::Stopped, stopped, options).await;

        let id = self.api().start_session("scripted").await.unwrap().session.id;
        self.wait_machine_requested(&id, 1).await;
        self.add_with_viewer(State::MachineRequested, id, options).await;

        assert_eq!(self.server.list_machines().len(), MACHINES as usize, "a machine for each");
        let id = self.api().start_session("scripted").await.unwrap().session.id;
        let first = |view: &SessionView| view.queue_position == Some(1);
        self.api().wait_until(&id, "queued", first).await.unwrap();
        self.add_with_viewer(State::Queued, id, options).await;
        self.sessions.sort_by_key(|held| held.state);
    }

    /// Only one session, whose machine waits for its display until the ready timeout.
    pub(crate) async fn start_with_created_session(ready_ms_max: u64) -> Self {
        let machines =
            PlainProcess { providers: vec![provider()], ready_ms_max: Some(ready_ms_max), ..PlainProcess::default() };
        let config = TestConfig::new(machines).with_settings(SETTINGS);
        let mut fixture = Self { server: TestServer::start(config).await.unwrap(), sessions: Vec::new() };
        fixture.server.pause(PausePoint::DesktopStart).unwrap();
        fixture.start_created(FixtureOptions::default()).await;
        fixture
    }

    async fn start_created(&mut self, options: FixtureOptions) {
        let id = self.api().start_session("scripted").await.unwrap().session.id;
        let waits = |view: &SessionView| view.status == SessionStatus::VmCreated && view.stage == Some(Stage::Display);
        self.api().wait_until(&id, "waiting for its display", waits).await.unwrap();
        self.add_with_viewer(State::Created, id, options).await;
    }

    async fn start_ready(&self, provider: &str) -> SessionId {
        let id = self.api().start_session(provider).await.unwrap().session.id;
        self.api().wait_status(&id, SessionStatus::VmStarted).await.unwrap();
        id
    }

    /// Waits until the paused keeper of this session's machine exists.
    async fn wait_machine_requested(&self, id: &SessionId, machines: usize) {
        let until = Instant::now() + WAIT_MAX;
        loop {
            let timeline = self.api().get_timeline(id).await.unwrap();
            let requested =
                timeline.iter().filter(|entry| entry.kind == TimelineKind::MachineRequested).count() == machines;
            let state = self.server.state_dir();
            if requested
                && processes::find_keeper_pid(&state, &current_machine(&self.api(), id).await.unwrap()).is_some()
            {
                return;
            }
            assert!(Instant::now() < until, "no machine was requested: {timeline:#?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Connects a viewer and adds the session.
    async fn add_with_viewer(&mut self, state: State, id: SessionId, options: FixtureOptions) {
        let viewer = self.connect_viewer(state, &id, options.stalled_viewers).await;
        let view = self.api().get_session(&id).await.unwrap();
        assert_eq!(view.status, state.status(), "{state}");
        self.add(state, id, Some(viewer), view.generation);
    }

    /// Connects a viewer and waits for a picture if the state has a desktop; otherwise its socket waits.
    pub(crate) async fn connect_viewer(&self, state: State, id: &SessionId, stalled: bool) -> Viewer {
        let api = self.api();
        let socket = if state.has_desktop() {
            let mut viewer = api.connect_desktop(id).await.unwrap();
            viewer.request_full_frame().await.unwrap();
            viewer.into_inner()
        } else {
            api.open_desktop_socket(id).await.unwrap()
        };
        if stalled { Viewer::Stalled(Box::new(socket)) } else { Viewer::reading(socket) }
    }

    /// Sets a flag for the session's tool.
    pub(crate) async fn set_flag(&self, id: &SessionId, name: &str) {
        let machine = current_machine(&self.api(), id).await.unwrap();
        fs::write(self.server.tool_home(&machine).join(name), "").unwrap();
    }

    /// The session's latest machine.
    pub(crate) async fn machine(&self, id: &SessionId) -> Option<MachineId> {
        current_machine(&self.api(), id).await.ok()
    }
}

/// Kills the process of the session's machine.
async fn kill_machine(server: &TestServer, id: &SessionId) {
    let machine = current_machine(&server.backend_client().unwrap(), id).await.unwrap();
    processes::kill_process(processes::find_machine_pid(&server.state_dir(), &machine).unwrap()).unwrap();
}

/// The server's database, opened by the test.
pub(crate) async fn database(server: &TestServer) -> SqliteConnection {
    let file = server.state_dir().join("anteroom.db");
    SqliteConnectOptions::new().filename(file).busy_timeout(WAIT_MAX).connect().await.unwrap()
}

/// Makes the database reject credentials of this session only.
async fn reject_credential(server: &TestServer, id: &SessionId) {
    let mut database = database(server).await;
    let trigger = format!(
        "CREATE TRIGGER reject_one BEFORE INSERT ON credentials WHEN NEW.session_id = '{id}' \
         BEGIN SELECT RAISE(ABORT, 'not yet'); END"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}

/// Makes the database accept all credentials again.
pub(crate) async fn accept_credentials(server: &TestServer) {
    let mut database = database(server).await;
    sqlx::raw_sql("DROP TRIGGER IF EXISTS reject_one").execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}
