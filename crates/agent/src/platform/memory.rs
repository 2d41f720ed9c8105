//! Whether the machine is short of memory, and whom its kernel killed for want of it.
//!
//! ```text
//!  MemAvailable, pressure stall information ─▶ low? (with hysteresis, at most one word a while) ─▶ MemoryPressure
//!  oom_kill of /proc/vmstat rises ─▶ the kernel's log says who ─▶ OutOfMemory
//! ```
//!
//! Only a machine of its own is looked at: a plain process shares its host's memory, unless its configuration names files to
//! read instead.
//!
//! The bounds are constants on purpose. A machine's agent has no configuration: it looks from the boot on, before anybody claims
//! it, and all it knows then is the kernel's command line, which is frozen with the template's state. Process mode has one, but it
//! must judge as a machine does, or tests would hold another agent to its word. They are shares of the machine's memory, so that
//! what an operator sets (`machines.memory_mib`) moves them along.

use crate::{agent::Agent, log};
use anteroom_wire::agent::Event;
use rustix::{
    fs::{Mode, OFlags, SeekFrom},
    io::Errno,
};
use serde::Deserialize;
use std::{
    fs,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

/// Between two looks, milliseconds.
const LOOK_EVERY_MS: u64 = 1_000;
/// Less of the memory than this is left: it is low, percent.
const LOW_PERCENT: u64 = 8;
/// More than this is left: it is low no longer, percent.
const ENOUGH_PERCENT: u64 = 12;
/// Programs wait for memory this much of the time: it is low whatever is left, percent.
const LOW_STALL: f64 = 40.0;
/// Less than this, and it is low no longer, percent.
const ENOUGH_STALL: f64 = 15.0;
/// Between two words about low memory, milliseconds.
const TELL_EVERY_MS: u64 = 30_000;
/// Records of the kernel's log that are read after one kill.
const RECORDS_MAX: usize = 2_000;
/// The longest record (the kernel's own limit is lower).
const RECORD_BYTES_MAX: usize = 8 * 1024;
/// A program's name in the kernel's log is at most this long.
const NAME_CHARS_MAX: usize = 64;

/// Where to look.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sources {
    /// As `/proc/meminfo` (proc(5)).
    meminfo: PathBuf,
    /// As `/proc/pressure/memory`; a kernel without it has no such file.
    pressure: PathBuf,
    /// As `/proc/vmstat`.
    vmstat: PathBuf,
    /// As `/dev/kmsg`.
    kmsg: PathBuf,
}

impl Sources {
    /// A machine's own.
    pub(crate) fn kernel() -> Self {
        let [meminfo, pressure, vmstat, kmsg] =
            ["/proc/meminfo", "/proc/pressure/memory", "/proc/vmstat", "/dev/kmsg"].map(PathBuf::from);
        Self { meminfo, pressure, vmstat, kmsg }
    }

    fn look(&self) -> Option<Look> {
        let meminfo = fs::read_to_string(&self.meminfo).ok()?;
        let pressure = fs::read_to_string(&self.pressure).unwrap_or_default();
        Look::parse(&meminfo, &pressure)
    }

    fn kills(&self) -> u64 {
        let vmstat = fs::read_to_string(&self.vmstat).unwrap_or_default();
        vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }
}

/// What was seen in one look.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    total_mib: u64,
    available_mib: u64,
    some_avg10: Option<f64>,
}

impl Look {
    fn parse(meminfo: &str, pressure: &str) -> Option<Self> {
        let mib = |name: &str| {
            let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            Some(rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
        };
        let some = pressure.lines().find_map(|line| line.strip_prefix("some "));
        let avg10 = some.and_then(|rest| rest.split(' ').find_map(|word| word.strip_prefix("avg10=")));
        Some(Self {
            total_mib: mib("MemTotal:")?,
            available_mib: mib("MemAvailable:")?,
            some_avg10: avg10.and_then(|text| text.parse().ok()).filter(|percent: &f64| percent.is_finite()),
        })
    }

    fn is_low(&self) -> bool {
        self.available_mib * 100 < self.total_mib * LOW_PERCENT
            || self.some_avg10.is_some_and(|percent| percent >= LOW_STALL)
    }

    fn is_enough(&self) -> bool {
        self.available_mib * 100 >= self.total_mib * ENOUGH_PERCENT
            && self.some_avg10.is_none_or(|percent| percent < ENOUGH_STALL)
    }
}

/// What was told, so that it is not told again and again.
#[derive(Debug, Default)]
struct Told {
    low: bool,
    at: Option<Instant>,
}

impl Told {
    /// The word about this look, if there is one. That memory is low waits for [`TELL_EVERY_MS`] after it was told last; that
    /// it is enough follows every word that it is low.
    fn word(&mut self, look: Look, now: Instant) -> Option<Event> {
        let long_ago =
            self.at.is_none_or(|at| now.saturating_duration_since(at) >= Duration::from_millis(TELL_EVERY_MS));
        match self.low {
            false if look.is_low() && long_ago => (self.low, self.at) = (true, Some(now)),
            true if look.is_enough() => self.low = false,
            false | true => return None,
        }
        let Look { available_mib, some_avg10, .. } = look;
        Some(Event::MemoryPressure { low: self.low, available_mib, some_avg10 })
    }
}

/// The kernel's log from some moment on.
struct KernelLog(Option<OwnedFd>);

impl KernelLog {
    /// From now on. No log that can be read: no names.
    fn open(sources: &Sources) -> Self {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(&sources.kmsg, flags, Mode::empty()).ok();
        if let Some(file) = &file {
            // Refused by nothing that is a log; read from its start, it names a victim of before.
            let _ = rustix::fs::seek(file, SeekFrom::End(0));
        }
        Self(file)
    }

