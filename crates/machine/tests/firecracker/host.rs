//! A server whose machines are clones of one template of the tiny guest.

use anteroom_machine::{
    BoxBody, ControllerService, ExitReason, Machines, MachinesSettings, PreparationSettings, ProcessSpec, Receipt,
    SpecError, SpecSource, State, StopReason,
    firecracker::{GuestFiles, Template, TemplateSettings},
    qemu::Hardware,
};
use anteroom_wire::{MachineId, agent::Geometry};
use http_body_util::{BodyExt, Full};
use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Generous, for busy hosts.
pub(crate) const STATE_TIMEOUT: Duration = Duration::from_secs(60);
const IMAGE: &str = "tiny";
const HARDWARE: Hardware = Hardware { memory_mib: 256, cpus: 1, tcg_cache_mib: 16 };
/// The port on which the guest executes commands of one byte each, and answers each with the same byte.
const COMMAND_PORT: u32 = 1026;

/// The programs of the tests.
pub(crate) struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// `None`, with the reason printed: the test is skipped.
    pub(crate) fn find() -> Option<Self> {
        let dir = match std::env::var_os("ANTEROOM_TEST_FIRECRACKER") {
            Some(dir) => PathBuf::from(dir),
            None => {
                eprintln!("skipped: ANTEROOM_TEST_FIRECRACKER is not set (run scripts/test_firecracker.sh)");
                return None;
            }
        };
        if let Ok(why) = fs::read_to_string(dir.join("missing")) {
            eprintln!("skipped: {why}");
            return None;
        }
        if let Err(error) = fs::File::options().read(true).write(true).open("/dev/kvm") {
            eprintln!("skipped: /dev/kvm cannot be opened: {error}");
            return None;
        }
        Some(Self { dir })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn firecracker(&self) -> PathBuf {
        self.path("firecracker")
    }

    fn guest(&self) -> GuestFiles {
        GuestFiles {
            image_hash: IMAGE.into(),
            kernel: self.dir.join("vmlinux"),
            initramfs: None,
            rootfs: None,
            image_lock: None,
        }
    }
}

/// A source of specs that changes those of another source.
pub(crate) struct Changed<F> {
    pub(crate) source: Arc<dyn SpecSource>,
    pub(crate) change: F,
}

impl<F: Fn(&mut ProcessSpec) + Send + Sync + 'static> SpecSource for Changed<F> {
    fn image_hash(&self) -> &str {
        self.source.image_hash()
    }

    fn build_spec(&self, machine: &MachineId) -> Result<ProcessSpec, SpecError> {
        let mut spec = self.source.build_spec(machine)?;
        (self.change)(&mut spec);
        Ok(spec)
    }
}

/// The directories of a server, and the template.
pub(crate) struct Host {
    top: tempfile::TempDir,
    pub(crate) template: Arc<Template>,
}

impl Host {
    /// Makes the template; `None`: the test is skipped.
    pub(crate) async fn new() -> Option<Self> {
        let programs = Programs::find()?;
        let top = tempfile::tempdir().unwrap();
        let template = Arc::new(template_in(top.path(), &programs).await);
        Some(Self { top, template })
    }

    pub(crate) fn path(&self) -> &Path {
        self.top.path()
    }

    pub(crate) fn settings(&self) -> MachinesSettings {
        settings_in(self.top.path())
    }

    pub(crate) async fn open(&self) -> Server {
        Server::open(self.settings(), self.template.clone()).await
    }

    /// A server whose machines' specs are changed.
    pub(crate) async fn open_changed(&self, change: impl Fn(&mut ProcessSpec) + Send + Sync + 'static) -> Server {
        Server::open(self.settings(), Arc::new(Changed { source: self.template.clone(), change })).await
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let left: Vec<_> = fs::read_dir(self.settings().run_dir).into_iter().flatten().collect();
        assert!(left.is_empty(), "left over: {left:?}");
        let top = self.top.path().to_str().unwrap().to_owned();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            assert!(!line.contains(&format!("{top}/run")), "a process is left over: {line}");
        }
    }
}

pub(crate) fn settings_in(top: &Path) -> MachinesSettings {
    let keeper =
        std::env::var_os("ANTEROOM_TEST_KEEPER").map_or(env!("CARGO_BIN_EXE_anteroom-keeper").into(), PathBuf::from);
    MachinesSettings::in_state_dir(top, keeper)
}

