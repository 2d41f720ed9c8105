//! Frees the blocks of a file that contain only zeros.

use rustix::fs::FallocateFlags;
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// What is freed at once, bytes: a page, which is also the block of most file systems.
const BLOCK_BYTES: usize = 4096;
const CHUNK_BYTES: usize = 256 * BLOCK_BYTES;
const EMPTY_BLOCK: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// Makes holes of the blocks that contain only zeros; the file's content and length stay the same. A file system without holes
/// leaves the file as it is. Reads the whole file.
pub(super) fn punch_holes(path: &Path) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset: u64 = 0;
    loop {
        let count = read_full(&mut file, &mut chunk)?;
        let mut start = None;
        let blocks = chunk.get(..count).unwrap_or_default().chunks(BLOCK_BYTES);
        for (index, block) in blocks.enumerate() {
            let at = offset + (index * BLOCK_BYTES) as u64;
            let is_empty = block == EMPTY_BLOCK;
            match (is_empty, start) {
                (true, None) => start = Some(at),
                (false, Some(begin)) => {
                    punch(&file, begin, at)?;
                    start = None;
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
        if let Some(begin) = start {
            punch(&file, begin, offset + (count / BLOCK_BYTES * BLOCK_BYTES) as u64)?;
        }
        if count < CHUNK_BYTES {
            return Ok(());
        }
        offset += count as u64;
    }
}

fn punch(file: &File, begin: u64, end: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, begin, end - begin) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn read_full(file: &mut File, chunk: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = chunk.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => count += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::MetadataExt};

    #[test]
    fn file_keeps_its_content_and_loses_its_empty_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory");
        let mut content = vec![0u8; 3 * CHUNK_BYTES + 100];
        content[5 * BLOCK_BYTES] = 1;
        content[2 * CHUNK_BYTES..2 * CHUNK_BYTES + 10].fill(7);
        fs::write(&path, &content).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let before = fs::metadata(&path).unwrap().blocks();
        punch_holes(&path).unwrap();
        assert!(fs::read(&path).unwrap() == content);
        let after = fs::metadata(&path).unwrap().blocks();
        assert!(after < before / 2, "{before} blocks before, {after} after");
    }
}
