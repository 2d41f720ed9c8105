//! The little of ELF (System V ABI, chapters 4 and 5) that tells a program for the guest from anything else.

/// A header and the program headers behind it fit into this many bytes in every program we take.
pub(super) const HEAD_BYTES: usize = 4096;

const MACHINE_X86_64: u16 = 62;
const SEGMENT_INTERPRETER: u32 = 3;

/// Why these first bytes are no ELF file for x86-64; `None`: they are.
pub(super) fn not_x86_64(head: &[u8]) -> Option<&'static str> {
    match (head.get(..5), u16_at(head, 18)) {
        (Some([0x7f, b'E', b'L', b'F', 2]), Some(MACHINE_X86_64)) => None,
        (Some([0x7f, b'E', b'L', b'F', _]), _) => Some("is an ELF file, but not for x86-64"),
        _ => Some("is not an ELF file"),
    }
}

/// Why the program that begins with `head` ([`HEAD_BYTES`] are enough) is not a static one for x86-64; `None`: it is.
pub(super) fn not_static(head: &[u8]) -> Option<&'static str> {
    if let Some(why) = not_x86_64(head) {
        return Some(why);
    }
    let (Some(table), Some(size), Some(count)) = (u64_at(head, 32), u16_at(head, 54), u16_at(head, 56)) else {
        return Some("is cut short");
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
            None => return Some("has its program headers where no linker puts them"),
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

    /// The head of a program with one segment of the kind `segment`.
    pub(crate) fn program(segment: u32) -> Vec<u8> {
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
    fn only_a_static_program_for_x86_64_is_taken() {
        assert_eq!(not_static(&program(1)), None);
        assert!(not_static(&program(SEGMENT_INTERPRETER)).unwrap().contains("dynamically"));
        assert_eq!(not_static(b"#!/bin/sh\n"), Some("is not an ELF file"));
        let mut other = program(1);
        other[18] = 183;
        assert!(not_static(&other).unwrap().contains("not for x86-64"));
        assert_eq!(not_static(&program(1)[..40]), Some("is cut short"));
        let mut wild = program(1);
        wild[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(not_static(&wild).is_some());
    }
}
