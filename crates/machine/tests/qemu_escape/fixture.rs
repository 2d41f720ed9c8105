//! A server's state directory and its machines: QEMU with an empty guest, confined or not.

use anteroom_machine::{
    BoxBody, ChannelTransport, Confinement, ControllerService, ExitReason, FdSource, FileAccess, InheritedFd, Machines,
    MachinesSettings, Monitor, NamedFile, ProcessSpec, QmpStart, Receipt, ResourceLimits, SpecError, SpecSource, State,
    StopReason, qemu,
};
use anteroom_wire::MachineId;
use http_body_util::{BodyExt, Full};
use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Generous, for busy hosts.
pub(crate) const STATE_TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const MIB: u64 = 1024 * 1024;
pub(crate) const MEMORY_MIB: u64 = 256;
pub(crate) const THREADS_MAX: u64 = 80;
/// The program of the keeper, for a run of this test as another user.
pub(crate) const KEEPER_VARIABLE: &str = "ANTEROOM_ESCAPE_KEEPER";

const STATE_FD: i32 = 14;

pub(crate) fn superuser() -> bool {
    rustix::process::geteuid().is_root()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walls {
    Confined,
    Unconfined,
}

/// A guest without a kernel: its firmware finds nothing to start and waits.
struct EmptyGuest {
    dir: PathBuf,
    walls: Walls,
}

impl SpecSource for EmptyGuest {
    fn image_hash(&self) -> &str {
        "none"
    }

    fn build_spec(&self, _: &MachineId) -> Result<ProcessSpec, SpecError> {
        let program = qemu::find_qemu().expect("qemu-system-x86_64 is not in PATH").to_str().unwrap().to_owned();
        let file = |name: &str, path: &str| NamedFile {
            name: name.into(),
            path: self.dir.join(path),
            access: FileAccess::ReadOnly,
        };
        let files = vec![file("/machine/ram", "template/ram"), file("/machine/rootfs", "image/rootfs.squashfs")];
        let name = |file: &NamedFile| match self.walls {
            Walls::Confined => file.name.clone(),
            Walls::Unconfined => file.path.to_str().unwrap().to_owned(),
        };
        let object = format!("memory-backend-file,id=mem,size={MEMORY_MIB}M,mem-path={},share=off", name(&files[0]));
        let disk = "driver=raw,node-name=root,read-only=on,file.driver=file,file.read-only=on,file.locking=off";
        let disk = format!("{disk},file.filename={}", name(&files[1]));
        let options = [
            "-nodefaults -no-user-config -display none -S -m 256M -M microvm -accel tcg,tb-size=16",
            "-sandbox on,obsolete=deny,elevateprivileges=deny,resourcecontrol=deny",
            "-chardev socket,id=qmp,fd=13 -mon chardev=qmp,mode=control -machine memory-backend=mem",
            "-object",
            &object,
            "-blockdev",
            &disk,
            "-device virtio-blk-device,drive=root",
        ];
        let args = options.iter().flat_map(|options| options.split(' ')).map(String::from).collect();
        let limits = ResourceLimits {
            address_space_bytes_max: (MEMORY_MIB + 2048) * MIB,
            memory_bytes_max: (MEMORY_MIB + 512) * MIB,
            file_bytes_max: 0,
            threads_max: THREADS_MAX,
            open_files_max: 128,
            cpus_max: 2,
        };
        let state = FdSource::Read { path: self.dir.join("template/state") };
        let qmp = InheritedFd { number: 13, source: FdSource::Qmp };
        Ok(ProcessSpec {
            program,
            args,
            env: BTreeMap::new(),
            fds: vec![qmp, InheritedFd { number: STATE_FD, source: state }],
            monitor: Monitor::Qmp { start: QmpStart::Boot },
            transport: ChannelTransport::UnixSockets,
            confinement: match self.walls {
                Walls::Confined => Confinement::Confined { files, listeners: Vec::new(), limits },
                Walls::Unconfined => Confinement::Unconfined,
            },
            verified: BTreeMap::new(),
        })
    }
}

/// A running machine.
pub(crate) struct Machine {
    id: MachineId,
    state: watch::Receiver<State>,
    pub(crate) vmm: u32,
    pub(crate) keeper: u32,
}

/// A server with the files and sockets that an attacker looks for. The server is this process.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    walls: Walls,
    machines: Machines,
    stop: CancellationToken,
    tasks: TaskTracker,
    _operator: UnixListener,
    pub(crate) web: TcpListener,
}

