//! The jailer's command line with the real jailer, as the superuser.

use crate::process::{
    API_SOCKET, ECHO_PORT, Programs, Serial, Template, WAIT_MAX, command, connect, connect_vsock, is_superuser,
    load_params, wait_exit, wait_for,
};
use anteroom_firecracker::{
    Client,
    body::InstanceState,
    jailer::{Cgroup, CgroupVersion, Jailer, JailerError, ResourceLimit},
};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::{
    fs,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};
use tempfile::TempDir;

/// A user id that owns nothing.
const USER: u32 = 70_000;

/// A jail whose jailer is running or has ended. Dropping it kills what it started.
struct Jail {
    _dir: TempDir,
    jailer: Jailer,
    child: Child,
    client: Client,
    /// The executed program.
    pid: u32,
    pidfd: OwnedFd,
}

impl Drop for Jail {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn jailer(programs: &Programs, base: &Path) -> Jailer {
    Jailer {
        id: format!("test-{}", std::process::id()),
        exec_file: programs.firecracker(),
        uid: USER,
        gid: USER,
        chroot_base_dir: base.to_owned(),
        netns: None,
        cgroup: None,
        resource_limits: vec![ResourceLimit::OpenFiles(100), ResourceLimit::FileBytes(4096)],
        new_pid_ns: false,
    }
}

/// Starts the jailer with the files of `template` in the jail, loads them, and lets the guest run.
fn start(programs: &Programs, template: &Template, change: impl FnOnce(&mut Jailer)) -> Jail {
    let dir = tempfile::tempdir().unwrap();
    let mut jailer = jailer(programs, dir.path());
    change(&mut jailer);
    fs::create_dir_all(jailer.root_dir()).unwrap();
    for name in ["state", "memory"] {
        fs::copy(template.path(name), jailer.host_path(Path::new(name))).unwrap();
        rustix::fs::chmod(jailer.host_path(Path::new(name)), rustix::fs::Mode::from_raw_mode(0o444)).unwrap();
    }
    let mut command = command(&programs.jailer());
    command.args(jailer.args(&["--api-sock".into(), API_SOCKET.into()]).unwrap());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // The jailer itself exits if it makes a PID namespace.
    let mut client = match jailer.new_pid_ns {
        false => connect(&jailer.host_path(Path::new(API_SOCKET)), &mut child),
        true => wait_for("a connection to the API", || {
            Client::connect(&jailer.host_path(Path::new(API_SOCKET)), WAIT_MAX).ok()
        }),
    };
    client.load_snapshot(&load_params("/state", "/memory")).unwrap();
    assert_eq!(client.describe_instance().unwrap().id, jailer.id);
    let pid: u32 = fs::read_to_string(jailer.pid_file()).unwrap().trim().parse().unwrap();
    let pidfd = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    let pidfd = rustix::process::pidfd_open(pidfd, PidfdFlags::empty()).unwrap();
    Jail { _dir: dir, jailer, child, client, pid, pidfd }
}

/// The value of a line of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

fn namespace(pid: &str, name: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap()
}

fn is_own_namespace(pid: u32, name: &str) -> bool {
    namespace(&pid.to_string(), name) == namespace("self", name)
}

#[test]
fn jailed_guest_runs_as_another_user_in_its_own_root_directory_with_limits() {
    let Some(programs) = Programs::find().filter(|_| is_superuser()) else { return };
    let template = Template::make(&programs);
    let mut jail = start(&programs, &template, |_| {});
    let pid = jail.pid;
    assert_eq!(status(pid, "Uid"), format!("{USER}\t{USER}\t{USER}\t{USER}"));
    assert_eq!((status(pid, "CapEff").as_str(), status(pid, "Seccomp").as_str()), ("0000000000000000", "2"));
    assert!(!is_own_namespace(pid, "mnt") && is_own_namespace(pid, "pid") && is_own_namespace(pid, "net"));
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    for limit in ["Max open files            100                  100", "Max file size             4096"] {
        assert!(limits.contains(limit), "{limits}");
    }
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let mut names: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["api.sock", "dev", "firecracker", "firecracker.pid", "memory", "run", "state", "vsock.sock"]);

    let mut serial = Serial::of(&mut jail.child);
    serial.wait_line("tick");
    let mut stream = connect_vsock(&jail.jailer.host_path(Path::new("vsock.sock")), ECHO_PORT);
    stream.write_all(b"0123").unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"0123");
    serial.command(b'r');
    assert!(wait_exit(&mut jail.child).success());
    assert!(jail.jailer.root_dir().join("firecracker").exists(), "the jailer leaves the jail");
}

