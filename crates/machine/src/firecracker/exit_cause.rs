//! The cause of an exit of Firecracker, from its exit code and its log.

use crate::receipt::ExitCause;
use syscalls::Sysno;

/// Firecracker's exit codes for signals that it received (Firecracker, `src/vmm/src/lib.rs`, `FcExitCode`), and the signals.
const SIGNAL_CODES: [(i32, i32); 7] = [
    (149, libc::SIGBUS),
    (150, libc::SIGSEGV),
    (151, libc::SIGXFSZ),
    (154, libc::SIGXCPU),
    (155, libc::SIGPIPE),
    (156, libc::SIGHUP),
    (157, libc::SIGILL),
];
/// The exit code after a system call that Firecracker's own filter denies. The log contains its number.
const BAD_SYSTEM_CALL_CODE: i32 = 148;
const BAD_SYSTEM_CALL_TEXT: &str = "intercepting a bad syscall (";

/// The cause of an exit that the keeper did not request, of a process whose guest was running. `log`: the end of its log, which
/// the guest cannot write. A guest cannot power Firecracker off: it resets itself.
pub(crate) fn exit_cause(code: i32, log: &str) -> ExitCause {
    if let Some((_, signal)) = SIGNAL_CODES.iter().find(|(exit_code, _)| *exit_code == code) {
        return ExitCause::Killed { signal: *signal };
    }
    if code == BAD_SYSTEM_CALL_CODE {
        return ExitCause::ForbiddenSystemCall { system_call: system_call(log) };
    }
    let internal_errors =
        ["KVM_EXIT_INTERNAL_ERROR", "KVM_EXIT_FAIL_ENTRY", "Failure during vcpu run", "Unexpected exit reason"];
    if internal_errors.iter().any(|text| log.contains(text)) {
        return ExitCause::VmmError { status: "internal-error".to_owned() };
    }
    match code {
        // A reset through the keyboard controller, or a triple fault (KVM_EXIT_SHUTDOWN).
        0 => ExitCause::GuestPanic,
        code => ExitCause::Exited { code },
    }
}

fn system_call(log: &str) -> String {
    let number = log.rsplit_once(BAD_SYSTEM_CALL_TEXT).and_then(|(_, rest)| rest.split(')').next());
    match number.map(|number| (number, number.parse().ok().and_then(Sysno::new))) {
        Some((_, Some(call))) => call.name().to_owned(),
        Some((number, None)) => format!("number {}", number.chars().take(20).collect::<String>()),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exit_code_and_log_line_has_its_cause() {
        let internal = ExitCause::VmmError { status: "internal-error".into() };
        let forbidden = |name: &str| ExitCause::ForbiddenSystemCall { system_call: name.into() };
        for (code, log, cause) in [
            (0, "Vmm is stopping.", ExitCause::GuestPanic),
            (0, "Received KVM_EXIT_SHUTDOWN signal", ExitCause::GuestPanic),
            // 1.12 reads the processor's exit code before the processor has sent it.
            (0, "Received KVM_EXIT_INTERNAL_ERROR signal", internal.clone()),
            (1, "Received KVM_EXIT_INTERNAL_ERROR signal", internal.clone()),
            (1, "Failure during vcpu run: Bad address (os error 14)", internal),
            (1, "", ExitCause::Exited { code: 1 }),
            (149, "Shutting down VM after intercepting signal 7, code 2.", ExitCause::Killed { signal: 7 }),
            (151, "", ExitCause::Killed { signal: 25 }),
            (148, "Shutting down VM after intercepting a bad syscall (41).", forbidden("socket")),
            (148, "Shutting down VM after intercepting a bad syscall (99999).", forbidden("number 99999")),
            (148, "", forbidden("unknown")),
        ] {
            assert_eq!(exit_cause(code, log), cause, "{code} {log}");
        }
    }
}
