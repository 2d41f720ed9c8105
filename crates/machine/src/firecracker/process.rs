//! The spec of a Firecracker process.

use super::{API_NAME, LOG_NAME, MEMORY_NAME, STATE_NAME, VSOCK_NAME};
use crate::{
    hardware::Hardware,
    spec::{
        ChannelTransport, Confinement, FdSource, FileAccess, FirecrackerStart, InheritedFd, Monitor, NamedFile,
        NamedListener, ProcessSpec, ResourceLimits, SpecError, VSOCK_SOCKET,
    },
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

const ROOTFS_NAME: &str = "/machine/rootfs";
const KERNEL_NAME: &str = "/machine/kernel";
const INITRAMFS_NAME: &str = "/machine/initramfs";
/// Firecracker has no option for the path of KVM.
const KVM_PATH: &str = "/dev/kvm";
/// Firecracker writes the serial port's output to its standard output.
const STDOUT: i32 = 1;

const MIB: u64 = 1024 * 1024;
/// Address space in addition to the guest's memory, bytes: the program, stacks and heaps of the threads.
const OVERHEAD_BYTES: u64 = 256 * MIB;
/// The largest saved state of the devices, bytes; usual are some ten thousand.
const STATE_BYTES_MAX: u64 = 64 * MIB;
/// The longest file that a clone may write, bytes. It has none to write; with less, Firecracker 1.12 does not load a snapshot.
const CLONE_FILE_BYTES_MAX: u64 = 4096;
/// Threads in addition to one for each virtual processor: main, API, and those that load a snapshot.
const THREADS: u64 = 16;
const OPEN_FILES_MAX: u64 = 128;

/// The two files of a saved guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The state of processors and devices.
    pub state: PathBuf,
    /// The memory.
    pub memory: PathBuf,
}

/// How the guest starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartMode {
    /// It boots.
    Boot {
        /// The kernel, an ELF file (`vmlinux`).
        kernel: PathBuf,
        /// The initial file system.
        initramfs: Option<PathBuf>,
        /// The kernel's command line; Firecracker adds its devices.
        boot_args: String,
        /// The new files into which it can be saved.
        snapshot: Option<Snapshot>,
    },
    /// It continues from a snapshot. The memory is mapped copy-on-write.
    Load(Snapshot),
}

/// One Firecracker process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirecrackerProcess {
    /// Path of Firecracker.
    pub program: PathBuf,
    /// The machine's name: letters, digits, `_` and `-`.
    pub name: String,
    /// The machine's hardware; it has no cache of translated code.
    pub hardware: Hardware,
    /// The root file system, a read-only disk.
    pub rootfs: Option<PathBuf>,
    /// How its guest starts.
    pub start_mode: StartMode,
    /// How long Firecracker may take to answer a request, milliseconds; the machine then ends.
    pub answer_ms_max: u64,
}

/// [`FirecrackerProcess::answer_ms_max`] of the machines: as long as a guest may send nothing until it has hung.
pub(crate) const ANSWER_MS_MAX: u64 = 20_000;

impl FirecrackerProcess {
    /// A process with the usual limit for answers.
    pub fn new(
        program: PathBuf,
        name: &str,
        hardware: Hardware,
        rootfs: Option<PathBuf>,
        start_mode: StartMode,
    ) -> Self {
        Self { program, name: name.to_owned(), hardware, rootfs, start_mode, answer_ms_max: ANSWER_MS_MAX }
    }

