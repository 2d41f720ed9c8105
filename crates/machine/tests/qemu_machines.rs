//! Tests with real machines: boots an image once and clones it. Requires QEMU and `ANTEROOM_TEST_IMAGE`, an image's directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

use anteroom_machine::{
    BoxBody, Channels, ControllerService, ExitCause, ExitReason, Machines, MachinesSettings, SpecSource, State,
    StopReason, StopRequestOutcome,
    image::Image,
    kvm::{self, KvmReport},
    qemu::{self, Accelerator, Hardware, PrepareProgress, Template, TemplateSettings},
};
use anteroom_wire::{
    Base64, MachineId, Secret, SessionId,
    agent::{CaptureLimits, Claim, ClaimedBy, Geometry, Stage, TerminalSize},
    provider::Provider,
};
use http_body_util::{BodyExt, Full};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const KEEPER: &str = env!("CARGO_BIN_EXE_anteroom-keeper");
/// Generous, for emulation on a busy host.
const STATE_TIMEOUT: Duration = Duration::from_secs(120);

fn image() -> Image {
    let dir = std::env::var_os("ANTEROOM_TEST_IMAGE")
        .expect("ANTEROOM_TEST_IMAGE is not set: give it the directory of an image (`anteroom image build` makes one)");
    Image::open(Path::new(&dir)).unwrap()
}

/// A directory that all tests and runs share: preparing a template takes a minute under emulation.
fn shared_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn template_settings() -> TemplateSettings {
    TemplateSettings {
        templates_dir: shared_dir("templates"),
        qemu_program: qemu::find_qemu().expect("qemu-system-x86_64 is not in PATH"),
        keeper_program: KEEPER.into(),
        hardware: Hardware::default(),
        geometry: Geometry { width: 1280, height: 800 },
        prepare_ms_max: 400_000,
        console_bytes_max: 16 * 1024,
    }
}

async fn kvm_report(image: &Image) -> KvmReport {
    let settings = kvm::ProbeSettings {
        qemu_program: Some(qemu::find_qemu().expect("qemu-system-x86_64 is not in PATH")),
        keeper_program: KEEPER.into(),
        cache_dir: shared_dir("kvm"),
        boot_ms_max: 15_000,
    };
    kvm::probe(Some(image), &settings).await.unwrap()
}

async fn accelerator(image: &Image) -> Accelerator {
    kvm_report(image).await.qemu_accelerator()
}

async fn template() -> Template {
    let image = image();
    let accelerator = accelerator(&image).await;
    Template::find_or_prepare(&image, &accelerator, &template_settings(), |progress| eprintln!("{progress:?}"))
        .await
        .unwrap()
}

/// A server with its machines, in its state directory.
struct Server {
    machines: Machines,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    async fn open(state_dir: &Path, spec_source: Arc<dyn SpecSource>) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let controller_service: ControllerService = Arc::new(|_, _| {
            let body: BoxBody = Full::from("{}").map_err(|never| match never {}).boxed_unsync();
            Box::pin(std::future::ready(hyper::Response::new(body)))
        });
        let settings = MachinesSettings::in_state_dir(state_dir, KEEPER.into());
        let machines =
            Machines::open(settings, spec_source, controller_service, tasks.clone(), stop.clone()).await.unwrap();
        Self { machines, stop, tasks }
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(STATE_TIMEOUT, self.tasks.wait()).await.expect("a task did not end");
    }
}

fn new_id() -> MachineId {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut random = [0u8; 10];
    random[..4].copy_from_slice(&now.subsec_nanos().to_le_bytes());
    MachineId::from_parts(u64::try_from(now.as_millis()).unwrap(), random)
}

async fn until(state: &mut watch::Receiver<State>, wanted: impl FnMut(&State) -> bool) -> State {
    tokio::time::timeout(STATE_TIMEOUT, state.wait_for(wanted))
        .await
        .expect("the expected state was not reached")
        .unwrap()
        .clone()
}

