//! Writing a credential's files for their owner: whole or not at all, readable by the owner alone.

use anteroom_wire::agent::DeliveredFile;
use anyhow::{Context, bail, ensure};
use std::{
    fs::{DirBuilder, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

/// Finds out before anything is asked for whether a file could be written there.
///
/// # Errors
/// It could not.
pub(super) fn writable(out: &Path) -> anyhow::Result<()> {
    let dir = if out.is_dir() { out } else { directory_of(out) };
    tempfile::Builder::new()
        .prefix(".anteroom-")
        .tempfile_in(dir)
        .map(|_| ())
        .with_context(|| format!("{} cannot be written", dir.display()))
}

/// Writes all files: below `out` by their own paths when that is a directory or there are several, else as `out`. Where they are.
///
/// # Errors
/// One cannot be written, or wants to lie elsewhere.
pub(super) fn write_all(out: &Path, files: &[DeliveredFile]) -> anyhow::Result<Vec<PathBuf>> {
    let named_as_directory = out.as_os_str().as_encoded_bytes().ends_with(b"/");
    if let [file] = files
        && !out.is_dir()
        && !named_as_directory
    {
        put(out, file.content.expose(), 0o600)?;
        return Ok(vec![out.to_owned()]);
    }
    ensure!(!files.is_empty(), "the credential has no file");
    ensure!(!out.is_file(), "{} is a file, and the credential has {} of them", out.display(), files.len());
    let mut written = Vec::with_capacity(files.len());
    for file in files {
        let below = Path::new(&file.path);
        if below.components().any(|part| !matches!(part, Component::Normal(_))) {
            bail!("{:?} is not a path below a home directory", file.path);
        }
        let path = out.join(below);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory_of(&path))
            .with_context(|| format!("{} cannot be made", directory_of(&path).display()))?;
        put(&path, file.content.expose(), file.mode & 0o700)?;
        written.push(path);
    }
    Ok(written)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

fn put(out: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let temporary = directory_of(out).join(format!(".anteroom-{}", crate::random::hex(&crate::random::bytes::<8>())));
    let written = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.set_permissions(Permissions::from_mode(mode | 0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, out)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.with_context(|| format!("{} cannot be written; the credential is stored on the server", out.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_wire::Base64;

    fn file(path: &str, mode: u32) -> DeliveredFile {
        DeliveredFile { path: path.into(), mode, content: Base64::new(b"{}".to_vec()) }
    }

    #[test]
    fn one_file_is_written_as_named_and_several_below_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let single = dir.path().join("auth.json");
        assert_eq!(write_all(&single, &[file(".codex/auth.json", 0o600)]).unwrap(), std::slice::from_ref(&single));
        assert_eq!(single.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let home = dir.path().join("home");
        let both = [file(".a/one.json", 0o600), file(".a/b/two", 0o755)];
        let written = write_all(&home, &both).unwrap();
        assert_eq!(written, [home.join(".a/one.json"), home.join(".a/b/two")]);
        assert_eq!(written[1].metadata().unwrap().permissions().mode() & 0o777, 0o700, "nobody else's");
        assert_eq!(home.join(".a").metadata().unwrap().permissions().mode() & 0o777, 0o700);
        write_all(&home, &both[..1]).unwrap();
        assert!(write_all(&single, &both).is_err(), "a file is no place for two");
    }

    #[test]
    fn no_file_leaves_the_directory_that_was_named() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../out", "/etc/x", ".a/../../x", "."] {
            assert!(write_all(dir.path(), &[file(path, 0o600)]).is_err(), "{path}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
