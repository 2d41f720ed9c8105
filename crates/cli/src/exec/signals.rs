//! The signals of this process: they are passed on to the command while it runs.

use super::tty;
use anteroom_wire::exec::ExecSignal;
use rustix::process::{Signal as KernelSignal, getpid, kill_process};
use std::{io, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

/// Time that the command has to end after SIGTERM or SIGHUP, milliseconds; then this process ends.
const END_MS_MAX: u64 = 10_000;

/// A signal for the command.
#[derive(Debug)]
pub(crate) struct SignalForCommand {
    /// The signal.
    pub(crate) signal: ExecSignal,
    /// Completed when it was sent, or can no longer be sent.
    pub(crate) sent: oneshot::Sender<()>,
}

/// The signals that `exec` receives. In raw mode the keys of the terminal are input for the command, not signals.
pub(super) struct Signals([(Signal, ExecSignal); 7]);

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let on = |kind: SignalKind, signal_name| io::Result::Ok((signal(kind)?, signal_name));
        Ok(Self([
            on(SignalKind::interrupt(), ExecSignal::Int)?,
            on(SignalKind::terminate(), ExecSignal::Term)?,
            on(SignalKind::hangup(), ExecSignal::Hup)?,
            on(SignalKind::quit(), ExecSignal::Quit)?,
            on(SignalKind::user_defined1(), ExecSignal::Usr1)?,
            on(SignalKind::user_defined2(), ExecSignal::Usr2)?,
            on(SignalKind::from_raw(KernelSignal::TSTP.as_raw()), ExecSignal::Tstp)?,
        ]))
    }

    /// Waits for a signal.
    pub(super) async fn next(&mut self) -> ExecSignal {
        let [a, b, c, d, e, f, g] = &mut self.0;
        tokio::select! {
            _ = a.0.recv() => a.1,
            _ = b.0.recv() => b.1,
            _ = c.0.recv() => c.1,
            _ = d.0.recv() => d.1,
            _ = e.0.recv() => e.1,
            _ = f.0.recv() => f.1,
            _ = g.0.recv() => g.1,
        }
    }
}

/// The exit code that a shell uses for a process that this signal ends.
pub(super) fn exit_code(signal: ExecSignal) -> u8 {
    let number = match signal {
        ExecSignal::Hup => KernelSignal::HUP,
        ExecSignal::Int => KernelSignal::INT,
        ExecSignal::Quit => KernelSignal::QUIT,
        ExecSignal::Usr1 => KernelSignal::USR1,
        ExecSignal::Usr2 => KernelSignal::USR2,
        ExecSignal::Term => KernelSignal::TERM,
        ExecSignal::Cont => KernelSignal::CONT,
        ExecSignal::Tstp => KernelSignal::TSTP,
        ExecSignal::Winch => KernelSignal::WINCH,
    };
    128 + u8::try_from(number.as_raw()).unwrap_or(0)
}

/// What follows a signal that was passed on.
pub(super) enum Due {
    /// This process is suspended, too.
    Suspension,
    /// The command did not end: this process does, with this exit code.
    End(u8),
}

/// The signals that are passed on to the command, and what follows here.
pub(super) struct PassedOn {
    to_command: mpsc::UnboundedSender<SignalForCommand>,
    /// When this process ends if the command does not, and its exit code.
    end: Option<(Instant, u8)>,
    /// Completed when the command was sent SIGTSTP.
    suspension: Option<oneshot::Receiver<()>>,
}

impl PassedOn {
    pub(super) fn new(to_command: mpsc::UnboundedSender<SignalForCommand>) -> Self {
        Self { to_command, end: None, suspension: None }
    }

    fn send(&self, signal: ExecSignal) -> oneshot::Receiver<()> {
        let (sent, is_sent) = oneshot::channel();
        // If the command has just exited, its exit status follows.
        let _ = self.to_command.send(SignalForCommand { signal, sent });
        is_sent
    }

    pub(super) fn pass_on(&mut self, signal: ExecSignal) {
        let is_sent = self.send(signal);
        match signal {
            ExecSignal::Tstp => self.suspension = Some(is_sent),
            ExecSignal::Term | ExecSignal::Hup => {
                let end_at = Instant::now() + Duration::from_millis(END_MS_MAX);
                self.end.get_or_insert((end_at, exit_code(signal)));
            }
            ExecSignal::Int
            | ExecSignal::Quit
            | ExecSignal::Usr1
            | ExecSignal::Usr2
            | ExecSignal::Cont
            | ExecSignal::Winch => {}
        }
    }

    /// Waits until something is due here.
    pub(super) async fn wait_due(&mut self) -> Due {
        let suspended = async {
            match &mut self.suspension {
                // An error: the command can no longer be sent anything.
                Some(is_sent) => drop(is_sent.await),
                None => std::future::pending().await,
            }
        };
        let ended = async {
            match self.end {
                Some((at, code)) => {
                    sleep_until(at).await;
                    code
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = suspended => Due::Suspension,
            code = ended => Due::End(code),
        }
    }

    pub(super) fn suspend(&mut self) {
        self.suspension = None;
        suspend();
        drop(self.send(ExecSignal::Cont));
    }
}

/// Suspends this process, with its terminal restored, until it is continued.
pub(super) fn suspend() {
    let was_raw = tty::is_raw_mode();
    tty::restore();
    let _ = kill_process(getpid(), KernelSignal::STOP);
    if was_raw {
        // Fails only if the terminal is closed, which reading it shows.
        let _ = tty::enable_raw_mode();
    }
}