async fn ready(state: &mut watch::Receiver<State>) -> Channels {
    let state = until(state, |state| matches!(state, State::Ready { .. } | State::Removed { .. })).await;
    state.channels().unwrap_or_else(|| panic!("{state:?}")).clone()
}

async fn removed(state: &mut watch::Receiver<State>) -> ExitReason {
    let State::Removed { reason, receipt } = until(state, State::is_removed).await else { unreachable!() };
    let left = receipt.expect("no receipt").checks.leftovers;
    assert!(left.is_empty(), "{left:?}");
    reason
}

#[tokio::test]
async fn probe_of_kvm_with_an_image_ends_with_the_boot_of_linux() {
    let image = image();
    let report = kvm_report(&image).await;
    match &report {
        KvmReport::LinuxFails { why } => assert!(why.contains("-cpu host"), "{why}"),
        KvmReport::BootsLinux { cpu } => assert!(cpu.starts_with("host"), "{cpu}"),
        KvmReport::DeviceFails { .. } | KvmReport::TinyGuestFails { .. } => {}
        KvmReport::LinuxNotTried { why } => panic!("{why}"),
    }
    let again = Instant::now();
    assert_eq!(kvm_report(&image).await, report);
    assert!(again.elapsed() < Duration::from_secs(5), "the report was not cached");
}

#[tokio::test]
async fn clone_answers_at_once_and_shows_its_desktop() {
    let template = template().await;
    let top = tempfile::tempdir().unwrap();
    let memory_bytes = u64::from(template.manifest().hardware.memory_mib) << 20;
    assert!(template.ram_disk_usage_bytes().unwrap() < memory_bytes, "the RAM file is not sparse");
    let image_hash = template.image_hash().to_owned();
    let server = Server::open(top.path(), Arc::new(template)).await;
    let id = new_id();
    let began = Instant::now();
    let mut state = server.machines.start(id.clone()).unwrap();
    let channels = ready(&mut state).await;
    let mut desktop = channels.agent.open_desktop().await.unwrap();
    let mut greeting = [0u8; 12];
    desktop.read_exact(&mut greeting).await.unwrap();
    eprintln!("{:?}; RFB greeting after {:?}", channels.timings, began.elapsed());
    assert_eq!(&greeting[..4], b"RFB ");
    assert_eq!(channels.agent_info.image_hash, image_hash);
    assert_eq!(channels.agent_info.claimed_by, None);
    let memory = server.machines.memory_usage(&id).unwrap();
    eprintln!("{memory:?}");
    assert!(memory.private_bytes < memory_bytes / 2, "{memory:?}");
    assert_eq!(server.machines.stop(&id, StopReason::Completed), StopRequestOutcome::Enqueued);
    assert_eq!(removed(&mut state).await, ExitReason::Stopped { reason: StopReason::Completed });
    server.end().await;
}

#[tokio::test]
async fn clone_outlives_its_server_and_is_adopted_by_the_next() {
    let template: Arc<Template> = Arc::new(template().await);
    let top = tempfile::tempdir().unwrap();
    let id = new_id();
    for _ in 0..3 {
        let server = Server::open(top.path(), template.clone()).await;
        let mut state = server.machines.watch(&id).unwrap_or_else(|| server.machines.start(id.clone()).unwrap());
        let channels = ready(&mut state).await;
        channels.agent.agent_info().await.unwrap();
        // The stream is active when the server ends, so that the next server finds stale bytes in the pipe.
        let _desktop = channels.agent.open_desktop().await.unwrap();
        server.end().await;
    }
    let server = Server::open(top.path(), template).await;
    let mut state = server.machines.watch(&id).unwrap();
    ready(&mut state).await;
    server.machines.stop(&id, StopReason::Orphaned);
    assert_eq!(removed(&mut state).await, ExitReason::Stopped { reason: StopReason::Orphaned });
    server.end().await;
}

