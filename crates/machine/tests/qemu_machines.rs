//! KVM and templates, with real machines. What the machines themselves do is tested by the suite `conformance` of the crate `testbed`.
//! Requires QEMU and `ANTEROOM_TEST_IMAGE`, an image's directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

use anteroom_machine::{
    BoxBody, Channels, ControllerService, ExitReason, Machines, MachinesSettings, SpecSource, State, StopReason,
    image::Image,
    kvm::{self, KvmReport},
    qemu::{self, Accelerator, Hardware, PrepareProgress, Template, TemplateSettings},
};
use anteroom_wire::{
    MachineId,
    agent::{Geometry, Stage},
};
use http_body_util::{BodyExt, Full};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const KEEPER: &str = env!("CARGO_BIN_EXE_anteroom-keeper");
/// Generous, for emulation on a busy host.
const STATE_TIMEOUT: Duration = Duration::from_secs(120);

fn image_dir() -> PathBuf {
    let dir = std::env::var_os("ANTEROOM_TEST_IMAGE");
    dir.expect("ANTEROOM_TEST_IMAGE is not set: give it the directory of an image (`anteroom image build` makes one)")
        .into()
}

fn image() -> Image {
    Image::open(&image_dir()).unwrap()
}

/// The templates of all tests, next to the images; hardware and geometry are those of a server with default settings. So all share one
/// template, whose preparation takes a minute under emulation.
fn template_settings() -> TemplateSettings {
    let cache_dir = image_dir().ancestors().nth(2).expect("it is …/images/<hash>").to_owned();
    TemplateSettings {
        templates_dir: cache_dir.join("templates"),
        qemu_program: qemu::find_qemu().expect("qemu-system-x86_64 is not in PATH"),
        keeper_program: KEEPER.into(),
        hardware: Hardware { memory_mib: 1_536, cpus: 2, tcg_cache_mib: 256 },
        geometry: Geometry { width: 1_280, height: 800 },
        prepare_ms_max: 400_000,
        console_bytes_max: 16 * 1024,
    }
}

async fn kvm_report(image: &Image) -> KvmReport {
    let settings = kvm::ProbeSettings {
        qemu_program: Some(qemu::find_qemu().expect("qemu-system-x86_64 is not in PATH")),
        keeper_program: KEEPER.into(),
        cache_dir: Path::new(env!("CARGO_TARGET_TMPDIR")).join("kvm"),
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
    let memory_bytes = u64::from(kept.manifest().hardware.memory_mib) << 20;
    assert!(kept.ram_disk_usage_bytes().unwrap() < memory_bytes, "the RAM file is not sparse");
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
    assert!(left.iter().all(|name| name == "lock" || name == "verified.json"), "{left:?}");
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
