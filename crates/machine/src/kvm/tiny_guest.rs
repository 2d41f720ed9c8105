//! A guest of a few instructions: it adds two numbers in 64-bit mode, writes to a port and halts.

use super::device::KVM_DEVICE;
use kvm_bindings::{KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use rustix::mm::{MapFlags, ProtFlags};
use serde::{Deserialize, Serialize};
use std::ptr;

/// Memory of the guest, bytes; the addresses below are in it.
const MEMORY_BYTES: usize = 64 * 1024;
/// Page tables: one entry in each maps the first 2 MiB to themselves.
const PML4: usize = 0x1000;
const PDPT: usize = 0x2000;
const PAGE_DIRECTORY: usize = 0x3000;
const CODE: usize = 0x4000;
const OPERAND: usize = 0x5000;
const SUM: usize = 0x5008;

/// Bits of page table entries: present, writable, 2 MiB page.
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE_PAGE: u64 = 1 << 7;
/// Bits of CR0 (PE, ET, NE, PG), CR4 (PAE) and EFER (LME, LMA): 64-bit mode.
const CR0: u64 = 1 | 1 << 4 | 1 << 5 | 1 << 31;
const CR4: u64 = 1 << 5;
const EFER: u64 = 1 << 8 | 1 << 10;

/// The summands: their sum needs more than 32 bits.
const FIRST: u64 = 0xffff_fff0;
const SECOND: u64 = 0x1234_5678;
/// What the guest writes to the port.
const OUTPUT: &[u8] = b"ok";
const PORT: u16 = 0xe9;
/// The guest's exits from the processor are at most this many.
const EXITS_MAX: usize = 8;

/// The guest's instructions.
#[rustfmt::skip]
const INSTRUCTIONS: [u8; 30] = [
    0x48, 0x8b, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00, // mov rax, [OPERAND]
    0x48, 0x01, 0xd8,                               // add rax, rbx
    0x48, 0x89, 0x04, 0x25, 0x08, 0x50, 0x00, 0x00, // mov [SUM], rax
    0x66, 0xba, 0xe9, 0x00,                         // mov dx, PORT
    0xb0, b'o', 0xee,                               // mov al, 'o'; out dx, al
    0xb0, b'k', 0xee,                               // mov al, 'k'; out dx, al
    0xf4,                                           // hlt
];

/// Why the tiny guest did not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum TinyGuestFailure {
    /// KVM rejected a request.
    #[error("KVM rejected {request}: {error}")]
    Rejected {
        /// The request.
        request: String,
        /// The error.
        error: String,
    },
    /// The guest left the processor for another reason than its instructions.
    #[error("its processor stopped with {exit}")]
    UnexpectedExit {
        /// KVM's reason.
        exit: String,
    },
    /// Its instructions had another result.
    #[error("its instructions had a wrong result: {found}")]
    WrongResult {
        /// The result.
        found: String,
    },
    /// It did not end.
    #[error("it did not end within {ms} ms")]
    Timeout {
        /// The timeout, milliseconds.
        ms: u64,
    },
    /// The process that runs it could not be started, or ended without a result.
    #[error("the process that runs it failed: {error}")]
    Process {
        /// The error.
        error: String,
    },
}

