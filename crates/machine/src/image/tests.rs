//! Checks, locks and removal of hand-made images.

use super::*;
use std::collections::BTreeMap;
use store::ImageStore;

/// A small but complete image in `images`; different seeds give different images.
pub(super) fn image(images: &Path, seed: &str, built_at_unix_s: u64) -> Image {
    let new = images.join(format!("new-{seed}"));
    fs::create_dir_all(&new).unwrap();
    let put = |file: &str, content: Vec<u8>| {
        fs::write(new.join(file), content).unwrap();
        artefact_of(&new.join(file), file).unwrap()
    };
    let kernel = put("vmlinux", elf::tests::program_with_segment(1));
    let mut archive = Vec::new();
    initramfs::write_initramfs(&mut archive, seed.as_bytes(), &[]).unwrap();
    let initramfs = put("initramfs.cpio", archive);
    let rootfs = put("rootfs.squashfs", b"hsqs and more".to_vec());
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        hash: hash_of(PROTOCOL_VERSION, [&kernel, &initramfs, &rootfs]),
        protocol: PROTOCOL_VERSION,
        kernel,
        initramfs,
        rootfs,
        kernel_version: "6.12".into(),
        kernel_options: vec!["PVH".into()],
        clis: BTreeMap::from([("codex".into(), "1".into())]),
        packages: BTreeMap::new(),
        package_sha256: BTreeMap::new(),
        agent_sha256: seed.into(),
        inputs_sha256: seed.into(),
        built_at_unix_s,
    };
    write_manifest(&new, &manifest);
    let dir = images.join(&manifest.hash);
    fs::rename(new, &dir).unwrap();
    Image::open(&dir).unwrap()
}

/// The manifest of an image with these packages.
pub(super) fn manifest_with(packages: &[(&str, &str)]) -> Manifest {
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = image(dir.path(), "a", 1).manifest;
    manifest.packages = packages.iter().map(|&(name, version)| (name.to_owned(), version.to_owned())).collect();
    manifest
}

fn write_manifest(dir: &Path, manifest: &Manifest) {
    fs::write(dir.join(MANIFEST_FILE), serde_json::to_vec(manifest).unwrap()).unwrap();
}

fn open_store(dir: &Path) -> ImageStore {
    let store = ImageStore::open_locked(dir).unwrap_or_else(|_| panic!("the store is locked"));
    fs::create_dir_all(dir.join("cache/roots")).unwrap();
    store
}

#[test]
fn complete_image_opens_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), "a", 1);
    image.verify().unwrap();
    assert_eq!(image.manifest.hash.len(), 64);
}

#[test]
fn artefact_that_differs_from_the_manifest_is_an_error_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), "a", 1);
    let error_with = |path: PathBuf, content: &[u8]| {
        let before = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        let text = Image::open(&image.dir).and_then(|opened| opened.verify()).unwrap_err().to_string();
        fs::write(&path, before).unwrap();
        text
    };
    assert!(error_with(image.rootfs_path(), b"hsqs").contains("4 bytes"));
    assert!(error_with(image.rootfs_path(), b"HSQS and more").contains("not a squashfs"));
    assert!(error_with(image.rootfs_path(), b"hsqs and else").contains("has the hash"));
    let mut bz_image = vec![0; 120];
    bz_image.resize(usize::try_from(image.manifest.kernel.bytes).unwrap(), 0);
    assert!(error_with(image.kernel_path(), &bz_image).contains("not an ELF"));
    fs::remove_file(image.initramfs_path()).unwrap();
    assert!(matches!(Image::open(&image.dir), Err(ImageError::Read { .. })));
}

