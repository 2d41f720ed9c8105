//! Processes in `/proc`: an identity that survives reuse of process ids, descendants, memory.

use anteroom_wire::guest_text::GuestText;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, fs, io, path::Path};

/// A process, identified by its id and start time, because ids are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its id.
    pub pid: u32,
    /// Its start time, clock ticks since the host's boot (proc(5), `stat`, field 22).
    pub start_ticks: u64,
}

/// Fields of `/proc/PID/stat`.
struct Stat {
    state: char,
    parent: u32,
    start_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    // A process chooses its name, in parentheses: any bytes but zero, also parentheses and such that are not UTF-8.
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let name_end = bytes.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(bytes.get(name_end + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, parent, start_ticks })
}

/// More ancestors than any process has.
const ANCESTORS_MAX: usize = 10_000;

impl ProcessId {
    /// The process that has the id `pid` now, its parent, and so on up to the last one that can be read; `None`: there is no such process.
    pub fn ancestry(pid: u32) -> Option<Vec<Self>> {
        let mut found = Vec::new();
        let mut next = pid;
        while let Some(Stat { parent, start_ticks, .. }) = stat(next).filter(|_| found.len() < ANCESTORS_MAX) {
            found.push(Self { pid: next, start_ticks });
            next = parent;
        }
        (!found.is_empty()).then_some(found)
    }

    /// The process that has the id `pid` now.
    pub fn from_pid(pid: u32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, start_ticks: stat.start_ticks })
    }

    /// Whether it is running (a zombie is not).
    pub fn is_alive(self) -> bool {
        stat(self.pid)
            .is_some_and(|stat| stat.start_ticks == self.start_ticks && stat.state != 'Z' && stat.state != 'X')
    }

    /// Id, name, state and parent, for a message.
    pub(crate) fn describe(self) -> String {
        let name = fs::read(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        let name = GuestText::new(&String::from_utf8_lossy(name.trim_ascii()));
        let seen =
            stat(self.pid).map(|stat| format!(", state {}, parent {}", stat.state, stat.parent)).unwrap_or_default();
        format!("pid {} ({name}{seen})", self.pid)
    }

    /// Kills it, if it is still the same process.
    pub fn kill(self) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(i32::try_from(self.pid).unwrap_or(0))
        {
            // It may have exited in between.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// All running descendants of `ancestor`, from one scan of `/proc`.
pub(crate) fn descendants(ancestor: u32) -> Vec<ProcessId> {
    let mut children: HashMap<u32, Vec<ProcessId>> = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    for pid in entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(stat) = stat(pid)
            && stat.state != 'Z'
        {
            children.entry(stat.parent).or_default().push(ProcessId { pid, start_ticks: stat.start_ticks });
        }
    }
    let mut found = Vec::new();
    let mut pending = vec![ancestor];
    while let Some(parent) = pending.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            pending.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// The running descendants of this process, from its list of children downwards. As long as this process is a subreaper, the
/// cost depends on the number of its descendants, not on the number of processes of the host. A process whose parent is
/// changing may be missed; `wait` is what proves that no child is left.
pub(crate) fn own_descendants() -> Vec<ProcessId> {
    let own = std::process::id();
    // A kernel built without CONFIG_PROC_CHILDREN has no such lists.
    if !Path::new(&format!("/proc/{own}/task/{own}/children")).exists() {
        return descendants(own);
    }
    let mut found = Vec::new();
    let mut pending = children(own);
    while let Some(pid) = pending.pop() {
        if let Some(stat) = stat(pid)
            && stat.state != 'Z'
        {
            pending.extend(children(pid));
            found.push(ProcessId { pid, start_ticks: stat.start_ticks });
        }
    }
    found
}

/// The children of all threads of a process.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// The number of processes that the kernel has killed for lack of memory since boot; `None` if the kernel does not count.
pub(crate) fn oom_kill_count() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The memory of a machine's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUsage {
    /// Proportional set size: shared pages are divided among their users.
    pub pss_bytes: u64,
    /// Pages that no other process shares: what is freed when the machine exits.
    pub private_bytes: u64,
}

impl MemoryUsage {
    /// Reads `/proc/PID/smaps_rollup`.
    ///
    /// # Errors
    /// The process does not exist or may not be inspected.
    pub fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let bytes = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
                .unwrap_or(0)
                .saturating_mul(1024)
        };
        Ok(Self { pss_bytes: bytes("Pss:"), private_bytes: bytes("Private_Clean:") + bytes("Private_Dirty:") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_start_time_is_another_process() {
        let this = ProcessId::from_pid(std::process::id()).unwrap();
        assert!(this.is_alive());
        assert!(!ProcessId { start_ticks: this.start_ticks + 1, ..this }.is_alive());
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test's own child")]
    fn both_process_scans_find_a_child_and_a_grandchild() {
        let mut shell = std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let is_below = |all: &[ProcessId]| all.iter().any(|found| found.pid == shell.id());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let sleeper = loop {
            if let [sleeper] = descendants(shell.id())[..] {
                break sleeper;
            }
            assert!(std::time::Instant::now() < until, "the shell has no child");
            std::thread::yield_now();
        };
        for all in [descendants(std::process::id()), own_descendants()] {
            assert!(is_below(&all) && all.contains(&sleeper), "{all:?}");
        }
        sleeper.kill();
        shell.wait().unwrap();
        assert!(!own_descendants().contains(&sleeper));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test's own child")]
    fn process_is_found_whatever_name_it_gives_itself() {
        for name in [r"\377", r") Z 1 (", r"a\nb\033[2J", r"\303"] {
            let script = format!("printf '{name}' > /proc/$$/comm; echo; read -r end");
            let mut shell = std::process::Command::new("sh")
                .args(["-c", &script])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut renamed = [0];
            std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut renamed).unwrap();
            let found = ProcessId::from_pid(shell.id()).expect(name);
            assert!(found.is_alive() && own_descendants().contains(&found), "{name}");
            let ancestors = ProcessId::ancestry(shell.id()).unwrap();
            assert_eq!(ancestors[1].pid, std::process::id(), "{name}");
            assert!(!found.describe().contains(char::is_control), "{name}");
            found.kill();
            shell.wait().unwrap();
        }
    }

    #[test]
    fn memory_of_this_process_is_not_zero() {
        let memory = MemoryUsage::read(std::process::id()).unwrap();
        assert!(memory.pss_bytes > 0 && memory.private_bytes > 0);
        assert!(MemoryUsage::read(u32::MAX).is_err());
    }
}
