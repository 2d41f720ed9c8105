//! The root directory of another system whose systemd runs as process 1, in namespaces of its own. It shares the host's network.

use anteroom_testbed::{QEMU_WAIT_TIMEOUT, eventually};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// Arguments: the base, a directory for changes, the directory that is mounted at /mnt.
const BOOT: &str = r#"
set -e
mount --make-rprivate /
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs dev
for name in null zero full random urandom tty kvm; do
  if [ -e "/dev/$name" ]; then touch "dev/$name"; mount --bind "/dev/$name" "dev/$name"; fi
done
mkdir dev/pts dev/shm old
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount --bind "$3" mnt
pivot_root . old
cd /
umount -l old
rmdir old
# As systemd has it on a host: the directories of credentials reach its services.
mount --make-rshared /
container=docker exec /lib/systemd/systemd --log-target=journal --show-status=no
"#;

/// Runs a command that must succeed; returns its standard output.
pub(super) async fn run(mut command: Command) -> String {
    let output = output_of(&mut command).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}{errors}", output.status);
    text
}

async fn output_of(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let limit = QEMU_WAIT_TIMEOUT * 3;
    timeout(limit, command.output()).await.unwrap_or_else(|_| panic!("{command:?} does not end")).unwrap()
}

/// A system. Dropping it ends its processes and removes its changes.
pub(super) struct Root {
    /// Process 1 ends with it.
    _unshare: Child,
    /// Process 1.
    process: String,
    _changes: TempDir,
}

impl Root {
    /// Boots a copy of `base`, in which `shared` is /mnt.
    pub(super) async fn boot(base: &Path, shared: &Path) -> Self {
        let changes = tempfile::tempdir_in(shared.parent().unwrap()).unwrap();
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--mount",
            "--pid",
            "--cgroup",
            "--ipc",
            "--uts",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            BOOT,
            "sh",
        ]);
        unshare.arg(base).arg(changes.path()).arg(shared).stdin(Stdio::null()).kill_on_drop(true);
        let unshare = unshare.spawn().unwrap();
        let id = unshare.id().unwrap();
        let process = async || {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
            let process = children.trim().to_owned();
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            Ok((name.trim() == "systemd").then_some(process))
        };
        let process = eventually("systemd runs", QEMU_WAIT_TIMEOUT, process).await.unwrap();
        let root = Self { _unshare: unshare, process, _changes: changes };
        let running =
            async || Ok((root.output(&["systemctl", "is-system-running"]).await.trim() == "running").then_some(()));
        eventually("the system runs", QEMU_WAIT_TIMEOUT, running).await.unwrap();
        root
    }

    /// Where the host sees a file of the system.
    pub(super) fn host_path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.process)).join(path)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.process,
            "--mount",
            "--pid",
            "--cgroup",
            "--ipc",
            "--uts",
            "--root",
            "--wd=/",
            "--",
        ]);
        command.args(arguments).env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("DEBIAN_FRONTEND", "noninteractive").env("HOME", "/root").env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs a command as root; it must succeed. Returns its standard output.
    pub(super) async fn run(&self, arguments: &[&str]) -> String {
        run(self.command(arguments)).await
    }

    /// Runs a command; returns its standard output, whatever its exit code.
    pub(super) async fn output(&self, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&output_of(&mut self.command(arguments)).await.stdout).into_owned()
    }

    /// Runs a command that must fail; returns its standard error.
    pub(super) async fn fail(&self, arguments: &[&str]) -> String {
        let output = output_of(&mut self.command(arguments)).await;
        assert!(!output.status.success(), "{arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// A property of the package's service, as systemd shows it.
    pub(super) async fn property(&self, name: &str) -> String {
        let shown = self.run(&["systemctl", "show", "--value", &format!("--property={name}"), "anteroom"]).await;
        shown.trim().to_owned()
    }

    /// Runs `systemctl` on the package's service; prints the journal if it fails.
    pub(super) async fn systemctl(&self, verb: &str) {
        let output = output_of(&mut self.command(&["systemctl", verb, "anteroom"])).await;
        if !output.status.success() {
            let journal = self.output(&["journalctl", "--no-pager", "--lines=40"]).await;
            panic!("systemctl {verb}: {}\n{journal}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