#[test]
fn flipped_byte_in_any_artefact_is_found_after_an_earlier_verification() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), "a", 1);
    let cache = dir.path().join("cache");
    image.verify_once(&cache).unwrap();
    for path in [image.kernel_path(), image.initramfs_path(), image.rootfs_path()] {
        let mut content = fs::read(&path).unwrap();
        let last = content.len() - 1;
        content[last] ^= 1;
        fs::write(&path, &content).unwrap();
        let error = image.verify_once(&cache).unwrap_err();
        assert!(matches!(error, ImageError::Content(_)), "{error:?}");
        let text = anteroom_wire::chain(&error);
        assert!(text.contains(path.to_str().unwrap()) && text.contains("anteroom image build"), "{text}");
        content[last] ^= 1;
        fs::write(&path, &content).unwrap();
        image.verify_once(&cache).unwrap();
    }
}

#[test]
fn compressed_kernel_is_an_error_with_its_format() {
    let mut head = vec![0; 1024];
    head[0x202..0x206].copy_from_slice(b"HdrS");
    assert!(not_a_kernel(&head).unwrap().contains("bzImage"));
}

#[test]
fn other_layout_or_protocol_is_an_error_with_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), "a", 1);
    let mut other = image.manifest.clone();
    other.protocol = PROTOCOL_VERSION + 1;
    write_manifest(&image.dir, &other);
    let text = Image::open(&image.dir).unwrap_err().to_string();
    assert!(
        text.contains(&format!("protocol {}", PROTOCOL_VERSION + 1))
            && text.contains(&format!("this program {PROTOCOL_VERSION}"))
    );
    fs::write(image.dir.join(MANIFEST_FILE), br#"{"format": 99, "unknown": true}"#).unwrap();
    assert!(matches!(Image::open(&image.dir), Err(ImageError::UnsupportedFormat { found: 99, .. })));
}

#[test]
fn file_name_outside_the_image_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), "a", 1);
    let mut other = image.manifest.clone();
    other.rootfs.file = "../secret".into();
    write_manifest(&image.dir, &other);
    assert!(Image::open(&image.dir).unwrap_err().to_string().contains("plain name"));
}

#[test]
fn empty_store_has_no_current_image() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Image::open_current(dir.path()), Err(ImageError::NoCurrentImage(_))));
}

#[test]
fn old_images_are_removed_except_current_and_locked_ones() {
    let dir = tempfile::tempdir().unwrap();
    let [oldest, locked, old, newer, newest] =
        [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)].map(|(seed, built_at)| image(dir.path(), seed, built_at));
    let store = open_store(dir.path());
    store.make_current(&oldest).unwrap();
    let lock = locked.lock().unwrap();
    // The current one counts as one of the three to keep.
    assert_eq!(store.prune(3).unwrap(), 1);
    assert!(!old.dir.exists());
    for kept in [&oldest, &locked, &newer, &newest] {
        assert!(Image::open(&kept.dir).is_ok());
    }
    drop(lock);
    assert_eq!(store.prune(3).unwrap(), 1);
    assert!(!locked.dir.exists());
    assert!(locked.lock().is_err());
}

#[test]
fn image_whose_root_file_system_is_in_use_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let [used, current] = [("a", 1), ("b", 2)].map(|(seed, built_at)| image(dir.path(), seed, built_at));
    let store = open_store(dir.path());
    store.make_current(&current).unwrap();
    let reads = File::open(used.rootfs_path()).unwrap();
    rustix::fs::flock(&reads, FlockOperation::LockShared).unwrap();
    assert_eq!(store.prune(1).unwrap(), 0);
    drop(reads);
    assert_eq!(store.prune(1).unwrap(), 1);
}

#[test]
fn only_one_build_locks_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let first = open_store(dir.path());
    match ImageStore::open_locked(dir.path()) {
        Err(store::LockError::Busy(pid)) => assert_eq!(pid, Some(std::process::id())),
        Err(store::LockError::Io(..)) | Ok(_) => panic!("a second build locked the store"),
    }
    drop(first);
    assert!(ImageStore::open_locked(dir.path()).is_ok());
}

#[test]
fn make_current_replaces_the_link() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|seed| image(dir.path(), seed, 1));
    let store = open_store(dir.path());
    for image in [&a, &b, &a] {
        store.make_current(image).unwrap();
        assert_eq!(Image::open_current(dir.path()).unwrap().manifest.hash, image.manifest.hash);
    }
}
