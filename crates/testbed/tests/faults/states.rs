//! A world with one session in every state, each held there by something that really happens.
//!
//! | state | held by |
//! |---|---|
//! | `vm_creating`, in line | every machine there may be is in use |
//! | `vm_creating`, asked for | the machine's keeper does not come to start it |
//! | `vm_created` | the machine's display does not come up |
//! | `vm_started` | the tool waits |
//! | `authenticating` | the tool shows an address and waits |
//! | delivering | the database refuses this one credential; the agent keeps it and tries again |
//! | `vm_stopped` | the machine was killed, and the next one's keeper does not come to start it |

use crate::viewer::Viewer;
use anteroom_testbed::{ApiClient, PausePoint, TestConfig, WAIT_MAX, Script, Step, ScriptedTool, TestServer, measure_recovery::current_machine, processes};
use anteroom_wire::{
    MachineId, SessionId,
    agent::Stage,
    api::{SessionView, Status},
};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{fmt, fs, time::Duration};
use tokio::time::{Instant, sleep};

/// Where a session is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Queued,
    Asked,
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
        Self::Asked,
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

    /// What the API says.
    pub(crate) fn status(self) -> Status {
        match self {
            Self::Queued | Self::Asked => Status::VmCreating,
            Self::Created => Status::VmCreated,
            Self::Started => Status::VmStarted,
            Self::Authenticating | Self::Delivering => Status::Authenticating,
            Self::Stopped => Status::VmStopped,
            Self::Completed => Status::Completed,
            Self::Failed => Status::Failed,
            Self::Cancelled => Status::Cancelled,
            Self::Expired => Status::Expired,
        }
    }

    /// Whether a viewer sees a picture.
    pub(crate) fn has_desktop(self) -> bool {
        matches!(self, Self::Started | Self::Authenticating | Self::Delivering)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Queued => "`vm_creating`, in line",
            Self::Asked => "`vm_creating`, asked for",
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
pub(crate) struct Held {
    pub state: State,
    pub id: SessionId,
    pub viewer: Option<Viewer>,
    /// 1 for the first machine.
    pub generation: u32,
}

/// The world and its sessions.
pub(crate) struct Scene {
    pub world: TestServer,
    pub held: Vec<Held>,
}

/// Machines at once: as many as the states need that come before the one in line.
const MACHINES: u32 = 6;

/// What all scenes are set to. `http.drain_ms_max`: what is in the way of a graceful stop must not decide its time.
const SETTINGS: &str = "
[log]
level = 'info'
[machines]
machines_max = 6
disk_free_mib_min = 0
ping_every_ms = 200
ping_ms_max = 600
liveness_timeout_s = 2
[sessions]
sweep_every_ms = 100
socket_wait_ms_max = 240000
delivery_retry_ms_max = 500
[store]
busy_ms_max = 20000
[tunnel]
stall_ms_max = 2000
[http]
drain_ms_max = 3000
";

/// Until it is told: `url` shows an address, `go` writes the credential. The files lie in the machine's own home.
fn tool() -> ScriptedTool {
    ScriptedTool::new(
        "scripted",
        Script::new([
            wait("url"),
            Step::Browser { url: URL.to_owned() },
            wait("go"),
            Step::write(ScriptedTool::CREDENTIAL, "{\"token\": \"x\"}"),
            wait("never"),
        ]),
    )
}

/// The same that ends with 3 when it is told `crash`: in `vm_started`, `authenticating` and while its credential is delivered.
fn crashing() -> [ScriptedTool; 3] {
    let url = || Step::Browser { url: URL.to_owned() };
    let crash = || [wait("crash"), Step::Exit { code: 3 }];
    let write = || Step::write(ScriptedTool::CREDENTIAL, "{\"token\": \"x\"}");
    let tool = |id: &str, steps: Vec<Step>| ScriptedTool::new(id, Script::new(steps));
    [
        tool("crash_started", crash().into()),
        tool("crash_authenticating", [vec![wait("url"), url()], crash().into()].concat()),
        tool("crash_delivering", [vec![wait("url"), url(), wait("go"), write()], crash().into()].concat()),
    ]
}

const URL: &str = "https://id.example/authorize?state=1";

fn wait(flag: &str) -> Step {
    Step::WaitFor { path: flag.into(), ms_max: 600_000 }
}

/// How a scene shall be.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wishes {
    /// Its tools can crash.
    pub crashing: bool,
    /// Its viewers read nothing after the first picture.
    pub stuck: bool,
    /// Its server does not wait long for the database.
    pub impatient: bool,
}

impl Scene {
    /// All states at once.
    pub(crate) async fn set(wishes: Wishes) -> Self {
        Self::set_in(wishes, |_| ()).await
    }

