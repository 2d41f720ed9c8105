//! QEMU's command line.

use super::{Accelerator, Hardware, KernelCommandLine};
use crate::spec::{
    AGENT_SERVER_SOCKET, CONTROLLER_SERVER_SOCKET, ChannelTransport, Confinement, FdSource, FileAccess, InheritedFd,
    Monitor, NamedFile, ProcessSpec, QmpStart, ResourceLimits, SpecError,
};
use anteroom_wire::channel::{AGENT_SERVER_PORT, CONTROLLER_SERVER_PORT};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

// File descriptor numbers in the process.
const AGENT_FD: i32 = 10;
const HOST_FD: i32 = 11;
const CONSOLE_FD: i32 = 12;
const QMP_FD: i32 = 13;
const STATE_FD: i32 = 14;

// Names under which QEMU opens its files; no such path exists (see `crate::confinement`).
const RAM_NAME: &str = "/machine/ram";
const ROOTFS_NAME: &str = "/machine/rootfs";
const KERNEL_NAME: &str = "/machine/kernel";
const INITRAMFS_NAME: &str = "/machine/initramfs";
/// QEMU has no option for the path of KVM.
const KVM_PATH: &str = "/dev/kvm";

/// Address space in addition to the guest's memory and the TCG cache, bytes: programs, libraries, stacks and heaps of the threads.
const OVERHEAD_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Memory in addition to the guest's and the TCG cache, bytes: of the process, and page cache of the files that it reads.
const OVERHEAD_MEMORY_BYTES: u64 = 512 * 1024 * 1024;
/// The largest saved state of the devices, bytes; usual are some ten thousand.
const STATE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Threads of QEMU in addition to one for each virtual processor: main loop, RCU, migration, and up to 64 for disk requests.
const THREADS: u64 = 80;
const OPEN_FILES_MAX: u64 = 128;
const MIB: u64 = 1024 * 1024;

/// TCG cache while a template boots, MiB: a boot translates much code, and only one template boots at a time.
const BOOT_TRANSLATION_MIB: u32 = 256;

/// The memory backend of the guest's RAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RamBackend {
    /// Anonymous memory of the process.
    Anonymous,
    /// A shared mapping of a file: preparation of a template.
    Shared(PathBuf),
    /// A private (copy-on-write) mapping of a file.
    CopyOnWrite(PathBuf),
}

/// How the guest starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StartMode {
    Boot { kernel: PathBuf, initramfs: PathBuf, line: KernelCommandLine },
    Resume { state: PathBuf },
}

/// The options of one QEMU process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QemuCommandLine {
    pub(crate) program: PathBuf,
    pub(crate) name: String,
    pub(crate) accelerator: Accelerator,
    pub(crate) hardware: Hardware,
    pub(crate) ram: RamBackend,
    pub(crate) rootfs: Option<PathBuf>,
    pub(crate) start_mode: StartMode,
}

fn text(path: &Path) -> Result<&str, SpecError> {
    path.to_str().ok_or_else(|| SpecError::Path(path.to_owned()))
}

impl QemuCommandLine {
    /// The spec of the process.
    pub(crate) fn to_spec(&self) -> Result<ProcessSpec, SpecError> {
        self.hardware.check().map_err(|error| SpecError::Value(error.to_string()))?;
        let mut args = Vec::new();
        self.base(&mut args)?;
        self.memory(&mut args);
        self.devices(&mut args);
        let mut fds = vec![
            InheritedFd { number: AGENT_FD, source: FdSource::Listen { name: AGENT_SERVER_SOCKET.into() } },
            InheritedFd { number: HOST_FD, source: FdSource::Listen { name: CONTROLLER_SERVER_SOCKET.into() } },
            InheritedFd { number: CONSOLE_FD, source: FdSource::Console },
            InheritedFd { number: QMP_FD, source: FdSource::Qmp },
        ];
        let start = match &self.start_mode {
            StartMode::Boot { line, .. } => {
                push(&mut args, "-kernel", KERNEL_NAME);
                push(&mut args, "-initrd", INITRAMFS_NAME);
                push(&mut args, "-append", line.to_string());
                // Paused until its process is confined.
                args.push("-S".into());
                QmpStart::Boot
            }
            StartMode::Resume { state } => {
                push(&mut args, "-incoming", "defer");
                fds.push(InheritedFd { number: STATE_FD, source: FdSource::Read { path: state.clone() } });
                QmpStart::Load { state: STATE_FD }
            }
        };
        let program = text(&self.program)?.to_owned();
        let confinement = Confinement::Confined { files: self.files(), listeners: Vec::new(), limits: self.limits() };
        Ok(ProcessSpec {
            program,
            args,
            // The C library opens a file of `/proc` when it trims a heap of a thread, which the confinement denies. With one heap for
            // all threads it opens none.
            env: BTreeMap::from([("MALLOC_ARENA_MAX".to_owned(), "1".to_owned())]),
            fds,
            monitor: Monitor::Qmp { start },
            transport: ChannelTransport::UnixSockets,
            confinement,
            verified: BTreeMap::new(),
        })
    }

