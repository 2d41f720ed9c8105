//! What a program can do that has broken out of the guest into Firecracker: a debugger makes the system calls in the process.
//!
//! Firecracker has a filter of its own, which ends it at the first such call. Most tests start it without, so that the calls meet the
//! keeper's layers.

use super::{
    debugger::{self, Script},
    host::{Host, Machine, Programs, Server},
};
use anteroom_machine::ExitReason;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

const MIB: u64 = 1024 * 1024;
/// Firecracker's option that switches its own filter off.
const NO_FILTER: &str = "--no-seccomp";
const PTRACE_SEIZE: i64 = 0x4206;

fn call(number: i64, args: &[&str]) -> String {
    let mut args: Vec<&str> = args.to_vec();
    args.resize(6, "0");
    format!("((long(*)(long,long,long,long,long,long,long))syscall)({number},{})", args.join(","))
}

fn script(name: &'static str, result: String) -> Script {
    Script { name, commands: Vec::new(), result }
}

fn open(name: &'static str, path: &Path, flags: i32) -> Script {
    let flags = format!("{flags}");
    // The text is copied into the process first.
    let commands = vec![format!("set $path=(char*)\"{}\"", path.display())];
    let result = call(libc::SYS_openat, &["-100", "(long)$path", &flags, "0600"]);
    Script { name, commands, result }
}

fn files(dir: &Path, template: &Path, program: &Path) -> Vec<Script> {
    let (read, write, create) = (libc::O_RDONLY, libc::O_RDWR, libc::O_RDWR | libc::O_CREAT);
    vec![
        open("open the vault's key", &dir.join("vault.key"), read),
        open("open the database", &dir.join("anteroom.db"), read),
        open("open the log", &dir.join("anteroom.log"), read),
        open("open a file in the home directory", &dir.join("home"), read),
        open("open the image for writing", &dir.join("rootfs.squashfs"), write),
        open("open the template's memory for writing", &template.join("memory"), write),
        open("open the template's state for writing", &template.join("state"), write),
        open("open its own program", program, read),
        open("open the list of processes", Path::new("/proc"), read),
        open("open KVM", Path::new("/dev/kvm"), write),
        open("make a file", &dir.join("new"), create),
        script("make a memory file", call(libc::SYS_memfd_create, &["(long)$path", "0"])),
    ]
}

fn sockets() -> Vec<Script> {
    let socket =
        |name, family: i32, kind: i32| script(name, call(libc::SYS_socket, &[&family.to_string(), &kind.to_string()]));
    vec![
        socket("make a Unix socket, to connect to the operator's", libc::AF_UNIX, libc::SOCK_STREAM),
        socket("make a TCP socket", libc::AF_INET, libc::SOCK_STREAM),
        socket("make a UDP socket", libc::AF_INET, libc::SOCK_DGRAM),
        socket("make a netlink socket", libc::AF_NETLINK, libc::SOCK_RAW),
        socket("make a VM socket", libc::AF_VSOCK, libc::SOCK_STREAM),
        socket("make a packet socket", libc::AF_PACKET, libc::SOCK_RAW),
    ]
}

