//! The command line of Firecracker's jailer, which a superuser starts in place of Firecracker.
//!
//! The jailer makes a root directory with a copy of the program and the nodes of `/dev/kvm`, `/dev/urandom`, `/dev/userfaultfd` and
//! `/dev/net/tun`; joins a cgroup and a network namespace if it is given one; enters a new mount namespace and changes the root
//! directory; changes user and group; closes all descriptors above 2; clears the environment; and executes the program. It removes
//! nothing afterwards: the caller removes [`Jailer::dir`] and the cgroup. It does not make user, IPC, UTS, network or cgroup
//! namespaces, and has no Landlock rules and no list of system calls.
//!
//! A caller that confines the VMM itself, too, can combine both:
//!
//! | | executes | lost |
//! |---|---|---|
//! | A | Firecracker, in the jail. Its files are linked or bind-mounted into the jail | Landlock, the list of system calls, answered calls |
//! | B | a static program in the jail, which applies Landlock and the list of system calls and then executes Firecracker | nothing |
//! | C | Firecracker, without the jailer | nothing if the caller makes the same root directory, ids, limits and namespaces itself |
//!
//! For B: the jailer passes only descriptors 0 to 2 on, so standard input is the connection to the caller, over which the program
//! sends the listener of its seccomp filter, and the caller answers its system calls from then on. [`Jailer::exec_file`] is that
//! program; its file name must contain `firecracker`, and Firecracker's own file is another file in the jail. A user namespace must
//! be made before the jailer starts or not at all: in one that maps only one id the jailer cannot change the user, and in any one it
//! cannot make the device nodes.
//!
//! With [`Jailer::new_pid_ns`] the jailer forks and exits with 0, and Firecracker is inherited by
//! the nearest subreaper. The parent-death signal that the caller has set ends with the fork, so that Firecracker outlives a killed
//! caller, unless the executed program sets the signal again (B). Otherwise the caller makes the PID namespace itself.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The longest id, characters.
pub const ID_CHARS_MAX: usize = 64;
/// What the file name of an executed program must contain.
const EXEC_FILE_PART: &str = "firecracker";

/// A machine's jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jailer {
    /// The machine's id: letters, digits and hyphens, at most [`ID_CHARS_MAX`].
    pub id: String,
    /// The program that is executed. It is copied into the jail.
    pub exec_file: PathBuf,
    /// The user that executes it.
    pub uid: u32,
    /// The group that executes it.
    pub gid: u32,
    /// The directory of all jails.
    pub chroot_base_dir: PathBuf,
    /// The file of a network namespace, for example `/proc/PID/ns/net`; `None`: the caller's.
    pub netns: Option<PathBuf>,
    /// `None`: the caller's cgroup.
    pub cgroup: Option<Cgroup>,
    /// Limits in addition to the caller's.
    pub resource_limits: Vec<ResourceLimit>,
    /// Whether the program is the first process of a new PID namespace.
    pub new_pid_ns: bool,
}

/// The cgroup that the jailer makes: `PARENT/ID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// The version of the host's hierarchy.
    pub version: CgroupVersion,
    /// The parent below the hierarchy's root; `None`: the file name of the executed program.
    pub parent: Option<String>,
    /// Files and values, for example `pids.max` and `64`. With version 1 they choose the controllers.
    pub settings: Vec<(String, String)>,
}

/// The version of a cgroup hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy per controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// A limit that the jailer sets (setrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceLimit {
    /// `RLIMIT_FSIZE`, bytes.
    FileBytes(u64),
    /// `RLIMIT_NOFILE`, a number of descriptors.
    OpenFiles(u64),
}

/// Why there is no command line for a jail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JailerError {
    /// The id is not valid.
    #[error("{0:?} is not the id of a jail: use 1 to {ID_CHARS_MAX} letters, digits and hyphens")]
    InvalidId(String),
    /// The jailer rejects the program.
    #[error("the jailer does not execute {0:?}: its file name must contain {EXEC_FILE_PART:?}")]
    InvalidExecFile(PathBuf),
    /// The program would run as the superuser.
    #[error("the jail's user or group is 0: choose one that owns nothing")]
    Superuser,
}

impl Jailer {
    /// The jailer's arguments; `firecracker_args` are passed to the executed program after the jailer's own `--id` and start times.
    ///
    /// # Errors
    /// The id, the program or the user is not valid.
    pub fn args(&self, firecracker_args: &[OsString]) -> Result<Vec<OsString>, JailerError> {
        self.check()?;
        let mut args: Vec<OsString> = Vec::new();
        let mut push = |name: &str, value: OsString| args.extend([name.into(), value]);
        push("--id", self.id.clone().into());
        push("--exec-file", self.exec_file.clone().into());
        push("--uid", self.uid.to_string().into());
        push("--gid", self.gid.to_string().into());
        push("--chroot-base-dir", self.chroot_base_dir.clone().into());
        if let Some(netns) = &self.netns {
            push("--netns", netns.clone().into());
        }
        if let Some(cgroup) = &self.cgroup {
            let version = match cgroup.version {
                CgroupVersion::V1 => "1",
                CgroupVersion::V2 => "2",
            };
            push("--cgroup-version", version.into());
            if let Some(parent) = &cgroup.parent {
                push("--parent-cgroup", parent.into());
            }
            for (file, value) in &cgroup.settings {
                push("--cgroup", format!("{file}={value}").into());
            }
        }
        for limit in &self.resource_limits {
            let limit = match limit {
                ResourceLimit::FileBytes(bytes) => format!("fsize={bytes}"),
                ResourceLimit::OpenFiles(count) => format!("no-file={count}"),
            };
            push("--resource-limit", limit.into());
        }
        if self.new_pid_ns {
            args.push("--new-pid-ns".into());
        }
        args.push("--".into());
        args.extend_from_slice(firecracker_args);
        Ok(args)
    }

