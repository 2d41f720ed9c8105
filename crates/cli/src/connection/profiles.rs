//! The file with the profiles of this user: addresses of servers and tokens. Only its owner may read it; it is replaced as a whole.

use super::server_url::ServerUrl;
use anteroom_wire::Secret;
use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The name of this user's own server, which needs no profile.
pub(crate) const LOCAL: &str = "local";
/// Maximum size of the file, bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Maximum length of a profile's name, bytes.
const NAME_BYTES_MAX: usize = 64;

/// A server and the token for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// The server's address.
    pub(crate) server: String,
    /// The token.
    pub(crate) token: Secret,
    /// The file of authorities that are trusted instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cacert: Option<PathBuf>,
    /// The token may be sent without TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) plain_http: bool,
}

/// All profiles.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profiles {
    /// The profile in use; absent: this user's own server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

impl Profiles {
    /// Reads the file. Without one there are no profiles.
    ///
    /// # Errors
    /// It cannot be read, is malformed, or others may read it.
    pub(crate) fn read() -> anyhow::Result<Self> {
        file_path().map_or_else(|| Ok(Self::default()), |path| read_file(&path))
    }

    /// Changes the file while no other command does.
    ///
    /// # Errors
    /// It cannot be read or written; what `change` returns.
    pub(crate) fn update<T>(change: impl FnOnce(&mut Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let path = file_path().context("neither HOME nor XDG_CONFIG_HOME is set: there is no place for profiles")?;
        update_file(&path, change)
    }

    /// The profile in use and its name.
    pub(crate) fn current(&self) -> Option<(&str, &Profile)> {
        let name = self.current.as_deref()?;
        self.profiles.get(name).map(|profile| (name, profile))
    }

    /// The profile of this name.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn get(&self, name: &str) -> anyhow::Result<&Profile> {
        self.profiles.get(name).with_context(|| self.unknown(name))
    }

    /// A profile of this server: the one in use if it is for it.
    pub(crate) fn of_server(&self, url: &ServerUrl) -> Option<&Profile> {
        let is_for = |profile: &&Profile| profile.server.parse::<ServerUrl>().is_ok_and(|server| server == *url);
        let current = self.current().map(|(_, profile)| profile);
        current.into_iter().chain(self.profiles.values()).find(is_for)
    }

    /// All profiles by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Profile)> {
        self.profiles.iter().map(|(name, profile)| (name.as_str(), profile))
    }

    /// Adds or replaces a profile and uses it from now on.
    ///
    /// # Errors
    /// The name is not possible.
    pub(crate) fn insert(&mut self, name: &str, profile: Profile) -> anyhow::Result<()> {
        let is_valid = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        anyhow::ensure!(is_valid && name != LOCAL, "{name:?} cannot be the name of a profile");
        self.profiles.insert(name.to_owned(), profile);
        self.current = Some(name.to_owned());
        Ok(())
    }

    /// Uses this profile from now on, or this user's own server (`local`).
    ///
    /// # Errors
    /// There is no such profile.
    pub(crate) fn set_current(&mut self, name: &str) -> anyhow::Result<()> {
        if name == LOCAL {
            self.current = None;
            return Ok(());
        }
        self.get(name)?;
        self.current = Some(name.to_owned());
        Ok(())
    }

    /// Removes a profile with its token.
    ///
    /// # Errors
    /// There is no such profile.
    pub(crate) fn remove(&mut self, name: &str) -> anyhow::Result<Profile> {
        let removed = self.profiles.remove(name).with_context(|| self.unknown(name))?;
        if self.current.as_deref() == Some(name) {
            self.current = None;
        }
        Ok(removed)
    }

    fn unknown(&self, name: &str) -> String {
        let names: Vec<&str> = self.profiles.keys().map(String::as_str).chain([LOCAL]).collect();
        format!("there is no profile {name:?}; there are: {}", names.join(", "))
    }
}

/// `$XDG_CONFIG_HOME/anteroom/auth.toml`, or below `~/.config`.
fn file_path() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(base.join("anteroom").join("auth.toml"))
}

fn read_file(path: &Path) -> anyhow::Result<Profiles> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Profiles::default()),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    let mode = file.metadata()?.mode() & 0o777;
    anyhow::ensure!(
        mode & 0o077 == 0,
        "{} has tokens, and others may read it (mode {mode:o}): chmod 600 it, and revoke the tokens if others have",
        path.display()
    );
    let mut text = Zeroizing::new(String::new());
    let read = Read::by_ref(&mut file).take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.with_context(|| format!("{} cannot be read", path.display()))?;
    // The error of the parser would show the line, which may have a token.
    toml::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.message()))
}

fn update_file<T>(path: &Path, change: impl FnOnce(&mut Profiles) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let dir = path.parent().context("the file has a directory")?;
    let not_written = || format!("{} cannot be written", path.display());
    DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(not_written)?;
    let lock = File::open(dir).with_context(not_written)?;
    flock(&lock, FlockOperation::LockExclusive).with_context(not_written)?;
    let mut profiles = read_file(path)?;
    let result = change(&mut profiles)?;
    let text = Zeroizing::new(toml::to_string(&profiles)?);
    let mut builder = tempfile::Builder::new();
    let file = builder.prefix(".auth-").permissions(Permissions::from_mode(0o600)).tempfile_in(dir);
    let mut file = file.with_context(not_written)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).with_context(not_written)?;
    file.persist(path).map_err(|error| error.error).with_context(not_written)?;
    fs::File::sync_all(&lock).with_context(not_written)?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(server: &str) -> Profile {
        Profile { server: server.into(), token: Secret::new("ant_SECRET".into()), cacert: None, plain_http: false }
    }

    #[test]
    fn profiles_are_kept_in_a_file_that_only_the_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/auth.toml");
        for name in ["one", "two"] {
            update_file(&path, |all| all.insert(name, profile(&format!("https://{name}.example")))).unwrap();
        }
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
        let all = read_file(&path).unwrap();
        assert_eq!(all.current().unwrap().0, "two", "the newest is in use");
        let of_one = all.of_server(&"one.example".parse().unwrap()).unwrap();
        assert_eq!(of_one.token.expose(), "ant_SECRET");
        assert!(!format!("{all:?}").contains("SECRET"));
        update_file(&path, |all| all.set_current("local")).unwrap();
        assert!(read_file(&path).unwrap().current().is_none());
        assert!(
            update_file(&path, |all| all.set_current("three")).unwrap_err().to_string().contains("one, two, local")
        );
        update_file(&path, |all| all.remove("one").map(drop)).unwrap();
        assert!(read_file(&path).unwrap().get("one").is_err());
        for name in ["", "local", "a b", "a\u{1b}"] {
            assert!(update_file(&path, |all| all.insert(name, profile("https://a.example"))).is_err(), "{name:?}");
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file remains");
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_malformed_is_refused_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.toml");
        fs::write(&path, "token ant_SECRET").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(read_file(&path).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = format!("{:#}", read_file(&path).unwrap_err());
        assert!(error.contains("auth.toml") && !error.contains("SECRET"), "{error}");
    }
}
