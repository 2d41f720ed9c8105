//! What a program can do that has broken out of the guest into QEMU: a debugger makes the system calls in the confined process.
//! Requires QEMU and gdb. Run by the superuser, it also runs itself as an ordinary user.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use anteroom_machine::{
    BoxBody, ChannelTransport, Confinement, ControllerService, ExitReason, FdSource, FileAccess, InheritedFd, Machines,
    MachinesSettings, Monitor, NamedFile, ProcessSpec, QmpStart, Receipt, ResourceLimits, SpecError, SpecSource, State,
    StopReason, qemu,
};
use anteroom_wire::MachineId;
use http_body_util::{BodyExt, Full};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Generous, for busy hosts.
const STATE_TIMEOUT: Duration = Duration::from_secs(60);
const MIB: u64 = 1024 * 1024;
const MEMORY_MIB: u64 = 256;
/// An account that every Linux system has and that owns nothing.
const ORDINARY_USER: &str = "65534";
/// Set for a run of this program as an ordinary user.
const KEEPER_VARIABLE: &str = "ANTEROOM_ESCAPE_KEEPER";

/// A guest without a kernel: its firmware finds nothing to start and waits.
struct EmptyGuest {
    ram: PathBuf,
}

impl SpecSource for EmptyGuest {
    fn image_hash(&self) -> &str {
        "none"
    }

    fn build_spec(&self, _: &MachineId) -> Result<ProcessSpec, SpecError> {
        let program = qemu::find_qemu().expect("qemu-system-x86_64 is not in PATH").to_str().unwrap().to_owned();
        let object = format!("memory-backend-file,id=mem,size={MEMORY_MIB}M,mem-path=/machine/ram,share=off");
        let args = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-M",
            "microvm",
            "-accel",
            "tcg,tb-size=16",
            "-S",
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,resourcecontrol=deny",
            "-m",
            "256M",
            "-object",
            &object,
            "-machine",
            "memory-backend=mem",
            "-chardev",
            "socket,id=qmp,fd=13",
            "-mon",
            "chardev=qmp,mode=control",
        ];
        let file = NamedFile { name: "/machine/ram".into(), path: self.ram.clone(), access: FileAccess::ReadOnly };
        let limits = ResourceLimits {
            address_space_bytes_max: (MEMORY_MIB + 2048) * MIB,
            file_bytes_max: 0,
            threads_max: 80,
            open_files_max: 128,
        };
        Ok(ProcessSpec {
            program,
            args: args.map(String::from).to_vec(),
            env: BTreeMap::new(),
            fds: vec![InheritedFd { number: 13, source: FdSource::Qmp }],
            monitor: Monitor::Qmp { start: QmpStart::Boot },
            transport: ChannelTransport::UnixSockets,
            confinement: Confinement::Confined { files: vec![file], listeners: Vec::new(), limits },
        })
    }
}

/// A server with one confined machine.
struct Host {
    dir: tempfile::TempDir,
    machines: Machines,
    stop: CancellationToken,
    tasks: TaskTracker,
    id: MachineId,
    vmm: u32,
    keeper: u32,
}

