//! A state directory on this host with machines of one kind, and the check that nothing is left of them.

use anteroom_machine::{
    BoxBody, Channels, ControllerService, ExitReason, MachinesOpenError, MachinesSettings, ProcessId, Receipt,
    SpecSource, State, StopReason,
};
use anteroom_testbed::{
    LeakScan, MachineProcesses, eventually,
    machine_kinds::{Capability, Kind},
    machine_server::MachineServer,
    plain_process::built_program,
};
use anteroom_wire::{MachineId, agent::EVENTS_PATH};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// How long processes may take to exit after their machine was removed.
const EXIT_WAIT_MAX: Duration = Duration::from_secs(30);

/// A machine's request to its controller: the machine and the path.
pub(crate) type Requests = Vec<(MachineId, String)>;

/// See the module.
pub(crate) struct Host {
    pub(crate) kind: &'static dyn Kind,
    pub(crate) source: Arc<dyn SpecSource>,
    pub(crate) requests: watch::Sender<Requests>,
    dir: tempfile::TempDir,
    /// Machines that were started, and processes that were seen.
    machines: Mutex<Vec<MachineId>>,
    processes: Mutex<Vec<ProcessId>>,
}

impl Host {
    pub(crate) fn new(kind: &'static dyn Kind, source: Arc<dyn SpecSource>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let requests = watch::Sender::default();
        Self { kind, source, requests, dir, machines: Mutex::default(), processes: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn settings(&self) -> MachinesSettings {
        MachinesSettings::in_state_dir(self.path(), built_program("anteroom-testbed").unwrap())
    }

    pub(crate) fn run_dir(&self, machine: &MachineId) -> PathBuf {
        self.settings().run_dir.join(machine.as_str())
    }

    pub(crate) async fn open(&self) -> MachineServer {
        self.open_with(self.settings(), self.source.clone()).await.unwrap()
    }

    pub(crate) async fn open_with(
        &self,
        settings: MachinesSettings,
        source: Arc<dyn SpecSource>,
    ) -> Result<MachineServer, MachinesOpenError> {
        MachineServer::open(settings, source, self.controller_service()).await
    }

    /// Records every request; accepts events and rejects all others.
    fn controller_service(&self) -> ControllerService {
        let requests = self.requests.clone();
        Arc::new(move |machine, request| {
            let path = request.uri().path().to_owned();
            let status = if path == EVENTS_PATH { 204 } else { 404 };
            requests.send_modify(|requests| requests.push((machine, path)));
            let mut response = http::Response::new(BoxBody::default());
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            Box::pin(std::future::ready(response))
        })
    }

    /// Requests a machine.
    pub(crate) fn start(&self, server: &MachineServer) -> Machine {
        let id = new_id();
        let state = server.machines.start(id.clone()).unwrap();
        self.machine(id, state)
    }

    /// A machine that is not removed.
    pub(crate) fn watch(&self, server: &MachineServer, id: &MachineId) -> Machine {
        self.machine(id.clone(), server.machines.watch(id).expect("a machine that is not removed"))
    }

    fn machine(&self, id: MachineId, state: watch::Receiver<State>) -> Machine {
        self.machines.lock().unwrap().push(id.clone());
        Machine { kind: self.kind, id, state }
    }

    /// Requests a machine and waits until it is ready.
    pub(crate) async fn start_ready(&self, server: &MachineServer) -> Machine {
        let mut machine = self.start(server);
        machine.wait_ready().await;
        machine
    }

    /// Whether the guests of this kind have desktops, terminals and tools.
    pub(crate) fn has_tools(&self) -> bool {
        self.kind.missing_capability(Capability::Tools).is_none()
    }

    /// The processes of a running machine.
    pub(crate) fn processes(&self, machine: &MachineId) -> MachineProcesses {
        let found = MachineProcesses::from_run_dir(&self.run_dir(machine)).unwrap();
        self.processes.lock().unwrap().extend([found.keeper, found.process]);
        found
    }

    pub(crate) async fn end(&self, server: MachineServer) {
        server.end(self.kind.wait_max()).await.unwrap();
    }

    /// Stops the machine, waits until it is removed, and ends the server.
    pub(crate) async fn stop_and_end(&self, server: MachineServer, mut machine: Machine) {
        server.machines.stop(&machine.id, StopReason::Completed);
        let (reason, _) = machine.wait_removed().await;
        assert_eq!(reason, ExitReason::Stopped { reason: StopReason::Completed });
        self.end(server).await;
    }

    /// What the machines of this directory occupy: processes, sockets, files, mounts, cgroups.
    pub(crate) fn find_leftovers(&self) -> Vec<String> {
        let mut found: Vec<String> = LeakScan::for_dir(self.path())
            .find_processes()
            .into_iter()
            .map(|process| format!("process {}: {}", process.pid, process.command))
            .collect();
        let alive = |process: &&ProcessId| process.is_alive();
        found.extend(self.processes.lock().unwrap().iter().filter(alive).map(|process| format!("{process:?}")));
        let names = self.machines.lock().unwrap().iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>();
        let is_ours = |text: &str| {
            text.contains(self.path().to_str().unwrap()) || names.iter().any(|name| text.contains(name.as_str()))
        };
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            // A confined process names its machine and not the directory.
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if is_ours(&line) {
                found.push(format!("process {}: {line}", entry.path().display()));
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(mounts.lines().filter(|line| is_ours(line)).map(|line| format!("mount {line}")));
        let files = LeakScan::for_dir(self.path()).list_files("run");
        found.extend(files.into_iter().map(|file| format!("file {}", file.display())));
        let cgroups = LeakScan::for_dir(Path::new("/sys/fs/cgroup")).list_files("");
        let cgroups = cgroups.into_iter().filter(|path| path.to_str().is_some_and(is_ours));
        found.extend(cgroups.map(|path| format!("cgroup {}", path.display())));
        found
    }

    /// Waits until nothing is left.
    pub(crate) async fn wait_nothing_left(&self) {
        let nothing = async || Ok(self.find_leftovers().is_empty().then_some(()));
        let done = eventually("nothing is left of the machines", EXIT_WAIT_MAX, nothing).await;
        assert!(done.is_ok(), "left over: {:#?}", self.find_leftovers());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            LeakScan::for_dir(self.path()).kill_processes();
        }
    }
}

/// A machine and its state.
pub(crate) struct Machine {
    kind: &'static dyn Kind,
    pub(crate) id: MachineId,
    pub(crate) state: watch::Receiver<State>,
}

impl Machine {
    /// Waits for a state; a machine that is removed before does not reach it.
    pub(crate) async fn wait_for(&mut self, what: &str, wanted: impl Fn(&State) -> bool) -> State {
        let reached = self.state.wait_for(|state| wanted(state) || state.is_removed());
        let state = timeout(self.kind.wait_max(), reached).await.unwrap_or_else(|_| panic!("not reached: {what}"));
        let state = state.unwrap().clone();
        assert!(wanted(&state), "not reached: {what}; instead {state:?}");
        state
    }

    pub(crate) async fn wait_ready(&mut self) -> Channels {
        let state = self.wait_for("ready", |state| matches!(state, State::Ready { .. })).await;
        state.channels().unwrap().clone()
    }

    /// Waits until its exit is reported, before or after its cleanup.
    pub(crate) async fn wait_exited(&mut self) -> ExitReason {
        let exited = |state: &State| matches!(state, State::Exited { .. } | State::Removed { .. });
        match self.wait_for("exited", exited).await {
            State::Exited { reason } | State::Removed { reason, .. } => reason,
            other @ (State::Requested
            | State::Cloning
            | State::Waiting { .. }
            | State::Ready { .. }
            | State::Stopping { .. }) => panic!("{other:?}"),
        }
    }

    /// Waits until it is removed; returns the reason of its exit and its receipt, which have the same reason and no leftovers.
    pub(crate) async fn wait_removed(&mut self) -> (ExitReason, Receipt) {
        let (reason, receipt) = self.wait_removed_by_server().await;
        assert_eq!(receipt.exit_reason(), reason, "the receipt has the same reason");
        (reason, receipt)
    }

    /// As [`Machine::wait_removed`], for a machine whose keeper did not write the receipt and may have ended for another reason.
    pub(crate) async fn wait_removed_by_server(&mut self) -> (ExitReason, Receipt) {
        let state = self.wait_for("removed", State::is_removed).await;
        let State::Removed { reason, receipt: Some(receipt) } = state else { panic!("no receipt: {state:?}") };
        assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
        (reason, *receipt)
    }
}

/// A new machine's id. Ids sort by the time of their creation.
pub(crate) fn new_id() -> MachineId {
    static NEXT: AtomicU64 = AtomicU64::new(1_000_000);
    let [a, b, c, d] = std::process::id().to_le_bytes();
    MachineId::from_parts(NEXT.fetch_add(1, Ordering::Relaxed), [a, b, c, d, 0, 0, 0, 0, 0, 1])
}
