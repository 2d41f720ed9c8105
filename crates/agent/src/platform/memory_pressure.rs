//! Reports memory pressure, and which process the kernel killed when it ran out of memory.
//!
//! ```text
//!  MemAvailable, pressure stall information ─▶ low? (with hysteresis, rate-limited) ─▶ MemoryPressure
//!  oom_kill of /proc/vmstat rises ─▶ the kernel's log names the process ─▶ OutOfMemory
//! ```
//!
//! Only a machine is watched: a plain process shares its host's memory, unless its configuration names files to read instead.
//!
//! The limits are constants on purpose. A machine's agent has no configuration: it watches from the boot on, before the claim, and then
//! it knows only the kernel's command line, which is frozen with the template's state. Process mode has a configuration, but it must
//! decide as a machine does, or tests would test a different agent. The limits are shares of the machine's memory, so they follow what
//! an operator sets (`machines.memory_mib`).

use super::process_mode_config::MemorySources;
use crate::{channel::event_queue::EventQueue, log};
use anteroom_wire::agent::MachineEvent;
use rustix::{
    fs::{Mode, OFlags, SeekFrom},
    io::Errno,
};
use std::{
    fs,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

/// How often the files are read, milliseconds.
const POLL_EVERY_MS: u64 = 1_000;
/// Memory is low when less than this share of it is available, percent.
const LOW_PERCENT: u64 = 8;
/// It is no longer low when more than this share is available, percent.
const ENOUGH_PERCENT: u64 = 12;
/// Memory is low, however much is available, when programs wait for it this share of the time, percent.
const LOW_STALL: f64 = 40.0;
/// It is no longer low when they wait less than this share of the time, percent.
const ENOUGH_STALL: f64 = 15.0;
/// The least time between two reports of low memory, milliseconds.
const REPORT_EVERY_MS: u64 = 30_000;
/// How many records of the kernel's log are read after one kill.
const RECORDS_MAX: usize = 2_000;
/// The longest record (the kernel's own limit is lower).
const RECORD_BYTES_MAX: usize = 8 * 1024;
/// The longest program name that is read from the kernel's log.
const NAME_CHARS_MAX: usize = 64;

fn read_memory(sources: &MemorySources) -> Option<MemoryReading> {
    let meminfo = fs::read_to_string(&sources.meminfo).ok()?;
    let pressure = fs::read_to_string(&sources.pressure).unwrap_or_default();
    MemoryReading::parse(&meminfo, &pressure)
}

fn read_oom_kills(sources: &MemorySources) -> u64 {
    let vmstat = fs::read_to_string(&sources.vmstat).unwrap_or_default();
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// The memory use at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct MemoryReading {
    total_mib: u64,
    available_mib: u64,
    some_avg10: Option<f64>,
}

impl MemoryReading {
    fn parse(meminfo: &str, pressure: &str) -> Option<Self> {
        let mib = |name: &str| {
            let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            Some(rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
        };
        let some = pressure.lines().find_map(|line| line.strip_prefix("some "));
        let avg10 = some.and_then(|rest| rest.split(' ').find_map(|field| field.strip_prefix("avg10=")));
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

/// Decides which readings are reported: changes only, and low memory not too often.
#[derive(Debug, Default)]
struct PressureReporter {
    low: bool,
    reported_at: Option<Instant>,
}

impl PressureReporter {
    /// The event for this reading, if it must be reported. Low memory is reported at most every [`REPORT_EVERY_MS`]; each such report
    /// is followed by one when memory is no longer low.
    fn event(&mut self, reading: MemoryReading, now: Instant) -> Option<MachineEvent> {
        let report_due = self
            .reported_at
            .is_none_or(|at| now.saturating_duration_since(at) >= Duration::from_millis(REPORT_EVERY_MS));
        match self.low {
            false if reading.is_low() && report_due => (self.low, self.reported_at) = (true, Some(now)),
            true if reading.is_enough() => self.low = false,
            false | true => return None,
        }
        let MemoryReading { available_mib, some_avg10, .. } = reading;
        Some(MachineEvent::MemoryPressure { low: self.low, available_mib, some_avg10 })
    }
}

/// The kernel's log, read from the moment at which it was opened.
struct KernelLog(Option<OwnedFd>);

impl KernelLog {
    /// Opens the log at its end. If it cannot be read, no names are found.
    fn open(sources: &MemorySources) -> Self {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(&sources.kmsg, flags, Mode::empty()).ok();
        if let Some(file) = &file {
            // Read from its start, the log could name the victim of an earlier kill.
            let _ = rustix::fs::seek(file, SeekFrom::End(0));
        }
        Self(file)
    }

    /// The last victim named since the previous call.
    fn last_victim(&self) -> Option<String> {
        let file = self.0.as_ref()?;
        let (mut record, mut last) = (vec![0; RECORD_BYTES_MAX], None);
        for _ in 0..RECORDS_MAX {
            match rustix::io::read(file, &mut record) {
                // `/dev/kmsg` returns one record a read; an ordinary file returns many lines.
                Ok(count @ 1..) => {
                    let text = String::from_utf8_lossy(&record[..count]).into_owned();
                    last = text.lines().filter_map(parse_victim).next_back().or(last);
                }
                // Records were overwritten before they were read.
                Err(Errno::PIPE | Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
        last
    }
}

/// The program name in the kernel's `… Killed process 123 (name) total-vm:…`.
fn parse_victim(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("Killed process ")?;
    let (pid, rest) = rest.split_once(" (")?;
    pid.parse::<u32>().ok()?;
    // A name may contain parentheses.
    let name = rest.split_once(") total-vm").map_or_else(|| rest.rsplit_once(')'), Some)?.0;
    Some(name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect())
}

/// Watches memory, forever.
pub(crate) async fn report_memory_pressure(sources: &MemorySources, events: &EventQueue) {
    let kernel_log = KernelLog::open(sources);
    let (mut reporter, mut kills_before) = (PressureReporter::default(), read_oom_kills(sources));
    loop {
        tokio::time::sleep(Duration::from_millis(POLL_EVERY_MS)).await;
        let kills = read_oom_kills(sources);
        if kills > kills_before {
            let victim = kernel_log.last_victim();
            log::write_line(&format!("out of memory: the kernel killed {}", victim.as_deref().unwrap_or("a program")));
            events.push(MachineEvent::OutOfMemory { victim: victim.map(Into::into), kills: kills - kills_before });
        }
        kills_before = kills;
        if let Some(event) = read_memory(sources).and_then(|reading| reporter.event(reading, Instant::now())) {
            log::write_line(&format!("memory: {event:?}"));
            events.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(available_mib: u64, some_avg10: f64) -> MemoryReading {
        MemoryReading { total_mib: 1_000, available_mib, some_avg10: Some(some_avg10) }
    }

    #[test]
    fn kernel_formats_are_parsed() {
        let meminfo =
            "MemTotal:        1523456 kB\nMemFree:           50000 kB\nMemAvailable:      90112 kB\nBuffers: 0 kB\n";
        let pressure =
            "some avg10=12.50 avg60=3.00 avg300=0.10 total=99\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=1\n";
        let expected = MemoryReading { total_mib: 1_487, available_mib: 88, some_avg10: Some(12.5) };
        assert_eq!(MemoryReading::parse(meminfo, pressure), Some(expected));
        assert_eq!(
            MemoryReading::parse(meminfo, "").unwrap().some_avg10,
            None,
            "a kernel without pressure information"
        );
        assert_eq!(MemoryReading::parse("", pressure), None);
        let killed = "3,812,9876,-;Out of memory: Killed process 412 (chromium (gpu)) total-vm:1kB, anon-rss:2kB";
        assert_eq!(parse_victim(killed).as_deref(), Some("chromium (gpu)"));
        assert_eq!(parse_victim("6,1,2,-;oom_reaper: reaped process 412 (chromium)"), None);
    }

    #[test]
    fn low_memory_and_its_end_are_reported_once_and_rate_limited() {
        let (began, mut reporter) = (Instant::now(), PressureReporter::default());
        let at = |s: u64| began + Duration::from_secs(s);
        let low_at = |reporter: &mut PressureReporter, reading, s| match reporter.event(reading, at(s)) {
            Some(MachineEvent::MemoryPressure { low, .. }) => Some(low),
            _ => None,
        };
        assert_eq!(low_at(&mut reporter, reading(500, 0.0), 0), None);
        assert_eq!(low_at(&mut reporter, reading(70, 0.0), 1), Some(true));
        assert_eq!(low_at(&mut reporter, reading(60, 0.0), 2), None);
        assert_eq!(low_at(&mut reporter, reading(100, 0.0), 3), None, "neither low nor enough");
        assert_eq!(low_at(&mut reporter, reading(130, 20.0), 4), None, "programs still wait for memory");
        assert_eq!(low_at(&mut reporter, reading(130, 5.0), 5), Some(false));
        assert_eq!(low_at(&mut reporter, reading(70, 0.0), 6), None, "reported a moment ago");
        assert_eq!(low_at(&mut reporter, reading(500, 60.0), 31), Some(true), "programs wait although some is left");
    }
}