fn claim(machine: &MachineId) -> Claim {
    let provider: Provider = toml::from_str(include_str!("../../../providers/codex.toml")).unwrap();
    Claim {
        entropy: Base64::new(vec![7; 64]),
        now_unix_ns: 1_900_000_000_000_000_000,
        guest_machine_id: "0123456789abcdef0123456789abcdef".into(),
        claimed_by: ClaimedBy { session: SessionId::from_parts(1, [1; 10]), machine: machine.clone(), generation: 1 },
        geometry: Geometry { width: 1024, height: 768 },
        provider,
        agent_token: Secret::new("a random token".into()),
        capture_limits: CaptureLimits {
            stable_ms: 1_000,
            file_bytes_max: 100_000,
            retry_ms_min: 1_000,
            retry_ms_max: 10_000,
            status_ms_max: 60_000,
        },
        use_credential: None,
    }
}

#[tokio::test]
async fn clones_do_not_share_writes_and_a_claim_starts_the_tool() {
    let template = template().await;
    let top = tempfile::tempdir().unwrap();
    let server = Server::open(top.path(), Arc::new(template)).await;
    let ids = [new_id(), new_id()];
    let mut states: Vec<_> = ids.iter().map(|id| server.machines.start(id.clone()).unwrap()).collect();
    let first = ready(&mut states[0]).await;
    let second = ready(&mut states[1]).await;
    first.agent.claim(&claim(&ids[0])).await.unwrap();
    assert_eq!(first.agent.agent_info().await.unwrap().claimed_by.unwrap().machine, ids[0]);
    assert_eq!(second.agent.agent_info().await.unwrap().claimed_by, None);
    // The tool's output is on the screen of the clone.
    let shown = async {
        while first.agent.read_screen().await.unwrap().lines.iter().all(|line| line.trim().is_empty()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(STATE_TIMEOUT, shown).await.expect("the tool shows nothing");
    let mut terminal = first.agent.open_terminal("t1", TerminalSize { cols: 100, rows: 30 }).await.unwrap();
    let mut some = [0u8; 1];
    tokio::time::timeout(STATE_TIMEOUT, terminal.read_exact(&mut some))
        .await
        .expect("the terminal shows nothing")
        .unwrap();
    for (id, state) in ids.iter().zip(&mut states) {
        server.machines.stop(id, StopReason::Completed);
        removed(state).await;
    }
    server.end().await;
}

/// Starts machines from the template that is current at that moment.
struct ReplaceableTemplate {
    image_hash: String,
    current: Arc<Mutex<Arc<Template>>>,
}

impl SpecSource for ReplaceableTemplate {
    fn image_hash(&self) -> &str {
        &self.image_hash
    }

    fn build_spec(&self, machine: &MachineId) -> Result<anteroom_machine::ProcessSpec, anteroom_machine::SpecError> {
        self.current.lock().unwrap().build_spec(machine)
    }
}

#[tokio::test]
async fn template_is_not_removed_while_a_machine_maps_it() {
    let kept = template().await;
    let (image, accelerator) = (image(), kept.manifest().accelerator.clone());
    let top = tempfile::tempdir().unwrap();
    let mut settings = template_settings();
    settings.templates_dir = top.path().join("templates");
    let copy = settings.templates_dir.join(kept.dir().file_name().unwrap());
    std::fs::create_dir_all(&copy).unwrap();
    for name in ["ram", "state", "template.json"] {
        let (from, to) = (kept.dir().join(name), copy.join(name));
        let mut cp = tokio::process::Command::new("cp");
        assert!(cp.arg("--sparse=always").arg(from).arg(to).status().await.unwrap().success());
    }
    let found = Mutex::new(Vec::new());
    let prepared =
        Template::find_or_prepare(&image, &accelerator, &settings, |progress| found.lock().unwrap().push(progress));
    let template = prepared.await.unwrap();
    assert_eq!(*found.lock().unwrap(), [PrepareProgress::Found]);
    let current: Arc<Mutex<Arc<Template>>> = Arc::new(Mutex::new(Arc::new(template)));
    let replaceable = ReplaceableTemplate { image_hash: kept.image_hash().to_owned(), current: current.clone() };
    let server = Server::open(top.path(), Arc::new(replaceable)).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    ready(&mut state).await;
    // New machines start from another template; this machine still maps the old one.
    *current.lock().unwrap() = Arc::new(kept);
    assert_eq!(Template::remove_unused(&settings.templates_dir, None).unwrap(), 0);
    assert!(copy.exists());
    server.machines.stop(&id, StopReason::Completed);
    removed(&mut state).await;
    assert_eq!(Template::remove_unused(&settings.templates_dir, None).unwrap(), 1);
    assert!(!copy.exists());
    server.end().await;
}

#[tokio::test]
async fn guest_that_is_never_ready_is_an_error_with_its_stage() {
    let image = image();
    let accelerator = accelerator(&image).await;
    let mut settings = template_settings();
    let top = tempfile::tempdir().unwrap();
    settings.templates_dir = top.path().join("templates");
    settings.prepare_ms_max = 1_000;
    let stages = Mutex::new(Vec::new());
    let failed = Template::find_or_prepare(&image, &accelerator, &settings, |progress| {
        if let PrepareProgress::Stage(stage) = progress {
            stages.lock().unwrap().push(stage);
        }
    })
    .await;
    let error = failed.unwrap_err().to_string();
    assert!(error.contains("not ready after"), "{error}");
    assert_eq!(stages.lock().unwrap().first(), Some(&Stage::Channel));
    let left: Vec<_> =
        std::fs::read_dir(&settings.templates_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}

#[tokio::test]
async fn cancelled_preparation_leaves_no_process() {
    let image = image();
    let accelerator = accelerator(&image).await;
    let top = tempfile::tempdir().unwrap();
    let settings = TemplateSettings { templates_dir: top.path().join("templates"), ..template_settings() };
    let (started, has_started) = tokio::sync::oneshot::channel();
    let started = Mutex::new(Some(started));
    let on_progress = |progress| {
        if let (PrepareProgress::Stage(_), Some(started)) = (progress, started.lock().unwrap().take()) {
            started.send(()).unwrap();
        }
    };
    tokio::select! {
        done = Template::find_or_prepare(&image, &accelerator, &settings, on_progress) => panic!("{done:?}"),
        _ = has_started => {}
    }
    let dir = settings.templates_dir.to_str().unwrap().to_owned();
    let processes = || {
        let lines = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| String::from_utf8_lossy(line).contains(&dir)).count()
    };
    let ended = async {
        while processes() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(STATE_TIMEOUT, ended).await.expect("the preparation's machine is still running");
}

#[tokio::test]
async fn invalid_saved_state_is_an_error_with_the_output_of_the_vmm() {
    let template = template().await;
    let spec = template.build_spec(&new_id()).unwrap();
    struct InvalidState(anteroom_machine::ProcessSpec);
    impl SpecSource for InvalidState {
        fn image_hash(&self) -> &str {
            "none"
        }
        fn build_spec(&self, _: &MachineId) -> Result<anteroom_machine::ProcessSpec, anteroom_machine::SpecError> {
            Ok(self.0.clone())
        }
    }
    let top = tempfile::tempdir().unwrap();
    let mut spec = spec;
    for inherited in &mut spec.fds {
        if let anteroom_machine::FdSource::Read { path } = &mut inherited.source {
            *path = top.path().join("state");
        }
    }
    std::fs::write(top.path().join("state"), b"not a state at all").unwrap();
    let server = Server::open(top.path(), Arc::new(InvalidState(spec))).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    let reason = removed(&mut state).await;
    let ExitReason::NeverStarted { error } = reason else { panic!("{reason:?}") };
    assert!(error.contains("could not be loaded"), "{error}");
    assert!(matches!(server.machines.read_receipt(&id).unwrap().unwrap().cause, ExitCause::NeverStarted { .. }));
    server.end().await;
}
