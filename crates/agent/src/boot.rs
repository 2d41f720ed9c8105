//! Init mode: from the kernel's initial file system to a running agent as PID 1 of the image.
//!
//! ```text
//!  /dev /proc /sys ─▶ modules ─▶ /dev/vda: squashfs (read-only) ─┐
//!                                tmpfs (bounded) ────────────────┴▶ overlay = / ─▶ the rest of the mounts ─▶ agent
//! ```
//!
//! A failure here, or of the agent later, is said on the console and ends the machine by the kernel's panic: nobody can repair
//! it from inside.

mod command_line;
mod mounts;
mod net;

use crate::{
    agent::{self, Media},
    log,
    place::{PERSON_ID, Place, RUN_DIR},
    port::Medium,
};
use anteroom_wire::channel::{AGENT_PORT, HOST_PORT};
use anyhow::Context;
use command_line::CommandLine;
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

/// What a probe's guest says to show that this accelerator can boot it.
const PROBE_OK: &str = "anteroom-probe-ok";
/// Chromium itself: what stands in `/usr/bin` is a shell script.
const BROWSER: &str = "/usr/lib/chromium/chromium";
/// Tool name → version, written by the image's build.
const CLIS: &str = "/etc/anteroom/clis.json";

/// Boots and never returns on purpose.
pub(crate) fn run() -> ExitCode {
    log::uptime();
    std::panic::set_hook(Box::new(|panic| say_everywhere(&format!("panic: {panic}"))));
    let Err(error) = boot();
    say_everywhere(&format!("{error:#}"));
    give_up()
}

fn boot() -> anyhow::Result<Infallible> {
    mounts::first()?;
    open_console();
    let line = std::fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?;
    let line = CommandLine::parse(&line);
    if line.probe {
        say_everywhere(PROBE_OK);
        power_off();
    }
    crate::reactor()?.block_on(async {
        mounts::load_modules(Path::new("/modules"))?;
        mounts::root(line.overlay_mib).await?;
        open_console();
        let ends = serve(line).await;
        ends.and_then(|()| anyhow::bail!("the agent ended"))
    })
}

async fn serve(line: CommandLine) -> anyhow::Result<()> {
    settle().context("the agent's own directories")?;
    // Held for the machine's whole life: pages see a network as long as the device has its carrier.
    let _network = net::start().context("network")?;
    let clis = std::fs::read(CLIS).unwrap_or_default();
    let clis: BTreeMap<String, String> =
        if clis.is_empty() { BTreeMap::new() } else { serde_json::from_slice(&clis).context(CLIS)? };
    let browser = Some(PathBuf::from(BROWSER)).filter(|program| program.is_file());
    let place = Place::machine(line.width, line.height, browser, line.image_hash, clis);
    let media = Media { agent: Medium::virtio(AGENT_PORT).await?, host: Medium::virtio(HOST_PORT).await? };
    log::line("ports open");
    agent::run(place, media).await
}

/// Lays out `/run` and `/tmp`: what belongs to the person.
fn settle() -> anyhow::Result<()> {
    let run = Path::new(RUN_DIR);
    std::fs::create_dir_all(run)?;
    for (dir, mode) in [(run.join("person"), 0o700), (format!("/run/user/{PERSON_ID}").into(), 0o700)] {
        std::fs::create_dir_all(&dir)?;
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        std::os::unix::fs::chown(&dir, Some(PERSON_ID), Some(PERSON_ID))?;
    }
    let sockets = Path::new("/tmp/.X11-unix");
    std::fs::create_dir_all(sockets)?;
    std::fs::set_permissions(sockets, std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
    // Opened for writing, it is copied from the image's read-only layer now, not when the claim writes it.
    let _ = std::fs::OpenOptions::new().append(true).open("/etc/machine-id");
    rustix::system::sethostname(b"anteroom")?;
    Ok(())
}

/// Standard streams on the console, if the kernel has one.
fn open_console() {
    let Ok(console) = rustix::fs::open("/dev/console", OFlags::RDWR | OFlags::NOCTTY, Mode::empty()) else { return };
    // Without them the lines are lost and nothing else.
    let _ = rustix::stdio::dup2_stdin(&console);
    let _ = rustix::stdio::dup2_stdout(&console);
    let _ = rustix::stdio::dup2_stderr(&console);
}

/// On the console and in the kernel's log: whichever of them the host reads.
fn say_everywhere(text: &str) {
    for device in ["/dev/console", "/dev/kmsg"] {
        if let Ok(mut out) = std::fs::OpenOptions::new().write(true).open(device) {
            let _ = out.write_all(format!("{text}\n").as_bytes());
        }
    }
}

/// Powers off; where the machine has no such thing, a restart ends it as well (the host forbids restarts).
fn power_off() -> ! {
    rustix::fs::sync();
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    let _ = rustix::system::reboot(RebootCommand::Restart);
    give_up()
}

/// Ends as PID 1, on which the kernel panics: the host is told of a fault, not of a machine that was switched off.
fn give_up() -> ! {
    std::process::exit(1)
}