    /// The files that QEMU opens by name.
    fn files(&self) -> Vec<NamedFile> {
        let file = |name: &str, path: &Path, access| NamedFile { name: name.into(), path: path.to_owned(), access };
        let mut files = Vec::new();
        match &self.ram {
            RamBackend::Anonymous => {}
            RamBackend::Shared(path) => files.push(file(RAM_NAME, path, FileAccess::ReadWrite)),
            // QEMU asks for write access to every memory file, and maps this one privately.
            RamBackend::CopyOnWrite(path) => files.push(file(RAM_NAME, path, FileAccess::ReadOnly)),
        }
        if let Some(rootfs) = &self.rootfs {
            files.push(file(ROOTFS_NAME, rootfs, FileAccess::ReadOnly));
        }
        if let StartMode::Boot { kernel, initramfs, .. } = &self.start_mode {
            files.push(file(KERNEL_NAME, kernel, FileAccess::ReadOnly));
            files.push(file(INITRAMFS_NAME, initramfs, FileAccess::ReadOnly));
        }
        match self.accelerator {
            Accelerator::Kvm { .. } => files.push(file(KVM_PATH, Path::new(KVM_PATH), FileAccess::ReadWrite)),
            Accelerator::Emulation => {}
        }
        files
    }

    fn limits(&self) -> ResourceLimits {
        let file_bytes_max = match self.start_mode {
            StartMode::Boot { .. } => STATE_BYTES_MAX,
            StartMode::Resume { .. } => 0,
        };
        let memory_mib = u64::from(self.hardware.memory_mib) + u64::from(self.tcg_cache_mib());
        ResourceLimits {
            address_space_bytes_max: memory_mib * MIB + OVERHEAD_BYTES,
            memory_bytes_max: memory_mib * MIB + OVERHEAD_MEMORY_BYTES,
            file_bytes_max,
            threads_max: THREADS + u64::from(self.hardware.cpus),
            open_files_max: OPEN_FILES_MAX,
            // One more for device emulation.
            cpus_max: self.hardware.cpus + 1,
        }
    }

    fn tcg_cache_mib(&self) -> u32 {
        match self.start_mode {
            StartMode::Boot { .. } => BOOT_TRANSLATION_MIB,
            StartMode::Resume { .. } => self.hardware.tcg_cache_mib,
        }
    }

    fn base(&self, args: &mut Vec<String>) -> Result<(), SpecError> {
        if !self.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
            return Err(SpecError::Value(format!("{:?} is not a valid machine name", self.name)));
        }
        push(args, "-name", format!("{},debug-threads=on", self.name));
        for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
            args.push(flag.into());
        }
        push(args, "-display", "none");
        // Debian's cloud kernel finds virtio-mmio only through ACPI.
        push(args, "-M", "microvm,rtc=on,acpi=on,dump-guest-core=off");
        push(args, "-accel", self.accelerator.accel_option(self.tcg_cache_mib()));
        push(args, "-cpu", self.accelerator.cpu_option());
        push(args, "-smp", self.hardware.cpus.to_string());
        push(args, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        Ok(())
    }

    fn memory(&self, args: &mut Vec<String>) {
        let size = format!("{}M", self.hardware.memory_mib);
        push(args, "-m", size.as_str());
        let share = match &self.ram {
            RamBackend::Anonymous => return,
            RamBackend::Shared(_) => "on",
            RamBackend::CopyOnWrite(_) => "off",
        };
        push(args, "-object", format!("memory-backend-file,id=mem,size={size},mem-path={RAM_NAME},share={share}"));
        push(args, "-machine", "memory-backend=mem");
    }

    fn devices(&self, args: &mut Vec<String>) {
        push(args, "-chardev", format!("socket,id=qmp,fd={QMP_FD}"));
        push(args, "-mon", "chardev=qmp,mode=control");
        push(args, "-chardev", format!("socket,id=console,fd={CONSOLE_FD}"));
        push(args, "-serial", "chardev:console");
        push(args, "-device", "virtio-serial-device,id=channels");
        for (id, fd, port) in [("agent", AGENT_FD, AGENT_SERVER_PORT), ("host", HOST_FD, CONTROLLER_SERVER_PORT)] {
            push(args, "-chardev", format!("socket,id={id},fd={fd},server=on,wait=off"));
            push(args, "-device", format!("virtserialport,id={id}-port,chardev={id},name={port}"));
        }
        if self.rootfs.is_some() {
            let options = "driver=raw,node-name=root,read-only=on,file.driver=file,file.read-only=on,file.locking=off";
            push(args, "-blockdev", format!("{options},file.filename={ROOTFS_NAME}"));
            push(args, "-device", "virtio-blk-device,drive=root");
        }
    }
}

