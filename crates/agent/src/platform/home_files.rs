//! Files laid down in the person's home before the tool starts: a provider's settings, a stored credential.
//!
//! A home in which the person's programs have run may hold links wherever they like, and the agent may write everywhere: so each
//! directory on the way is opened for itself and no link is followed, and a file gets its name only when it is whole.

use crate::place::Place;
use anteroom_wire::provider::SettingsFile;
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid},
    io::Errno,
};
use std::{
    fs::File,
    io::{self, Write},
    path::{Component, Path},
};

/// Directories that are made on the way.
const DIRECTORY_MODE: u32 = 0o700;
/// A settings file.
const SETTINGS_MODE: u32 = 0o600;

/// Writes a provider's settings file.
///
/// # Errors
/// As [`put`].
pub(crate) fn lay_down(place: &Place, file: &SettingsFile) -> io::Result<()> {
    put(place, &file.path, file.content.as_bytes(), SETTINGS_MODE)
}

/// Writes `bytes` to `path` below the home directory, with the directories on its way, all the person's own. What stood there is
/// replaced; a link there is replaced, not followed.
///
/// # Errors
/// The path does not lie below the home, leads through something that is no directory, or the disk is full; the path is named.
pub(crate) fn put(place: &Place, path: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    write(place, path, bytes, mode).map_err(|error| io::Error::new(error.kind(), format!("{path:?}: {error}")))
}

fn write(place: &Place, path: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let parts = below(path)?;
    let Some((name, dirs)) = parts.split_last() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = rustix::fs::openat(CWD, &place.home, flags, Mode::empty())?;
    for part in dirs {
        dir = enter(place, &dir, part)?;
    }
    let new = format!(".{name}.anteroom-new");
    let written =
        write_new(place, &dir, &new, bytes, mode).and_then(|()| Ok(rustix::fs::renameat(&dir, &new, &dir, *name)?));
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&dir, &new, AtFlags::empty());
    }
    written
}

/// Opens the directory `part` of `dir`, made where there is none.
fn enter(place: &Place, dir: &OwnedFd, part: &str) -> io::Result<OwnedFd> {
    let made = match rustix::fs::mkdirat(dir, part, Mode::from_raw_mode(DIRECTORY_MODE)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(dir, part, flags, Mode::empty())?;
    if made {
        give(place, &inner)?;
    }
    Ok(inner)
}

fn write_new(place: &Place, dir: &OwnedFd, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes)?;
    give(place, &file)?;
    // After the owner: a change of owner clears bits.
    Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?)
}

fn give(place: &Place, what: impl AsFd) -> io::Result<()> {
    let Some(id) = place.person_id() else { return Ok(()) };
    Ok(rustix::fs::fchown(what, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))?)
}

/// The parts of a path that lies below the home directory.
fn below(path: &str) -> io::Result<Vec<&str>> {
    let parts: Option<Vec<&str>> = Path::new(path)
        .components()
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
        })
        .collect();
    match parts {
        Some(parts) if !parts.is_empty() => Ok(parts),
        Some(_) | None => Err(io::Error::new(io::ErrorKind::InvalidInput, "does not lie below the home directory")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::os::unix::fs::PermissionsExt;

    fn place(dir: &Path) -> Place {
        let [home, work] = ["home", "work"].map(|name| dir.join(name));
        for dir in [&home, &work] {
            std::fs::create_dir(dir).unwrap();
        }
        let (agent_socket, host_socket) = (dir.join("a"), dir.join("h"));
        let config = serde_json::json!({ "agent_socket": agent_socket, "host_socket": host_socket, "work_dir": work, "home": home, "image_hash": "x" });
        Place::process(serde_json::from_value::<Config>(config).unwrap()).unwrap()
    }

    #[test]
    fn a_path_stays_below_the_home() {
        assert_eq!(below(".a/b").unwrap(), [".a", "b"]);
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "./x"] {
            assert!(below(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_is_replaced_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let outside = dir.path().join("outside");
        std::fs::write(&outside, "theirs").unwrap();
        std::os::unix::fs::symlink(&outside, place.home.join("link")).unwrap();
        put(&place, "link", b"ours", 0o640).unwrap();
        assert_eq!(std::fs::read(place.home.join("link")).unwrap(), b"ours");
        assert_eq!(std::fs::read(&outside).unwrap(), b"theirs");
        std::os::unix::fs::symlink(dir.path(), place.home.join("away")).unwrap();
        let error = put(&place, "away/x", b"ours", 0o600).unwrap_err().to_string();
        assert!(error.contains("away/x") && !dir.path().join("x").exists(), "{error}");
        put(&place, ".a/b/c", b"1", 0o4640).unwrap();
        let mode = |path: &str| std::fs::metadata(place.home.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(".a/b"), mode(".a/b/c"), mode("link")), (0o700, 0o640, 0o640));
        assert_eq!(std::fs::read_dir(place.home.join(".a/b")).unwrap().count(), 1, "nothing is left beside it");
    }
}
