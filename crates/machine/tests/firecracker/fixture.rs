//! What the debugger needs of a test.

/// The process is exiting (linux/sched.h): it waits for its threads, which a debugger may hold.
const EXITING: u64 = 0x4;

/// Whether a process exists and is not exiting.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name: state, parent, group, session, terminal, its group, flags (proc_pid_stat(5)).
    let flags = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(6)?.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & EXITING == 0)
}
