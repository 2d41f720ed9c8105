//! Every process the agent starts, and the only place where a process's end is learnt.
//!
//! PID 1 inherits orphans and must reap them without stealing the status of a child that somebody waits for. So one
//! loop waits for *any* process, gives the status of a known one to whoever holds its [`Child`], and forgets the rest.
//! (`tokio::process` would wait a second time; it is not used in this crate.)

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use std::{
    collections::HashMap,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// How a process ended: its exit code, or 128 + signal.
pub(crate) type ExitCode = i32;

type Table = HashMap<Pid, oneshot::Sender<ExitCode>>;

/// The table of living children.
#[derive(Clone)]
pub(crate) struct Children {
    table: Arc<Mutex<Table>>,
    die_with_agent: bool,
}

/// What a child's terminal is.
pub(crate) enum Tty {
    /// None; it leads its own process group.
    None,
    /// The agent's own, in the agent's process group.
    Shared,
    /// Its standard input is a terminal and becomes its controlling one.
    Stdin,
}

/// A running child. Dropping it kills it and its process group.
pub(crate) struct Child {
    pid: Pid,
    exit: oneshot::Receiver<ExitCode>,
    table: Arc<Mutex<Table>>,
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command for `program` with an empty environment. No shell reads it.
#[expect(clippy::disallowed_methods, reason = "the agent's one place that makes commands; Children starts them")]
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env_clear();
    command
}

impl Children {
    /// Starts the loop. `die_with_agent`: the kernel kills each child when the agent ends (not needed for PID 1, whose
    /// end is the machine's).
    pub(crate) fn new(die_with_agent: bool) -> io::Result<Self> {
        let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())?;
        let table = Arc::new(Mutex::new(Table::new()));
        let reaped = table.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                reap(&reaped);
            }
        });
        Ok(Self { table, die_with_agent })
    }

    /// Starts `command`; errors are those of fork and exec (so a missing program is told apart from one that ends).
    pub(crate) fn spawn(&self, command: &mut Command, tty: Tty) -> io::Result<Child> {
        let die_with_agent = self.die_with_agent;
        if matches!(tty, Tty::None) {
            command.process_group(0);
        }
        let prepare = move || {
            if die_with_agent {
                // After the user change, which would clear it.
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            }
            rustix::thread::set_no_new_privs(true)?;
            if matches!(tty, Tty::Stdin) {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            }
            Ok(())
        };
        // SAFETY: only system calls that are safe between fork and exec; nothing allocates or takes a lock.
        #[expect(unsafe_code, reason = "pre_exec is the only way to set these in the child")]
        unsafe {
            command.pre_exec(prepare);
        }
        // Locked over the fork: the loop cannot meet the child's end before the child is in the table.
        let mut table = lock(&self.table);
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let (told, exit) = oneshot::channel();
        table.insert(pid, told);
        Ok(Child { pid, exit, table: self.table.clone() })
    }
}

fn reap(table: &Mutex<Table>) {
    let mut table = lock(table);
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if let Some(told) = table.remove(&pid) {
            let _ = told.send(exit_code(status));
        }
    }
}

fn exit_code(status: WaitStatus) -> ExitCode {
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))
}

impl Child {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> ExitCode {
        // The sender goes only with the loop, at the end of the agent.
        (&mut self.exit).await.unwrap_or(-1)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // While it is in the table it has not been reaped, so its id cannot be somebody else's.
        let table = lock(&self.table);
        if table.contains_key(&self.pid) {
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }
}

/// A pipe whose reading end is the agent's: for a child's output.
pub(crate) fn output_pipe() -> io::Result<(tokio::net::unix::pipe::Receiver, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((tokio::net::unix::pipe::Receiver::from_owned_fd(read)?, write))
}

/// A pipe whose writing end is the agent's: for a child's input.
pub(crate) fn input_pipe() -> io::Result<(OwnedFd, tokio::net::unix::pipe::Sender)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&write, true)?;
    Ok((read, tokio::net::unix::pipe::Sender::from_owned_fd(write)?))
}
