//! Injects faults of hardware, hypervisor and host into QEMU machines.

use anteroom_testbed::{MachineProcesses, Qemu};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::{FileExt, PermissionsExt, symlink},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::Command;

/// The address of the machine's ACPI sleep control register (QEMU's microvm: `GED_MMIO_BASE_REGS`).
const SLEEP_CONTROL: u64 = 0xfea0_0200;
/// The sleep-enable bit and the type of S5 (soft off) in QEMU's ACPI tables.
const SOFT_OFF: u8 = 0x20 | 5 << 2;
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Sends a command to QEMU's monitor over a socket of its keeper. It is unknown which of the keeper's sockets is the monitor's: the
/// command is sent to all of them, and the others ignore it.
pub(crate) fn send_monitor_command(machine_processes: &MachineProcesses, command: &str) {
    let keeper = Pid::from_raw(machine_processes.keeper.pid.cast_signed()).unwrap();
    let process = pidfd_open(keeper, PidfdFlags::empty()).unwrap();
    let line = serde_json::json!({
        "execute": "human-monitor-command",
        "arguments": { "command-line": command },
    });
    let mut sent = 0;
    for entry in fs::read_dir(format!("/proc/{}/fd", machine_processes.keeper.pid)).unwrap().flatten() {
        let is_socket = fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let (true, Some(number)) = (is_socket, number) else { continue };
        let socket = UnixStream::from(pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).unwrap());
        sent += usize::from((&socket).write_all(format!("{line}\n").as_bytes()).is_ok());
    }
    assert!(sent >= 2, "the monitor's socket is among the sockets of the keeper");
}

/// Injects a fatal machine check, as broken memory or a broken processor causes.
pub(crate) fn inject_machine_check(machine_processes: &MachineProcesses) {
    // Bank 9: valid, uncorrected, enabled, the context is corrupt; a check is in progress.
    send_monitor_command(machine_processes, "mce -b 0 9 0xba00000000000000 0x4 0x0 0x0");
}

/// Writes the ACPI register by QEMU's debugger stub, like the guest's kernel at a power off.
pub(crate) fn power_off_guest(machine_processes: &MachineProcesses, dir: &Path) {
    let path = dir.join("gdb.sock");
    send_monitor_command(machine_processes, &format!("gdbserver unix:{},server=on,wait=off", path.display()));
    let until = Instant::now() + WAIT_MAX;
    let mut stub = loop {
        match UnixStream::connect(&path) {
            Ok(stub) => break stub,
            Err(error) => assert!(Instant::now() < until, "the stub does not listen: {error}"),
        }
        std::thread::yield_now();
    };
    stub.set_read_timeout(Some(WAIT_MAX)).unwrap();
    exchange_packet(&mut stub, "Qqemu.PhyMemMode:1");
    exchange_packet(&mut stub, &format!("M{SLEEP_CONTROL:x},1:{SOFT_OFF:02x}"));
}

/// Sends one packet of the debugger protocol and reads the response; a stub that ends with its machine sends none.
fn exchange_packet(stub: &mut UnixStream, text: &str) {
    let sum = text.bytes().fold(0u8, u8::wrapping_add);
    stub.write_all(format!("${text}#{sum:02x}").as_bytes()).unwrap();
    let mut answer = Vec::new();
    while answer.iter().filter(|&&byte| byte == b'#').count() == 0 {
        let mut byte = [0];
        match stub.read(&mut byte) {
            Ok(1..) => answer.push(byte[0]),
            Ok(0) | Err(_) => return,
        }
    }
    stub.write_all(b"+").ok();
}

/// A private image and template directory, with a copy of the shared template of this image.
pub(crate) struct TemplateCacheCopy {
    dir: tempfile::TempDir,
    template: PathBuf,
    image_hash: String,
}

impl TemplateCacheCopy {
    /// Requires a template: a server must have run before.
    pub(crate) async fn new() -> Self {
        let shared = Qemu::test_cache_dir().unwrap();
        // Next to the shared directory: /tmp may be small.
        let dir = tempfile::Builder::new().prefix("own-cache").tempdir_in(&shared).unwrap();
        symlink(shared.join("images"), dir.path().join("images")).unwrap();
        fs::copy(shared.join("kvm.json"), dir.path().join("kvm.json")).unwrap();
        let current = fs::read_link(shared.join("images/current")).unwrap();
        let image_hash = current.file_name().unwrap().to_str().unwrap().to_owned();
        let fits = |dir: &Path| {
            let manifest = fs::read_to_string(dir.join("template.json")).unwrap_or_default();
            manifest.contains(&image_hash) && manifest.contains("\"memory_mib\": 1536")
        };
        let all = fs::read_dir(shared.join("templates")).unwrap().flatten().map(|entry| entry.path());
        let found = all.into_iter().find(|dir| fits(dir)).expect("a template for this image");
        let template = dir.path().join("templates").join(found.file_name().unwrap());
        fs::create_dir_all(&template).unwrap();
        for name in ["ram", "state", "template.json"] {
            let mut copy = Command::new("cp");
            let copied = copy.arg("--sparse=always").arg(found.join(name)).arg(template.join(name)).status().await;
            assert!(copied.unwrap().success());
        }
        Self { dir, template, image_hash }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn image_hash(&self) -> &str {
        &self.image_hash
    }

    /// Truncates the saved state to its half.
    pub(crate) fn truncate_state(&self) {
        let state = fs::File::options().write(true).open(self.template.join("state")).unwrap();
        state.set_len(state.metadata().unwrap().len() / 2).unwrap();
    }

    /// Replaces the image hash in the guest's memory, so that the guest reports another image.
    pub(crate) async fn replace_image_hash(&self, other: &str) {
        assert_eq!(other.len(), self.image_hash.len());
        let ram = self.template.join("ram");
        let mut find = Command::new("grep");
        find.args(["--byte-offset", "--only-matching", "--text", "--fixed-strings", &self.image_hash]).arg(&ram);
        let found = find.env("LC_ALL", "C").stderr(Stdio::inherit()).output().await.unwrap();
        let file = fs::File::options().write(true).open(&ram).unwrap();
        let lines = String::from_utf8_lossy(&found.stdout).into_owned();
        let offsets: Vec<u64> = lines.lines().map(|line| line.split(':').next().unwrap().parse().unwrap()).collect();
        assert!(!offsets.is_empty(), "the hash is in the memory of the guest");
        for offset in offsets {
            file.write_all_at(other.as_bytes(), offset).unwrap();
        }
    }
}

/// Creates a directory with links to the programs that the server starts.
pub(crate) fn link_programs(dir: &Path) -> PathBuf {
    let bin = dir.join("bin");
    fs::create_dir(&bin).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let qemu = std::env::split_paths(&path).map(|dir| dir.join("qemu-system-x86_64")).find(|file| file.is_file());
    symlink(qemu.expect("QEMU is on the PATH"), bin.join("qemu-system-x86_64")).unwrap();
    bin
}

/// Creates a directory with a QEMU whose clones never become ready: their process only sleeps.
pub(crate) fn link_never_ready_qemu(dir: &Path) -> PathBuf {
    let bin = link_programs(dir);
    let program = bin.join("qemu-system-x86_64");
    let qemu = fs::read_link(&program).unwrap();
    fs::remove_file(&program).unwrap();
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *\" -incoming \"*) exec sleep 900 ;; esac\nexec {} \"$@\"\n",
        qemu.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    bin
}
