//! Writes the files of a credential: each file completely or not at all, readable only by the user, without overwriting unless
//! requested. All checks run before the credential is leased, because some credentials can be leased only once.

use anteroom_wire::{agent::DeliveredFile, api::CredentialFile};
use anyhow::{Context, bail, ensure};
use std::{
    fs::{DirBuilder, Permissions},
    io::Write,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

/// The output location of a credential's files.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct OutputPath {
    /// Write the credential to this file (mode 0600), or to this directory with the files' own paths and modes.
    ///
    /// Existing files are not overwritten.
    #[arg(long, value_name = "FILE|DIR")]
    out: PathBuf,
    /// With --out: overwrite existing files.
    #[arg(long, requires = "out")]
    overwrite: bool,
}

impl OutputPath {
    /// The location `out`.
    pub(super) fn new(out: PathBuf, overwrite: bool) -> Self {
        Self { out, overwrite }
    }

    /// Checks that the location is writable, before the number of files is known.
    ///
    /// # Errors
    /// The location is not writable, or it is an existing file and `overwrite` is not set.
    pub(super) fn check_overwrite(&self) -> anyhow::Result<()> {
        if self.out.is_dir() {
            return ensure_writable(&self.out);
        }
        if self.is_directory() {
            return ensure_writable(nearest_existing(&self.out));
        }
        self.ensure_free(&self.out)?;
        ensure_writable(directory_of(&self.out))
    }

    /// Returns the paths of these files after checking that they can be written.
    ///
    /// # Errors
    /// A path is not writable, exists already, or is outside the directory.
    pub(super) fn plan_paths(&self, files: &[CredentialFile]) -> anyhow::Result<Vec<PathBuf>> {
        ensure!(!files.is_empty(), "the credential has no file");
        let single = files.len() == 1 && !self.is_directory();
        ensure!(
            single || !self.out.is_file(),
            "{} is a file, but the credential has {} files; name a directory",
            self.out.display(),
            files.len()
        );
        let mut planned = Vec::with_capacity(files.len());
        for file in files {
            let path = if single { self.out.clone() } else { self.path_below(&file.path)? };
            self.ensure_free(&path)?;
            ensure_writable(if single { directory_of(&path) } else { nearest_existing(&path) })?;
            planned.push(path);
        }
        Ok(planned)
    }

