//! Machines in Firecracker: with a tiny guest, or with the image where KVM boots Linux.

use super::kind::{Capability, GuestAction, Kind, Preparation};
use crate::{MachineProcesses, QEMU_WAIT_TIMEOUT, WAIT_MAX, plain_process::built_program, test_server};
use anteroom_machine::{
    CONSOLE_BYTES_MAX, Confinement, PreparationSettings, ProcessSpec, VSOCK_SOCKET,
    firecracker::{GuestFiles, Template, TemplateSettings},
    image::Image,
    qemu::Hardware,
};
use anteroom_wire::agent::Geometry;
use anyhow::Context;
use futures_util::{FutureExt, future::BoxFuture};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::Command,
    time::timeout,
};

/// The variable with the directory of the test's programs.
const PROGRAMS_VARIABLE: &str = "ANTEROOM_TEST_FIRECRACKER";
const KVM_PATH: &str = "/dev/kvm";
/// The longest preparation of a template, milliseconds.
const PREPARE_MS_MAX: u64 = 600_000;
const GEOMETRY: Geometry = Geometry { width: 1_280, height: 800 };
const TINY_HARDWARE: Hardware = Hardware { memory_mib: 256, cpus: 1, tcg_cache_mib: 16 };
/// The hardware of a server with default settings.
const HARDWARE: Hardware = Hardware { memory_mib: 1_536, cpus: 2, tcg_cache_mib: 256 };
/// The port on which the tiny guest executes commands of one byte each, and answers each with the same byte.
const COMMAND_PORT: u32 = 1_026;
/// Commands: write 4 KiB to the console; cause a triple fault.
const FLOOD: u8 = b'f';
const TRIPLE_FAULT: u8 = b't';
/// The name under which Firecracker opens the saved state.
const STATE_NAME: &str = "/machine/state";

/// The guest of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guest {
    /// A small program with the agent's protocol.
    Tiny,
    /// The image.
    Image,
}

/// See [`super::FIRECRACKER`] and [`super::FIRECRACKER_WITH_IMAGE`].
pub(super) struct Firecracker(pub(super) Guest);

/// What machines are started with.
struct Programs {
    firecracker: PathBuf,
    /// The directory of the tiny guest.
    dir: PathBuf,
}

