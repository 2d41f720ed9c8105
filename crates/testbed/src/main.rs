//! The testbed's programs in one binary.
//!
//! | command | purpose |
//! |---|---|
//! | `machine JSON` | a plain-process machine: prepares its directory, starts a desktop, executes the agent |
//! | `desktop SOCKET NAME WIDTH HEIGHT` | a fake desktop |
//! | `tool SCRIPT.json` | a command-line tool that follows a script |
//! | `serve` | the process of a test server; reads its configuration from standard input |
//! | `keeper RUN_DIR` | the keeper of a machine |
//! | `own KIND STATE_DIR COUNT` | owns machines until it is killed |

use anteroom_testbed::{
    FakeRfbServer, PausePoint, Script, machine_owner,
    plain_process::{PlainMachineConfig, RFB_SOCKET, SimulatedMemory},
    script, serve,
};
use anyhow::Context;
use rustix::{
    io::Errno,
    time::{ClockId, Timespec},
};
use std::{
    alloc::System,
    ffi::OsString,
    fs,
    os::{fd::BorrowedFd, unix::process::CommandExt},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};
use zeroizing_alloc::ZeroAlloc;

/// As in `anteroom`: wipes all memory that is freed.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// Replaces the C library's function, to add the offset of [`serve::wall_clock`]. The time is read from the kernel without the C
/// library.
#[allow(unsafe_code, reason = "the C library's signature; the caller guarantees that the pointer is valid")]
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    let offset_ms = serve::wall_clock::clock_offset_ms();
    let (clock, offset_ms) = match clock {
        0 => (ClockId::Realtime, offset_ms),
        5 => (ClockId::RealtimeCoarse, offset_ms),
        2 => (ClockId::ProcessCPUTime, 0),
        3 => (ClockId::ThreadCPUTime, 0),
        6 => (ClockId::MonotonicCoarse, 0),
        7 => (ClockId::Boottime, 0),
        _ => (ClockId::Monotonic, 0),
    };
    let mut now = rustix::time::clock_gettime(clock);
    now.tv_sec += offset_ms / 1_000;
    // SAFETY: the caller passes a valid pointer, as the C library requires.
    unsafe { time.write(now) };
    0
}

#[allow(unsafe_code, reason = "returns the address of the C library's `errno`")]
unsafe extern "C" {
    fn __errno_location() -> *mut i32;
}