fn processes(others: &[(&'static str, i64)]) -> Vec<Script> {
    others.iter().map(|(name, pid)| script(name, call(libc::SYS_kill, &[&pid.to_string(), "0"]))).collect()
}

fn memory() -> Vec<Script> {
    let bytes = (16 * 1024 * MIB).to_string();
    vec![script(
        "take much more memory than the guest has",
        call(libc::SYS_mmap, &["0", &bytes, "3", "0x4022", "-1", "0"]),
    )]
}

fn write_host_files(dir: &Path) {
    for name in ["vault.key", "anteroom.db", "anteroom.log", "home", "rootfs.squashfs"] {
        fs::write(dir.join(name), "secret").unwrap();
    }
}

async fn open_without_filter(host: &Host) -> Server {
    host.open_changed(|spec| spec.args.push(NO_FILTER.to_owned())).await
}

/// A machine that is confined completely: it was resumed.
async fn start(server: &Server) -> Machine {
    let mut machine = server.start();
    machine.ready().await;
    machine
}

#[tokio::test]
async fn confined_firecracker_reaches_no_file_socket_process_or_memory_but_its_own() {
    let Some(host) = Host::new().await else { return };
    write_host_files(host.path());
    let server = open_without_filter(&host).await;
    let (mut own, mut other) = (start(&server).await, start(&server).await);
    let (keeper, vmm) = own.processes();
    let others = [
        ("signal the server", i64::from(std::process::id())),
        ("signal its keeper", i64::from(keeper)),
        ("signal another machine", i64::from(other.processes().1)),
        ("signal every process", -1),
    ];
    let program = Programs::find().unwrap().firecracker();
    let all = [files(host.path(), host.template.dir(), &program), sockets(), processes(&others), memory()].concat();
    let results = debugger::run(vmm, host.path(), &all).await;
    for script in &all {
        assert_eq!(results.values.get(script.name), Some(&-1), "{script:?}\n{}", results.text);
    }
    let receipt = server.stop(&mut own).await;
    let denied = |name: &str| receipt.denied_system_calls.get(name).copied().unwrap_or(0);
    let denials = [denied("openat"), denied("socket"), denied("kill"), denied("memfd_create")];
    assert!(denials >= [11, 6, 4, 1], "{:?}", receipt.denied_system_calls);
    assert!(receipt.denied_paths.iter().any(|path| path.ends_with("/vault.key")), "{:?}", receipt.denied_paths);
    let untouched = server.stop(&mut other).await;
    assert!(untouched.denied_system_calls.is_empty(), "{:?}", untouched.denied_system_calls);
    server.end().await;
}

/// So that the test above can fail.
#[tokio::test]
async fn unconfined_firecracker_reaches_all_of_it() {
    let Some(programs) = Programs::find() else { return };
    let dir = tempfile::tempdir().unwrap();
    write_host_files(dir.path());
    for name in ["memory", "state"] {
        fs::write(dir.path().join(name), "template").unwrap();
    }
    #[allow(clippy::disallowed_methods, reason = "a Firecracker without a keeper")]
    let mut firecracker = Command::new(programs.firecracker())
        .args(["--api-sock", "api.sock", NO_FILTER])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let until = std::time::Instant::now() + super::host::STATE_TIMEOUT;
    while !dir.path().join("api.sock").exists() {
        assert!(std::time::Instant::now() < until, "it did not start");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let all = [
        files(dir.path(), dir.path(), &programs.firecracker()),
        sockets(),
        processes(&[("signal the server", i64::from(std::process::id()))]),
        memory(),
    ]
    .concat();
    let results = debugger::run(firecracker.id(), dir.path(), &all).await;
    firecracker.kill().unwrap();
    firecracker.wait().unwrap();
    let superuser = rustix::process::geteuid().is_root();
    for script in all.iter().filter(|script| superuser || script.name != "make a packet socket") {
        let value = results.values.get(script.name);
        assert!(value.is_some_and(|value| *value != -1), "{script:?}: {value:?}\n{}", results.text);
    }
}

#[tokio::test]
async fn firecracker_that_makes_a_hostile_call_is_killed_and_its_receipt_names_the_call() {
    let Some(host) = Host::new().await else { return };
    let server = open_without_filter(&host).await;
    let own_id = std::process::id().to_string();
    let seize = PTRACE_SEIZE.to_string();
    for hostile in [
        script("ptrace", call(libc::SYS_ptrace, &[&seize, &own_id])),
        script("process_vm_readv", call(libc::SYS_process_vm_readv, &[&own_id])),
        script("fork", call(libc::SYS_fork, &[])),
        script("clone", call(libc::SYS_clone, &["17"])),
        script("execve", call(libc::SYS_execve, &[])),
        script("execveat", call(libc::SYS_execveat, &[])),
        script("unshare", call(libc::SYS_unshare, &["0x10000000"])),
        script("setns", call(libc::SYS_setns, &["3"])),
        script("mount", call(libc::SYS_mount, &[])),
        script("bpf", call(libc::SYS_bpf, &[])),
    ] {
        let mut machine = start(&server).await;
        let results = debugger::run(machine.processes().1, host.path(), [&hostile]).await;
        assert!(results.values.is_empty(), "{hostile:?} returned\n{}", results.text);
        let expected = ExitReason::ForbiddenSystemCall { system_call: hostile.name.to_owned() };
        assert_eq!(machine.removed().await.0, expected, "{}", results.text);
    }
    server.end().await;
}

#[tokio::test]
async fn own_filter_of_firecracker_ends_it_at_the_first_call_and_the_receipt_names_the_call() {
    let Some(host) = Host::new().await else { return };
    let server = host.open().await;
    let mut machine = start(&server).await;
    let socket = sockets().swap_remove(1);
    let results = debugger::run(machine.processes().1, host.path(), [&socket]).await;
    assert!(results.values.is_empty(), "{socket:?} returned\n{}", results.text);
    let (reason, receipt) = machine.removed().await;
    assert_eq!(reason, ExitReason::ForbiddenSystemCall { system_call: "socket".into() }, "{}", receipt.output_tail);
    server.end().await;
}

#[tokio::test]
async fn confined_firecracker_holds_no_writable_file_no_capability_and_an_empty_root_directory() {
    let Some(host) = Host::new().await else { return };
    let server = host.open().await;
    let mut machine = start(&server).await;
    let (_, vmm) = machine.processes();
    for entry in fs::read_dir(format!("/proc/{vmm}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let info = fs::read_to_string(format!("/proc/{vmm}/fdinfo/{}", entry.file_name().display())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let writable = u32::from_str_radix(flags, 8).unwrap() & 3 != 0;
        let is_file = target.is_absolute() && !["/dev/kvm", "/dev/null"].iter().any(|name| target.starts_with(name));
        assert!(!(is_file && writable), "{target:?} is writable");
    }
    assert_eq!(fs::read_dir(format!("/proc/{vmm}/root/")).unwrap().count(), 0);
    for namespace in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(of(&vmm.to_string()), of("self"), "{namespace}");
    }
    let limits = fs::read_to_string(format!("/proc/{vmm}/limits")).unwrap();
    for (limit, value) in [("Max core file size", "0"), ("Max processes", "17"), ("Max open files", "128")] {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        assert_eq!(line.split_whitespace().next(), Some(value), "{limit}");
    }
    server.stop(&mut machine).await;
    server.end().await;
}

/// The tests of this file as a user without any rights, except to KVM.
#[test]
fn confinement_of_firecracker_holds_for_an_ordinary_user_too() {
    let Some(programs) = Programs::find() else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run as the superuser: the tests of this program have run as an ordinary user only");
        return;
    }
    /// The first of the user ids that no system allocates (systemd, "UIDS-GIDS") and that no machine of the superuser has.
    const FIRST_USER: u32 = 0x6000_0000;
    let user = (FIRST_USER + std::process::id()).to_string();
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let copy = |from: &Path, name: &str| {
        fs::copy(from, dir.path().join(name)).unwrap();
        dir.path().join(name)
    };
    let test = copy(&std::env::current_exe().unwrap(), "escape");
    let keeper = copy(Path::new(env!("CARGO_BIN_EXE_anteroom-keeper")), "keeper");
    fs::create_dir(dir.path().join("programs")).unwrap();
    for name in ["firecracker", "vmlinux"] {
        copy(&programs.path(name), &format!("programs/{name}"));
    }
    // In a mount namespace of its own, /dev/kvm is one that every user may open.
    let line = "mknod -m 666 kvm c 10 232 && mount --bind kvm /dev/kvm && exec setpriv --reuid \"$0\" --regid \"$0\" \
                --clear-groups ./escape escape:: --test-threads 1 --skip ordinary_user";
    #[allow(clippy::disallowed_methods, reason = "this test itself, as another user")]
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", line, &user])
        .env("ANTEROOM_TEST_FIRECRACKER", dir.path().join("programs"))
        .env("ANTEROOM_TEST_KEEPER", keeper)
        .env("TMPDIR", dir.path())
        .env("HOME", dir.path())
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(test.is_file() && !text.contains("skipped") && !text.contains(" 0 passed"), "{text}");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