fn push(args: &mut Vec<String>, option: &str, value: impl Into<String>) {
    args.push(option.to_owned());
    args.push(value.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn command_line(start: StartMode, ram: RamBackend, hardware: Hardware) -> QemuCommandLine {
        QemuCommandLine {
            program: "/usr/bin/qemu-system-x86_64".into(),
            name: "mac_1".into(),
            accelerator: Accelerator::Emulation,
            hardware,
            ram,
            rootfs: Some("/images/a,b/rootfs.squashfs".into()),
            start_mode: start,
        }
    }

    fn boot(kernel: &str) -> StartMode {
        StartMode::Boot { kernel: kernel.into(), initramfs: "/i".into(), line: KernelCommandLine::default() }
    }

    /// The value that follows `option`, split as QEMU does: at single commas.
    fn options(args: &[String], option: &str, begins: &str) -> Vec<String> {
        let value = args
            .windows(2)
            .find(|pair| pair[0] == option && pair[1].starts_with(begins))
            .map(|pair| pair[1].replace(",,", "\0"))
            .unwrap();
        value.split(',').map(|part| part.replace('\0', ",")).collect()
    }

    proptest! {
        #[test]
        fn no_path_but_the_programs_is_on_the_command_line_and_no_placeholder_remains(
            dir in "(/[a-z0-9,=: .{}-]{1,20}){1,4}",
            memory_mib in 256u32..=65_536,
            cpus in 1u32..=16,
            tcg_cache_mib in 8u32..=1_024,
        ) {
            let hardware = Hardware { memory_mib, cpus, tcg_cache_mib };
            let ram = PathBuf::from(format!("{dir}/ram"));
            let state = PathBuf::from(format!("{dir}/state"));
            let made = command_line(StartMode::Resume { state: state.clone() }, RamBackend::CopyOnWrite(ram.clone()), hardware);
            let spec = made.to_spec().unwrap();
            let object = options(&spec.args, "-object", "memory-backend-file");
            prop_assert!(object.contains(&"mem-path=/machine/ram".to_owned()), "{object:?}");
            prop_assert!(object.contains(&"share=off".to_owned()));
            let size = format!("size={memory_mib}M");
            prop_assert!(object.contains(&size));
            let inherited = InheritedFd { number: STATE_FD, source: FdSource::Read { path: state } };
            prop_assert!(spec.fds.contains(&inherited));
            prop_assert!(!spec.args.iter().any(|arg| arg == "-kernel" || arg == "-initrd" || arg == "-append"));
            let Confinement::Confined { files, limits, .. } = &spec.confinement else { panic!("it is not confined") };
            let file = NamedFile { name: RAM_NAME.into(), path: ram, access: FileAccess::ReadOnly };
            prop_assert!(files.contains(&file), "{files:?}");
            prop_assert!(files.iter().all(|file| file.access == FileAccess::ReadOnly));
            prop_assert_eq!(limits.file_bytes_max, 0);
            for arg in &spec.args {
                prop_assert!(!arg.contains(&format!("{dir}/")), "{arg}");
                for placeholder in ["undefined", "null", "None", "Some(", "{", "}", "$", "%", "\n"] {
                    prop_assert!(!arg.contains(placeholder), "{arg}");
                }
            }
        }
    }

    #[test]
    fn both_ports_have_the_names_that_the_agent_opens() {
        let spec = command_line(boot("/k"), RamBackend::Shared("/r".into()), Hardware::default()).to_spec().unwrap();
        for (id, name) in [("agent", AGENT_SERVER_PORT), ("host", CONTROLLER_SERVER_PORT)] {
            let port = options(&spec.args, "-device", &format!("virtserialport,id={id}-port"));
            assert!(port.contains(&format!("name={name}")), "{port:?}");
        }
        assert_eq!(spec.monitor, Monitor::Qmp { start: QmpStart::Boot });
    }

    #[test]
    fn machine_has_no_network_card_and_no_writable_disk() {
        let spec = command_line(boot("/k"), RamBackend::Anonymous, Hardware::default()).to_spec().unwrap();
        assert!(!spec.args.iter().any(|arg| arg.contains("net") || arg.contains("tap")), "{:?}", spec.args);
        assert!(options(&spec.args, "-blockdev", "driver=raw").contains(&"read-only=on".to_owned()));
        assert!(spec.args.contains(&"-nodefaults".to_owned()));
    }

    #[test]
    fn hardware_out_of_range_is_an_error_with_the_name() {
        let hardware = Hardware { memory_mib: 128, ..Hardware::default() };
        let error = command_line(boot("/k"), RamBackend::Anonymous, hardware).to_spec().unwrap_err();
        assert_eq!(error.to_string(), "memory_mib must be 256 to 65536, not 128");
    }
}
