//! The testbed's programs in one binary.
//!
//! | command | is |
//! |---|---|
//! | `machine JSON` | a machine that is a plain process: prepares its directory, starts a desktop, becomes the agent |
//! | `desktop SOCKET NAME WIDTH HEIGHT` | a fake desktop |
//! | `tool SCRIPT.json` | a command-line tool that does what a script says |
//! | `serve` | the server of a world; what it shall be comes on standard input |
//! | `keeper RUN_DIR` | the keeper of a machine |

use anteroom_testbed::{
    FakeRfbServer, PausePoint, Script,
    plain_process::{SimulatedMemory, PlainMachineConfig, RFB_SOCKET},
    script, served,
};
use anyhow::Context;
use rustix::{
    io::Errno,
    time::{ClockId, Timespec},
};
use std::{
    ffi::OsString,
    fs,
    os::{fd::BorrowedFd, unix::process::CommandExt},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

/// The wall clock of this program, which tests can set: see [`serve::wall_clock`]. The linker prefers it to the C library's; the time
/// itself comes from the kernel without that.
#[allow(unsafe_code, reason = "the C library's own signature; the pointer is the caller's promise")]
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    let ahead_ms = serve::wall_clock::ahead_ms();
    let (clock, ahead_ms) = match clock {
        0 => (ClockId::Realtime, ahead_ms),
        5 => (ClockId::RealtimeCoarse, ahead_ms),
        2 => (ClockId::ProcessCPUTime, 0),
        3 => (ClockId::ThreadCPUTime, 0),
        6 => (ClockId::MonotonicCoarse, 0),
        7 => (ClockId::Boottime, 0),
        _ => (ClockId::Monotonic, 0),
    };
    let mut now = rustix::time::clock_gettime(clock);
    now.tv_sec += ahead_ms / 1_000;
    // SAFETY: as with the C library's, the caller gives a place for the answer.
    unsafe { time.write(now) };
    0
}

#[allow(unsafe_code, reason = "where the C library keeps a thread's last error")]
unsafe extern "C" {
    fn __errno_location() -> *mut i32;
}

/// The positioned write of this program, which tests can refuse: see [`serve::read_only_database`].
#[allow(unsafe_code, reason = "the C library's own signature; descriptor and pointer are the caller's promise")]
#[unsafe(no_mangle)]
extern "C" fn pwrite64(fd: i32, bytes: *const u8, count: usize, at: i64) -> isize {
    if count == 0 {
        return 0;
    }
    let done = if serve::read_only_database::refuses(fd) {
        Err(Errno::ROFS)
    } else {
        // SAFETY: as with the C library's, the caller has the file open and gives `count` bytes.
        let (file, bytes) = unsafe { (BorrowedFd::borrow_raw(fd), std::slice::from_raw_parts(bytes, count)) };
        rustix::io::pwrite(file, bytes, at.cast_unsigned())
    };
    match done {
        Ok(written) => written.cast_signed(),
        Err(error) => {
            // SAFETY: the C library's own place, which lives as long as the thread.
            unsafe { *__errno_location() = error.raw_os_error() };
            -1
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let done = match words[..] {
        ["keeper", run_dir] => {
            PausePoint::Keepers.wait(Path::new(run_dir));
            return anteroom_machine::keeper::main(Path::new(run_dir));
        }
        ["machine", told] => machine(told),
        ["desktop", socket, name, width, height] => desktop(socket, name, width, height),
        ["tool", script] => tool(Path::new(script)),
        ["serve"] => serve(),
        _ => Err(anyhow::anyhow!(
            "usage: machine JSON | desktop SOCKET NAME WIDTH HEIGHT | tool SCRIPT | serve | keeper RUN_DIR"
        )),
    };
    done.unwrap_or_else(|error| {
        eprintln!("anteroom-testbed: {error:#}");
        ExitCode::from(70)
    })
}

fn reactor() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Runs in the machine's run directory, which goes with the machine.
fn machine(told: &str) -> anyhow::Result<ExitCode> {
    let plain: PlainMachineConfig = serde_json::from_str(told).context("the machine's description")?;
    let here = std::env::current_dir()?;
    for dir in ["work", "home"] {
        fs::create_dir_all(here.join(dir))?;
    }
    let mut config = serde_json::json!({
        "agent_socket": here.join(anteroom_machine::AGENT_SOCKET),
        "host_socket": here.join(anteroom_machine::HOST_SOCKET),
        "work_dir": here.join("work"),
        "home": here.join("home"),
        "rfb_socket": here.join(RFB_SOCKET),
        "image_hash": plain.image_hash,
        "clis": plain.clis,
        "path": plain.path,
    });
    if plain.faults.own_memory {
        SimulatedMemory { available_mib: 512, oom_kills: 0 }.write(&here)?;
        fs::write(here.join("kmsg"), "")?;
        let file = |name: &str| here.join(name);
        config["memory"] = serde_json::json!({
            "meminfo": file("meminfo"), "pressure": file("pressure"), "vmstat": file("vmstat"), "kmsg": file("kmsg"),
        });
    }
    fs::write(here.join("agent.json"), serde_json::to_vec_pretty(&config)?)?;
    if !plain.faults.no_desktop {
        start_desktop(&plain)?;
    }
    #[allow(clippy::disallowed_methods, reason = "a machine that is slow to start; nothing else runs in it yet")]
    std::thread::sleep(Duration::from_millis(plain.faults.agent_after_ms));
    #[allow(clippy::disallowed_methods, reason = "this process becomes the agent")]
    let error = Command::new(&plain.agent).arg("--config").arg(here.join("agent.json")).exec();
    Err(error).with_context(|| format!("{}", plain.agent.display()))
}

/// It ends with its parent, which will be the agent.
fn start_desktop(plain: &PlainMachineConfig) -> anyhow::Result<()> {
    #[allow(clippy::disallowed_methods, reason = "the testbed's machine starts its own desktop")]
    let mut desktop = Command::new(std::env::current_exe()?);
    desktop.args(["desktop", RFB_SOCKET, &plain.desktop, &plain.width.to_string(), &plain.height.to_string()]);
    desktop.stdin(Stdio::null()).stdout(Stdio::null());
    drop(desktop.spawn().context("the desktop")?);
    Ok(())
}

fn desktop(socket: &str, name: &str, width: &str, height: &str) -> anyhow::Result<ExitCode> {
    let parent = rustix::process::getppid();
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    anyhow::ensure!(rustix::process::getppid() == parent, "the machine is gone already");
    PausePoint::Desktops.wait(&std::env::current_dir()?);
    reactor()?.block_on(async {
        let desktop = FakeRfbServer::start(Path::new(socket), name, width.parse()?, height.parse()?)?;
        desktop.obey().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn serve() -> anyhow::Result<ExitCode> {
    let order = serde_json::from_reader(std::io::stdin().lock()).context("the server's order")?;
    let reactor = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    reactor.block_on(serve::run(order))?;
    Ok(ExitCode::SUCCESS)
}

fn tool(script: &Path) -> anyhow::Result<ExitCode> {
    let script = Script::load(script).with_context(|| format!("{}", script.display()))?;
    let code = reactor()?.block_on(script::run(script))?;
    // Not by returning: a read of standard input that is still waited for must not hold the process.
    std::process::exit(i32::from(code))
}
