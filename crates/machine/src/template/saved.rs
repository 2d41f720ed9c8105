//! `template.json`: what a saved state depends on, and the hashes of the files that it consists of.

use super::MANIFEST_FILE;
use crate::verified_files::{self, FileStamp, HashKind, VerifiedFiles, VerifyError};
use anteroom_wire::chain;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// The content of `template.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedTemplate<M> {
    /// Everything that the saved state depends on.
    pub(crate) manifest: M,
    /// The hash of each file, by its name ([`HashKind::SparseContent`]).
    files: BTreeMap<String, String>,
}

/// The hash of a template's file, as `template.json` has it. Blocks while the file is read.
///
/// # Errors
/// The file cannot be read.
fn hash_template_file(path: &Path) -> io::Result<String> {
    verified_files::hash(&File::open(path)?, HashKind::SparseContent)
}

impl<M: PartialEq + Clone + Serialize + DeserializeOwned + Send + 'static> SavedTemplate<M> {
    /// Hashes the files `names` in `dir`.
    pub(crate) async fn of_files(dir: &Path, names: [&'static str; 2], manifest: &M) -> io::Result<Self> {
        let (dir, manifest) = (dir.to_owned(), manifest.clone());
        blocking(move || {
            let hashed = names.into_iter().map(|name| Ok((name.to_owned(), hash_template_file(&dir.join(name))?)));
            Ok(Self { manifest, files: hashed.collect::<io::Result<_>>()? })
        })
        .await
    }

    /// The complete and unchanged template in `dir`, if there is one for `manifest`.
    pub(crate) async fn find(dir: &Path, manifest: &M, verified: &VerifiedFiles) -> Option<Self> {
        let saved: Self = serde_json::from_slice(&fs::read(dir.join(MANIFEST_FILE)).ok()?).ok()?;
        if saved.manifest != *manifest {
            return None;
        }
        let (checked, dir, verified) = (saved.clone(), dir.to_owned(), verified.clone());
        match blocking(move || checked.verify(&dir, &verified)).await {
            Ok(_) => Some(saved),
            Err(error) => {
                tracing::warn!(error = chain(&error), "the template is damaged or was changed, and is made again");
                None
            }
        }
    }
}

impl<M> SavedTemplate<M> {
    /// Verifies the files in `dir`.
    pub(crate) fn verify(
        &self,
        dir: &Path,
        verified: &VerifiedFiles,
    ) -> Result<BTreeMap<PathBuf, FileStamp>, VerifyError> {
        let verify = |(name, sha256): (&String, &String)| {
            let path = dir.join(name);
            let stamp = verified.verify(&path, HashKind::SparseContent, sha256)?;
            Ok((path, stamp))
        };
        self.files.iter().map(verify).collect()
    }
}

/// Runs `read`, which reads large files, on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(read).await {
        Ok(value) => value,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::template_image_hash, *};
    use std::os::unix::fs::FileExt;

    #[tokio::test]
    async fn template_with_a_flipped_byte_is_neither_found_nor_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        File::create(path("ram")).unwrap().set_len(64 * 1024 * 1024).unwrap();
        fs::write(path("state"), "state of the devices").unwrap();
        let manifest = "manifest".to_owned();
        let saved = SavedTemplate::of_files(dir.path(), ["ram", "state"], &manifest).await.unwrap();
        fs::write(path(MANIFEST_FILE), serde_json::to_vec(&saved).unwrap()).unwrap();
        let verified = VerifiedFiles::open(path("verified"));
        assert_eq!(SavedTemplate::find(dir.path(), &manifest, &verified).await.as_ref(), Some(&saved));
        for name in ["ram", "state"] {
            let file = File::options().read(true).write(true).open(path(name)).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, 11).unwrap();
            file.write_all_at(&[byte[0] ^ 1], 11).unwrap();
            let error = saved.verify(dir.path(), &verified).unwrap_err();
            assert!(error.to_string().contains(path(name).to_str().unwrap()), "{error}");
            assert_eq!(SavedTemplate::find(dir.path(), &manifest, &verified).await, None, "{name}");
            file.write_all_at(&byte, 11).unwrap();
            assert!(saved.verify(dir.path(), &verified).is_ok());
        }
        assert_eq!(SavedTemplate::find(dir.path(), &"another".to_owned(), &verified).await, None);
    }

    #[tokio::test]
    async fn the_hash_of_the_image_is_read_from_the_file_of_a_complete_template() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(template_image_hash(dir.path()).unwrap(), None);
        for name in ["ram", "state"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let manifest = serde_json::json!({ "image_hash": "abc" });
        let saved = SavedTemplate::of_files(dir.path(), ["ram", "state"], &manifest).await.unwrap();
        fs::write(dir.path().join(MANIFEST_FILE), serde_json::to_vec(&saved).unwrap()).unwrap();
        assert_eq!(template_image_hash(dir.path()).unwrap().as_deref(), Some("abc"));
    }
}