/// Finds or makes the template in `top`.
pub(crate) async fn template_in(top: &Path, programs: &Programs) -> Template {
    let settings = TemplateSettings {
        firecracker_program: programs.firecracker(),
        firecracker_version: "1.12.1".into(),
        hardware: HARDWARE,
        geometry: Geometry { width: 1280, height: 800 },
        preparation: PreparationSettings {
            templates_dir: top.join("templates"),
            keeper_program: settings_in(top).keeper_program,
            prepare_ms_max: 60_000,
            console_bytes_max: 64 * 1024,
        },
    };
    Template::find_or_prepare(programs.guest(), &settings, |_| ()).await.unwrap()
}

/// A server: its machines, its tasks, and the token that stops them.
pub(crate) struct Server {
    pub(crate) machines: Machines,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    pub(crate) async fn open(settings: MachinesSettings, source: Arc<dyn SpecSource>) -> Self {
        let service: ControllerService = Arc::new(|_, _| {
            let body: BoxBody = Full::from("{}").map_err(|never| match never {}).boxed_unsync();
            Box::pin(std::future::ready(hyper::Response::new(body)))
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let machines = Machines::open(settings, source, service, tasks.clone(), stop.clone()).await.unwrap();
        Self { machines, stop, tasks }
    }

    pub(crate) fn start(&self) -> Machine {
        let id = new_id();
        let state = self.machines.start(id.clone()).unwrap();
        let run_dir = self.machines.settings().run_dir.join(id.as_str());
        Machine { id, state, run_dir }
    }

    /// Stops the machine, waits until it is removed, and checks its receipt.
    pub(crate) async fn stop(&self, machine: &mut Machine) -> Receipt {
        self.machines.stop(&machine.id, StopReason::Completed);
        let (reason, receipt) = machine.removed().await;
        assert_eq!(reason, ExitReason::Stopped { reason: StopReason::Completed });
        receipt
    }

    /// Stops the server and waits for its tasks. Its machines continue.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(STATE_TIMEOUT, self.tasks.wait()).await.expect("a task did not end");
    }
}

fn new_id() -> MachineId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let [a, b, c, d, ..] = std::process::id().to_le_bytes();
    MachineId::from_parts(NEXT.fetch_add(1, Ordering::Relaxed), [a, b, c, d, 0, 0, 0, 0, 0, 0])
}

pub(crate) struct Machine {
    pub(crate) id: MachineId,
    pub(crate) state: watch::Receiver<State>,
    pub(crate) run_dir: PathBuf,
}

impl Machine {
    pub(crate) async fn until(&mut self, wanted: impl Fn(&State) -> bool) -> State {
        let state =
            tokio::time::timeout(STATE_TIMEOUT, self.state.wait_for(|state| wanted(state) || state.is_removed()));
        let state = state.await.expect("the expected state was not reached").unwrap().clone();
        assert!(wanted(&state), "{state:?}");
        state
    }

    pub(crate) async fn ready(&mut self) {
        self.until(|state| matches!(state, State::Ready { .. })).await;
    }

    /// Waits until it is removed; returns why it exited and its receipt, which reports no leftovers.
    pub(crate) async fn removed(&mut self) -> (ExitReason, Receipt) {
        let State::Removed { reason, receipt: Some(receipt) } = self.until(State::is_removed).await else {
            panic!("no receipt")
        };
        assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
        (reason, *receipt)
    }

    /// The process ids of the keeper and of Firecracker, from the keeper's greeting.
    pub(crate) fn processes(&self) -> (u32, u32) {
        use std::io::{BufRead, BufReader};
        let mut line = String::new();
        BufReader::new(UnixStream::connect(self.run_dir.join("control.sock")).unwrap()).read_line(&mut line).unwrap();
        let greeting: serde_json::Value = serde_json::from_str(&line).unwrap();
        let pid = |value: &serde_json::Value| u32::try_from(value["pid"].as_u64().unwrap()).unwrap();
        (pid(&greeting["keeper"]), pid(&greeting["phase"]["process"]))
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.processes().1).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Sends a command to the guest. Returns whether the guest executed it and continues.
    pub(crate) fn command(&self, command: u8) -> bool {
        let mut stream = UnixStream::connect(self.run_dir.join("vsock.sock")).unwrap();
        stream.set_read_timeout(Some(STATE_TIMEOUT)).unwrap();
        stream.write_all(format!("CONNECT {COMMAND_PORT}\n").as_bytes()).unwrap();
        let mut byte = [0];
        while byte != [b'\n'] {
            stream.read_exact(&mut byte).unwrap();
        }
        stream.write_all(&[command]).unwrap();
        stream.read_exact(&mut byte).is_ok()
    }
}
