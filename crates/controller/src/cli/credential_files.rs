//! Writing a credential's files for their owner: whole or not at all, readable by the owner alone, and in the place of nothing unless that
//! is asked for. What could keep them from being written is found out before they are asked for: some are handed out only once.

use anteroom_wire::{agent::DeliveredFile, api::CredentialFile};
use anyhow::{Context, bail, ensure};
use std::{
    fs::{DirBuilder, Permissions},
    io::Write,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

/// Where a credential's files go.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Place {
    /// Write the credential there: one file (0600), or several below a directory by their own paths and modes. What exists is kept.
    #[arg(long, value_name = "FILE|DIR")]
    out: PathBuf,
    /// With --out: put the credential in the place of files that are there.
    #[arg(long, requires = "out")]
    overwrite: bool,
}

impl Place {
    /// There.
    pub(super) fn new(out: PathBuf, overwrite: bool) -> Self {
        Self { out, overwrite }
    }

    /// Finds out whether anything could be written there, when nobody knows yet how many files it will be.
    ///
    /// # Errors
    /// It could not.
    pub(super) fn usable(&self) -> anyhow::Result<()> {
        if self.out.is_dir() {
            return writable(&self.out);
        }
        if self.is_directory() {
            return writable(nearest(&self.out));
        }
        self.is_free(&self.out)?;
        writable(directory_of(&self.out))
    }

    /// Where these files will be, if they can be written there.
    ///
    /// # Errors
    /// One cannot be written, is there already, or wants to lie elsewhere.
    pub(super) fn plan(&self, files: &[CredentialFile]) -> anyhow::Result<Vec<PathBuf>> {
        ensure!(!files.is_empty(), "the credential has no file");
        let single = files.len() == 1 && !self.is_directory();
        ensure!(
            single || !self.out.is_file(),
            "{} is a file, and the credential has {} of them",
            self.out.display(),
            files.len()
        );
        let mut planned = Vec::with_capacity(files.len());
        for file in files {
            let path = if single { self.out.clone() } else { self.below(&file.path)? };
            self.is_free(&path)?;
            writable(if single { directory_of(&path) } else { nearest(&path) })?;
            planned.push(path);
        }
        Ok(planned)
    }