    /// The spec of the process.
    ///
    /// # Errors
    /// A value is invalid, or a path is not UTF-8.
    pub fn to_spec(&self) -> Result<ProcessSpec, SpecError> {
        self.hardware.check().map_err(|error| SpecError::Value(error.to_string()))?;
        // Firecracker replaces nothing in its id, and accepts only these.
        if !self.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
            return Err(SpecError::Value(format!("{:?} is not a valid machine name", self.name)));
        }
        let program = self.program.to_str().ok_or_else(|| SpecError::Path(self.program.clone()))?.to_owned();
        let id = self.name.replace('_', "-");
        let args = ["--api-sock", API_NAME, "--id", &id, "--log-path", LOG_NAME, "--level", "Info"];
        let listener = NamedListener { name: VSOCK_NAME.to_owned(), socket: VSOCK_SOCKET.to_owned() };
        Ok(ProcessSpec {
            program,
            args: args.map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            fds: vec![InheritedFd { number: STDOUT, source: FdSource::Console }],
            monitor: Monitor::Firecracker { start: self.start(), answer_ms_max: self.answer_ms_max },
            transport: ChannelTransport::Vsock,
            confinement: Confinement::Confined {
                files: self.files(),
                listeners: vec![listener],
                limits: self.limits(),
            },
            verified: BTreeMap::new(),
        })
    }

    fn start(&self) -> FirecrackerStart {
        match &self.start_mode {
            StartMode::Boot { initramfs, boot_args, .. } => FirecrackerStart::Boot {
                cpus: self.hardware.cpus,
                memory_mib: self.hardware.memory_mib,
                kernel: KERNEL_NAME.to_owned(),
                initramfs: initramfs.is_some().then(|| INITRAMFS_NAME.to_owned()),
                boot_args: boot_args.clone(),
                rootfs: self.rootfs.is_some().then(|| ROOTFS_NAME.to_owned()),
            },
            StartMode::Load(_) => FirecrackerStart::Load,
        }
    }

    /// The files that Firecracker opens by name.
    fn files(&self) -> Vec<NamedFile> {
        let file = |name: &str, path: &Path, access| NamedFile { name: name.into(), path: path.to_owned(), access };
        let mut files = vec![file(KVM_PATH, Path::new(KVM_PATH), FileAccess::ReadWrite)];
        if let Some(rootfs) = &self.rootfs {
            files.push(file(ROOTFS_NAME, rootfs, FileAccess::ReadOnly));
        }
        let (snapshot, access) = match &self.start_mode {
            StartMode::Boot { kernel, initramfs, snapshot, .. } => {
                files.push(file(KERNEL_NAME, kernel, FileAccess::ReadOnly));
                files.extend(initramfs.iter().map(|path| file(INITRAMFS_NAME, path, FileAccess::ReadOnly)));
                (snapshot.as_ref(), FileAccess::WriteNew)
            }
            StartMode::Load(snapshot) => (Some(snapshot), FileAccess::ReadOnly),
        };
        if let Some(Snapshot { state, memory }) = snapshot {
            files.extend([file(STATE_NAME, state, access), file(MEMORY_NAME, memory, access)]);
        }
        files
    }

    fn limits(&self) -> ResourceLimits {
        let memory_bytes = u64::from(self.hardware.memory_mib) * MIB;
        let file_bytes_max = match self.start_mode {
            StartMode::Boot { .. } => memory_bytes + STATE_BYTES_MAX,
            StartMode::Load(_) => CLONE_FILE_BYTES_MAX,
        };
        ResourceLimits {
            address_space_bytes_max: memory_bytes + OVERHEAD_BYTES,
            file_bytes_max,
            threads_max: THREADS + u64::from(self.hardware.cpus),
            open_files_max: OPEN_FILES_MAX,
            memory_bytes_max: memory_bytes + OVERHEAD_BYTES,
            // One more for device emulation.
            cpus_max: self.hardware.cpus + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn process(start_mode: StartMode) -> FirecrackerProcess {
        let (program, rootfs) = ("/usr/bin/firecracker".into(), Some("/images/a/rootfs.squashfs".into()));
        FirecrackerProcess::new(program, "mac_1", Hardware::default(), rootfs, start_mode)
    }

    proptest! {
        #[test]
        fn clone_reads_its_files_only_and_its_arguments_contain_no_path(dir in "(/[a-z0-9,=: .{}-]{8,20}){1,4}") {
            let snapshot = Snapshot { state: format!("{dir}/state").into(), memory: format!("{dir}/memory").into() };
            let spec = process(StartMode::Load(snapshot.clone())).to_spec().unwrap();
            let Confinement::Confined { files, limits, .. } = &spec.confinement else { panic!("it is not confined") };
            for path in [snapshot.state, snapshot.memory, "/images/a/rootfs.squashfs".into()] {
                let file = files.iter().find(|file| file.path == path);
                prop_assert_eq!(file.map(|file| file.access), Some(FileAccess::ReadOnly));
            }
            let writable: Vec<_> = files.iter().filter(|file| file.access != FileAccess::ReadOnly).collect();
            prop_assert_eq!(writable.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), vec![KVM_PATH]);
            prop_assert_eq!(limits.file_bytes_max, CLONE_FILE_BYTES_MAX);
            prop_assert!(spec.args.iter().all(|arg| !arg.contains(&dir)));
        }
    }

    #[test]
    fn machine_names_become_ids_that_firecracker_accepts() {
        let mut process = process(StartMode::Load(Snapshot { state: "/s".into(), memory: "/m".into() }));
        assert!(process.to_spec().unwrap().args.windows(2).any(|pair| pair == ["--id", "mac-1"]));
        process.name = "a/b".into();
        assert!(matches!(process.to_spec(), Err(SpecError::Value(_))));
    }
}
