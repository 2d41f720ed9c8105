//! Snapshots that cannot be loaded, and a memory file that changes under a guest.

use crate::process::{Process, Programs, Template, is_superuser, load_params};
use anteroom_firecracker::Error;
use std::fs;

/// A user that may not use KVM.
const OTHER_USER: u32 = 65_534;
/// The MSR for the entry point of system calls, and a number that no processor has.
const LSTAR: u32 = 0xc000_0082;
const NO_MSR: u32 = 0x1234_5678;

/// The checksum at the end of a state file: CRC-64 with the polynomial of Jones, reflected.
fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u64::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x95AC_9329_AC4B_C9B5 } else { crc >> 1 },
        )
    })
}

fn with_checksum(mut content: Vec<u8>) -> Vec<u8> {
    let crc = crc64(&content);
    content.extend(crc.to_le_bytes());
    content
}

/// A state file with another version. Its parts: magic number, length of the version, version, content, checksum.
fn with_version(state: &[u8], version: &str) -> Vec<u8> {
    let length = usize::try_from(u64::from_le_bytes(state[8..16].try_into().unwrap())).unwrap();
    let content = &state[16 + length..state.len() - 8];
    let version_length = u64::try_from(version.len()).unwrap().to_le_bytes();
    with_checksum([&state[..8], version_length.as_slice(), version.as_bytes(), content].concat())
}

/// A state file of a processor that has another MSR.
fn with_other_msr(state: &[u8]) -> Vec<u8> {
    let mut changed = state[..state.len() - 8].to_vec();
    let at = changed.windows(4).position(|window| window == LSTAR.to_le_bytes()).expect("the state has MSRs");
    changed[at..at + 4].copy_from_slice(&NO_MSR.to_le_bytes());
    with_checksum(changed)
}

#[test]
fn invalid_snapshots_are_rejected_with_the_cause() {
    let Some(programs) = Programs::find() else { return };
    let template = Template::make(&programs);
    let state = fs::read(template.path("state")).unwrap();
    let memory = fs::read(template.path("memory")).unwrap();
    let mut changed = state.clone();
    changed[200] ^= 1;
    let write = |name: &str, bytes: &[u8]| fs::write(template.path(name), bytes).unwrap();
    write("short-memory", &memory[..memory.len() / 2]);
    write("changed-state", &changed);
    write("short-state", &state[..state.len() / 2]);
    write("empty-state", &[]);
    write("other-version", &with_version(&state, "99.0.0"));
    write("other-processor", &with_other_msr(&state));
    for (state, memory, cause) in [
        ("state", "short-memory", "offset and length is greater then file length"),
        ("state", "no-memory", "No such file or directory"),
        ("no-state", "memory", "No such file or directory"),
        ("changed-state", "memory", "CRC64 validation failed"),
        ("short-state", "memory", "CRC64 validation failed"),
        ("empty-state", "memory", "snapshot"),
        ("other-version", "memory", "Invalid data version: 99.0.0"),
        ("other-processor", "memory", "MSR"),
    ] {
        let mut process = Process::start(&programs, None);
        let parameters = load_params(&template.path(state), &template.path(memory));
        let error = process.client.load_snapshot(&parameters).unwrap_err();
        let Error::Fault { status: 400, fault_message, .. } = error else { panic!("{error}") };
        println!("{state}, {memory}: {fault_message}");
        assert!(fault_message.contains(cause), "{state}, {memory}: {fault_message}");
        assert_eq!(process.wait_exit().code(), Some(1));
    }
}

#[test]
fn memory_file_that_is_truncated_under_a_guest_ends_it() {
    let Some(programs) = Programs::find() else { return };
    let template = Template::make(&programs);
    let mut process = Process::clone(&programs, &template);
    process.serial.wait_line("tick");
    fs::File::options().write(true).open(template.path("memory")).unwrap().set_len(4096).unwrap();
    let status = process.wait_exit();
    assert!(process.log().contains("Received KVM_EXIT") || status.code() == Some(149), "{status}, {}", process.log());
}

#[test]
fn kvm_without_permission_is_an_error_with_the_cause() {
    let Some(programs) = Programs::find().filter(|_| is_superuser()) else { return };
    let template = Template::make(&programs);
    let mut process = Process::start(&programs, Some(OTHER_USER));
    let error = process.client.load_snapshot(&template.load_params()).unwrap_err().to_string();
    assert!(error.contains("Error creating KVM object: Permission denied"), "{error}");
    assert_eq!(process.wait_exit().code(), Some(1));
}
