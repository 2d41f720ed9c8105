//! The cause of the end of a machine, as far as no stop was requested.

use super::{Keeper, monitor::GuestEvent};
use crate::{
    firecracker, procfs,
    receipt::ExitCause,
    spec::{Monitor, QmpStart},
};
use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

/// How much of the output is quoted in an error, characters.
const ERROR_CHARS_MAX: usize = 600;

impl Keeper {
    /// The cause of the end of a machine whose VMM rejected a command, or cannot be controlled.
    pub(super) fn command_failed(&self, error: String) -> ExitCause {
        match self.config.spec.monitor {
            Monitor::Firecracker { .. } if !self.resumed => ExitCause::NeverStarted { error },
            Monitor::None | Monitor::Qmp { .. } | Monitor::Firecracker { .. } => ExitCause::SaveFailed { error },
        }
    }

    /// The cause of an exit that was not requested.
    pub(super) fn exit_cause(&mut self, status: ExitStatus) -> ExitCause {
        if let Some(vmm) = &mut self.vmm {
            vmm.read_output(&mut self.console, &mut self.output);
        }
        // The last events may still be in the socket.
        let _ = self.handle_monitor_events();
        let oom_killed = self.oom_kills.has_grown_to(procfs::oom_kill_count());
        let cause = exit_cause(status, self.guest_event, oom_killed);
        match (cause, &self.config.spec.monitor) {
            (ExitCause::Exited { .. }, Monitor::Qmp { start: QmpStart::Load { .. } }) if !self.resumed => {
                ExitCause::NeverStarted {
                    error: format!("the saved state could not be loaded: {}", self.last_output()),
                }
            }
            (ExitCause::Exited { .. }, Monitor::Firecracker { .. }) if !self.resumed => {
                ExitCause::NeverStarted { error: format!("Firecracker exited: {}", self.last_output()) }
            }
            (ExitCause::Exited { code }, Monitor::Firecracker { .. }) => {
                firecracker::exit_cause(code, &self.output.text())
            }
            (cause, Monitor::None | Monitor::Qmp { .. } | Monitor::Firecracker { .. }) => cause,
        }
    }

    /// The end of the process's output, for an error.
    fn last_output(&self) -> String {
        let output = self.output.text();
        let skipped = output.chars().count().saturating_sub(ERROR_CHARS_MAX);
        output.chars().skip(skipped).collect::<String>().trim().to_owned()
    }
}

/// The cause of an exit. `oom_killed`: the host's kernel killed some process for lack of memory at about that time.
fn exit_cause(status: ExitStatus, guest: Option<GuestEvent>, oom_killed: bool) -> ExitCause {
    const SIGKILL: i32 = 9;
    match (status.signal(), guest) {
        (Some(SIGKILL), _) if oom_killed => ExitCause::OutOfMemory,
        (Some(signal), _) => ExitCause::Killed { signal },
        (None, Some(GuestEvent::PowerOff)) => ExitCause::GuestPowerOff,
        (None, Some(GuestEvent::Reset | GuestEvent::Panic)) => ExitCause::GuestPanic,
        (None, None) => ExitCause::Exited { code: status.code().unwrap_or(-1) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_cause_follows_from_status_guest_event_and_oom_kills() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        let killed = ExitStatus::from_raw(9);
        assert_eq!(exit_cause(exited(0), None, false), ExitCause::Exited { code: 0 });
        assert_eq!(exit_cause(exited(3), None, true), ExitCause::Exited { code: 3 });
        assert_eq!(exit_cause(killed, None, false), ExitCause::Killed { signal: 9 });
        assert_eq!(exit_cause(killed, None, true), ExitCause::OutOfMemory);
        assert_eq!(exit_cause(ExitStatus::from_raw(11), None, true), ExitCause::Killed { signal: 11 });
        assert_eq!(exit_cause(exited(0), Some(GuestEvent::PowerOff), false), ExitCause::GuestPowerOff);
        assert_eq!(exit_cause(exited(0), Some(GuestEvent::Reset), false), ExitCause::GuestPanic);
        assert_eq!(exit_cause(exited(0), Some(GuestEvent::Panic), false), ExitCause::GuestPanic);
    }
}