    /// All states at once; `prepare` may do something to the world while no server runs.
    pub(crate) async fn set_in(wishes: Wishes, prepare: impl FnOnce(&TestServer)) -> Self {
        let mut tools = vec![tool()];
        tools.extend(crashing());
        let busy = if wishes.impatient { "busy_ms_max = 2500" } else { "busy_ms_max = 20000" };
        let plan = TestConfig { tools, ..TestConfig::default() }.with_settings(&SETTINGS.replace("busy_ms_max = 20000", busy));
        let world = TestServer::start(plan).await.unwrap();
        let mut scene = Self { world, held: Vec::new() };
        scene.expired(prepare).await;
        scene.terminal().await;
        scene.living(wishes).await;
        scene
    }

    pub(crate) fn api(&self) -> ApiClient {
        self.world.backend().unwrap()
    }

    pub(crate) fn keep(&mut self, state: State, id: SessionId, viewer: Option<Viewer>, generation: u32) {
        self.held.push(Held { state, id, viewer, generation });
    }

    /// A session that nobody used: in a server that is impatient, which another replaces then.
    async fn expired(&mut self, prepare: impl FnOnce(&TestServer)) {
        let config = self.world.path().join("config.toml");
        let patient = fs::read_to_string(&config).unwrap();
        let impatient = patient.replace("[sessions]", "[sessions]\nidle_s_max = 1");
        assert_ne!(patient, impatient);
        self.world.stop_server().await.unwrap();
        prepare(&self.world);
        fs::write(&config, impatient).unwrap();
        self.world.start_server().await.unwrap();
        let id = self.api().start("scripted").await.unwrap().session.id;
        self.api().wait_status(&id, Status::Expired).await.unwrap();
        machines_gone(&self.world).await;
        self.world.stop_server().await.unwrap();
        fs::write(&config, patient).unwrap();
        self.world.start_server().await.unwrap();
        self.keep(State::Expired, id, None, 1);
    }

    async fn terminal(&mut self) {
        let api = self.api();
        let id = self.started("scripted").await;
        self.flag(&id, "url").await;
        self.flag(&id, "go").await;
        api.wait_status(&id, Status::Completed).await.unwrap();
        self.keep(State::Completed, id, None, 1);
        let id = self.started("scripted").await;
        api.cancel(&id).await.unwrap();
        self.keep(State::Cancelled, id, None, 1);
        let id = self.started("scripted").await;
        let mut generation = 1;
        loop {
            kill_machine(&self.world, &id).await;
            let next = generation + 1;
            let view = api
                .wait_until(&id, "replaced or failed", |view| {
                    view.status.is_terminal() || view.generation == next && view.status == Status::VmStarted
                })
                .await
                .unwrap();
            if view.status == Status::Failed {
                break;
            }
            generation = next;
        }
        self.keep(State::Failed, id, None, generation);
        machines_gone(&self.world).await;
    }

    async fn living(&mut self, wishes: Wishes) {
        let provider = |crashing: &'static str| if wishes.crashing { crashing } else { "scripted" };
        let id = self.started(provider("crash_started")).await;
        self.show(State::Started, id, wishes).await;

        let id = self.started(provider("crash_authenticating")).await;
        self.flag(&id, "url").await;
        self.api().wait_status(&id, Status::Authenticating).await.unwrap();
        self.show(State::Authenticating, id, wishes).await;

        let id = self.started(provider("crash_delivering")).await;
        refuse_credential(&self.world, &id).await;
        self.flag(&id, "url").await;
        self.flag(&id, "go").await;
        self.api().wait_entry(&id, "delivery_retry").await.unwrap();
        self.show(State::Delivering, id, wishes).await;

        let stopped = self.started("scripted").await;
        self.world.pause(PausePoint::DesktopStart).unwrap();
        self.created(wishes).await;

        self.world.pause(PausePoint::KeeperStart).unwrap();
        kill_machine(&self.world, &stopped).await;
        self.asked(&stopped, 2).await;
        self.api().wait_status(&stopped, Status::VmStopped).await.unwrap();
        self.show(State::Stopped, stopped, wishes).await;

        let id = self.api().start("scripted").await.unwrap().session.id;
        self.asked(&id, 1).await;
        self.show(State::Asked, id, wishes).await;

        assert_eq!(self.world.machines().len(), MACHINES as usize, "a machine for each");
        let id = self.api().start("scripted").await.unwrap().session.id;
        let first = |view: &SessionView| view.queue_position == Some(1);
        self.api().wait_until(&id, "in line", first).await.unwrap();
        self.show(State::Queued, id, wishes).await;
        self.held.sort_by_key(|held| held.state);
    }

