//! The memory of this host, as far as this server may use it.

use std::{fs, path::Path};

/// The memory of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostMemory {
    /// The host's memory, or the limit of the control group of this server and its machines if that is lower, MiB.
    pub total_mib: u64,
    /// What can be taken now without swapping, MiB.
    pub available_mib: u64,
}

impl HostMemory {
    /// Reads it; `None`: the kernel does not report it.
    pub fn read() -> Option<Self> {
        let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
        let (total_mib, available_mib) = (parse_mib(&meminfo, "MemTotal:")?, parse_available_mib(&meminfo)?);
        let limit_mib = fs::read_to_string("/proc/self/cgroup")
            .ok()
            .and_then(|groups| read_group_limit_mib(Path::new("/sys/fs/cgroup"), &groups));
        Some(Self { total_mib: limit_mib.map_or(total_mib, |limit_mib| total_mib.min(limit_mib)), available_mib })
    }
}

/// `MemAvailable` of proc(5), `meminfo`.
pub fn parse_available_mib(meminfo: &str) -> Option<u64> {
    parse_mib(meminfo, "MemAvailable:")
}

fn parse_mib(meminfo: &str, name: &str) -> Option<u64> {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB"))?;
    Some(kib.trim().parse::<u64>().ok()? >> 10)
}

/// The lowest `memory.max` of the control group (version 2) and of those above it. `groups`: the content of `/proc/self/cgroup`.
fn read_group_limit_mib(mount: &Path, groups: &str) -> Option<u64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let dirs = Path::new(group).ancestors().map(|dir| mount.join(dir));
    let limits = dirs.filter_map(|dir| fs::read_to_string(dir.join("memory.max")).ok()?.trim().parse::<u64>().ok());
    limits.min().map(|bytes| bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_from_meminfo() {
        assert_eq!(parse_available_mib("MemTotal: 9 kB\nMemAvailable:    2097152 kB\n"), Some(2048));
        assert_eq!(parse_available_mib("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn the_lowest_limit_of_the_control_groups_counts() {
        let mount = tempfile::tempdir().unwrap();
        let group = mount.path().join("system.slice/anteroom.service");
        fs::create_dir_all(&group).unwrap();
        let groups = "0::/system.slice/anteroom.service\n";
        assert_eq!(read_group_limit_mib(mount.path(), groups), None, "no limits");
        fs::write(group.join("memory.max"), "max\n").unwrap();
        fs::write(mount.path().join("system.slice/memory.max"), "4294967296\n").unwrap();
        assert_eq!(read_group_limit_mib(mount.path(), groups), Some(4096));
        fs::write(group.join("memory.max"), "1073741824\n").unwrap();
        assert_eq!(read_group_limit_mib(mount.path(), groups), Some(1024));
        assert_eq!(read_group_limit_mib(mount.path(), "5:memory:/version-1\n"), None);
    }
}