#[test]
fn new_pid_namespace_leaves_the_process_id_in_a_file() {
    let Some(programs) = Programs::find().filter(|_| is_superuser()) else { return };
    let template = Template::make(&programs);
    let mut jail = start(&programs, &template, |jailer| jailer.new_pid_ns = true);
    assert!(wait_exit(&mut jail.child).success(), "the jailer exits");
    let pid = jail.pid;
    assert_eq!(status(pid, "NSpid"), format!("{pid}\t1"));
    assert!(!is_own_namespace(pid, "pid"));
    assert_eq!(jail.client.describe_instance().unwrap().state, InstanceState::Running);
    rustix::process::pidfd_send_signal(&jail.pidfd, Signal::KILL).unwrap();
    crate::process::wait_readable(&jail.pidfd, WAIT_MAX);
    assert!(jail.client.describe_instance().is_err());
}

#[test]
fn jailed_process_joins_the_network_namespace() {
    let Some(programs) = Programs::find().filter(|_| is_superuser()) else { return };
    let template = Template::make(&programs);
    let mut holder = command(Path::new("unshare"));
    let mut holder = holder.args(["--net", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let of_holder = holder.id().to_string();
    wait_for("a new network namespace", || (!is_own_namespace(holder.id(), "net")).then_some(()));
    let netns = format!("/proc/{of_holder}/ns/net");
    let jail = start(&programs, &template, |jailer| jailer.netns = Some(netns.into()));
    assert_eq!(namespace(&jail.pid.to_string(), "net"), namespace(&of_holder, "net"));
    drop(holder.stdin.take());
    assert!(wait_exit(&mut holder).success());
}

/// The host's cgroup hierarchy with a limit of processes, and its root.
fn hierarchy() -> Option<(CgroupVersion, PathBuf)> {
    let v1 = PathBuf::from("/sys/fs/cgroup/pids");
    let v2 = PathBuf::from("/sys/fs/cgroup");
    let delegates = fs::read_to_string(v2.join("cgroup.subtree_control")).unwrap_or_default();
    if v1.join("cgroup.procs").exists() {
        return Some((CgroupVersion::V1, v1));
    }
    delegates.contains("pids").then_some((CgroupVersion::V2, v2))
}

#[test]
fn jailed_process_joins_a_cgroup_with_limits() {
    let Some(programs) = Programs::find().filter(|_| is_superuser()) else { return };
    let Some((version, root)) = hierarchy() else {
        eprintln!("skipped: this host has no cgroup hierarchy that limits processes");
        return;
    };
    let parent = format!("anteroom-test-{}", std::process::id());
    let template = Template::make(&programs);
    let cgroup = Cgroup { version, parent: Some(parent.clone()), settings: vec![("pids.max".into(), "64".into())] };
    let jail = start(&programs, &template, |jailer| jailer.cgroup = Some(cgroup));
    let dir = root.join(&parent).join(&jail.jailer.id);
    assert_eq!(fs::read_to_string(dir.join("pids.max")).unwrap().trim(), "64");
    let pid = jail.pid.to_string();
    assert!(fs::read_to_string(dir.join("cgroup.procs")).unwrap().lines().any(|line| line == pid));
    drop(jail);
    wait_for("the removal of the cgroup", || fs::remove_dir(&dir).ok());
    fs::remove_dir(root.join(parent)).unwrap();
}

#[test]
fn jailer_that_cannot_make_the_jail_exits_with_an_error() {
    let Some(programs) = Programs::find().filter(|_| is_superuser()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let existing = jailer(&programs, dir.path());
    fs::create_dir_all(existing.root_dir().join("dev")).unwrap();
    fs::write(existing.root_dir().join("dev/kvm"), "").unwrap();
    let no_program = Jailer { exec_file: "/no/firecracker".into(), ..jailer(&programs, dir.path()) };
    let no_namespace = Jailer { id: "other".into(), netns: Some("/no/netns".into()), ..existing.clone() };
    for (jailer, cause) in [
        (existing, "File exists"),
        (no_program, "No such file or directory"),
        (no_namespace, "No such file or directory"),
    ] {
        let output = command(&programs.jailer()).args(jailer.args(&[]).unwrap()).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && text.contains(cause), "{cause}: {text}");
    }
}

/// The check of [`Jailer::args`] is the jailer's own.
#[test]
fn real_jailer_rejects_what_has_no_command_line() {
    let Some(programs) = Programs::find().filter(|_| is_superuser()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let valid = jailer(&programs, dir.path());
    let args = valid.args(&[]).unwrap();
    let run = |from: &str, to: &str| {
        let args = args.iter().map(|arg| if arg == from { to.into() } else { arg.clone() });
        let output = command(&programs.jailer()).args(args).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let long = "a".repeat(65);
    for id in ["a/b", "a b", long.as_str()] {
        assert!(matches!(Jailer { id: id.into(), ..valid.clone() }.args(&[]), Err(JailerError::InvalidId(_))));
        let (accepted, text) = run(&valid.id, id);
        assert!(!accepted && text.contains("Invalid"), "{id}: {text}");
    }
    let (accepted, text) = run(valid.exec_file.to_str().unwrap(), "/bin/true");
    assert!(!accepted && text.contains("firecracker"), "{text}");
}
