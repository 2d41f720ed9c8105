//! Three hosts, with a session in each phase on the first one. The others take no sessions until a test lets them.

use super::small_disk::SmallDisk;
use crate::{inject::send_signal, viewer::Viewer};
use anteroom_testbed::{
    ApiClient, MachineProcesses, PausePoint, Script, ScriptedProvider, Step, TestConfig, WAIT_MAX, eventually,
    lab::{Lab, LabOptions},
    measure_recovery::current_machine,
};
use anteroom_wire::{
    HostId, MachineId, SessionId, TimelineKind,
    api::{Health, SessionStatus, SessionView},
};
use rustix::process::{Pid, Signal};
use std::{fmt, fs, path::Path, time::Duration};

/// A host may act for so long after its last heartbeat.
pub(crate) const RENEW: Duration = Duration::from_secs(6);
/// Another one takes its sessions over after so long.
pub(crate) const FENCE: Duration = Duration::from_secs(9);
/// How soon another host says that one does not answer.
pub(crate) const SAID_MAX: Duration = Duration::from_secs(4);
pub(crate) const TIMES: &str = "heartbeat_interval_ms = 200\nrenew_deadline_s = 6\nfence_after_s = 9\n";
/// Settings of all hosts: as many machines as the sessions that are held.
const SETTINGS: &str =
    "[machines]\nmachines_max = 4\ndisk_free_mib_min = 0\n[limits.sessions]\ndelivery_retry_ms_max = 500\n";
const URL: &str = "https://id.example/authorize?state=1";
/// What the tools deliver.
pub(crate) const CREDENTIAL: &str = "{\"token\": \"x\"}";

/// The phase in which a session is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No host has room.
    Waiting,
    /// Its keeper is paused before it starts the machine.
    Preparing,
    /// The tool waits for its user; a viewer is connected through the second host, and one through the first.
    Open,
    /// The database rejects its credential; a viewer is connected through the third host.
    Delivering,
    /// It is cancelled; the keeper of its machine is frozen.
    Ending,
}

impl Phase {
    pub(crate) const ALL: [Self; 5] = [Self::Waiting, Self::Preparing, Self::Open, Self::Delivering, Self::Ending];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Preparing => "preparing",
            Self::Open => "open, with viewers",
            Self::Delivering => "delivering",
            Self::Ending => "ending",
        })
    }
}

/// A session that is held.
#[derive(Debug)]
pub(crate) struct Held {
    pub phase: Phase,
    pub id: SessionId,
    /// Its machine before the fault.
    pub machine: Option<MachineId>,
    /// Through another host.
    pub viewer: Option<Viewer>,
    /// At its own host.
    pub direct: Option<Viewer>,
}

/// The lab and its held sessions.
pub(crate) struct LabFixture {
    pub lab: Lab,
    pub held: Vec<Held>,
    /// The ids of the hosts.
    pub ids: Vec<HostId>,
    /// The frozen keeper of the session that ends.
    pub keeper: Option<Pid>,
    /// Files for which the tools wait.
    pub flags: tempfile::TempDir,
    /// The file systems of a test.
    pub mounts: Vec<SmallDisk>,
}

/// A tool that opens a page, waits for the flag `id`, and delivers.
pub(crate) fn provider(id: &str, flags: &Path) -> ScriptedProvider {
    let steps = [
        Step::OpenUrlWithBrowser { url: URL.to_owned() },
        Step::WaitForFile { path: flags.join(id), ms_max: 600_000 },
        Step::write(ScriptedProvider::CREDENTIAL_PATH, CREDENTIAL),
    ];
    ScriptedProvider::new(id, Script::new(steps))
}

impl LabFixture {
    /// Starts a session in each phase, after `prepare`.
    pub(crate) async fn start(prepare: impl AsyncFnOnce(&mut Self)) -> Self {
        let flags = tempfile::tempdir().unwrap();
        let providers = ["open", "delivering"].map(|id| provider(id, flags.path()));
        let config = TestConfig::with_providers(providers).with_settings(SETTINGS);
        let lab = Lab::start(&LabOptions { hosts: 3, has_etcd: true, times: TIMES }, &config).await.unwrap();
        let ids: Vec<_> = lab.hosts.iter().map(|host| host.id().unwrap()).collect();
        let mut fixture = Self { lab, held: Vec::new(), ids, keeper: None, flags, mounts: Vec::new() };
        prepare(&mut fixture).await;
        fixture.set_draining_others(true).await;
        fixture.start_open().await;
        fixture.start_delivering().await;
        fixture.start_ending().await;
        fixture.lab.hosts[0].server.pause(PausePoint::KeeperStart).unwrap();
        fixture.start_preparing().await;
        let id = fixture.start_session("open").await;
        fixture.hold(Phase::Waiting, id).await;
        assert_eq!(fixture.lab.hosts[0].server.list_machines().len(), 4, "a machine for each but the waiting one");
        fixture.held.sort_by_key(|held| Phase::ALL.iter().position(|phase| *phase == held.phase));
        fixture
    }

    /// A client of a host, from 0.
    pub(crate) fn api(&self, host: usize) -> ApiClient {
        self.lab.operator(host).unwrap()
    }