fn rejected(request: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> TinyGuestFailure {
    move |error| TinyGuestFailure::Rejected { request: request.into(), error: error.to_string() }
}

/// Runs the guest; may never return if KVM is broken.
pub(super) fn run() -> Result<(), TinyGuestFailure> {
    let kvm = Kvm::new().map_err(rejected("to open the device"))?;
    let version = kvm.get_api_version();
    if u32::try_from(version) != Ok(KVM_API_VERSION) {
        let error = format!("version {version} instead of {KVM_API_VERSION}");
        return Err(TinyGuestFailure::Rejected { request: format!("the interface of {KVM_DEVICE}"), error });
    }
    let vm = kvm.create_vm().map_err(rejected("a virtual machine"))?;
    let memory = GuestMemory::map()?;
    memory.add_to(&vm)?;
    let mut vcpu = vm.create_vcpu(0).map_err(rejected("a virtual processor"))?;
    set_registers(&kvm, &vcpu)?;
    let output = run_until_halt(&mut vcpu)?;
    let sum = memory.read_u64(SUM);
    if output == OUTPUT && sum == FIRST + SECOND {
        return Ok(());
    }
    Err(TinyGuestFailure::WrongResult { found: format!("{:?} and {sum:#x}", String::from_utf8_lossy(&output)) })
}

/// What the guest wrote to its port until it halted.
fn run_until_halt(vcpu: &mut VcpuFd) -> Result<Vec<u8>, TinyGuestFailure> {
    let mut output = Vec::new();
    for _ in 0..EXITS_MAX {
        let exit = vcpu.run().map_err(rejected("to run it"))?;
        if let VcpuExit::IoOut(PORT, bytes) = exit {
            output.extend_from_slice(bytes);
        } else if matches!(exit, VcpuExit::Hlt) {
            return Ok(output);
        } else {
            return Err(TinyGuestFailure::UnexpectedExit { exit: format!("{exit:?}") });
        }
    }
    Err(TinyGuestFailure::UnexpectedExit { exit: format!("{EXITS_MAX} exits and no halt") })
}

/// Sets the processor to 64-bit mode at the first instruction.
fn set_registers(kvm: &Kvm, vcpu: &VcpuFd) -> Result<(), TinyGuestFailure> {
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(rejected("the processor's features"))?;
    vcpu.set_cpuid2(&cpuid).map_err(rejected("to set the processor's features"))?;
    let mut special = vcpu.get_sregs().map_err(rejected("to read its segments"))?;
    let code = kvm_segment {
        limit: 0xffff_ffff,
        selector: 0x8,
        type_: 0b1011,
        present: 1,
        s: 1,
        l: 1,
        g: 1,
        ..kvm_segment::default()
    };
    let data = kvm_segment { selector: 0x10, type_: 0b0011, l: 0, db: 1, ..code };
    special.cs = code;
    for segment in [&mut special.ds, &mut special.es, &mut special.fs, &mut special.gs, &mut special.ss] {
        *segment = data;
    }
    (special.cr0, special.cr3, special.cr4, special.efer) = (CR0, PML4 as u64, CR4, EFER);
    vcpu.set_sregs(&special).map_err(rejected("64-bit mode"))?;
    // Bit 1 of RFLAGS is always set.
    let registers = kvm_regs { rip: CODE as u64, rbx: SECOND, rflags: 2, ..kvm_regs::default() };
    vcpu.set_regs(&registers).map_err(rejected("to set its registers"))
}

/// The memory of the guest, mapped until it is dropped.
struct GuestMemory {
    start: *mut u8,
}

#[allow(unsafe_code, reason = "maps the memory that KVM gives to the guest; every offset is checked against its size")]
impl GuestMemory {
    /// Maps it and writes page tables, instructions and the first summand.
    fn map() -> Result<Self, TinyGuestFailure> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                MEMORY_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let start = mapped.map_err(|error| TinyGuestFailure::Process { error: error.to_string() })?.cast::<u8>();
        let memory = Self { start };
        memory.write(PML4, &(PDPT as u64 | PRESENT_WRITABLE).to_le_bytes());
        memory.write(PDPT, &(PAGE_DIRECTORY as u64 | PRESENT_WRITABLE).to_le_bytes());
        memory.write(PAGE_DIRECTORY, &(PRESENT_WRITABLE | LARGE_PAGE).to_le_bytes());
        memory.write(CODE, &INSTRUCTIONS);
        memory.write(OPERAND, &FIRST.to_le_bytes());
        Ok(memory)
    }

    /// Makes it the memory of `vm`, from the guest's address 0.
    fn add_to(&self, vm: &VmFd) -> Result<(), TinyGuestFailure> {
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: MEMORY_BYTES as u64,
            userspace_addr: self.start as u64,
        };
        // SAFETY: the mapping has this size, and it is unmapped when this process ends.
        unsafe { vm.set_user_memory_region(region) }.map_err(rejected("its memory"))
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= MEMORY_BYTES);
        // SAFETY: the range is in the mapping, and the guest does not run.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(offset), bytes.len()) }
    }

    fn read_u64(&self, offset: usize) -> u64 {
        assert!(offset + size_of::<u64>() <= MEMORY_BYTES);
        // SAFETY: the range is in the mapping, and the guest does not run.
        unsafe { ptr::read_unaligned(self.start.add(offset).cast::<u64>()) }
    }
}
