//! Switches from the initial file system to the image: mounts file systems, loads kernel modules, and makes the image the root.

use super::kernel_parameters::ChannelDevice;
use anyhow::Context;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::{MountFlags, mount, mount_move},
};
use std::{ffi::CStr, fs, path::Path, time::Duration};

const ROOT_DEVICE: &str = "/dev/vda";
const DEVICE_EVERY_MS: u64 = 5;
const DEVICE_MS_MAX: u64 = 30_000;
/// The limits of `/tmp`, `/run` and `/dev/shm`: files there use memory.
const SMALL_TMPFS: &CStr = c"mode=0755,size=256m";
const SHARED_TMPFS: &CStr = c"mode=1777,size=256m";
/// The names of a process's own open files, which devtmpfs lacks.
const OWN_FILES: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

fn mount_on(source: &str, target: &str, kind: &str, flags: MountFlags, data: Option<&CStr>) -> anyhow::Result<()> {
    fs::create_dir_all(target).with_context(|| target.to_owned())?;
    match mount(source, target, kind, flags, data) {
        // The kernel may have mounted devtmpfs itself.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("mount {kind} on {target}")),
    }
}

/// Mounts the file systems that the agent needs to read its command line.
pub(super) fn mount_initial_file_systems() -> anyhow::Result<()> {
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_on("dev", "/dev", "devtmpfs", MountFlags::NOSUID, None)?;
    // A user sees only processes of their own.
    mount_on("proc", "/proc", "proc", plain | MountFlags::NODEV, Some(c"hidepid=2"))?;
    mount_on("sys", "/sys", "sysfs", plain | MountFlags::NODEV, None)
}

/// Loads the modules that `DIR/order` names, one file name a line, in that order; those for vsock only where the channels are vsock ports. Without that file there are no modules to load.
pub(super) fn load_modules(dir: &Path, channels: ChannelDevice) -> anyhow::Result<()> {
    let order = match fs::read_to_string(dir.join("order")) {
        Ok(order) => order,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context("/modules/order"),
    };
    let is_needed = |name: &&str| match channels {
        ChannelDevice::Vsock => !name.is_empty(),
        ChannelDevice::VirtioSerial => !name.is_empty() && !name.contains("vsock"),
    };
    for name in order.lines().map(str::trim).filter(is_needed) {
        let file = rustix::fs::open(dir.join(name), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let file = file.with_context(|| format!("module {name}"))?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).with_context(|| format!("module {name}")),
        }
    }
    Ok(())
}

/// Makes the image the root, with an overlay in memory.
pub(super) async fn switch_root(overlay_mib: u32) -> anyhow::Result<()> {
    wait_for(Path::new(ROOT_DEVICE)).await?;
    mount_on(ROOT_DEVICE, "/lower", "squashfs", MountFlags::RDONLY | MountFlags::NODEV, None)?;
    let size = std::ffi::CString::new(format!("mode=0755,size={overlay_mib}m"))?;
    mount_on("tmpfs", "/upper", "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, Some(&size))?;
    fs::create_dir_all("/upper/data")?;
    fs::create_dir_all("/upper/work")?;
    let layers = c"lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work";
    mount_on("overlay", "/newroot", "overlay", MountFlags::NODEV, Some(layers))?;
    for dir in ["dev", "proc", "sys"] {
        let target = format!("/newroot/{dir}");
        fs::create_dir_all(&target)?;
        mount_move(format!("/{dir}"), &target).with_context(|| format!("move /{dir}"))?;
    }
    fs::create_dir_all("/newroot/run")?;
    mount_on("run", "/newroot/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(SMALL_TMPFS))?;
    // The binary in the initial file system cannot be reached afterwards.
    fs::create_dir_all("/newroot/run/anteroom")?;
    fs::copy("/init", "/newroot/run/anteroom/agent").context("the agent's binary")?;
    std::env::set_current_dir("/newroot")?;
    mount_move("/newroot", "/").context("switch to the new root")?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")?;
    mount_rest()
}

fn mount_rest() -> anyhow::Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    mount_on(
        "pts",
        "/dev/pts",
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        Some(c"mode=0620,gid=5,ptmxmode=0666"),
    )?;
    mount_on("shm", "/dev/shm", "tmpfs", quiet, Some(SHARED_TMPFS))?;
    mount_on("tmp", "/tmp", "tmpfs", quiet, Some(SHARED_TMPFS))?;
    for (name, target) in OWN_FILES {
        match std::os::unix::fs::symlink(target, name) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error).context(name),
            Ok(()) | Err(_) => {}
        }
    }
    // Used to freeze the browser.
    mount_on("cgroup", "/sys/fs/cgroup", "cgroup2", quiet | MountFlags::NOEXEC, None)
}

async fn wait_for(device: &Path) -> anyhow::Result<()> {
    let exists = async {
        while !device.exists() {
            tokio::time::sleep(Duration::from_millis(DEVICE_EVERY_MS)).await;
        }
    };
    let limit = Duration::from_millis(DEVICE_MS_MAX);
    tokio::time::timeout(limit, exists).await.with_context(|| format!("{} did not appear", device.display()))
}
