//! A real Firecracker process in a new directory, and a template of its guest. Dropping them ends and removes everything.

use anteroom_firecracker::{Client, Error, body::*};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The longest wait for anything, on a busy host.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(90);
/// The guest's RAM, MiB.
pub(crate) const MEMORY_MIB: u32 = 64;
/// The port on which the guest echoes.
pub(crate) const ECHO_PORT: u32 = 1027;
/// The API socket in a process's directory.
pub(crate) const API_SOCKET: &str = "api.sock";

/// The directory that `scripts/test_firecracker.sh` prints.
pub(crate) struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Finds the programs. `None`, with the reason printed: the test is skipped.
    pub(crate) fn find() -> Option<Self> {
        let found = std::env::var_os("ANTEROOM_TEST_FIRECRACKER").map(|dir| Self { dir: dir.into() });
        let missing = match &found {
            None => Some(
                "ANTEROOM_TEST_FIRECRACKER is not set: ./test sets it to what scripts/test_firecracker.sh prints"
                    .into(),
            ),
            Some(Self { dir }) => fs::read_to_string(dir.join("missing")).ok(),
        };
        let opened = File::options().read(true).write(true).open("/dev/kvm").map(drop);
        let missing = missing.or(opened.err().map(|error| format!("/dev/kvm cannot be opened: {error}")));
        if let Some(why) = &missing {
            eprintln!("skipped: {}", why.trim());
        }
        found.filter(|_| missing.is_none())
    }

    pub(crate) fn firecracker(&self) -> PathBuf {
        self.dir.join("firecracker")
    }

    pub(crate) fn jailer(&self) -> PathBuf {
        self.dir.join("jailer")
    }

    pub(crate) fn kernel(&self) -> String {
        self.dir.join("vmlinux").to_str().unwrap().to_owned()
    }
}

/// Skips the test, with the reason printed, unless it runs as the superuser.
pub(crate) fn is_superuser() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only the superuser can start a process as another user");
    }
    is_root
}

/// Waits up to `timeout` for `file` to be readable or closed.
pub(crate) fn wait_readable(file: impl AsFd, timeout: Duration) {
    let mut files = [PollFd::new(&file, PollFlags::IN)];
    let _ = rustix::event::poll(&mut files, Some(&Timespec::try_from(timeout).unwrap())).unwrap();
}

/// Calls `check` until it returns something.
pub(crate) fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + WAIT_MAX;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not happen within {WAIT_MAX:?}");
        let _ = rustix::event::poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 500_000 })).unwrap();
    }
}

/// The guest's serial port.
pub(crate) struct Serial {
    output: ChildStdout,
    input: ChildStdin,
    bytes: Vec<u8>,
}

impl Serial {
    pub(crate) fn of(child: &mut Child) -> Self {
        Self { output: child.stdout.take().unwrap(), input: child.stdin.take().unwrap(), bytes: Vec::new() }
    }

    /// The next complete line; `None`: the process has closed its output.
    pub(crate) fn next_line(&mut self) -> Option<String> {
        let until = Instant::now() + WAIT_MAX;
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim().to_owned());
            }
            let left = until.checked_duration_since(Instant::now()).expect("the guest prints a line in time");
            wait_readable(&self.output, left);
            let mut chunk = [0; 4096];
            match self.output.read(&mut chunk).unwrap() {
                0 => return None,
                count => self.bytes.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Reads until a line begins with `text`; returns that line.
    pub(crate) fn wait_line(&mut self, text: &str) -> String {
        loop {
            let line = self.next_line().unwrap_or_else(|| panic!("the guest did not print {text:?}"));
            if line.starts_with(text) {
                return line;
            }
        }
    }

    /// Makes the guest execute a command (`crates/testbed/guest/guest.c`).
    pub(crate) fn command(&mut self, command: u8) {
        self.input.write_all(&[command]).unwrap();
    }
}