/// Replaces the C library's function, to make writes fail: see [`serve::read_only_database`].
#[allow(unsafe_code, reason = "the C library's signature; the caller guarantees that descriptor and pointer are valid")]
#[unsafe(no_mangle)]
extern "C" fn pwrite64(fd: i32, bytes: *const u8, count: usize, at: i64) -> isize {
    if count == 0 {
        return 0;
    }
    let done = if serve::read_only_database::rejects_write(fd) {
        Err(Errno::ROFS)
    } else {
        // SAFETY: the caller has the file open and passes `count` readable bytes, as the C library requires.
        let (file, bytes) = unsafe { (BorrowedFd::borrow_raw(fd), std::slice::from_raw_parts(bytes, count)) };
        rustix::io::pwrite(file, bytes, at.cast_unsigned())
    };
    match done {
        Ok(written) => written.cast_signed(),
        Err(error) => {
            // SAFETY: the address of `errno` is valid as long as the thread runs.
            unsafe { *__errno_location() = error.raw_os_error() };
            -1
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let arguments: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let done = match arguments[..] {
        ["keeper", run_dir] => {
            PausePoint::KeeperStart.block_while_paused(Path::new(run_dir));
            return anteroom_machine::keeper::main(Path::new(run_dir));
        }
        ["machine", config] => machine(config),
        ["desktop", socket, name, width, height] => desktop(socket, name, width, height),
        ["tool", script] => tool(Path::new(script)),
        ["serve"] => run_server(),
        ["own", kind, state_dir, count] => own_machines(kind, Path::new(state_dir), count),
        _ => Err(anyhow::anyhow!(
            "usage: machine JSON | desktop SOCKET NAME WIDTH HEIGHT | tool SCRIPT | serve | keeper RUN_DIR | own KIND STATE_DIR COUNT"
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

/// Starts a machine in the working directory, which is the machine's run directory.
fn machine(config: &str) -> anyhow::Result<ExitCode> {
    let plain: PlainMachineConfig = serde_json::from_str(config).context("the machine's configuration")?;
    let run_dir = std::env::current_dir()?;
    for dir in ["work", "home"] {
        fs::create_dir_all(run_dir.join(dir))?;
    }
    let mut config = serde_json::json!({
        "agent_socket": run_dir.join(anteroom_machine::AGENT_SERVER_SOCKET),
        "controller_socket": run_dir.join(anteroom_machine::CONTROLLER_SERVER_SOCKET),
        "work_dir": run_dir.join("work"),
        "home": run_dir.join("home"),
        "rfb_socket": run_dir.join(RFB_SOCKET),
        "image_hash": plain.image_hash,
        "tool_versions": plain.tool_versions,
        "exec_search_path": plain.exec_search_path,
    });
    if plain.faults.simulated_memory {
        SimulatedMemory { available_mib: 512, oom_kills: 0 }.write(&run_dir)?;
        fs::write(run_dir.join("kmsg"), "")?;
        let file = |name: &str| run_dir.join(name);
        config["memory"] = serde_json::json!({
            "meminfo": file("meminfo"), "pressure": file("pressure"), "vmstat": file("vmstat"), "kmsg": file("kmsg"),
        });
    }
    fs::write(run_dir.join("agent.json"), serde_json::to_vec_pretty(&config)?)?;
    if !plain.faults.no_desktop {
        start_desktop(&plain)?;
    }
    #[allow(clippy::disallowed_methods, reason = "a machine that is slow to start; nothing else runs in it yet")]
    std::thread::sleep(Duration::from_millis(plain.faults.agent_delay_ms));
    PausePoint::AgentStart.block_while_paused(&run_dir);
    #[allow(clippy::disallowed_methods, reason = "this process executes the agent")]
    let error = Command::new(&plain.agent).arg("--config").arg(run_dir.join("agent.json")).exec();
    Err(error).with_context(|| format!("{}", plain.agent.display()))
}

/// Starts the desktop. It is killed when this process exits, which by then is the agent.
fn start_desktop(plain: &PlainMachineConfig) -> anyhow::Result<()> {
    #[allow(clippy::disallowed_methods, reason = "the testbed's machine starts its desktop")]
    let mut desktop = Command::new(std::env::current_exe()?);
    desktop.args(["desktop", RFB_SOCKET, &plain.desktop_name, &plain.width.to_string(), &plain.height.to_string()]);
    desktop.stdin(Stdio::null()).stdout(Stdio::null());
    drop(desktop.spawn().context("the desktop")?);
    Ok(())
}

fn desktop(socket: &str, name: &str, width: &str, height: &str) -> anyhow::Result<ExitCode> {
    let parent = rustix::process::getppid();
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    anyhow::ensure!(rustix::process::getppid() == parent, "the machine has exited already");
    PausePoint::DesktopStart.block_while_paused(&std::env::current_dir()?);
    reactor()?.block_on(async {
        let desktop = FakeRfbServer::start(Path::new(socket), name, width.parse()?, height.parse()?)?;
        desktop.follow_behaviour_file().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn run_server() -> anyhow::Result<ExitCode> {
    let launch = serde_json::from_reader(std::io::stdin().lock()).context("the server's launch configuration")?;
    let reactor = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    reactor.block_on(serve::run_server(launch))?;
    Ok(ExitCode::SUCCESS)
}

fn own_machines(kind: &str, state_dir: &Path, count: &str) -> anyhow::Result<ExitCode> {
    reactor()?.block_on(machine_owner::run(kind, state_dir, count.parse().context("the number of machines")?))?;
    Ok(ExitCode::SUCCESS)
}

fn tool(script: &Path) -> anyhow::Result<ExitCode> {
    let script = Script::load(script).with_context(|| format!("{}", script.display()))?;
    let code = reactor()?.block_on(script::run_script(script))?;
    // Returning would wait for a pending read of standard input.
    std::process::exit(i32::from(code))
}
