//! Statistics of durations, and a description of the host they were measured on.

use std::{fmt, fs, time::Duration};

/// Many durations of the same thing.
#[derive(Debug, Clone, Default)]
pub struct DurationStats(Vec<Duration>);

impl DurationStats {
    /// No durations.
    pub const EMPTY: Self = Self(Vec::new());

    /// Adds a duration.
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
        self.0.sort_unstable();
    }

    /// The number of durations.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest duration that `percent` of all do not exceed (nearest rank); zero when there is none.
    pub fn nearest_rank_percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

impl From<&[Duration]> for DurationStats {
    fn from(durations: &[Duration]) -> Self {
        let mut stats = Self::EMPTY;
        stats.extend(durations.iter().copied());
        stats
    }
}

impl Extend<Duration> for DurationStats {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, more: I) {
        self.0.extend(more);
        self.0.sort_unstable();
    }
}

impl fmt::Display for DurationStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |took: Duration| took.as_secs_f64() * 1_000.0;
        let [p50, p95, p99] = [50, 95, 99].map(|percent| ms(self.nearest_rank_percentile(percent)));
        let (count, max) = (self.count(), ms(self.max()));
        write!(f, "p50 {p50:7.1} ms   p95 {p95:7.1} ms   p99 {p99:7.1} ms   max {max:7.1} ms   (n = {count})")
    }
}

/// The arguments of a program that measures: whether the machines are QEMU machines, and their number.
pub fn measurement_arguments() -> (bool, Option<usize>) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let qemu = args.iter().any(|argument| argument == "qemu");
    (qemu, args.iter().find_map(|argument| argument.parse().ok()))
}

/// The host in one line: number and name of its processors, memory, kernel, load average.
pub fn host_summary() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let names = cpuinfo.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = names.map(|(_, name)| name.trim().to_owned()).next().unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let meminfo = read("/proc/meminfo");
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let gib = kib.unwrap_or(0_u64) / 1024 / 1024;
    let (kernel, load) = (read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"));
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    format!("{cpus} × {name}, {gib} GiB, Linux {}, load {}", kernel.trim(), load.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_use_the_nearest_rank() {
        let mut stats = DurationStats::default();
        assert_eq!(stats.nearest_rank_percentile(50), Duration::ZERO);
        stats.extend((1..=200).rev().map(Duration::from_millis));
        let ms = [1, 50, 95, 99, 100].map(|percent| stats.nearest_rank_percentile(percent).as_millis());
        assert_eq!(ms, [2, 100, 190, 198, 200]);
        stats.add(Duration::from_secs(1));
        assert_eq!((stats.count(), stats.max()), (201, Duration::from_secs(1)));
    }
}