    /// The last victim that was named since the last time.
    fn victim(&self) -> Option<String> {
        let file = self.0.as_ref()?;
        let (mut record, mut last) = (vec![0; RECORD_BYTES_MAX], None);
        for _ in 0..RECORDS_MAX {
            match rustix::io::read(file, &mut record) {
                // One record a read; an ordinary file gives many lines.
                Ok(count @ 1..) => {
                    let text = String::from_utf8_lossy(&record[..count]).into_owned();
                    last = text.lines().filter_map(victim_in).next_back().or(last);
                }
                // Records were overwritten before they were read.
                Err(Errno::PIPE | Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
        last
    }
}

/// The name in the kernel's `… Killed process 123 (name) total-vm:…`.
fn victim_in(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("Killed process ")?;
    let (pid, rest) = rest.split_once(" (")?;
    pid.parse::<u32>().ok()?;
    // A name may hold parentheses itself.
    let name = rest.split_once(") total-vm").map_or_else(|| rest.rsplit_once(')'), Some)?.0;
    Some(name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect())
}

/// Looks, for ever.
pub(crate) async fn watch(agent: Arc<Agent>) {
    let Some(sources) = agent.place.memory.clone() else { return };
    let kernel_log = KernelLog::open(&sources);
    let (mut told, mut killed) = (Told::default(), sources.kills());
    loop {
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
        let kills = sources.kills();
        if kills > killed {
            let victim = kernel_log.victim();
            log::line(&format!("out of memory: the kernel killed {}", victim.as_deref().unwrap_or("a program")));
            agent.events.push(Event::OutOfMemory { victim, kills: kills - killed });
        }
        killed = kills;
        if let Some(word) = sources.look().and_then(|look| told.word(look, Instant::now())) {
            log::line(&format!("memory: {word:?}"));
            agent.events.push(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(available_mib: u64, some_avg10: f64) -> Look {
        Look { total_mib: 1_000, available_mib, some_avg10: Some(some_avg10) }
    }

    #[test]
    fn the_kernels_own_words_are_read() {
        let meminfo =
            "MemTotal:        1523456 kB\nMemFree:           50000 kB\nMemAvailable:      90112 kB\nBuffers: 0 kB\n";
        let pressure =
            "some avg10=12.50 avg60=3.00 avg300=0.10 total=99\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=1\n";
        let expected = Look { total_mib: 1_487, available_mib: 88, some_avg10: Some(12.5) };
        assert_eq!(Look::parse(meminfo, pressure), Some(expected));
        assert_eq!(Look::parse(meminfo, "").unwrap().some_avg10, None, "a kernel without pressure information");
        assert_eq!(Look::parse("", pressure), None);
        let killed = "3,812,9876,-;Out of memory: Killed process 412 (chromium (gpu)) total-vm:1kB, anon-rss:2kB";
        assert_eq!(victim_in(killed).as_deref(), Some("chromium (gpu)"));
        assert_eq!(victim_in("6,1,2,-;oom_reaper: reaped process 412 (chromium)"), None);
    }

    #[test]
    fn low_memory_is_told_once_and_its_end_once_and_not_more_often_than_now_and_then() {
        let (began, mut told) = (Instant::now(), Told::default());
        let at = |s: u64| began + Duration::from_secs(s);
        let word = |told: &mut Told, look, s| match told.word(look, at(s)) {
            Some(Event::MemoryPressure { low, .. }) => Some(low),
            _ => None,
        };
        assert_eq!(word(&mut told, look(500, 0.0), 0), None);
        assert_eq!(word(&mut told, look(70, 0.0), 1), Some(true));
        assert_eq!(word(&mut told, look(60, 0.0), 2), None);
        assert_eq!(word(&mut told, look(100, 0.0), 3), None, "neither low nor enough");
        assert_eq!(word(&mut told, look(130, 20.0), 4), None, "programs still wait for memory");
        assert_eq!(word(&mut told, look(130, 5.0), 5), Some(false));
        assert_eq!(word(&mut told, look(70, 0.0), 6), None, "told a moment ago");
        assert_eq!(word(&mut told, look(500, 60.0), 31), Some(true), "programs wait although some is left");
    }
}
