//! Ways to do to a real machine what hardware, hypervisor and host can do to it.

use anteroom_testbed::{MachineProcesses, qemu_server::cache_dir};
use anteroom_wire::MachineId;
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

/// Where the machine's ACPI sleep control register is (QEMU's microvm: `GED_MMIO_BASE_REGS`).
const SLEEP_CONTROL: u64 = 0xfea0_0200;
/// "Sleep now" and the type of S5 (soft off), as QEMU's ACPI tables tell the guest.
const SOFT_OFF: u8 = 0x20 | 5 << 2;
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Says a line to QEMU's own monitor, over the socket on which its keeper talks to it. Only the keeper has that socket, and
/// nothing tells which of its sockets it is: the others pass over a line that they do not understand.
pub(crate) fn say_to_monitor(living: &MachineProcesses, command: &str) {
    let keeper = Pid::from_raw(living.keeper.pid.cast_signed()).unwrap();
    let process = pidfd_open(keeper, PidfdFlags::empty()).unwrap();
    let line = serde_json::json!({
        "execute": "human-monitor-command",
        "arguments": { "command-line": command },
    });
    let mut said = 0;
    for entry in fs::read_dir(format!("/proc/{}/fd", living.keeper.pid)).unwrap().flatten() {
        let is_socket = fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let (true, Some(number)) = (is_socket, number) else { continue };
        let socket = UnixStream::from(pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).unwrap());
        said += usize::from((&socket).write_all(format!("{line}\n").as_bytes()).is_ok());
    }
    assert!(said >= 2, "the monitor's socket is among the keeper's");
}

/// A fatal machine check, as broken memory or a broken processor gives one.
pub(crate) fn break_hardware(living: &MachineProcesses) {
    // Bank 9: valid, uncorrected, enabled, the context is corrupt; a check is in progress.
    say_to_monitor(living, "mce -b 0 9 0xba00000000000000 0x4 0x0 0x0");
}

/// Writes what the guest's kernel writes to switch itself off, by QEMU's debugger stub.
pub(crate) fn switch_off(living: &MachineProcesses, dir: &Path) {
    let path = dir.join("gdb.sock");
    say_to_monitor(living, &format!("gdbserver unix:{},server=on,wait=off", path.display()));
    let until = Instant::now() + WAIT_MAX;
    let mut stub = loop {
        match UnixStream::connect(&path) {
            Ok(stub) => break stub,
            Err(error) => assert!(Instant::now() < until, "the stub does not listen: {error}"),
        }
        std::thread::yield_now();
    };
    stub.set_read_timeout(Some(WAIT_MAX)).unwrap();
    packet(&mut stub, "Qqemu.PhyMemMode:1");
    packet(&mut stub, &format!("M{SLEEP_CONTROL:x},1:{SOFT_OFF:02x}"));
}

/// One packet of the debugger's protocol and its answer; a stub that ends with its machine answers nothing.
fn packet(stub: &mut UnixStream, text: &str) {
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

/// A directory of images and templates of a test's own, with a copy of the template that the shared one has for this image.
pub(crate) struct OwnCache {
    dir: tempfile::TempDir,
    template: PathBuf,
    image_hash: String,
}

impl OwnCache {
    /// There must be a template: a house was opened before.
    pub(crate) async fn new() -> Self {
        let shared = cache_dir().unwrap();
        // Beside the shared one: /tmp may be small.
        let dir = tempfile::Builder::new().prefix("own-cache").tempdir_in(&shared).unwrap();
        symlink(shared.join("images"), dir.path().join("images")).unwrap();
        fs::copy(shared.join("accelerator.json"), dir.path().join("accelerator.json")).unwrap();
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

    /// The saved state ends in its middle.
    pub(crate) fn cut_state(&self) {
        let state = fs::File::options().write(true).open(self.template.join("state")).unwrap();
        state.set_len(state.metadata().unwrap().len() / 2).unwrap();
    }

    /// Whoever looks in the guest's memory for its image's hash finds this one: the guest is of another image.
    pub(crate) async fn pretend(&self, other: &str) {
        assert_eq!(other.len(), self.image_hash.len());
        let ram = self.template.join("ram");
        let mut find = Command::new("grep");
        find.args(["--byte-offset", "--only-matching", "--text", "--fixed-strings", &self.image_hash]).arg(&ram);
        let found = find.env("LC_ALL", "C").stderr(Stdio::inherit()).output().await.unwrap();
        let file = fs::File::options().write(true).open(&ram).unwrap();
        let lines = String::from_utf8_lossy(&found.stdout).into_owned();
        let places: Vec<u64> = lines.lines().map(|line| line.split(':').next().unwrap().parse().unwrap()).collect();
        assert!(!places.is_empty(), "the guest knows its image");
        for place in places {
            file.write_all_at(other.as_bytes(), place).unwrap();
        }
    }
}

/// A directory with links to the programs that the server starts.
pub(crate) fn programs(dir: &Path) -> PathBuf {
    let bin = dir.join("bin");
    fs::create_dir(&bin).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let qemu = std::env::split_paths(&path).map(|dir| dir.join("qemu-system-x86_64")).find(|file| file.is_file());
    symlink(qemu.expect("QEMU is on the PATH"), bin.join("qemu-system-x86_64")).unwrap();
    bin
}

/// A directory with a QEMU whose clones get nowhere: the process is there and does nothing, however fast the host is.
pub(crate) fn never_ready(dir: &Path) -> PathBuf {
    let bin = programs(dir);
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

/// The one machine there is.
pub(crate) fn the_machine(house: &anteroom_testbed::QemuServer) -> (MachineId, MachineProcesses) {
    let machine = house.machines().remove(0);
    let living = MachineProcesses::from_run_dir(&house.run_dir(&machine)).unwrap();
    (machine, living)
}
