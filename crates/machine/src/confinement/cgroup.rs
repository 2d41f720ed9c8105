//! A cgroup for each VMM, where the server runs in a delegated cgroup of version 2 (cgroups(7), systemd's `Delegate=`).
//!
//! ```text
//!  anteroom.service/        delegated to the server
//!    server/                the server and its keepers: a cgroup that distributes resources contains no processes
//!    vmm-<number>/          one VMM; its keeper makes and removes it
//! ```

use super::layers::LayerStatus;
use crate::spec::ResourceLimits;
use rustix::process::Pid;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// The cgroup below the delegated one in which the server runs.
const SERVER_CGROUP: &str = "server";
/// The period of the processor limit, microseconds.
const CPU_PERIOD_US: u64 = 100_000;
const REMEDY: &str = "run the server as a systemd service with `Delegate=memory pids cpu`";

/// The cgroup of one VMM. Removed on drop, when the VMM has exited.
#[derive(Debug)]
pub(super) struct VmmCgroup {
    dir: PathBuf,
}

impl Drop for VmmCgroup {
    fn drop(&mut self) {
        // If a process is left in it, the receipt has that process.
        let _ = fs::remove_dir(&self.dir);
    }
}

impl VmmCgroup {
    /// Makes a cgroup with these limits; `Err`: why the layer is off.
    pub(super) fn create(limits: &ResourceLimits, number: u32) -> Result<Self, LayerStatus> {
        let own = own_cgroup()?;
        let is_server = own.file_name().is_some_and(|name| name == SERVER_CGROUP);
        let Some(delegated) = own.parent().filter(|_| is_server) else {
            return Err(LayerStatus::off("the server does not run in a delegated cgroup", REMEDY));
        };
        Self::create_in(delegated, limits, number)
    }

    fn create_in(delegated: &Path, limits: &ResourceLimits, number: u32) -> Result<Self, LayerStatus> {
        let refused = |what: String| move |error: io::Error| LayerStatus::off(format!("{what}: {error}"), REMEDY);
        let available = fs::read_to_string(delegated.join("cgroup.controllers"))
            .map_err(refused(format!("{delegated:?} cannot be read")))?;
        if let Some(missing) = CONTROLLERS.iter().find(|name| !available.split_whitespace().any(|one| one == **name)) {
            return Err(LayerStatus::off(
                format!("the cgroup {delegated:?} does not have the controller {missing:?}"),
                format!("{REMEDY}, on a host that mounts no cgroup of version 1"),
            ));
        }
        let enabled = CONTROLLERS.map(|name| format!("+{name}")).join(" ");
        fs::write(delegated.join("cgroup.subtree_control"), enabled)
            .map_err(refused(format!("controllers cannot be enabled in {delegated:?}")))?;
        let dir = delegated.join(format!("vmm-{number}"));
        // Left behind by a keeper that was killed and had the same number.
        let _ = fs::remove_dir(&dir);
        fs::create_dir(&dir).map_err(refused(format!("{dir:?} cannot be made")))?;
        let cgroup = Self { dir };
        for (file, value) in settings(limits) {
            fs::write(cgroup.dir.join(file), value).map_err(refused(format!("{file} cannot be set")))?;
        }
        Ok(cgroup)
    }

    /// Moves a process into it.
    pub(super) fn add(&self, process: Pid) -> io::Result<()> {
        fs::write(self.dir.join("cgroup.procs"), process.as_raw_nonzero().to_string())
    }
}