/// A failed test leaves no machine behind: VMMs die with their keepers.
impl Drop for Server {
    fn drop(&mut self) {
        for run_dir in fs::read_dir(self.path("run")).into_iter().flatten().flatten() {
            if let Some((keeper, _)) = find_processes(&run_dir.path()) {
                let keeper = rustix::process::Pid::from_raw(keeper.cast_signed());
                let _ = keeper.map(|keeper| rustix::process::kill_process(keeper, rustix::process::Signal::KILL));
            }
        }
    }
}

impl Server {
    pub(crate) async fn start(walls: Walls) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["image", "template", "home"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in ["vault.key", "anteroom.db", "anteroom.log", "home/credential", "template/state"] {
            fs::write(dir.path().join(name), "secret").unwrap();
        }
        for (name, mib) in [("template/ram", MEMORY_MIB), ("image/rootfs.squashfs", 1)] {
            fs::File::create(dir.path().join(name)).unwrap().set_len(mib * MIB).unwrap();
        }
        let keeper =
            std::env::var_os(KEEPER_VARIABLE).map_or(env!("CARGO_BIN_EXE_anteroom-keeper").into(), PathBuf::from);
        let service: ControllerService = Arc::new(|_, _| {
            let body: BoxBody = Full::from("{}").map_err(|never| match never {}).boxed_unsync();
            Box::pin(std::future::ready(hyper::Response::new(body)))
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let mut settings = MachinesSettings::in_state_dir(dir.path(), keeper);
        // The guest never becomes ready, and a debugger is slow on a busy host.
        settings.ready_ms_max = 600_000;
        let source = Arc::new(EmptyGuest { dir: dir.path().to_owned(), walls });
        let machines = Machines::open(settings, source, service, tasks.clone(), stop.clone()).await.unwrap();
        let operator = UnixListener::bind(dir.path().join("anteroom.sock")).unwrap();
        let web = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { dir, walls, machines, stop, tasks, _operator: operator, web }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a machine and waits until its VMM runs and, if it is to be confined, is.
    pub(crate) async fn start_machine(&self, number: u8) -> Machine {
        let id = MachineId::from_parts(u64::from(number), [number; 10]);
        let mut state = self.machines.start(id.clone()).unwrap();
        let waiting = state.wait_for(|state| matches!(state, State::Waiting { .. } | State::Removed { .. }));
        let started = tokio::time::timeout(STATE_TIMEOUT, waiting).await.expect("it did not start").unwrap().clone();
        assert!(matches!(started, State::Waiting { .. }), "{started:?}");
        let run_dir = self.path("run").join(id.as_str());
        let found = async {
            loop {
                if let Some((keeper, vmm)) = find_processes(&run_dir)
                    && (self.walls == Walls::Unconfined || is_sealed(vmm))
                {
                    return (keeper, vmm);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (keeper, vmm) = tokio::time::timeout(STATE_TIMEOUT, found).await.expect("the VMM was not confined");
        Machine { id, state, vmm, keeper }
    }

    /// Whether the machine runs.
    pub(crate) fn is_running(machine: &Machine) -> bool {
        matches!(*machine.state.borrow(), State::Waiting { .. }) && is_alive(machine.keeper) && is_alive(machine.vmm)
    }

    /// Waits until the machine has ended by itself.
    pub(crate) async fn await_exit(machine: &Machine) -> (ExitReason, Receipt) {
        let mut state = machine.state.clone();
        let removed = tokio::time::timeout(STATE_TIMEOUT, state.wait_for(State::is_removed)).await;
        let State::Removed { reason, receipt } = removed.expect("it was not removed").unwrap().clone() else {
            panic!()
        };
        let receipt = *receipt.expect("no receipt");
        assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
        (reason, receipt)
    }

    pub(crate) async fn stop_machine(&self, machine: &Machine) -> Receipt {
        self.machines.stop(&machine.id, StopReason::Completed);
        Self::await_exit(machine).await.1
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(STATE_TIMEOUT, self.tasks.wait()).await.expect("a task did not end");
    }
}

/// Whether the confinement is complete: the root directory is empty then.
fn is_sealed(vmm: u32) -> bool {
    let root = format!("/proc/{vmm}/root");
    let usr = fs::read_dir(format!("{root}/usr")).map(Iterator::count);
    fs::read_dir(&root).is_ok() && usr.is_ok_and(|count| count == 0)
}

/// Whether the process runs: an exiting process has no memory, and so no command line. It may not be a zombie yet, because its PID
/// namespace ends only when the debugger has released all threads.
pub(crate) fn is_alive(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn find_processes(run_dir: &Path) -> Option<(u32, u32)> {
    let is_keeper = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|arg| Path::new(&*String::from_utf8_lossy(arg)) == run_dir)
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let keeper = pids.into_iter().find(is_keeper)?;
    let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).ok()?;
    Some((keeper, children.split_whitespace().next()?.parse().ok()?))
}