/// The directory that `scripts/test_firecracker.sh` prints.
fn programs_dir() -> Result<PathBuf, String> {
    let dir = std::env::var_os(PROGRAMS_VARIABLE)
        .map(PathBuf::from)
        .ok_or_else(|| format!("{PROGRAMS_VARIABLE} is not set: set it to what scripts/test_firecracker.sh prints"))?;
    match fs::read_to_string(dir.join("missing")) {
        Ok(why) => Err(format!("there is no Firecracker for tests: {}", why.trim())),
        Err(_) => Ok(dir),
    }
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Finds the programs, or what is missing.
fn find_programs(guest: Guest) -> Result<Programs, String> {
    if let Err(error) = fs::File::options().read(true).write(true).open(KVM_PATH) {
        return Err(format!("{KVM_PATH} cannot be opened: {error}"));
    }
    match (guest, find_in_path("firecracker")) {
        (Guest::Image, Some(firecracker)) => Ok(Programs { firecracker, dir: PathBuf::new() }),
        (Guest::Image, None) | (Guest::Tiny, _) => {
            let dir = programs_dir()?;
            Ok(Programs { firecracker: dir.join("firecracker"), dir })
        }
    }
}

/// The version that the program prints: `Firecracker v1.12.1`.
async fn version(program: &Path) -> anyhow::Result<String> {
    let output = Command::new(program).arg("--version").output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(1).and_then(|word| word.strip_prefix('v'));
    Ok(version.with_context(|| format!("{} prints no version", program.display()))?.to_owned())
}

impl Guest {
    async fn template(self, programs: &Programs) -> anyhow::Result<Template> {
        let (files, hardware, templates_dir) = match self {
            Self::Tiny => {
                let kernel = programs.dir.join("vmlinux");
                // A template is valid for one build of the guest.
                let image_hash = hex::encode(Sha256::digest(fs::read(&kernel)?));
                let files = GuestFiles { image_hash, kernel, initramfs: None, rootfs: None, image_lock: None };
                (files, TINY_HARDWARE, programs.dir.join("templates"))
            }
            Self::Image => {
                let cache_dir = test_server::Qemu::test_cache_dir()?;
                let image = Image::open_current(&cache_dir.join("images"))?;
                (GuestFiles::of_image(&image)?, HARDWARE, cache_dir.join("templates"))
            }
        };
        let settings = TemplateSettings {
            firecracker_program: programs.firecracker.clone(),
            firecracker_version: version(&programs.firecracker).await?,
            hardware,
            geometry: GEOMETRY,
            preparation: PreparationSettings {
                templates_dir,
                keeper_program: built_program("anteroom-testbed")?,
                prepare_ms_max: PREPARE_MS_MAX,
                console_bytes_max: CONSOLE_BYTES_MAX,
            },
        };
        Ok(Template::find_or_prepare(files, &settings, |_| {}).await?)
    }
}

/// Sends a command to the tiny guest.
async fn send_guest_command(run_dir: &Path, command: u8) -> anyhow::Result<()> {
    let mut stream = UnixStream::connect(run_dir.join(VSOCK_SOCKET)).await.context("the machine's vsock")?;
    stream.write_all(format!("CONNECT {COMMAND_PORT}\n").as_bytes()).await?;
    while stream.read_u8().await? != b'\n' {}
    stream.write_all(&[command]).await?;
    // The command may end the guest.
    let _ = stream.read_u8().await;
    Ok(())
}

impl Kind for Firecracker {
    fn name(&self) -> &'static str {
        match self.0 {
            Guest::Tiny => "firecracker",
            Guest::Image => "firecracker_with_image",
        }
    }

    fn title(&self) -> &'static str {
        match self.0 {
            Guest::Tiny => "Firecracker, small guest",
            Guest::Image => "Firecracker, image",
        }
    }

    fn description(&self) -> &'static str {
        match self.0 {
            Guest::Tiny => {
                "A real Firecracker on the host's KVM with a guest of some kilobytes that speaks the agent's protocol; only for tests. \
                 It needs a KVM that runs any guest, and shows what does not depend on Linux in the guest."
            }
            Guest::Image => {
                "Firecracker with the image's Debian guest, cloned from a snapshot. It needs KVM that boots Linux. The guest is separated \
                 from the host by the processor, and its VMM, which is small and made for this, by the confinement of docs/confinement.md and \
                 by its own filter of system calls."
            }
        }
    }

    fn missing_capability(&self, capability: Capability) -> Option<&'static str> {
        match (capability, self.0) {
            (Capability::Tools, Guest::Tiny) => Some("its guest has no desktop, no terminal and no tools"),
            (Capability::GuestPanic, Guest::Image) => {
                Some("no test can make its kernel panic: Firecracker injects no faults")
            }
            (Capability::GuestPowerOff, _) => {
                Some("Firecracker has no power off: a guest ends by a reset, which is reported like a panic")
            }
            (Capability::Sigterm, _) => {
                Some("as the first process of its namespace it ignores signals that it does not handle")
            }
            (Capability::Tools, Guest::Image)
            | (Capability::GuestPanic, Guest::Tiny)
            | (Capability::SavedState | Capability::Confinement, _) => None,
        }
    }

    fn prepare(&self) -> BoxFuture<'static, anyhow::Result<Preparation>> {
        let guest = self.0;
        async move {
            match find_programs(guest) {
                Ok(programs) => Ok(Preparation::Ready(Arc::new(guest.template(&programs).await?))),
                Err(why) => Ok(Preparation::Unavailable { why }),
            }
        }
        .boxed()
    }

    fn wait_max(&self) -> Duration {
        match self.0 {
            Guest::Tiny => WAIT_MAX,
            Guest::Image => QEMU_WAIT_TIMEOUT,
        }
    }

    fn act<'a>(
        &'a self,
        _: &'a MachineProcesses,
        run_dir: &'a Path,
        action: GuestAction,
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            anyhow::ensure!(action == GuestAction::Panic && self.0 == Guest::Tiny, "the guest cannot do {action:?}");
            for command in [FLOOD, TRIPLE_FAULT] {
                timeout(self.wait_max(), send_guest_command(run_dir, command))
                    .await
                    .context("the guest does not answer")??;
            }
            Ok(())
        }
        .boxed()
    }

    fn damage_saved_state(&self, spec: &mut ProcessSpec, dir: &Path) -> anyhow::Result<()> {
        let damaged = dir.join("damaged-state");
        fs::write(&damaged, "not a saved state")?;
        let Confinement::Confined { files, .. } = &mut spec.confinement else { anyhow::bail!("it is not confined") };
        let state = files.iter_mut().find(|file| file.name == STATE_NAME).context("the spec has no saved state")?;
        state.path = damaged;
        Ok(())
    }
}
