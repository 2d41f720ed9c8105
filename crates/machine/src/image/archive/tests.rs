//! Archives of small images.

use super::*;
use crate::image::tests::image;
use std::sync::Arc;
use tempfile::TempDir;

struct Exported {
    _dir: TempDir,
    image: Image,
    bytes: Vec<u8>,
    sha256: String,
}

fn exported() -> Exported {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), "a", 1);
    let mut bytes = Vec::new();
    let sha256 = export_image(&image, &mut bytes).unwrap();
    Exported { _dir: dir, image, bytes, sha256 }
}

fn fetch(images_dir: &Path, bytes: &[u8], sha256: &str) -> Result<Image, FetchError> {
    let fetch = ImageFetch::begin(images_dir)?;
    fetch.unpack(bytes, sha256)?;
    fetch.publish()
}

fn sha256_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn sorted<const N: usize>(mut names: [&str; N]) -> [&str; N] {
    names.sort_unstable();
    names
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn fetched_image_is_the_exported_one_and_current_and_the_same_image_makes_the_same_file() {
    let Exported { _dir, image, bytes, sha256 } = exported();
    let mut again = Vec::new();
    assert_eq!(export_image(&image, &mut again).unwrap(), sha256);
    assert!(again == bytes && sha256_of(&bytes) == sha256);
    let target = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let fetched = fetch(target.path(), &bytes, &sha256.to_uppercase()).unwrap();
        assert_eq!(fetched.manifest, image.manifest);
        fetched.verify().unwrap();
        assert_eq!(Image::open_current(target.path()).unwrap().manifest, image.manifest);
        assert_eq!(names(target.path()), sorted([&image.manifest.hash, "current", "lock"]));
    }
}

#[test]
fn truncated_damaged_or_foreign_file_is_refused_and_leaves_nothing() {
    let Exported { _dir, image, bytes, sha256 } = exported();
    let target = tempfile::tempdir().unwrap();
    let refused = |bytes: &[u8], sha256: &str| {
        let error = fetch(target.path(), bytes, sha256).unwrap_err();
        assert_eq!(names(target.path()), ["lock"], "{error}");
        anteroom_wire::chain(&error)
    };
    for length in (0..bytes.len()).step_by(509) {
        let text = refused(&bytes[..length], &sha256);
        // Within a header of the archive; or only the zeros at the end are missing, which the checksum finds.
        let others = ["entire block", "EOF", "its SHA-256 is"];
        let is_named = text.contains("it is truncated") || others.iter().any(|other| text.contains(other));
        assert!(is_named, "{length} of {} bytes: {text}", bytes.len());
    }
    for position in (0..bytes.len()).step_by(131) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1;
        refused(&damaged, &sha256);
    }
    let root_fs_at = bytes.windows(13).position(|bytes| bytes == b"hsqs and more").unwrap();
    let mut damaged = bytes.clone();
    damaged[root_fs_at + 6] ^= 1;
    let text = refused(&damaged, &sha256_of(&damaged));
    assert!(text.contains("it is damaged: the hash of rootfs.squashfs is"), "{text}");
    let text = refused(&bytes, &"0".repeat(64));
    assert!(text.contains(&format!("its SHA-256 is {sha256}, not 0000")), "{text}");
    for foreign in [&b"hsqs"[..], &[0; 4096], &[b'x'; 4096], b""] {
        let text = refused(foreign, &sha256_of(foreign));
        assert!(text.contains("not an image of `anteroom image export`") || text.contains("truncated"), "{text}");
    }
    let more = [&bytes[..], &vec![0; 2 << 20]].concat();
    assert!(refused(&more, &sha256_of(&more)).contains("more follows the image"));
    assert!(fetch(target.path(), &bytes, &sha256).is_ok(), "{:?}", image.dir);
}

/// An archive of this manifest and the artefacts of the image.
fn archive_with(image: &Image, manifest: &Manifest) -> Vec<u8> {
    fs::write(image.dir.join(MANIFEST_FILE), serde_json::to_vec(manifest).unwrap()).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    for name in [MANIFEST_FILE, "vmlinux", "initramfs.cpio", "rootfs.squashfs"] {
        archive.append_path_with_name(image.dir.join(name), name).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn manifest_of_another_version_or_with_hostile_names_is_refused() {
    let Exported { _dir, image, .. } = exported();
    let target = tempfile::tempdir().unwrap();
    let refused = |manifest: &Manifest| {
        let bytes = archive_with(&image, manifest);
        fetch(target.path(), &bytes, &sha256_of(&bytes)).unwrap_err().to_string()
    };
    let other = Manifest { protocol: PROTOCOL_VERSION + 1, ..image.manifest.clone() };
    let text = refused(&other);
    assert!(text.contains(&format!("protocol {}, this program", PROTOCOL_VERSION + 1)), "{text}");
    let other = Manifest { hash: "../../escaped".into(), ..image.manifest.clone() };
    assert!(refused(&other).contains("the hash of the image is"));
    for name in ["../vmlinux", "/vmlinux", "", ".vmlinux", MANIFEST_FILE] {
        let mut other = image.manifest.clone();
        other.kernel.file = name.into();
        assert!(refused(&other).contains("is not the name of an artefact"), "{name}");
    }
    assert_eq!(names(target.path()), ["lock"]);
}

/// A source that gives some bytes and then waits for more.
struct Stalled<'a> {
    bytes: &'a [u8],
    stalled: std::sync::mpsc::Sender<()>,
    more: std::sync::mpsc::Receiver<()>,
}

impl Read for Stalled<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            let _ = self.stalled.send(());
            let _ = self.more.recv();
        }
        self.bytes.read(buffer)
    }
}

#[test]
fn abandoned_fetch_leaves_nothing_and_the_next_one_removes_what_a_killed_one_left() {
    let Exported { _dir, bytes, sha256, .. } = exported();
    let target = tempfile::tempdir().unwrap();
    let running = Arc::new(ImageFetch::begin(target.path()).unwrap());
    assert!(matches!(ImageFetch::begin(target.path()), Err(FetchError::Busy(_))));
    let (stalled_sender, stalled) = std::sync::mpsc::channel();
    let (more_sender, more) = std::sync::mpsc::channel();
    let (other, most, wanted) = (Arc::clone(&running), bytes[..bytes.len() - 2048].to_vec(), sha256.clone());
    let unpacking = thread::spawn(move || {
        other.unpack(Stalled { bytes: &most, stalled: stalled_sender, more }, &wanted).unwrap_err().to_string()
    });
    stalled.recv().unwrap();
    assert_eq!(names(target.path()).len(), 2);
    running.abandon();
    assert_eq!(names(target.path()), ["lock"]);
    drop(more_sender);
    unpacking.join().unwrap();
    drop(running);

    fs::create_dir(target.path().join("tmp-0123")).unwrap();
    fs::write(target.path().join("tmp-0123/vmlinux"), "part").unwrap();
    fs::create_dir(target.path().join("tmp-4567")).unwrap();
    fs::write(target.path().join("tmp-4567/packages-dir"), "/nowhere").unwrap();
    let fetched = fetch(target.path(), &bytes, &sha256).unwrap();
    assert_eq!(names(target.path()), sorted([&fetched.manifest.hash, "current", "lock", "tmp-4567"]));
}
