//! Starts every child process of the agent and reaps it. No other code waits for processes.
//!
//! PID 1 inherits orphans and must reap them without taking the exit status of a child that other code waits for. So one loop waits
//! for *any* process, sends the status of a known child to its [`Child`], and drops the others. (`tokio::process` would wait a second
//! time, so this crate does not use it.)

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use std::{collections::HashMap, io, os::unix::process::CommandExt, process::Command, sync::Arc};
use tokio::sync::oneshot;

/// How a process ended: its exit code, or 128 + signal.
pub(crate) type ExitCode = i32;

type Running = HashMap<Pid, oneshot::Sender<ExitCode>>;

/// The running children. Cheap to clone: all clones share one table.
#[derive(Clone)]
pub(crate) struct ProcessTable {
    running: Arc<Mutex<Running>>,
    die_with_agent: bool,
}

/// The controlling terminal of a child.
pub(crate) enum ChildTty {
    /// None; the child leads a new process group.
    None,
    /// The agent's own, in the agent's process group.
    Shared,
    /// The child's standard input is a terminal and becomes its controlling one.
    Stdin,
}

/// A running child. Dropping it kills it and its process group.
pub(crate) struct Child {
    pid: Pid,
    exit: oneshot::Receiver<ExitCode>,
    running: Arc<Mutex<Running>>,
}

/// The process group of a running child.
pub(crate) struct ProcessGroup {
    leader: Pid,
    running: Arc<Mutex<Running>>,
}

impl ProcessGroup {
    /// Sends a signal to the group. Nothing happens once its leader has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        // A child in the table has not been reaped, so its id cannot have been reused.
        let running = self.running.lock();
        if running.contains_key(&self.leader) {
            let _ = rustix::process::kill_process_group(self.leader, signal);
        }
    }
}

impl ProcessTable {
    /// Starts the reaper loop. `die_with_agent`: the kernel kills each child when the agent ends (PID 1 does not need this: its end is
    /// the end of the machine).
    pub(crate) fn new(die_with_agent: bool) -> io::Result<Self> {
        let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())?;
        let running = Arc::new(Mutex::new(Running::new()));
        let reaped = running.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                reap(&reaped);
            }
        });
        Ok(Self { running, die_with_agent })
    }

    /// Starts `command`.
    ///
    /// # Errors
    /// Those of fork and exec, so that a missing program is distinguished from one that ends at once.
    pub(crate) fn spawn(&self, command: &mut Command, tty: ChildTty) -> io::Result<Child> {
        let die_with_agent = self.die_with_agent;
        if matches!(tty, ChildTty::None) {
            command.process_group(0);
        }
        let prepare = move || {
            if die_with_agent {
                // After the change of user, which would clear it.
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            }
            rustix::thread::set_no_new_privs(true)?;
            if matches!(tty, ChildTty::Stdin) {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            }
            Ok(())
        };
        // SAFETY: only system calls that are safe between fork and exec; nothing allocates or takes a lock.
        #[expect(unsafe_code, reason = "only pre_exec can set these in the child")]
        unsafe {
            command.pre_exec(prepare);
        }
        // Locked during the fork: the reaper cannot see the child's end before the child is in the table.
        let mut running = self.running.lock();
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let (exited, exit) = oneshot::channel();
        running.insert(pid, exited);
        Ok(Child { pid, exit, running: self.running.clone() })
    }
}

fn reap(running: &Mutex<Running>) {
    let mut running = running.lock();
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if let Some(exited) = running.remove(&pid) {
            let _ = exited.send(exit_code(status));
        }
    }
}

fn exit_code(status: WaitStatus) -> ExitCode {
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))
}

impl Child {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The process group that the process leads.
    pub(crate) fn process_group(&self) -> ProcessGroup {
        ProcessGroup { leader: self.pid, running: self.running.clone() }
    }

    /// Waits until the process has ended.
    pub(crate) async fn wait(&mut self) -> ExitCode {
        // The sender is dropped only with the reaper loop, at the end of the agent.
        (&mut self.exit).await.unwrap_or(-1)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A child in the table has not been reaped, so its id cannot have been reused.
        let running = self.running.lock();
        if running.contains_key(&self.pid) {
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }
}
