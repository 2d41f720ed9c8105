//! The initial file system: a cpio archive in newc format (Linux, `Documentation/driver-api/early-userspace/
//! buffer-format.rst`), uncompressed, because it is small and read from memory.
//!
//! ```text
//!  /init             the agent
//!  /modules/order    file names, one per line, in load order
//!  /modules/*.ko     uncompressed
//!  /dev /proc /sys /newroot
//! ```

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// A kernel module with its file name.
pub(super) struct KernelModule {
    pub(super) file: String,
    pub(super) content: Vec<u8>,
}

/// Writes the archive. Deterministic: the same input gives the same bytes.
pub(super) fn write_initramfs(out: &mut impl Write, agent: &[u8], modules: &[KernelModule]) -> io::Result<()> {
    let mut archive = Archive { out, inode: 0, written: 0 };
    for dir in ["dev", "modules", "newroot", "proc", "sys"] {
        archive.entry(dir, DIRECTORY, &[])?;
    }
    archive.entry("init", PROGRAM, agent)?;
    let order: String = modules.iter().flat_map(|module| [module.file.as_str(), "\n"]).collect();
    archive.entry("modules/order", FILE, order.as_bytes())?;
    for module in modules {
        archive.entry(&format!("modules/{}", module.file), FILE, &module.content)?;
    }
    archive.entry("TRAILER!!!", 0, &[])?;
    archive.pad(512)
}

struct Archive<'a, W> {
    out: &'a mut W,
    inode: u32,
    written: usize,
}

impl<W: Write> Archive<'_, W> {
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size =
            u32::try_from(content.len()).map_err(|_| io::Error::other(format!("{name} is too large for cpio")))?;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        // Magic, inode, mode, user, group, links, time, size, device (4 fields), length of the name with its NUL, checksum.
        let header = format!(
            "070701{:08X}{mode:08X}{:08X}{:08X}{links:08X}{:08X}{size:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}",
            self.inode,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            name.len() + 1,
            0
        );
        self.put(header.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad(4)?;
        self.put(content)?;
        self.pad(4)
    }

    fn pad(&mut self, to: usize) -> io::Result<()> {
        let missing = self.written.next_multiple_of(to) - self.written;
        self.put(&vec![0; missing])
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal cpio reader: name, mode and content of every entry.
    fn read(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&archive[..6], b"070701");
            let field = |index: usize| {
                let at = 6 + 8 * index;
                usize::from_str_radix(std::str::from_utf8(&archive[at..at + 8]).unwrap(), 16).unwrap()
            };
            let (mode, size, name_length) = (field(1), field(6), field(11));
            let name = String::from_utf8(archive[110..110 + name_length - 1].to_vec()).unwrap();
            let content = (110 + name_length).next_multiple_of(4);
            if name == "TRAILER!!!" {
                return entries;
            }
            entries.push((name, u32::try_from(mode).unwrap(), archive[content..content + size].to_vec()));
            archive = &archive[(content + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn archive_contains_the_agent_as_init_and_the_modules_in_order() {
        let module = |file: &str, content: &[u8]| KernelModule { file: file.into(), content: content.to_vec() };
        let modules = [module("b.ko", b"second letter"), module("a.ko", b"x")];
        let mut archive = Vec::new();
        write_initramfs(&mut archive, b"agent", &modules).unwrap();
        assert_eq!(archive.len() % 512, 0);
        let entries = read(&archive);
        let find = |name: &str| entries.iter().find(|entry| entry.0 == name).unwrap();
        assert_eq!(find("init").1, PROGRAM);
        assert_eq!(find("init").2, b"agent");
        assert_eq!(find("modules/order").2, b"b.ko\na.ko\n");
        assert_eq!(find("modules/b.ko").2, b"second letter");
        assert_eq!(find("newroot").1, DIRECTORY);
        let mut again = Vec::new();
        write_initramfs(&mut again, b"agent", &modules).unwrap();
        assert_eq!(archive, again);
    }
}
