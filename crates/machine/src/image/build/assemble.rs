//! Assembles root file system, kernel and agent into an image, in a directory named after its hash.

use super::{
    super::{
        Artefact, Image, MANIFEST_FILE, MANIFEST_FORMAT, Manifest, artefact_of,
        build_error::BuildError,
        build_settings::BuildSettings,
        hash_of, initramfs, leftovers,
        progress::BuildStep,
        root_fs::RootFs,
        store::{self, ImageStore},
    },
    Inputs,
};
use anteroom_wire::agent::PROTOCOL_VERSION;
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

const INITRAMFS_FILE: &str = "initramfs.cpio";

/// Assembles an image and publishes it atomically. If an image with the same hash exists, it is used instead.
pub(super) async fn assemble_image(
    store: &ImageStore,
    root: &RootFs,
    root_dir: &Path,
    settings: &BuildSettings,
    inputs: &Inputs,
) -> Result<Image, BuildError> {
    let step = BuildStep::Assemble;
    let scratch =
        store.create_scratch_dir().map_err(|source| BuildError::Io { step, path: store.dir.clone(), source })?;
    let written = write_image(store, root, root_dir, inputs, &scratch.join("image"));
    let removed = leftovers::remove_leftover(&scratch, settings).await;
    let dir = written.map_err(|(path, source)| BuildError::Io { step, path, source })?;
    removed?;
    Image::open(&dir).map_err(BuildError::InvalidImage)
}

fn write_image(
    store: &ImageStore,
    root: &RootFs,
    root_dir: &Path,
    inputs: &Inputs,
    new: &Path,
) -> Result<PathBuf, (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    fs::create_dir(new).map_err(at(new))?;
    let initramfs = new.join(INITRAMFS_FILE);
    let modules = root.read_modules(root_dir).map_err(at(root_dir))?;
    let write = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(&initramfs)?);
        initramfs::write_initramfs(&mut out, &inputs.agent, &modules)?;
        out.flush()
    };
    write().map_err(at(&initramfs))?;
    for artefact in [&root.kernel, &root.rootfs] {
        // A hard link instead of a copy of half a gigabyte.
        let from = root_dir.join(&artefact.file);
        fs::hard_link(&from, new.join(&artefact.file)).map_err(at(&from))?;
    }
    let initramfs = artefact_of(&initramfs, INITRAMFS_FILE).map_err(at(&initramfs))?;
    let manifest = manifest(root, initramfs, inputs);
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| (new.to_owned(), error.into()))?;
    store::write_synced(&new.join(MANIFEST_FILE), &text).map_err(at(new))?;
    let dir = store.dir.join(&manifest.hash);
    // The same guest from different inputs (for example, a comment in the recipe). The existing image may be in use, so only
    // its manifest is replaced, which contains the newer inputs.
    if Image::open(&dir).is_ok() {
        fs::rename(new.join(MANIFEST_FILE), dir.join(MANIFEST_FILE)).map_err(at(&dir))?;
    } else {
        store::publish(new, &dir).map_err(at(&dir))?;
    }
    Ok(dir)
}

fn manifest(root: &RootFs, initramfs: Artefact, inputs: &Inputs) -> Manifest {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Manifest {
        format: MANIFEST_FORMAT,
        hash: hash_of(PROTOCOL_VERSION, [&root.kernel, &initramfs, &root.rootfs]),
        protocol: PROTOCOL_VERSION,
        kernel: root.kernel.clone(),
        initramfs,
        rootfs: root.rootfs.clone(),
        kernel_version: root.kernel_version.clone(),
        kernel_options: root.kernel_options.clone(),
        clis: root.clis.clone(),
        packages: root.packages.clone(),
        package_sha256: root.package_sha256.clone(),
        agent_sha256: inputs.agent_sha256.clone(),
        inputs_sha256: inputs.image.clone(),
        built_at_unix_s: now,
    }
}