    /// A session alone, whose machine waits for its display and must be ready in time.
    pub(crate) async fn only_created(ready_ms_max: u64) -> Self {
        let plan = TestConfig { tools: vec![tool()], ready_ms_max: Some(ready_ms_max), ..TestConfig::default() }.with_settings(SETTINGS);
        let mut scene = Self { world: TestServer::start(plan).await.unwrap(), held: Vec::new() };
        scene.world.pause(PausePoint::DesktopStart).unwrap();
        scene.created(Wishes::default()).await;
        scene
    }

    async fn created(&mut self, wishes: Wishes) {
        let id = self.api().start("scripted").await.unwrap().session.id;
        let waits = |view: &SessionView| view.status == Status::VmCreated && view.stage == Some(Stage::Display);
        self.api().wait_until(&id, "waiting for its display", waits).await.unwrap();
        self.show(State::Created, id, wishes).await;
    }

    async fn started(&self, provider: &str) -> SessionId {
        let id = self.api().start(provider).await.unwrap().session.id;
        self.api().wait_status(&id, Status::VmStarted).await.unwrap();
        id
    }

    /// Waits until the keeper of this session's machine exists (and waits).
    async fn asked(&self, id: &SessionId, machines: usize) {
        let until = Instant::now() + WAIT_MAX;
        loop {
            let timeline = self.api().timeline(id).await.unwrap();
            let asked = timeline.iter().filter(|entry| entry.kind == "machine_requested").count() == machines;
            let state = self.world.state_dir();
            if asked && processes::keeper_pid(&state, &current_machine(&self.api(), id).await.unwrap()).is_some() {
                return;
            }
            assert!(Instant::now() < until, "no machine was asked for: {timeline:#?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Connects the viewer and notes where the session stands.
    async fn show(&mut self, state: State, id: SessionId, wishes: Wishes) {
        let viewer = self.viewer(state, &id, wishes.stuck).await;
        let view = self.api().session(&id).await.unwrap();
        assert_eq!(view.status, state.status(), "{state}");
        self.keep(state, id, Some(viewer), view.generation);
    }

    /// A viewer that has a picture, where there is one; else one whose socket waits.
    pub(crate) async fn viewer(&self, state: State, id: &SessionId, stuck: bool) -> Viewer {
        let api = self.api();
        let socket = if state.has_desktop() {
            let mut viewer = api.desktop(id).await.unwrap();
            viewer.whole_frame().await.unwrap();
            viewer.into_inner()
        } else {
            api.desktop_socket(id).await.unwrap()
        };
        if stuck { Viewer::Stuck(Box::new(socket)) } else { Viewer::reading(socket) }
    }

    /// Tells the session's tool to go on.
    pub(crate) async fn flag(&self, id: &SessionId, name: &str) {
        let machine = current_machine(&self.api(), id).await.unwrap();
        fs::write(self.world.home(&machine).join(name), "").unwrap();
    }

    /// The session's last machine.
    pub(crate) async fn machine(&self, id: &SessionId) -> Option<MachineId> {
        current_machine(&self.api(), id).await.ok()
    }
}

/// Kills the process of the session's machine.
async fn kill_machine(world: &TestServer, id: &SessionId) {
    let machine = current_machine(&world.backend().unwrap(), id).await.unwrap();
    processes::kill(processes::machine_pid(&world.state_dir(), &machine).unwrap()).unwrap();
}

pub(crate) async fn wait_machines_removed(world: &TestServer) {
    let until = Instant::now() + WAIT_MAX;
    while !world.machines().is_empty() {
        assert!(Instant::now() < until, "machines are left: {:?}", world.machines());
        sleep(Duration::from_millis(20)).await;
    }
}

/// The server's database, opened beside it.
pub(crate) async fn database(world: &TestServer) -> SqliteConnection {
    let file = world.state_dir().join("anteroom.db");
    SqliteConnectOptions::new().filename(file).busy_timeout(WAIT_MAX).connect().await.unwrap()
}

/// From now on the database refuses a credential of this session, and nothing else.
async fn refuse_credential(world: &TestServer, id: &SessionId) {
    let mut database = database(world).await;
    let trigger = format!(
        "CREATE TRIGGER refuse_one BEFORE INSERT ON credentials WHEN NEW.session_id = '{id}' \
         BEGIN SELECT RAISE(ABORT, 'not yet'); END"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}

/// It takes every credential again.
pub(crate) async fn take_credentials(world: &TestServer) {
    let mut database = database(world).await;
    sqlx::raw_sql("DROP TRIGGER IF EXISTS refuse_one").execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}
