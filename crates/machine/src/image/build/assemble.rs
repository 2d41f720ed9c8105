//! From a root, the kernel and the agent to an image with a manifest, under the name of its hash.

use super::{
    super::{
        Artefact, FORMAT, Image, MANIFEST_FILE, Manifest, artefact_of,
        build_error::BuildError,
        build_settings::BuildSettings,
        hash_of, initramfs, leftovers,
        progress::Step,
        root::Root,
        store::{self, ImageStore},
    },
    Inputs,
};
use anteroom_wire::agent::PROTOCOL;
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

const INITRAMFS_FILE: &str = "initramfs.cpio";

/// Puts an image together; it appears whole. An image with the same hash that is there already is taken instead.
pub(super) async fn assemble(
    store: &ImageStore,
    root: &Root,
    root_dir: &Path,
    settings: &BuildSettings,
    inputs: &Inputs,
) -> Result<Image, BuildError> {
    let step = Step::Assemble;
    let scratch = store.scratch().map_err(|source| BuildError::Io { step, path: store.dir.clone(), source })?;
    let placed = place(store, root, root_dir, inputs, &scratch.join("image"));
    let cleared = leftovers::remove(&scratch, settings).await;
    let dir = placed.map_err(|(path, source)| BuildError::Io { step, path, source })?;
    cleared?;
    Image::open(&dir).map_err(BuildError::InvalidImage)
}

fn place(
    store: &ImageStore,
    root: &Root,
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
    let modules = root.modules(root_dir).map_err(at(root_dir))?;
    let write = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(&initramfs)?);
        initramfs::write(&mut out, &inputs.agent, &modules)?;
        out.flush()
    };
    write().map_err(at(&initramfs))?;
    for artefact in [&root.kernel, &root.rootfs] {
        // A second name, not a second half gigabyte.
        let from = root_dir.join(&artefact.file);
        fs::hard_link(&from, new.join(&artefact.file)).map_err(at(&from))?;
    }
    let initramfs = artefact_of(&initramfs, INITRAMFS_FILE).map_err(at(&initramfs))?;
    let manifest = manifest(root, initramfs, inputs);
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| (new.to_owned(), error.into()))?;
    store::write(&new.join(MANIFEST_FILE), &text).map_err(at(new))?;
    let dir = store.dir.join(&manifest.hash);
    // The same guest from other inputs (say, a comment in the recipe): it may be in use and stays as it is but for the
    // manifest, which has the newer inputs.
    if Image::open(&dir).is_ok() {
        fs::rename(new.join(MANIFEST_FILE), dir.join(MANIFEST_FILE)).map_err(at(&dir))?;
    } else {
        store::publish(new, &dir).map_err(at(&dir))?;
    }
    Ok(dir)
}

fn manifest(root: &Root, initramfs: Artefact, inputs: &Inputs) -> Manifest {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Manifest {
        format: FORMAT,
        hash: hash_of(PROTOCOL, [&root.kernel, &initramfs, &root.rootfs]),
        protocol: PROTOCOL,
        kernel: root.kernel.clone(),
        initramfs,
        rootfs: root.rootfs.clone(),
        kernel_version: root.kernel_version.clone(),
        clis: root.clis.clone(),
        packages: root.packages.clone(),
        agent_sha256: inputs.agent_sha256.clone(),
        inputs_sha256: inputs.image.clone(),
        built_at_unix_s: now,
    }
}