    fn check(&self) -> Result<(), JailerError> {
        let is_valid = |character: char| character.is_ascii_alphanumeric() || character == '-';
        if !(1..=ID_CHARS_MAX).contains(&self.id.len()) || !self.id.chars().all(is_valid) {
            return Err(JailerError::InvalidId(self.id.clone()));
        }
        if !self.exec_file_name().to_string_lossy().contains(EXEC_FILE_PART) {
            return Err(JailerError::InvalidExecFile(self.exec_file.clone()));
        }
        if self.uid == 0 || self.gid == 0 {
            return Err(JailerError::Superuser);
        }
        Ok(())
    }

    fn exec_file_name(&self) -> OsString {
        self.exec_file.file_name().unwrap_or_default().to_owned()
    }

    /// The machine's directory; it is left when the machine has ended. Only the superuser may write its parents.
    pub fn dir(&self) -> PathBuf {
        self.chroot_base_dir.join(self.exec_file_name()).join(&self.id)
    }

    /// The program's root directory on the host. Files that are put there before the start are the program's.
    pub fn root_dir(&self) -> PathBuf {
        self.dir().join("root")
    }

    /// The file with the program's process id; it is written before the program is executed.
    pub fn pid_file(&self) -> PathBuf {
        let mut name = self.exec_file_name();
        name.push(".pid");
        self.root_dir().join(name)
    }

    /// The path on the host of a path in the jail.
    pub fn host_path(&self, path: &Path) -> PathBuf {
        self.root_dir().join(path.strip_prefix("/").unwrap_or(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jailer() -> Jailer {
        Jailer {
            id: "mac-1".into(),
            exec_file: "/usr/bin/firecracker".into(),
            uid: 70_000,
            gid: 70_001,
            chroot_base_dir: "/run/jails".into(),
            netns: None,
            cgroup: None,
            resource_limits: Vec::new(),
            new_pid_ns: false,
        }
    }

    fn text(args: &[OsString]) -> String {
        args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn command_line_has_only_what_is_set() {
        let args = jailer().args(&["--api-sock".into(), "/api.sock".into()]).unwrap();
        assert_eq!(
            text(&args),
            "--id mac-1 --exec-file /usr/bin/firecracker --uid 70000 --gid 70001 --chroot-base-dir /run/jails \
             -- --api-sock /api.sock"
        );
    }

    #[test]
    fn command_line_has_every_option() {
        let settings = vec![("pids.max".into(), "64".into()), ("memory.max".into(), "1073741824".into())];
        let cgroup = Cgroup { version: CgroupVersion::V2, parent: Some("anteroom".into()), settings };
        let args = Jailer {
            netns: Some("/proc/7/ns/net".into()),
            cgroup: Some(cgroup),
            resource_limits: vec![ResourceLimit::FileBytes(4096), ResourceLimit::OpenFiles(128)],
            new_pid_ns: true,
            ..jailer()
        };
        let args = text(&args.args(&[]).unwrap());
        assert!(
            args.ends_with(
                "--netns /proc/7/ns/net --cgroup-version 2 --parent-cgroup anteroom --cgroup pids.max=64 \
                 --cgroup memory.max=1073741824 --resource-limit fsize=4096 --resource-limit no-file=128 --new-pid-ns --"
            ),
            "{args}"
        );
    }

    #[test]
    fn paths_are_those_that_the_jailer_uses() {
        let jailer = jailer();
        assert_eq!(jailer.dir(), Path::new("/run/jails/firecracker/mac-1"));
        assert_eq!(jailer.root_dir(), Path::new("/run/jails/firecracker/mac-1/root"));
        assert_eq!(jailer.pid_file(), Path::new("/run/jails/firecracker/mac-1/root/firecracker.pid"));
        assert_eq!(jailer.host_path(Path::new("/api.sock")), jailer.root_dir().join("api.sock"));
    }

    #[test]
    fn invalid_jails_have_no_command_line() {
        for id in ["", "a/b", "..", "a b", "ä", &"a".repeat(65)] {
            assert_eq!(Jailer { id: id.into(), ..jailer() }.args(&[]), Err(JailerError::InvalidId(id.into())));
        }
        for path in ["/usr/bin/qemu", "/firecracker/..", "/"] {
            let rejected = Jailer { exec_file: path.into(), ..jailer() }.args(&[]);
            assert_eq!(rejected, Err(JailerError::InvalidExecFile(path.into())));
        }
        assert_eq!(Jailer { uid: 0, ..jailer() }.args(&[]), Err(JailerError::Superuser));
        assert_eq!(Jailer { gid: 0, ..jailer() }.args(&[]), Err(JailerError::Superuser));
    }
}