fn settings(limits: &ResourceLimits) -> [(&'static str, String); 4] {
    [
        ("memory.max", limits.memory_bytes_max.to_string()),
        ("memory.oom.group", "1".into()),
        ("pids.max", limits.threads_max.to_string()),
        ("cpu.max", format!("{} {CPU_PERIOD_US}", u64::from(limits.cpus_max) * CPU_PERIOD_US)),
    ]
}

/// Prepares the delegated cgroup of this server for those of its machines: moves the processes in it, which are this server's,
/// to a cgroup below. Does nothing where no cgroup is delegated.
///
/// # Errors
/// The cgroup is delegated, and a process in it cannot be moved.
pub(crate) fn enter_server_cgroup() -> io::Result<()> {
    match own_cgroup() {
        Ok(own) if is_delegated(&own) => enter_below(&own),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn enter_below(delegated: &Path) -> io::Result<()> {
    let server = delegated.join(SERVER_CGROUP);
    match fs::create_dir(&server) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    for process in fs::read_to_string(delegated.join("cgroup.procs"))?.lines() {
        fs::write(server.join("cgroup.procs"), process)?;
    }
    Ok(())
}

/// Whether systemd has marked the cgroup as delegated (systemd, "CGROUP_DELEGATION").
fn is_delegated(cgroup: &Path) -> bool {
    let marked = |name: &str| {
        let mut value = [0; 8];
        let read = rustix::fs::getxattr(cgroup, name, &mut value);
        read.is_ok_and(|length| value.get(..length) == Some(b"1"))
    };
    marked("user.delegate") || marked("trusted.delegate")
}

/// The directory of this process's cgroup of version 2.
fn own_cgroup() -> Result<PathBuf, LayerStatus> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    cgroup_dir(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo")).ok_or_else(|| {
        LayerStatus::off("this host mounts no cgroup of version 2", "boot it with `systemd.unified_cgroup_hierarchy=1`")
    })
}

/// `cgroup`: /proc/self/cgroup; `mounts`: /proc/self/mountinfo (proc(5)).
fn cgroup_dir(cgroup: &str, mounts: &str) -> Option<PathBuf> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        let below = Path::new(own).strip_prefix(root).ok()?;
        file_system.starts_with("cgroup2 ").then(|| Path::new(mount_point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ResourceLimits = ResourceLimits {
        address_space_bytes_max: 1 << 32,
        memory_bytes_max: 1 << 31,
        file_bytes_max: 0,
        threads_max: 82,
        open_files_max: 128,
        cpus_max: 3,
    };

    #[test]
    fn own_cgroup_is_found_below_its_mount() {
        let mounts = "30 24 0:26 / /sys rw - sysfs sysfs rw\n\
                      35 30 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = cgroup_dir("1:cpu:/\n0::/system.slice/a.service/server\n", mounts);
        assert_eq!(found, Some("/sys/fs/cgroup/system.slice/a.service/server".into()));
        // In a container, the mount shows only a part of the hierarchy.
        let part = mounts.replace("0:30 / ", "0:30 /system.slice ");
        assert_eq!(cgroup_dir("0::/system.slice/a.service\n", &part), Some("/sys/fs/cgroup/a.service".into()));
        assert_eq!(cgroup_dir("0::/user.slice\n", &part), None);
        assert_eq!(cgroup_dir("4:memory:/\n", mounts), None, "version 1 only");
    }

    /// Plain directories in place of cgroups, which show what is written and where.
    #[test]
    fn vmm_cgroup_has_the_limits_of_its_machine_and_is_removed_after_it() {
        let delegated = tempfile::tempdir().unwrap();
        fs::write(delegated.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        let cgroup = VmmCgroup::create_in(delegated.path(), &LIMITS, 7).unwrap();
        let read = |path: &str| fs::read_to_string(delegated.path().join(path)).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+memory +pids +cpu");
        assert_eq!(read("vmm-7/memory.max"), (1u64 << 31).to_string());
        assert_eq!(read("vmm-7/pids.max"), "82");
        assert_eq!(read("vmm-7/cpu.max"), "300000 100000");
        assert_eq!(read("vmm-7/memory.oom.group"), "1");
        cgroup.add(Pid::from_raw(4_321).unwrap()).unwrap();
        assert_eq!(read("vmm-7/cgroup.procs"), "4321");
        // The files of a cgroup disappear with it.
        for file in fs::read_dir(&cgroup.dir).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        drop(cgroup);
        assert!(!delegated.path().join("vmm-7").exists());
    }

    #[test]
    fn missing_controller_is_the_reason_of_the_layer_that_is_off() {
        let delegated = tempfile::tempdir().unwrap();
        fs::write(delegated.path().join("cgroup.controllers"), "memory cpu\n").unwrap();
        let LayerStatus::Off { why, remedy } = VmmCgroup::create_in(delegated.path(), &LIMITS, 7).unwrap_err() else {
            panic!()
        };
        assert!(why.contains("\"pids\"") && remedy.contains("Delegate="), "{why}; {remedy}");
    }

    #[test]
    fn server_moves_every_process_of_its_delegated_cgroup_into_the_one_below() {
        let delegated = tempfile::tempdir().unwrap();
        fs::write(delegated.path().join("cgroup.procs"), "12\n").unwrap();
        enter_below(delegated.path()).unwrap();
        assert_eq!(fs::read_to_string(delegated.path().join("server/cgroup.procs")).unwrap(), "12");
        enter_below(delegated.path()).unwrap();
        assert!(!is_delegated(delegated.path()), "a directory without systemd's mark");
    }
}
