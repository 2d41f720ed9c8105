//! Files laid down in the person's home before the tool starts.

use crate::place::Place;
use anteroom_wire::provider::SettingsFile;
use rustix::fs::{Gid, Uid};
use std::{
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
};

/// Writes `file` below the home directory, with the directories on its way, all the person's own.
///
/// The home is still as the image made it: no program of the person's has run that could have put a link on the way.
pub(crate) fn lay_down(place: &Place, file: &SettingsFile) -> io::Result<()> {
    let path = below(&place.home, &file.path)?;
    let mut missing: Vec<&Path> = path.ancestors().skip(1).take_while(|dir| !dir.exists()).collect();
    while let Some(dir) = missing.pop() {
        std::fs::DirBuilder::new().mode(0o700).create(dir)?;
        give(place, dir)?;
    }
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    io::Write::write_all(&mut out, file.content.as_bytes())?;
    give(place, &path)
}

fn give(place: &Place, path: &Path) -> io::Result<()> {
    let Some(id) = place.person_id() else { return Ok(()) };
    Ok(rustix::fs::chown(path, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))?)
}

fn below(home: &Path, path: &str) -> io::Result<PathBuf> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || path.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{path:?} does not lie below the home directory"),
        ));
    }
    Ok(home.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_home() {
        let home = Path::new("/home/x");
        assert_eq!(below(home, ".a/b").unwrap(), Path::new("/home/x/.a/b"));
        for bad in ["", "/etc/passwd", "../x", "a/../../x"] {
            assert!(below(home, bad).is_err(), "{bad}");
        }
    }
}
