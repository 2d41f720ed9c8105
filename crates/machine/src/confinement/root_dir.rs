//! The root directory of a VMM: an empty read-only tmpfs. For a program with libraries, `/usr` is bound into it read-only until
//! the VMM has started.

use super::raw;
use rustix::{
    fd::AsFd,
    fs::Mode,
    mount::{MountFlags, MountPropagationFlags, UnmountFlags},
    process::{Pid, WaitOptions},
};
use std::{
    ffi::{CStr, CString},
    fs::{self, File},
    io,
    os::unix::ffi::OsStringExt,
};

/// Where the new root directory is mounted before it becomes the root; every Linux system has it.
const MOUNT_POINT: &CStr = c"/tmp";
/// Directories of programs and libraries in addition to `/usr`; on a merged system they are links into it (hier(7)).
const LIBRARY_DIRS: [&str; 4] = ["lib", "lib64", "bin", "sbin"];

/// What the root directory contains while the VMM starts.
pub(super) struct RootDir {
    tmpfs_options: CString,
    links: Vec<(CString, CString)>,
    /// Host directories and their names in the root directory, in the order in which they are mounted.
    mounts: Vec<(CString, CString)>,
}

impl RootDir {
    /// Plans the root directory of a process whose user is `user` in its user namespace; without `libraries` it is empty.
    pub(super) fn plan(user: u32, libraries: bool) -> io::Result<Self> {
        let text = |text: Vec<u8>| CString::new(text).map_err(io::Error::from);
        let mut links = Vec::new();
        let mut mounts = Vec::new();
        if libraries {
            mounts.push((c"/usr".to_owned(), c"usr".to_owned()));
        }
        for name in LIBRARY_DIRS.into_iter().filter(|_| libraries) {
            let host = format!("/{name}");
            if let Ok(target) = fs::read_link(&host) {
                links.push((text(target.into_os_string().into_vec())?, text(name.into())?));
            } else if fs::metadata(&host).is_ok_and(|metadata| metadata.is_dir()) {
                mounts.push((text(host.into())?, text(name.into())?));
            }
        }
        let tmpfs_options = text(format!("size=64k,nr_inodes=32,mode=755,uid={user},gid={user}").into())?;
        Ok(Self { tmpfs_options, links, mounts })
    }

    /// Builds the root directory and enters it. Runs in the child, in its own mount namespace.
    pub(super) fn enter(&self) -> io::Result<()> {
        // Nothing that is mounted here appears on the host.
        rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let restricted = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount(c"none", MOUNT_POINT, c"tmpfs", restricted, Some(self.tmpfs_options.as_c_str()))?;
        rustix::process::chdir(MOUNT_POINT)?;
        for (host, name) in &self.mounts {
            rustix::fs::mkdir(name.as_c_str(), Mode::from_raw_mode(0o755))?;
            rustix::mount::mount_bind_recursive(host.as_c_str(), name.as_c_str())?;
            let flags = MountFlags::BIND | MountFlags::RDONLY | restricted;
            rustix::mount::mount_remount(name.as_c_str(), flags, c"")?;
        }
        for (target, name) in &self.links {
            rustix::fs::symlink(target.as_c_str(), name.as_c_str())?;
        }
        rustix::mount::mount_remount(c".", restricted | MountFlags::RDONLY, c"")?;
        // The host's root directory is mounted on the new one and then unmounted (pivot_root(2), "pivot_root(".", ".")").
        rustix::process::pivot_root(c".", c".")?;
        rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
        rustix::process::chdir(c"/")?;
        Ok(())
    }

    /// Unmounts everything from the root directory of the process `vmm`. Files that it has opened or mapped stay usable.
    pub(super) fn unmount_all(&self, vmm: Pid, in_user_namespace: bool) -> io::Result<()> {
        if self.mounts.is_empty() {
            return Ok(());
        }
        let namespace = |name: &str| File::open(format!("/proc/{}/ns/{name}", vmm.as_raw_nonzero()));
        let user = if in_user_namespace { Some(namespace("user")?) } else { None };
        let mount = namespace("mnt")?;
        // A process cannot return from a user namespace that it has entered, so a child enters it.
        let child = match raw::fork(0)? {
            raw::Forked::Parent(child, _) => child,
            raw::Forked::Child => {
                let entered = user.iter().chain([&mount]).try_for_each(|file| raw::enter_namespace(file.as_fd()));
                let unmounted = entered.and_then(|()| {
                    let names = self.mounts.iter().rev().map(|(_, name)| name.as_c_str());
                    names.into_iter().try_for_each(|name| {
                        rustix::process::chdir(c"/")?;
                        Ok(rustix::mount::unmount(name, UnmountFlags::DETACH)?)
                    })
                });
                raw::exit_now(unmounted.map_or_else(|error| error.raw_os_error().unwrap_or(1), |()| 0))
            }
        };
        match rustix::process::waitpid(Some(child), WaitOptions::empty())?.and_then(|(_, status)| status.exit_status())
        {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::Error::other("the process that unmounts the root directory was killed")),
        }
    }
}
