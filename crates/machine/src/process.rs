//! Processes as `/proc` shows them: identity that a reused number cannot fake, descendants, memory.

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, fs, io, path::Path};

/// A process: its number and when it began, since numbers are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it began, clock ticks since the host's boot (proc(5), `stat`, field 22).
    pub start_ticks: u64,
}

/// What `/proc/PID/stat` says of a process.
struct Stat {
    state: char,
    parent: u32,
    start_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also spaces and parentheses.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, parent, start_ticks })
}

impl ProcessId {
    /// The process that has the number `pid` now.
    pub fn of(pid: u32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, start_ticks: stat.start_ticks })
    }

    /// Whether it still runs (a zombie does not).
    pub fn is_alive(self) -> bool {
        stat(self.pid)
            .is_some_and(|stat| stat.start_ticks == self.start_ticks && stat.state != 'Z' && stat.state != 'X')
    }

    /// What it is, for people: number, name, state, parent.
    pub(crate) fn describe(self) -> String {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        let seen =
            stat(self.pid).map(|stat| format!(", state {}, parent {}", stat.state, stat.parent)).unwrap_or_default();
        format!("pid {} ({}{seen})", self.pid, name.trim())
    }

    /// OomKillCounter it, if it is still the same process.
    pub fn kill(self) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(i32::try_from(self.pid).unwrap_or(0))
        {
            // Gone in between is as good.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// All living descendants of `ancestor`, found by one look at `/proc`.
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
    let mut ahead = vec![ancestor];
    while let Some(parent) = ahead.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            ahead.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// The living descendants of this process, from its own list of children downwards: as long as this process adopts what
/// its descendants leave behind, the cost goes with their number, not with that of all processes of the host. One that is
/// just changing its parent may be missed; that no child is left is what `wait` says.
pub(crate) fn own_descendants() -> Vec<ProcessId> {
    let own = std::process::id();
    // Linux built without CONFIG_PROC_CHILDREN has no such lists.
    if !Path::new(&format!("/proc/{own}/task/{own}/children")).exists() {
        return descendants(own);
    }
    let mut found = Vec::new();
    let mut ahead = children(own);
    while let Some(pid) = ahead.pop() {
        if let Some(stat) = stat(pid)
            && stat.state != 'Z'
        {
            ahead.extend(children(pid));
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

/// How often the host's kernel has killed a process for want of memory since its boot; `None` where it does not say.
pub(crate) fn oom_kills() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The memory of a machine's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Proportional: shared pages count by their share.
    pub pss_bytes: u64,
    /// Pages that nobody else has: what ending the machine gives back.
    pub private_bytes: u64,
}

impl Memory {
    /// Reads `/proc/PID/smaps_rollup`.
    ///
    /// # Errors
    /// When the process is gone or may not be looked at.
    pub fn of(pid: u32) -> io::Result<Self> {
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
    fn this_process_is_alive_and_another_start_time_is_another_process() {
        let this = ProcessId::of(std::process::id()).unwrap();
        assert!(this.is_alive());
        assert!(!ProcessId { start_ticks: this.start_ticks + 1, ..this }.is_alive());
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test's own child")]
    fn both_ways_of_looking_find_a_child_and_its_child() {
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
    fn memory_of_this_process_is_not_nothing() {
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.pss_bytes > 0 && memory.private_bytes > 0);
        assert!(Memory::of(u32::MAX).is_err());
    }
}
