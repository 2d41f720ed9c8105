//! Init mode: from the kernel's initial file system to a running agent as PID 1 of the image.
//!
//! ```text
//!  /dev /proc /sys ─▶ modules ─▶ /dev/vda: squashfs (read-only) ─┐
//!                                tmpfs (bounded) ────────────────┴▶ overlay = / ─▶ the rest of the mounts ─▶ agent
//! ```
//!
//! A failure here, or of the agent later, is printed on the console and ends the machine by a kernel panic: it cannot be repaired from
//! inside.

mod dummy_device;
mod kernel_parameters;
mod kernel_settings;
mod root_switch;

use crate::{
    channel::transport::Transport,
    desktop::user_namespaces,
    log,
    platform::{
        environment::{ExecutionEnvironment, RUN_DIR, USER_ID},
        process::new_async_runtime,
    },
    run::{self, Transports},
};
use anteroom_wire::channel::{
    AGENT_SERVER_PORT, AGENT_SERVER_VSOCK_PORT, CONTROLLER_SERVER_PORT, CONTROLLER_SERVER_VSOCK_PORT,
};
use anyhow::Context;
use kernel_parameters::{ChannelDevice, KernelParameters};
use rustix::{
    fs::{Mode, OFlags},
    system::RebootCommand,
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Printed by the guest of a probe, to show that Linux boots.
const PROBE_OK: &str = "anteroom-probe-ok";
/// The executable of Chromium: the one in `/usr/bin` is a shell script.
const BROWSER: &str = "/usr/lib/chromium/chromium";
/// JSON, tool name → version, written by the build of the image.
const CLIS: &str = "/etc/anteroom/clis.json";

/// Boots, and returns only after a failure.
pub(crate) fn run_as_init() -> ExitCode {
    log::uptime();
    std::panic::set_hook(Box::new(|panic| print_everywhere(&format!("panic: {panic}"))));
    let Err(error) = boot();
    print_everywhere(&format!("{error:#}"));
    panic_kernel()
}

fn boot() -> anyhow::Result<Infallible> {
    root_switch::mount_initial_file_systems()?;
    open_console();
    let line = std::fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?;
    let line = KernelParameters::parse(&line);
    if line.probe {
        print_everywhere(PROBE_OK);
        power_off(line.channel_device);
    }
    new_async_runtime()?.block_on(async {
        root_switch::load_modules(Path::new("/modules"), line.channel_device)?;
        root_switch::switch_root(line.overlay_mib).await?;
        open_console();
        let result = run_agent(line).await;
        result.and_then(|()| anyhow::bail!("the agent ended"))
    })
}

async fn run_agent(line: KernelParameters) -> anyhow::Result<()> {
    prepare_directories().context("directories")?;
    kernel_settings::set_kernel_settings().context("kernel settings")?;
    user_namespaces::close().context("user namespaces")?;
    // Kept as long as the machine runs: pages see a network as long as the device has its carrier.
    let _network = dummy_device::create_dummy_device().context("network")?;
    let clis = std::fs::read(CLIS).unwrap_or_default();
    let clis: BTreeMap<String, String> =
        if clis.is_empty() { BTreeMap::new() } else { serde_json::from_slice(&clis).context(CLIS)? };
    let browser = Some(PathBuf::from(BROWSER)).filter(|program| program.is_file());
    let environment = ExecutionEnvironment::for_machine(line.width, line.height, browser, line.image_hash, clis);
    let transports = Transports {
        agent_server: open_port(line.channel_device, AGENT_SERVER_PORT, AGENT_SERVER_VSOCK_PORT).await?,
        controller_server: open_port(line.channel_device, CONTROLLER_SERVER_PORT, CONTROLLER_SERVER_VSOCK_PORT).await?,
    };
    log::write_line("ports open");
    run::run_agent(environment, transports).await
}

/// One of the two ports, which has a name or a number.
async fn open_port(device: ChannelDevice, name: &str, number: u32) -> anyhow::Result<Transport> {
    match device {
        ChannelDevice::VirtioSerial => Ok(Transport::virtio(name).await?),
        ChannelDevice::Vsock => Transport::vsock(number).with_context(|| format!("vsock port {number}")),
    }
}

/// Creates the directories in `/run` and `/tmp`, those of the user with the user as owner.
fn prepare_directories() -> anyhow::Result<()> {
    let run = Path::new(RUN_DIR);
    std::fs::create_dir_all(run)?;
    for (dir, mode) in [(run.join("user"), 0o700), (format!("/run/user/{USER_ID}").into(), 0o700)] {
        std::fs::create_dir_all(&dir)?;
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        std::os::unix::fs::chown(&dir, Some(USER_ID), Some(USER_ID))?;
    }
    let sockets = Path::new("/tmp/.X11-unix");
    std::fs::create_dir_all(sockets)?;
    std::fs::set_permissions(sockets, std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
    // Opening it for writing copies it from the image's read-only layer now, instead of when the claim writes it.
    let _ = std::fs::OpenOptions::new().append(true).open("/etc/machine-id");
    rustix::system::sethostname(b"anteroom")?;
    Ok(())
}

/// Opens the console, if the kernel has one, as the standard streams.
fn open_console() {
    let Ok(console) = rustix::fs::open("/dev/console", OFlags::RDWR | OFlags::NOCTTY, Mode::empty()) else { return };
    // If this fails, only log lines are lost.
    let _ = rustix::stdio::dup2_stdin(&console);
    let _ = rustix::stdio::dup2_stdout(&console);
    let _ = rustix::stdio::dup2_stderr(&console);
}

/// Prints to the console and to the kernel's log, since the host reads either.
fn print_everywhere(text: &str) {
    for device in ["/dev/console", "/dev/kmsg"] {
        if let Ok(mut out) = std::fs::OpenOptions::new().write(true).open(device) {
            let _ = out.write_all(format!("{text}\n").as_bytes());
        }
    }
}

/// Powers off. Where the machine does not support that, a restart ends it as well, since the host forbids restarts.
fn power_off(device: ChannelDevice) -> ! {
    rustix::fs::sync();
    match device {
        ChannelDevice::VirtioSerial => _ = rustix::system::reboot(RebootCommand::PowerOff),
        // Firecracker cannot be powered off: the kernel would halt, and the machine would not end.
        ChannelDevice::Vsock => {}
    }
    let _ = rustix::system::reboot(RebootCommand::Restart);
    panic_kernel()
}

/// Exits as PID 1, on which the kernel panics: so the host detects a failure, not a regular power-off.
fn panic_kernel() -> ! {
    std::process::exit(1)
}