    /// The session in this phase.
    pub(crate) fn of(&mut self, phase: Phase) -> &mut Held {
        self.held.iter_mut().find(|held| held.phase == phase).unwrap()
    }

    /// Whether the second and third host take sessions.
    pub(crate) async fn set_draining_others(&self, is_draining: bool) {
        for id in &self.ids[1..] {
            self.lab.set_draining(1, id, is_draining).await.unwrap();
        }
    }

    pub(crate) fn set_flag(&self, name: &str) {
        fs::write(self.flags.path().join(name), "").unwrap();
    }

    async fn start_session(&self, provider: &str) -> SessionId {
        self.api(0).start_session(provider).await.unwrap().session.id
    }

    async fn hold(&mut self, phase: Phase, id: SessionId) {
        let machine = current_machine(&self.api(0), &id).await.ok();
        self.held.push(Held { phase, id, machine, viewer: None, direct: None });
    }

    async fn start_at_the_address(&mut self, phase: Phase, provider: &str) -> SessionId {
        let id = self.start_session(provider).await;
        let shows = |view: &SessionView| view.sign_in.url.is_some();
        self.api(0).wait_until(&id, "showing the address", shows).await.unwrap();
        self.hold(phase, id.clone()).await;
        id
    }

    async fn start_open(&mut self) {
        let id = self.start_at_the_address(Phase::Open, "open").await;
        let (viewer, direct) = (connect_viewer(&self.api(1), &id).await, connect_viewer(&self.api(0), &id).await);
        let held = self.of(Phase::Open);
        (held.viewer, held.direct) = (Some(viewer), Some(direct));
    }

    async fn start_delivering(&mut self) {
        let id = self.start_at_the_address(Phase::Delivering, "delivering").await;
        let reject = format!(
            "CREATE FUNCTION lab_reject() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not yet'; END $$; \
             CREATE TRIGGER lab_reject BEFORE INSERT ON credentials FOR EACH ROW WHEN (NEW.session_id = '{id}') EXECUTE FUNCTION lab_reject()"
        );
        self.lab.postgres.execute(&reject).await.unwrap();
        self.set_flag("delivering");
        self.api(0).wait_entry(&id, TimelineKind::DeliveryRetry).await.unwrap();
        let viewer = connect_viewer(&self.api(2), &id).await;
        self.of(Phase::Delivering).viewer = Some(viewer);
    }

    async fn start_ending(&mut self) {
        let id = self.start_at_the_address(Phase::Ending, "open").await;
        let machine = self.of(Phase::Ending).machine.clone().unwrap();
        let run_dir = self.lab.hosts[0].server.run_dir(&machine);
        let keeper = MachineProcesses::from_run_dir(&run_dir).unwrap().keeper;
        let keeper = Pid::from_raw(keeper.pid.cast_signed()).unwrap();
        send_signal(keeper, Signal::STOP);
        self.keeper = Some(keeper);
        self.api(0).cancel_session(&id).await.unwrap();
        self.api(0).wait_status(&id, SessionStatus::Cancelled).await.unwrap();
    }

    async fn start_preparing(&mut self) {
        let id = self.start_session("open").await;
        self.api(0).wait_entry(&id, TimelineKind::MachineRequested).await.unwrap();
        self.hold(Phase::Preparing, id).await;
    }

    /// The line `cluster` of a host's health; empty if it does not answer.
    pub(crate) async fn health(&self, host: usize) -> String {
        let Ok(answer) = self.api(host).get("/health").await else { return String::new() };
        let health = serde_json::from_str::<Health>(&answer.text);
        let lines = health.map(|health| health.checks).unwrap_or_default();
        lines.into_iter().find(|check| check.name == "cluster").map(|check| check.detail).unwrap_or_default()
    }

    /// Waits until the line `cluster` of a host's health contains this.
    pub(crate) async fn wait_health(&self, host: usize, part: &str) {
        let mut last = String::new();
        let found = eventually("the health of a host", WAIT_MAX, async || {
            last = self.health(host).await;
            Ok(last.contains(part).then_some(()))
        });
        let found = found.await;
        assert!(found.is_ok(), "{part}: {last}");
    }

    /// Waits until the sessions of the first host were taken away from it.
    pub(crate) async fn wait_lost(&self) {
        for held in self.held.iter().filter(|held| !matches!(held.phase, Phase::Waiting | Phase::Ending)) {
            let is_lost = async || {
                // Until then the host does not answer.
                let timeline = self.api(1).get_timeline(&held.id).await.unwrap_or_default();
                Ok(timeline.iter().any(|entry| entry.kind == TimelineKind::HostLost).then_some(()))
            };
            eventually("the host has lost the session", WAIT_MAX, is_lost).await.unwrap();
        }
        self.set_draining_others(false).await;
    }

    /// Cuts the first host off from a place in both directions, or connects it again.
    pub(crate) fn cut_off_from(&self, place: &anteroom_testbed::lab::Place, is_cut: bool) {
        let first = &self.lab.hosts[0].place;
        first.lose_to(place.address(), is_cut).unwrap();
        place.lose_to(first.address(), is_cut).unwrap();
    }
}

pub(crate) async fn connect_viewer(api: &ApiClient, id: &SessionId) -> Viewer {
    let mut viewer = api.connect_desktop(id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    Viewer::reading(viewer.into_inner())
}
