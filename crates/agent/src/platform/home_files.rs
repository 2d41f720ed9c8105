//! Installs files in the user's home before the tool starts: a provider's settings, a stored credential.
//!
//! The user's programs may have put symbolic links anywhere in the home, and the agent may write everywhere. So each directory of a path
//! is opened separately, no link is followed, and a file gets its name only when it is complete.

use super::environment::ExecutionEnvironment;
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

/// The mode of directories that are created.
const DIRECTORY_MODE: u32 = 0o700;
/// The mode of settings files.
const SETTINGS_MODE: u32 = 0o600;

/// Writes a provider's settings file.
///
/// # Errors
/// As [`write_home_file`].
pub(crate) fn write_settings_file(environment: &ExecutionEnvironment, file: &SettingsFile) -> io::Result<()> {
    write_home_file(environment, &file.path, file.content.as_bytes(), SETTINGS_MODE)
}

/// Writes `bytes` to `path` below the home directory and creates missing directories, all owned by the user. An existing file or link
/// is replaced; a link is not followed.
///
/// # Errors
/// The path is not below the home, has a component that is no directory, or the disk is full. The error names the path.
pub(crate) fn write_home_file(
    environment: &ExecutionEnvironment,
    path: &str,
    bytes: &[u8],
    mode: u32,
) -> io::Result<()> {
    replace(environment, path, bytes, mode).map_err(|error| io::Error::new(error.kind(), format!("{path:?}: {error}")))
}

fn replace(environment: &ExecutionEnvironment, path: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let parts = components_below_home(path)?;
    let Some((name, dirs)) = parts.split_last() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = rustix::fs::openat(CWD, &environment.home, flags, Mode::empty())?;
    for part in dirs {
        dir = open_or_create(environment, &dir, part)?;
    }
    let new = format!(".{name}.anteroom-new");
    let written =
        create(environment, &dir, &new, bytes, mode).and_then(|()| Ok(rustix::fs::renameat(&dir, &new, &dir, *name)?));
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&dir, &new, AtFlags::empty());
    }
    written
}

/// Opens the directory `part` of `dir`, and creates it if it is missing.
fn open_or_create(environment: &ExecutionEnvironment, dir: &OwnedFd, part: &str) -> io::Result<OwnedFd> {
    let created = match rustix::fs::mkdirat(dir, part, Mode::from_raw_mode(DIRECTORY_MODE)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(dir, part, flags, Mode::empty())?;
    if created {
        chown_to_user(environment, &inner)?;
    }
    Ok(inner)
}

fn create(environment: &ExecutionEnvironment, dir: &OwnedFd, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes)?;
    chown_to_user(environment, &file)?;
    // After the change of owner, which clears mode bits.
    Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?)
}

fn chown_to_user(environment: &ExecutionEnvironment, file: impl AsFd) -> io::Result<()> {
    let Some(id) = environment.user_id() else { return Ok(()) };
    Ok(rustix::fs::fchown(file, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))?)
}

/// The components of a path that is below the home directory.
fn components_below_home(path: &str) -> io::Result<Vec<&str>> {
    let parts: Option<Vec<&str>> = Path::new(path)
        .components()
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
        })
        .collect();
    match parts {
        Some(parts) if !parts.is_empty() => Ok(parts),
        Some(_) | None => Err(io::Error::new(io::ErrorKind::InvalidInput, "is not below the home directory")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::process_mode_config::ProcessModeConfig;
    use std::os::unix::fs::PermissionsExt;

    fn environment(dir: &Path) -> ExecutionEnvironment {
        let [home, work] = ["home", "work"].map(|name| dir.join(name));
        for dir in [&home, &work] {
            std::fs::create_dir(dir).unwrap();
        }
        let (agent_socket, controller_socket) = (dir.join("a"), dir.join("h"));
        let config = serde_json::json!({ "agent_socket": agent_socket, "controller_socket": controller_socket, "work_dir": work, "home": home, "image_hash": "x" });
        ExecutionEnvironment::for_process(serde_json::from_value::<ProcessModeConfig>(config).unwrap()).unwrap()
    }

    #[test]
    fn path_must_be_below_the_home() {
        assert_eq!(components_below_home(".a/b").unwrap(), [".a", "b"]);
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "./x"] {
            assert!(components_below_home(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn file_is_replaced_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let environment = environment(dir.path());
        let outside = dir.path().join("outside");
        std::fs::write(&outside, "theirs").unwrap();
        std::os::unix::fs::symlink(&outside, environment.home.join("link")).unwrap();
        write_home_file(&environment, "link", b"ours", 0o640).unwrap();
        assert_eq!(std::fs::read(environment.home.join("link")).unwrap(), b"ours");
        assert_eq!(std::fs::read(&outside).unwrap(), b"theirs");
        std::os::unix::fs::symlink(dir.path(), environment.home.join("away")).unwrap();
        let error = write_home_file(&environment, "away/x", b"ours", 0o600).unwrap_err().to_string();
        assert!(error.contains("away/x") && !dir.path().join("x").exists(), "{error}");
        write_home_file(&environment, ".a/b/c", b"1", 0o4640).unwrap();
        let mode = |path: &str| std::fs::metadata(environment.home.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(".a/b"), mode(".a/b/c"), mode("link")), (0o700, 0o640, 0o640));
        assert_eq!(std::fs::read_dir(environment.home.join(".a/b")).unwrap().count(), 1, "no temporary file is left");
    }
}
