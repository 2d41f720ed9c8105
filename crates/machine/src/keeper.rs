//! One small process per machine: parent of its VMM, in a session of its own, so that machines outlive the controller.
//!
//! ```text
//!  controller ──(socket pair as stdin, or control.sock)── keeper ──▶ process (dies with the keeper)
//!                                                           │ QMP, console, output, pidfd
//! ```
//!
//! One thread, one `poll`. It listens before it starts anything, holds the hard deadline although nobody is connected,
//! keeps the tail of the console, and at the end says at once that the process has ended and how. Only then it kills every
//! descendant, removes the run directory, writes the receipt and closes its sockets: their closing *is* the fact that the
//! machine is gone. What its end is blamed on is known before it is told: nothing that is found out later changes it.

mod child;
mod clear;
pub(crate) mod control;
mod conversation;
pub(crate) mod link;
mod ring;
mod starved;

use crate::{
    process::{self, ProcessId},
    receipt::{Because, End},
    spec::{Brief, CONTROL_SOCKET, Qmp, SPEC_FILE},
    state::StopReason,
};
use child::Vmm;
use control::{CONTROL_PROTOCOL, Caller, Order, Phase, Report};
use conversation::{Conversation, GuestWord, News};
use ring::Ring;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::FileType,
    process::{Resource, Rlimit},
};
use starved::Kills;
use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            net::{UnixListener, UnixStream},
            process::ExitStatusExt,
        },
    },
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Callers at once on the control socket; one more pushes out the oldest.
const CALLERS_MAX: usize = 8;
/// How much of the output goes into an error's text, characters.
const ERROR_CHARS_MAX: usize = 600;

/// Runs the keeper of the machine whose run directory is `run_dir`; returns when the machine is gone.
///
/// To be called at the start of a process of its own, before any thread: it closes all inherited files but the first
/// three, and leaves the caller's session. When the standard input is a socket, it is the first caller.
pub fn main(run_dir: &Path) -> ExitCode {
    let mut caller = None;
    match Keeper::begin(run_dir, &mut caller) {
        Ok(mut keeper) => {
            let end = keeper.start().unwrap_or_else(|| keeper.watch());
            keeper.finish(end);
            ExitCode::SUCCESS
        }
        Err(error) => {
            // Nobody listens to a keeper's error output.
            let error = format!("its keeper could not begin: {error}");
            let phase = Phase::Ended { how: End::NeverStarted { error }, because: None, unwritten: None };
            if let Some(mut caller) = caller {
                let _ = caller.tell(&Report::Phase { phase });
            }
            ExitCode::FAILURE
        }
    }
}

struct Keeper {
    brief: Brief,
    run_dir: PathBuf,
    began: Instant,
    began_unix_ms: u64,
    kills: Kills,
    listener: UnixListener,
    callers: Vec<Caller>,
    phase: Phase,
    vmm: Option<Vmm>,
    qmp: Option<Conversation>,
    resumed: bool,
    guest: Option<GuestWord>,
    /// Why it was told to end its machine, as it was told.
    because: Option<Because>,
    console: Ring,
    output: Ring,
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Closes what a careless parent left open.
fn close_inherited() -> io::Result<()> {
    let numbers: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&number| number > 2)
        .collect();
    for number in numbers {
        // The directory that was read above had a number too.
        if fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok() {
            #[allow(unsafe_code, reason = "the number is open, and nothing of this process owns a file above 2 yet")]
            unsafe {
                rustix::io::close(number);
            }
        }
    }
    Ok(())
}

/// The controller's end, if the standard input is one; it is replaced by nothing.
fn first_caller() -> io::Result<Option<Caller>> {
    let stdin = rustix::stdio::stdin();
    if FileType::from_raw_mode(rustix::fs::fstat(stdin)?.st_mode) != FileType::Socket {
        return Ok(None);
    }
    let stream = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(stdin, 3)?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Caller::new(stream).map(Some)
}

impl Keeper {
    /// Everything that can fail before there is a machine. `caller`: whom to tell that it did.
    fn begin(run_dir: &Path, caller: &mut Option<Caller>) -> io::Result<Self> {
        let began = Instant::now();
        close_inherited()?;
        *caller = first_caller()?;
        let run_dir = fs::canonicalize(run_dir)?;
        std::env::set_current_dir(&run_dir)?;
        // Fails only for a process that leads its group already, such as one started by hand.
        let _ = rustix::process::setsid();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let listener = UnixListener::bind(CONTROL_SOCKET)?;
        listener.set_nonblocking(true)?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        // A core file of a machine would hold what is in its memory.
        rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        let brief: Brief = serde_json::from_slice(&fs::read(SPEC_FILE)?)?;
        let mut keeper = Self {
            run_dir,
            began,
            began_unix_ms: unix_ms(),
            kills: Kills::begin(began, process::oom_kills()),
            listener,
            callers: Vec::new(),
            phase: Phase::Starting,
            vmm: None,
            qmp: None,
            resumed: false,
            guest: None,
            because: None,
            console: Ring::new(brief.console_bytes_max),
            output: Ring::new(brief.console_bytes_max),
            brief,
        };
        if let Some(caller) = caller.take() {
            keeper.greet(caller);
        }
        Ok(keeper)
    }