    /// Writes the files to the paths that [`Self::plan_paths`] returns.
    ///
    /// # Errors
    /// A path is not writable, exists already, or is outside the directory.
    pub(super) fn write_files(&self, files: &[DeliveredFile]) -> anyhow::Result<Vec<PathBuf>> {
        let metadata = |file: &DeliveredFile| CredentialFile {
            path: file.path.clone(),
            bytes: file.content.expose().len() as u64,
            mode: file.mode,
        };
        let planned = self.plan_paths(&files.iter().map(metadata).collect::<Vec<_>>())?;
        for (path, file) in planned.iter().zip(files) {
            let is_single = planned.len() == 1 && *path == self.out;
            if !is_single {
                let dir = directory_of(path);
                let created = DirBuilder::new().recursive(true).mode(0o700).create(dir);
                created.with_context(|| format!("the directory {} cannot be created", dir.display()))?;
            }
            let mode = if is_single { 0o600 } else { file.mode & 0o700 | 0o600 };
            self.write_file(path, file.content.expose(), mode)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(planned)
    }

    /// Whether the location is a directory, or will be created as one.
    fn is_directory(&self) -> bool {
        self.out.is_dir() || self.out.as_os_str().as_encoded_bytes().ends_with(b"/")
    }

    fn path_below(&self, path: &str) -> anyhow::Result<PathBuf> {
        let relative = Path::new(path);
        if path.is_empty() || relative.components().any(|part| !matches!(part, Component::Normal(_))) {
            bail!("{path:?} is not a path below a home directory");
        }
        Ok(self.out.join(relative))
    }

    fn ensure_free(&self, path: &Path) -> anyhow::Result<()> {
        let exists = path.symlink_metadata().is_ok();
        ensure!(self.overwrite || !exists, "{} exists; --overwrite replaces it", path.display());
        ensure!(!path.is_dir(), "{} is a directory", path.display());
        Ok(())
    }

    fn write_file(&self, path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
        let mut builder = tempfile::Builder::new();
        let mut file =
            builder.prefix(".anteroom-").permissions(Permissions::from_mode(mode)).tempfile_in(directory_of(path))?;
        // Independent of the umask.
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        let persisted = if self.overwrite { file.persist(path) } else { file.persist_noclobber(path) };
        persisted.map(drop).map_err(|error| error.error)
    }
}

fn ensure_writable(dir: &Path) -> anyhow::Result<()> {
    ensure!(
        dir.is_dir(),
        "{} cannot be written: there is no such directory; create it or name another one",
        dir.display()
    );
    let probe = tempfile::Builder::new().prefix(".anteroom-").tempfile_in(dir);
    probe.map(drop).with_context(|| format!("{} cannot be written", dir.display()))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// The nearest existing parent directory.
fn nearest_existing(path: &Path) -> &Path {
    let above = path.ancestors().skip(1).map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    above.into_iter().find(|dir| dir.exists()).unwrap_or_else(|| Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_wire::Base64;

    fn file(path: &str, mode: u32) -> DeliveredFile {
        DeliveredFile { path: path.into(), mode, content: Base64::new(b"{}".to_vec()) }
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn one_file_is_written_as_named_and_several_below_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let single = dir.path().join("auth.json");
        let one = [file(".codex/auth.json", 0o644)];
        assert_eq!(OutputPath::new(single.clone(), false).write_files(&one).unwrap(), std::slice::from_ref(&single));
        assert_eq!(mode(&single), 0o600);
        let home = dir.path().join("home/of/me");
        let both = [file(".a/one.json", 0o600), file(".a/b/two", 0o755)];
        let written = OutputPath::new(home.clone(), false).write_files(&both).unwrap();
        assert_eq!(written, [home.join(".a/one.json"), home.join(".a/b/two")]);
        assert_eq!(mode(&written[1]), 0o700, "no access for other users");
        assert_eq!(mode(&home.join(".a")), 0o700);
        assert!(OutputPath::new(single, true).write_files(&both).is_err(), "one file cannot hold two");
        let named = dir.path().join("new/");
        assert_eq!(OutputPath::new(named.clone(), false).write_files(&one).unwrap(), [named.join(".codex/auth.json")]);
    }

    #[test]
    fn existing_files_are_kept_unless_overwrite_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let single = dir.path().join("auth.json");
        let one = [file(".codex/auth.json", 0o600)];
        for existing in ["file", "dangling"] {
            match existing {
                "file" => std::fs::write(&single, "mine").unwrap(),
                _ => std::os::unix::fs::symlink("nowhere", &single).unwrap(),
            }
            let reason = OutputPath::new(single.clone(), false).check_overwrite().unwrap_err().to_string();
            assert!(reason.contains("exists; --overwrite"), "{existing}: {reason}");
            assert!(OutputPath::new(single.clone(), false).write_files(&one).is_err(), "{existing}");
            OutputPath::new(single.clone(), true).check_overwrite().unwrap();
            OutputPath::new(single.clone(), true).write_files(&one).unwrap();
            assert_eq!((std::fs::read(&single).unwrap(), mode(&single)), (b"{}".to_vec(), 0o600), "{existing}");
            std::fs::remove_file(&single).unwrap();
        }
        let home = dir.path().to_owned();
        let both = [file(".a/one.json", 0o600), file(".a/two", 0o600)];
        std::fs::create_dir(home.join(".a")).unwrap();
        std::fs::write(home.join(".a/two"), "mine").unwrap();
        OutputPath::new(home.clone(), false).check_overwrite().unwrap();
        let reason = OutputPath::new(home.clone(), false).write_files(&both).unwrap_err().to_string();
        assert!(reason.contains("/.a/two exists"), "{reason}");
        assert!(!home.join(".a/one.json").exists(), "all of them or none");
        std::fs::remove_file(home.join(".a/two")).unwrap();
        std::fs::create_dir(home.join(".a/two")).unwrap();
        assert!(
            OutputPath::new(home.clone(), true).write_files(&both).is_err(),
            "a directory is not replaced by a file"
        );
        assert_eq!(std::fs::read_dir(home.join(".a")).unwrap().count(), 1, "no temporary file remains");
    }

    #[test]
    fn no_file_is_written_outside_the_output_directory() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../out", "/etc/x", ".a/../../x", ".", ""] {
            assert!(OutputPath::new(dir.path().to_owned(), true).write_files(&[file(path, 0o600)]).is_err(), "{path}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let none = dir.path().join("none/auth.json");
        OutputPath::new(none, false).write_files(&[file("x", 0o600)]).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