    /// Writes the files where [`Place::plan`] says.
    ///
    /// # Errors
    /// One cannot be written, is there already, or wants to lie elsewhere.
    pub(super) fn write(&self, files: &[DeliveredFile]) -> anyhow::Result<Vec<PathBuf>> {
        let facts = |file: &DeliveredFile| CredentialFile {
            path: file.path.clone(),
            bytes: file.content.expose().len() as u64,
            mode: file.mode,
        };
        let planned = self.plan(&files.iter().map(facts).collect::<Vec<_>>())?;
        for (path, file) in planned.iter().zip(files) {
            let own = planned.len() == 1 && *path == self.out;
            if !own {
                let dir = directory_of(path);
                let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
                made.with_context(|| format!("{} cannot be made", dir.display()))?;
            }
            let mode = if own { 0o600 } else { file.mode & 0o700 | 0o600 };
            self.put(path, file.content.expose(), mode)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(planned)
    }

    /// A directory, or what will be one.
    fn is_directory(&self) -> bool {
        self.out.is_dir() || self.out.as_os_str().as_encoded_bytes().ends_with(b"/")
    }

    fn below(&self, path: &str) -> anyhow::Result<PathBuf> {
        let below = Path::new(path);
        if path.is_empty() || below.components().any(|part| !matches!(part, Component::Normal(_))) {
            bail!("{path:?} is not a path below a home directory");
        }
        Ok(self.out.join(below))
    }

    fn is_free(&self, path: &Path) -> anyhow::Result<()> {
        let is_there = path.symlink_metadata().is_ok();
        ensure!(self.overwrite || !is_there, "{} exists; --overwrite puts the credential in its place", path.display());
        ensure!(!path.is_dir(), "{} is a directory", path.display());
        Ok(())
    }

    fn put(&self, path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
        let mut builder = tempfile::Builder::new();
        let mut file =
            builder.prefix(".anteroom-").permissions(Permissions::from_mode(mode)).tempfile_in(directory_of(path))?;
        // Whatever the umask takes away.
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        let kept = if self.overwrite { file.persist(path) } else { file.persist_noclobber(path) };
        kept.map(drop).map_err(|error| error.error)
    }
}

fn writable(dir: &Path) -> anyhow::Result<()> {
    ensure!(dir.is_dir(), "{} cannot be written: there is no such directory; make it or name another", dir.display());
    let tried = tempfile::Builder::new().prefix(".anteroom-").tempfile_in(dir);
    tried.map(drop).with_context(|| format!("{} cannot be written", dir.display()))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// The nearest directory above that is there.
fn nearest(path: &Path) -> &Path {
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
        assert_eq!(Place::new(single.clone(), false).write(&one).unwrap(), std::slice::from_ref(&single));
        assert_eq!(mode(&single), 0o600);
        let home = dir.path().join("home/of/me");
        let both = [file(".a/one.json", 0o600), file(".a/b/two", 0o755)];
        let written = Place::new(home.clone(), false).write(&both).unwrap();
        assert_eq!(written, [home.join(".a/one.json"), home.join(".a/b/two")]);
        assert_eq!(mode(&written[1]), 0o700, "nobody else's");
        assert_eq!(mode(&home.join(".a")), 0o700);
        assert!(Place::new(single, true).write(&both).is_err(), "a file is no place for two");
        let named = dir.path().join("new/");
        assert_eq!(Place::new(named.clone(), false).write(&one).unwrap(), [named.join(".codex/auth.json")]);
    }

    #[test]
    fn what_is_there_stays_unless_it_shall_be_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let single = dir.path().join("auth.json");
        let one = [file(".codex/auth.json", 0o600)];
        for there in ["file", "dangling"] {
            match there {
                "file" => std::fs::write(&single, "mine").unwrap(),
                _ => std::os::unix::fs::symlink("nowhere", &single).unwrap(),
            }
            let why = Place::new(single.clone(), false).usable().unwrap_err().to_string();
            assert!(why.contains("exists; --overwrite"), "{there}: {why}");
            assert!(Place::new(single.clone(), false).write(&one).is_err(), "{there}");
            Place::new(single.clone(), true).usable().unwrap();
            Place::new(single.clone(), true).write(&one).unwrap();
            assert_eq!((std::fs::read(&single).unwrap(), mode(&single)), (b"{}".to_vec(), 0o600), "{there}");
            std::fs::remove_file(&single).unwrap();
        }
        let home = dir.path().to_owned();
        let both = [file(".a/one.json", 0o600), file(".a/two", 0o600)];
        std::fs::create_dir(home.join(".a")).unwrap();
        std::fs::write(home.join(".a/two"), "mine").unwrap();
        Place::new(home.clone(), false).usable().unwrap();
        let why = Place::new(home.clone(), false).write(&both).unwrap_err().to_string();
        assert!(why.contains("/.a/two exists"), "{why}");
        assert!(!home.join(".a/one.json").exists(), "all of them or none");
        std::fs::remove_file(home.join(".a/two")).unwrap();
        std::fs::create_dir(home.join(".a/two")).unwrap();
        assert!(Place::new(home.clone(), true).write(&both).is_err(), "a directory is no file");
        assert_eq!(std::fs::read_dir(home.join(".a")).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn no_file_leaves_the_directory_that_was_named() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../out", "/etc/x", ".a/../../x", ".", ""] {
            assert!(Place::new(dir.path().to_owned(), true).write(&[file(path, 0o600)]).is_err(), "{path}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let none = dir.path().join("none/auth.json");
        Place::new(none, false).write(&[file("x", 0o600)]).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