impl Host {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ram = dir.path().join("template-ram");
        fs::File::create(&ram).unwrap().set_len(MEMORY_MIB * MIB).unwrap();
        fs::write(dir.path().join("vault.key"), "secret").unwrap();
        let keeper =
            std::env::var_os(KEEPER_VARIABLE).map_or(env!("CARGO_BIN_EXE_anteroom-keeper").into(), PathBuf::from);
        let host: ControllerService = Arc::new(|_, _| {
            let body: BoxBody = Full::from("{}").map_err(|never| match never {}).boxed_unsync();
            Box::pin(std::future::ready(hyper::Response::new(body)))
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let settings = MachinesSettings::in_state_dir(dir.path(), keeper);
        let source = Arc::new(EmptyGuest { ram });
        let machines = Machines::open(settings, source, host, tasks.clone(), stop.clone()).await.unwrap();
        let id = MachineId::from_parts(1, [7; 10]);
        let mut state = machines.start(id.clone()).unwrap();
        let waiting = state.wait_for(|state| matches!(state, State::Waiting { .. } | State::Removed { .. }));
        let state = tokio::time::timeout(STATE_TIMEOUT, waiting).await.expect("it did not start").unwrap().clone();
        assert!(matches!(state, State::Waiting { .. }), "{state:?}");
        let started = Self { vmm: 0, keeper: 0, dir, machines, stop, tasks, id };
        let (keeper, vmm) = started.processes().await;
        Self { vmm, keeper, ..started }
    }

    /// The keeper and its VMM, once the VMM is confined completely: the root directory is empty then.
    async fn processes(&self) -> (u32, u32) {
        let sealed = async {
            loop {
                if let Some(found) = find_processes(&self.dir.path().join("run").join(self.id.as_str())) {
                    let root = format!("/proc/{}/root", found.1);
                    let usr = fs::read_dir(format!("{root}/usr")).map(|entries| entries.count());
                    if fs::read_dir(&root).is_ok() && usr.is_ok_and(|count| count == 0) {
                        return found;
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(STATE_TIMEOUT, sealed).await.expect("the VMM was not confined")
    }

    /// Stops the machine, if it still runs, and returns its receipt.
    async fn end(self) -> (ExitReason, Receipt) {
        let mut state = self.machines.watch(&self.id).unwrap();
        self.machines.stop(&self.id, StopReason::Completed);
        let removed = tokio::time::timeout(STATE_TIMEOUT, state.wait_for(State::is_removed)).await;
        let State::Removed { reason, receipt } = removed.expect("it was not removed").unwrap().clone() else {
            panic!()
        };
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(STATE_TIMEOUT, self.tasks.wait()).await.expect("a task did not end");
        let receipt = *receipt.expect("no receipt");
        assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
        (reason, receipt)
    }

    /// Makes calls in the VMM and returns what each returned.
    fn call(&self, calls: &[(&str, String)]) -> BTreeMap<String, i64> {
        let mut script = String::from("set pagination off\nset confirm off\nhandle all nostop noprint pass\n");
        for (name, call) in calls {
            script += &format!("printf \"%s=%ld\\n\", \"{name}\", (long)({call})\n");
        }
        let file = self.dir.path().join("calls.gdb");
        fs::write(&file, script).unwrap();
        #[allow(clippy::disallowed_methods, reason = "the attacker of this test")]
        let output = Command::new("gdb")
            .args(["-iex", "set sysroot /", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"])
            .args(["-p", &self.vmm.to_string(), "-batch", "-x"])
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .expect("gdb does not run: install it");
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().filter_map(|line| line.split_once('='));
        lines.filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?))).collect()
    }
}

fn find_processes(run_dir: &Path) -> Option<(u32, u32)> {
    let is_keeper = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|arg| Path::new(&*String::from_utf8_lossy(arg)) == run_dir)
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let keeper = pids.into_iter().find(is_keeper)?;
    let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).ok()?;
    Some((keeper, children.split_whitespace().next()?.parse().ok()?))
}

fn status_field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim().to_owned()
}

fn superuser() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn vmm_has_no_file_socket_process_or_memory_but_its_own() {
    let host = Host::start().await;
    let dir = host.dir.path();
    let open =
        |path: &Path, flags: i32| format!("((int(*)(const char*,int,int))open)(\"{}\",{flags},0)", path.display());
    let socket = |family: i32, kind: i32| format!("((int(*)(int,int,int))socket)({family},{kind},0)");
    let calls = [
        ("open the vault's key", open(&dir.join("vault.key"), 0)),
        ("open the database", open(&dir.join("anteroom.db"), 0)),
        ("create a file in the state directory", open(&dir.join("new"), 0o101)),
        ("open the template's memory for writing", open(&dir.join("template-ram"), 2)),
        ("open the template's memory under its name", open(Path::new("/machine/ram"), 2)),
        ("open its program", open(Path::new("/usr/bin/qemu-system-x86_64"), 0)),
        ("open the home directory", open(Path::new("/root"), 0)),
        ("open the root directory of its keeper", open(&PathBuf::from(format!("/proc/{}/root", host.keeper)), 0)),
        ("create a file in its root directory", open(Path::new("/new"), 0o101)),
        ("a Unix socket, to connect to the operator's", socket(1, 1)),
        ("a TCP socket", socket(2, 1)),
        ("a UDP socket", socket(2, 2)),
        ("a netlink socket", socket(16, 3)),
        ("a raw socket", socket(2, 3)),
        ("a packet socket", socket(17, 3)),
        ("signal its keeper", format!("((int(*)(int,int))kill)({},0)", host.keeper)),
        ("signal the server", format!("((int(*)(int,int))kill)({},0)", std::process::id())),
        ("signal all processes", "((int(*)(int,int))kill)(-1,0)".into()),
        ("become the superuser", "((int(*)(int))setuid)(0)".into()),
        ("change its root directory", "((int(*)(const char*))chroot)(\"/\")".into()),
        (
            "take four times its memory",
            format!("((long(*)(long,long,int,int,int,long))mmap)(0,{},3,0x22,-1,0)", 16 * 1024 * MIB),
        ),
    ];
    let results = host.call(&calls);
    for (name, call) in &calls {
        assert_eq!(results.get(*name), Some(&-1), "{name}: {call}; {results:?}");
    }
    let (_, receipt) = host.end().await;
    let denied = |name: &str| receipt.denied_system_calls.get(name).copied().unwrap_or(0);
    assert!(denied("socket") >= 6 && denied("kill") >= 3 && denied("openat") >= 9, "{:?}", receipt.denied_system_calls);
}

#[tokio::test]
async fn vmm_that_makes_a_hostile_system_call_is_killed_and_its_receipt_names_the_call() {
    for (expected, call) in [
        ("ptrace", "((long(*)(int,int,int,int))ptrace)(16,1,0,0)"),
        ("process_vm_readv", "((long(*)(int,long,long,long,long,long))process_vm_readv)(1,0,0,0,0,0)"),
        ("execve", "((int(*)(const char*,long,long))execve)(\"/usr/bin/env\",0,0)"),
        ("clone", "((int(*)(void))fork)()"),
        ("unshare", "((int(*)(int))unshare)(0x10000000)"),
        ("mount", "((int(*)(const char*,const char*,const char*,long,long))mount)(\"a\",\"/\",\"tmpfs\",0,0)"),
    ] {
        let host = Host::start().await;
        let results = host.call(&[("hostile", call.to_owned())]);
        assert_eq!(results.get("hostile"), None, "{expected} returned");
        let (reason, _) = host.end().await;
        assert_eq!(reason, ExitReason::ForbiddenSystemCall { system_call: expected.to_owned() });
    }
}

#[tokio::test]
async fn confined_vmm_holds_no_writable_file_no_capability_and_no_shared_namespace() {
    let host = Host::start().await;
    for entry in fs::read_dir(format!("/proc/{}/fd", host.vmm)).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/{}", host.vmm, entry.file_name().display())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let writable = u32::from_str_radix(flags, 8).unwrap() & 3 != 0;
        let is_file = target.is_absolute() && !target.starts_with("/dev/null") && !target.starts_with("/memfd:");
        assert!(!(is_file && writable), "{target:?} is writable");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_field(host.vmm, set), "0000000000000000", "{set}");
    }
    assert_eq!(status_field(host.vmm, "NoNewPrivs"), "1");
    assert_eq!(status_field(host.vmm, "Seccomp"), "2");
    for namespace in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(of(host.vmm), of(host.keeper), "{namespace}");
    }
    let user = status_field(host.vmm, "Uid");
    let own = rustix::process::geteuid().as_raw().to_string();
    assert_eq!(user.split_whitespace().any(|id| id == own), !superuser(), "{user}");
    let limits = fs::read_to_string(format!("/proc/{}/limits", host.vmm)).unwrap();
    for (limit, value) in
        [("Max core file size", "0"), ("Max file size", "0"), ("Max processes", "80"), ("Max open files", "128")]
    {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        assert_eq!(line.split_whitespace().next(), Some(value), "{limit}");
    }
    let (_, receipt) = host.end().await;
    assert_eq!(receipt.confinement.len(), 7, "{:?}", receipt.confinement);
}

/// The tests above, as a user without any rights.
#[test]
fn confinement_holds_for_an_ordinary_user_too() {
    if !superuser() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let copy = |from: &Path, name: &str| {
        let to = dir.path().join(name);
        fs::copy(from, &to).unwrap();
        to
    };
    let test = copy(&std::env::current_exe().unwrap(), "escape");
    let keeper = copy(Path::new(env!("CARGO_BIN_EXE_anteroom-keeper")), "keeper");
    #[allow(clippy::disallowed_methods, reason = "this test itself, as another user")]
    let output = Command::new("setpriv")
        .args(["--reuid", ORDINARY_USER, "--regid", ORDINARY_USER, "--clear-groups"])
        .arg(&test)
        .env(KEEPER_VARIABLE, &keeper)
        .env("TMPDIR", dir.path())
        .current_dir(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("4 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
