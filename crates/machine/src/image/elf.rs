//! Checks ELF headers (System V ABI, chapters 4 and 5): whether a file is a program that can run in the guest, or a kernel that a
//! virtual machine monitor can start.

/// In every supported program the ELF header and the program headers are within this many bytes.
pub(crate) const ELF_HEADERS_BYTES: usize = 4096;

const MACHINE_X86_64: u16 = 62;
const SEGMENT_INTERPRETER: u32 = 3;
const SEGMENT_NOTE: u32 = 4;
/// `XEN_ELFNOTE_PHYS32_ENTRY` (Linux, `include/xen/interface/elfnote.h`).
const NOTE_PVH_ENTRY: u32 = 18;

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

/// The address at which a hypervisor starts the kernel `file` in 32-bit mode (PVH boot), from the kernel's note; `None`: it has none.
pub(super) fn pvh_entry(file: &[u8]) -> Option<u64> {
    let (table, size, count) = (u64_at(file, 32)?, u16_at(file, 54)?, u16_at(file, 56)?);
    (0..u64::from(count)).find_map(|index| {
        let header = usize::try_from(table.checked_add(index * u64::from(size))?).ok()?;
        if u32_at(file, header)? != SEGMENT_NOTE {
            return None;
        }
        let begin = usize::try_from(u64_at(file, header.checked_add(8)?)?).ok()?;
        let length = usize::try_from(u64_at(file, header.checked_add(32)?)?).ok()?;
        find_pvh_note(file.get(begin..begin.checked_add(length)?)?)
    })
}

fn find_pvh_note(mut notes: &[u8]) -> Option<u64> {
    const HEADER_BYTES: usize = 12;
    const ALIGNMENT: usize = 4;
    loop {
        let length = |at| usize::try_from(u32_at(notes, at)?).ok();
        let (name, description, kind) = (length(0)?, length(4)?, u32_at(notes, 8)?);
        let begin = HEADER_BYTES.checked_add(name.checked_next_multiple_of(ALIGNMENT)?)?;
        if kind == NOTE_PVH_ENTRY && notes.get(HEADER_BYTES..)?.starts_with(b"Xen\0") {
            return match description {
                4 => u32_at(notes, begin).map(u64::from),
                8 => u64_at(notes, begin),
                _ => None,
            };
        }
        notes = notes.get(begin.checked_add(description.checked_next_multiple_of(ALIGNMENT)?)?..)?;
    }
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

    /// A note: its lengths, its type, its name and its description.
    fn note(kind: u32, name: &[u8], description: &[u8]) -> Vec<u8> {
        let length = |part: &[u8]| u32::try_from(part.len()).unwrap();
        let mut note: Vec<u8> =
            [length(name), length(description), kind].iter().flat_map(|n| n.to_le_bytes()).collect();
        for part in [name, description] {
            note.extend_from_slice(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    fn kernel_with_notes(notes: &[u8]) -> Vec<u8> {
        let mut file = program_with_segment(SEGMENT_NOTE);
        file[72..80].copy_from_slice(&120u64.to_le_bytes());
        file[96..104].copy_from_slice(&u64::try_from(notes.len()).unwrap().to_le_bytes());
        file.extend_from_slice(notes);
        file
    }

    #[test]
    fn pvh_entry_is_found_after_other_notes() {
        let entry = note(NOTE_PVH_ENTRY, b"Xen\0", &0x0100_0b20_u64.to_le_bytes());
        let notes = [note(0x101, b"Linux\0", b"6.12.0"), note(NOTE_PVH_ENTRY, b"GNU\0", &[1; 8]), entry].concat();
        assert_eq!(pvh_entry(&kernel_with_notes(&notes)), Some(0x0100_0b20));
        let short = note(NOTE_PVH_ENTRY, b"Xen\0", &0x0100_0b20_u32.to_le_bytes());
        assert_eq!(pvh_entry(&kernel_with_notes(&short)), Some(0x0100_0b20));
    }

    #[test]
    fn kernel_without_a_valid_pvh_note_has_no_entry() {
        assert_eq!(pvh_entry(&kernel_with_notes(&note(3, b"GNU\0", &[1; 20]))), None);
        assert_eq!(pvh_entry(&kernel_with_notes(&note(NOTE_PVH_ENTRY, b"Xen\0", &[1; 3]))), None);
        assert_eq!(pvh_entry(&program_with_segment(1)), None);
        let whole = kernel_with_notes(&note(NOTE_PVH_ENTRY, b"Xen\0", &[1; 8]));
        for length in 0..whole.len() {
            assert_eq!(pvh_entry(&whole[..length]), None, "{length} bytes");
        }
        let endless = kernel_with_notes(&[0xff; 64]);
        assert_eq!(pvh_entry(&endless), None);
    }
}