    /// Starts the process; `Some`: it did not start.
    fn start(&mut self) -> Option<End> {
        let started = child::spawn(&self.brief.spec)
            .map_err(|error| format!("{}: {error}", self.brief.spec.program))
            .and_then(|(vmm, qmp)| {
                self.phase = Phase::Running { process: vmm.id };
                self.vmm = Some(vmm);
                self.converse(qmp)
            });
        match started {
            Ok(()) => {
                self.tell_all();
                None
            }
            Err(error) => Some(End::NeverStarted { error }),
        }
    }

    /// Says to QEMU what has to be said at its start.
    fn converse(&mut self, stream: Option<UnixStream>) -> Result<(), String> {
        let state = match self.brief.spec.qmp {
            Qmp::Unused => return Ok(()),
            Qmp::Listen => None,
            Qmp::Load { state } => Some(state),
        };
        let stream = stream.ok_or("the spec has no QMP socket")?;
        let mut qmp = Conversation::new(stream).map_err(|error| error.to_string())?;
        let loading = state.map_or(Ok(()), |number| qmp.load(number));
        self.qmp = Some(qmp);
        loading.map_err(|error| error.to_string())
    }

    fn greet(&mut self, mut caller: Caller) {
        let Some(keeper) = ProcessId::of(std::process::id()) else { return };
        let phase = self.phase.clone();
        let greeting =
            Report::Greeting { protocol: CONTROL_PROTOCOL, machine: self.brief.machine.clone(), keeper, phase };
        if caller.tell(&greeting).is_ok() {
            if self.callers.len() >= CALLERS_MAX {
                self.callers.remove(0);
            }
            self.callers.push(caller);
        }
    }

    fn tell_all(&mut self) {
        let report = Report::Phase { phase: self.phase.clone() };
        self.callers.retain_mut(|caller| caller.tell(&report).is_ok());
    }

