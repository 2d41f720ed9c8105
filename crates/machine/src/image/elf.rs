//! Checks ELF headers (System V ABI, chapters 4 and 5): whether a file is a program that can run in the guest.

/// In every supported program the ELF header and the program headers are within this many bytes.
pub(crate) const ELF_HEADERS_BYTES: usize = 4096;

const MACHINE_X86_64: u16 = 62;
const SEGMENT_INTERPRETER: u32 = 3;

/// Why `head` is not the start of an ELF file for x86-64; `None`: it is.
pub(super) fn why_not_x86_64(head: &[u8]) -> Option<&'static str> {
    match (head.get(..5), u16_at(head, 18)) {
        (Some([0x7f, b'E', b'L', b'F', 2]), Some(MACHINE_X86_64)) => None,
        (Some([0x7f, b'E', b'L', b'F', _]), _) => Some("is an ELF file, but not for x86-64"),
        _ => Some("is not an ELF file"),
    }
}

/// Why `head` (at least [`ELF_HEADERS_BYTES`], or the whole file) is not the start of a static program for x86-64; `None`: it is.
pub(crate) fn why_not_static(head: &[u8]) -> Option<&'static str> {
    if let Some(why) = why_not_x86_64(head) {
        return Some(why);
    }
    let (Some(table), Some(size), Some(count)) = (u64_at(head, 32), u16_at(head, 54), u16_at(head, 56)) else {
        return Some("is truncated");
    };
    for index in 0..u64::from(count) {
        let at = table.checked_add(index * u64::from(size)).and_then(|at| usize::try_from(at).ok());
        match at.and_then(|at| u32_at(head, at)) {
            Some(SEGMENT_INTERPRETER) => {
                return Some(
                    "is linked dynamically; the guest has no loader when it starts: build it with `+crt-static`",
                );
            }
            Some(_) => {}
            None => return Some("has its program headers at an unusual offset"),
        }
    }
    None
}

fn bytes_at<const N: usize>(head: &[u8], at: usize) -> Option<[u8; N]> {
    head.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(head: &[u8], at: usize) -> Option<u16> {
    bytes_at(head, at).map(u16::from_le_bytes)
}

fn u32_at(head: &[u8], at: usize) -> Option<u32> {
    bytes_at(head, at).map(u32::from_le_bytes)
}

fn u64_at(head: &[u8], at: usize) -> Option<u64> {
    bytes_at(head, at).map(u64::from_le_bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The start of a program with one segment of type `segment`.
    pub(crate) fn program_with_segment(segment: u32) -> Vec<u8> {
        let mut head = vec![0; 120];
        head[..5].copy_from_slice(b"\x7fELF\x02");
        head[18..20].copy_from_slice(&MACHINE_X86_64.to_le_bytes());
        head[32..40].copy_from_slice(&64u64.to_le_bytes());
        head[54..56].copy_from_slice(&56u16.to_le_bytes());
        head[56..58].copy_from_slice(&1u16.to_le_bytes());
        head[64..68].copy_from_slice(&segment.to_le_bytes());
        head
    }

    #[test]
    fn only_static_x86_64_programs_are_accepted() {
        assert_eq!(why_not_static(&program_with_segment(1)), None);
        assert!(why_not_static(&program_with_segment(SEGMENT_INTERPRETER)).unwrap().contains("dynamically"));
        assert_eq!(why_not_static(b"#!/bin/sh\n"), Some("is not an ELF file"));
        let mut other = program_with_segment(1);
        other[18] = 183;
        assert!(why_not_static(&other).unwrap().contains("not for x86-64"));
        assert_eq!(why_not_static(&program_with_segment(1)[..40]), Some("is truncated"));
        let mut wild = program_with_segment(1);
        wild[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(why_not_static(&wild).is_some());
    }
}