/// A process with the API.
pub(crate) struct Process {
    pub(crate) dir: TempDir,
    pub(crate) child: Child,
    pub(crate) client: Client,
    pub(crate) serial: Serial,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory that other users can use too.
pub(crate) fn new_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

/// Connects to the API of a process that is starting.
pub(crate) fn connect(socket: &Path, child: &mut Child) -> Client {
    wait_for("a connection to the API", || match Client::connect(socket, WAIT_MAX) {
        Ok(client) => Some(client),
        Err(Error::Connect { .. }) => {
            assert_eq!(child.try_wait().unwrap(), None, "Firecracker has exited");
            None
        }
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    })
}

impl Process {
    /// Starts Firecracker as `user`, or as this user.
    pub(crate) fn start(programs: &Programs, user: Option<u32>) -> Self {
        let dir = new_dir();
        // Before 1.14 the log file must exist.
        fs::write(dir.path().join("log"), "").unwrap();
        fs::set_permissions(dir.path().join("log"), fs::Permissions::from_mode(0o666)).unwrap();
        let mut command = command(&programs.firecracker());
        command.args(["--api-sock", API_SOCKET, "--log-path", "log", "--level", "Info"]).current_dir(dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut child = command.spawn().unwrap();
        let client = connect(&dir.path().join(API_SOCKET), &mut child);
        let serial = Serial::of(&mut child);
        Self { dir, child, client, serial }
    }

    /// Configures a guest with all devices, and does not boot it.
    pub(crate) fn configure(programs: &Programs) -> Self {
        let mut process = Self::start(programs, None);
        configure(&mut process.client, programs);
        process
    }

    /// Boots the guest.
    pub(crate) fn boot(programs: &Programs) -> Self {
        let mut process = Self::configure(programs);
        process.client.start_instance().unwrap();
        process
    }

    /// Starts Firecracker and loads `template`; the guest runs.
    pub(crate) fn clone(programs: &Programs, template: &Template) -> Self {
        let mut process = Self::start(programs, None);
        process.client.load_snapshot(&template.load_params()).unwrap();
        process
    }

    /// Waits until the process has exited.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        wait_exit(&mut self.child)
    }

    /// Firecracker's log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Connects to a vsock port of the guest (Firecracker, `docs/vsock.md`, "Host-Initiated Connections").
    pub(crate) fn connect_vsock(&self, port: u32) -> UnixStream {
        connect_vsock(&self.dir.path().join("vsock.sock"), port)
    }
}

#[allow(clippy::disallowed_methods, reason = "these tests start Firecracker")]
pub(crate) fn command(program: &Path) -> Command {
    Command::new(program)
}

pub(crate) fn wait_exit(child: &mut Child) -> ExitStatus {
    wait_for("the exit of the process", || child.try_wait().unwrap())
}

pub(crate) fn configure(client: &mut Client, programs: &Programs) {
    client.put_machine_configuration(&MachineConfiguration { vcpu_count: 1, mem_size_mib: MEMORY_MIB }).unwrap();
    let boot_args = "console=ttyS0 anteroom.image=sha256:ab".to_owned();
    let kernel_image_path = programs.kernel();
    client.put_guest_boot_source(&BootSource { kernel_image_path, boot_args, initrd_path: None }).unwrap();
    client.put_guest_vsock(&Vsock { guest_cid: 3, uds_path: "vsock.sock".into() }).unwrap();
    client.put_entropy_device().unwrap();
}

/// Connects to a vsock port; the stream begins after Firecracker's answer.
pub(crate) fn connect_vsock(socket: &Path, port: u32) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    while answer.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"OK "), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// A saved guest.
pub(crate) struct Template {
    dir: TempDir,
    /// The last number that it printed before it was saved.
    pub(crate) last_tick: u64,
}

impl Template {
    /// Boots the guest, lets it run, and saves it. The memory file is then read-only.
    pub(crate) fn make(programs: &Programs) -> Self {
        let mut process = Process::boot(programs);
        process.serial.wait_line("tick 3");
        process.client.pause_vm().unwrap();
        let template = Self { dir: new_dir(), last_tick: 3 };
        process.client.create_snapshot(&template.create_params()).unwrap();
        fs::set_permissions(template.path("memory"), fs::Permissions::from_mode(0o444)).unwrap();
        template
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn create_params(&self) -> SnapshotCreateParams {
        SnapshotCreateParams {
            snapshot_path: self.path("state"),
            mem_file_path: self.path("memory"),
            snapshot_type: SnapshotType::Full,
        }
    }

    pub(crate) fn load_params(&self) -> SnapshotLoadParams {
        load_params(&self.path("state"), &self.path("memory"))
    }
}

/// The parameters that load a snapshot from two files and let the guest run.
pub(crate) fn load_params(state: &str, memory: &str) -> SnapshotLoadParams {
    SnapshotLoadParams {
        snapshot_path: state.to_owned(),
        mem_backend: MemoryBackend { backend_type: MemoryBackendType::File, backend_path: memory.to_owned() },
        resume_vm: true,
        vsock_override: None,
    }
}