    /// Watches over the process until something ends the machine.
    fn watch(&mut self) -> End {
        let deadline = self.began + Duration::from_millis(self.brief.deadline_ms);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return End::Deadline;
            }
            self.wait(left.min(starved::LOOK_EVERY));
            if let Some(vmm) = &mut self.vmm {
                vmm.drain(&mut self.console, &mut self.output);
            }
            if let Some(end) = self.hear_qmp() {
                return end;
            }
            if let Some(status) = self.vmm.as_mut().and_then(Vmm::status) {
                return self.cause(status);
            }
            if let Some(end) = self.hear_callers() {
                return end;
            }
            self.kills.look(Instant::now(), process::oom_kills);
        }
    }

    /// Waits until there is something to do, or `left` is over.
    fn wait(&self, left: Duration) {
        let mut files: Vec<BorrowedFd<'_>> = vec![self.listener.as_fd()];
        files.extend(self.callers.iter().map(AsFd::as_fd));
        files.extend(self.qmp.iter().map(AsFd::as_fd));
        if let Some(vmm) = &self.vmm {
            files.push(vmm.ended.as_fd());
            files.extend(vmm.stdout.iter().map(AsFd::as_fd));
            files.extend(vmm.stderr.iter().map(AsFd::as_fd));
            files.extend(vmm.console.iter().map(AsFd::as_fd));
        }
        let mut files: Vec<PollFd<'_>> =
            files.into_iter().map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect();
        // Interrupted or not: the caller looks at everything again.
        let _ = rustix::event::poll(&mut files, Timespec::try_from(left).ok().as_ref());
    }

    fn hear_callers(&mut self) -> Option<End> {
        while let Ok((stream, _)) = self.listener.accept() {
            if let Ok(caller) = Caller::new(stream) {
                self.greet(caller);
            }
        }
        let mut orders = Vec::new();
        self.callers.retain_mut(|caller| caller.read().map(|read| orders.extend(read)).is_ok());
        if self.brief.leashed && self.callers.is_empty() {
            let why = StopReason::Unowned;
            self.because = Because::of(&why);
            return Some(End::Stopped { why: why.name().to_owned() });
        }
        orders.into_iter().find_map(|order| match order {
            Order::Stop { why, because } => {
                self.because = because;
                Some(End::Stopped { why })
            }
            Order::Save { state } => match &mut self.qmp {
                None => Some(End::SaveFailed { error: "the machine is not QEMU's".into() }),
                Some(qmp) => qmp.save(&state).err().map(|error| End::SaveFailed { error: error.to_string() }),
            },
        })
    }

    fn hear_qmp(&mut self) -> Option<End> {
        let news = match self.qmp.as_mut()?.read() {
            Ok(news) => news,
            Err(error) => return Some(End::SaveFailed { error: error.to_string() }),
        };
        if self.qmp.as_ref().is_some_and(Conversation::is_over) {
            self.qmp = None;
        }
        for item in news {
            match item {
                News::Resumed => self.resumed = true,
                News::Guest(word) => self.guest = Some(word),
                News::Saved => return Some(End::Saved),
                News::Failed(error) => return Some(End::SaveFailed { error }),
                News::Broken(status) => return Some(End::VmmError { status }),
            }
        }
        None
    }

    /// Why a process that nobody told to end has ended.
    fn cause(&mut self, status: ExitStatus) -> End {
        if let Some(vmm) = &mut self.vmm {
            vmm.drain(&mut self.console, &mut self.output);
        }
        // The last words may still be in the socket.
        let _ = self.hear_qmp();
        let starved = self.kills.any_since(process::oom_kills());
        let end = cause(status, self.guest, starved);
        match (&end, &self.brief.spec.qmp) {
            (End::Exited { .. }, Qmp::Load { .. }) if !self.resumed => {
                let output = self.output.text();
                let skipped = output.chars().count().saturating_sub(ERROR_CHARS_MAX);
                let error = output.chars().skip(skipped).collect::<String>();
                End::NeverStarted { error: format!("the saved state could not be loaded: {}", error.trim()) }
            }
            (_, Qmp::Unused | Qmp::Listen | Qmp::Load { .. }) => end,
        }
    }

    /// Ends the machine, tells the callers, clears away, writes the receipt. The callers' sockets close when this returns.
    fn finish(&mut self, how: End) {
        let met = self.end_process();
        // How long the rest takes is up to disks and to whoever else uses them.
        self.phase = Phase::Clearing { how: how.clone(), because: self.because.clone() };
        self.tell_all();
        let receipt = self.clear(how.clone(), met);
        let written = receipt.write(&self.brief.receipts_dir);
        let (because, unwritten) = (self.because.take(), written.err().map(|error| error.to_string()));
        self.phase = Phase::Ended { how, because, unwritten };
        self.tell_all();
    }

    /// Afterwards the process has ended and was waited for. Returns the descendants it had if it still lived.
    fn end_process(&mut self) -> Vec<ProcessId> {
        let Some(vmm) = &mut self.vmm else { return Vec::new() };
        if vmm.status().is_some() {
            return Vec::new();
        }
        let met = process::own_descendants();
        vmm.kill();
        met
    }
}

/// Names a process's end. `starved`: the host's kernel killed something for want of memory meanwhile.
fn cause(status: ExitStatus, guest: Option<GuestWord>, starved: bool) -> End {
    const SIGKILL: i32 = 9;
    match (status.signal(), guest) {
        (Some(SIGKILL), _) if starved => End::OutOfMemory,
        (Some(signal), _) => End::Killed { signal },
        (None, Some(GuestWord::PowerOff)) => End::GuestPowerOff,
        (None, Some(GuestWord::Reset | GuestWord::Panic)) => End::GuestPanic,
        (None, None) => End::Exited { code: status.code().unwrap_or(-1) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_named_by_its_cause() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        let killed = ExitStatus::from_raw(9);
        assert_eq!(cause(exited(0), None, false), End::Exited { code: 0 });
        assert_eq!(cause(exited(3), None, true), End::Exited { code: 3 });
        assert_eq!(cause(killed, None, false), End::Killed { signal: 9 });
        assert_eq!(cause(killed, None, true), End::OutOfMemory);
        assert_eq!(cause(ExitStatus::from_raw(11), None, true), End::Killed { signal: 11 });
        assert_eq!(cause(exited(0), Some(GuestWord::PowerOff), false), End::GuestPowerOff);
        assert_eq!(cause(exited(0), Some(GuestWord::Reset), false), End::GuestPanic);
        assert_eq!(cause(exited(0), Some(GuestWord::Panic), false), End::GuestPanic);
    }
}
