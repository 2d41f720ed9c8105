//! Files of an operator in the image, and a script that runs in it while it is built.
//!
//! Each file is given with its SHA-256, so that an image is described by its settings alone. It is copied into the build's temporary
//! directory while it is hashed, and only that copy is used.

use super::{build_error::BuildError, hook::HOOK_PATH, progress::BuildStep, recipe::Cli};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The largest file, bytes.
pub const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// The largest hook, bytes.
pub const HOOK_BYTES_MAX: u64 = 1024 * 1024;
/// Where a file may be in the image: nothing of the packages, of the agent or of the guest's settings is there.
const PLACES: [&str; 3] = ["/etc/opt/", "/opt/", "/usr/local/"];
/// Below this directory a file that can be executed is a tool.
const PROGRAMS: &str = "/usr/local/bin/";

/// Directories of the system below these places.
const DIRECTORIES: [&str; 8] = [
    "/usr/local/bin",
    "/usr/local/etc",
    "/usr/local/games",
    "/usr/local/include",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/local/share",
    "/usr/local/src",
];

/// A file of this host in the image. Its owner there is root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraFile {
    /// Its absolute path on this host.
    pub source: PathBuf,
    /// The SHA-256 of its content, hexadecimal.
    pub sha256: String,
    /// Its absolute path in the image, below `/usr/local`, `/opt` or `/etc/opt`.
    pub path: String,
    /// Its permissions, octal.
    #[serde(default = "ExtraFile::default_mode")]
    pub mode: String,
    /// The version of a tool, for people; by default the first 12 characters of `sha256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A script that runs once in the root directory of the image, after the packages are installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Its absolute path on this host. Its first line names its interpreter, which must be in the packages.
    pub script: PathBuf,
    /// The SHA-256 of its content, hexadecimal.
    pub sha256: String,
    /// Whether it may use this host's network.
    #[serde(default)]
    pub network: bool,
}

/// An extra file in the build's temporary directory; its content was verified.
#[derive(Debug)]
pub(super) struct VerifiedFile {
    /// The copy.
    pub(super) copy: PathBuf,
    /// The path in the guest, without the leading `/`.
    pub(super) guest_path: String,
    pub(super) mode: u32,
}

impl ExtraFile {
    fn default_mode() -> String {
        "0644".to_owned()
    }

    /// The permissions; `None`: `mode` is not octal or has bits other than those for reading, writing and executing.
    fn permissions(&self) -> Option<u32> {
        let is_octal = (3..=4).contains(&self.mode.len()) && self.mode.bytes().all(|b| matches!(b, b'0'..=b'7'));
        u32::from_str_radix(&self.mode, 8).ok().filter(|mode| is_octal && *mode <= 0o777)
    }

    /// Everything that is wrong with the entry; empty if it is valid. Does not look at the file.
    pub fn validation_errors(&self) -> Vec<String> {
        let is_plain = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+' | b'@'))
        };
        let place = PLACES.iter().find_map(|place| self.path.strip_prefix(place));
        let checks = [
            (self.source.is_absolute(), "source is not an absolute path of this host"),
            (is_sha256(&self.sha256), "sha256 is not 64 hexadecimal digits in lower case"),
            (place.is_some(), "path is not below /usr/local, /opt or /etc/opt"),
            (
                place.is_none_or(|below| below.split('/').all(is_plain)),
                "path has an empty part, `.`, `..` or an unusual character",
            ),
            (self.path != "/usr/local/bin/anteroom-demo", "path belongs to the demo tool"),
            (
                self.permissions().is_some(),
                "mode is not octal between 0000 and 0777: set-user-id, set-group-id and sticky bits are not possible",
            ),
            (
                self.version.as_deref().is_none_or(|version| (1..=64).contains(&version.len()) && is_plain(version)),
                "version is not a version",
            ),
        ];
        checks.into_iter().filter(|(good, _)| !good).map(|(_, wrong)| wrong.to_owned()).collect()
    }

    /// The tool that this file is, with its version; `None`: it is not a program of a user's path.
    pub(super) fn as_tool(&self) -> Option<(String, String)> {
        let name = self.path.strip_prefix(PROGRAMS).filter(|name| !name.contains('/'))?;
        let is_program = self.permissions().is_some_and(|mode| mode & 0o111 != 0);
        let version = self.version.clone().unwrap_or_else(|| self.sha256.chars().take(12).collect());
        is_program.then(|| (name.to_owned(), version))
    }

    fn named(&self) -> Named<'_> {
        ("image.extra_files.source", &self.source, &self.sha256, FILE_BYTES_MAX)
    }

    /// Reads it and verifies its hash.
    ///
    /// # Errors
    /// As [`ExtraFile::verify`].
    pub(super) fn check(&self) -> Result<(), BuildError> {
        read_verified(self.named(), |_| Ok(()))
    }

    /// Copies it to `copy` and verifies its hash.
    ///
    /// # Errors
    /// It cannot be read, is no regular file, is too large, or has another content.
    pub(super) fn verify(&self, copy: PathBuf) -> Result<VerifiedFile, BuildError> {
        copy_verified(self.named(), &copy)?;
        let guest_path = self.path.trim_start_matches('/').to_owned();
        // The settings were validated; the mask is the last guard.
        Ok(VerifiedFile { copy, guest_path, mode: self.permissions().unwrap_or(0o644) & 0o777 })
    }
}

impl Hook {
    /// Everything that is wrong with the entry; empty if it is valid. Does not look at the script.
    pub fn validation_errors(&self) -> Vec<String> {
        let checks = [
            (self.script.is_absolute(), "script is not an absolute path of this host"),
            (is_sha256(&self.sha256), "sha256 is not 64 hexadecimal digits in lower case"),
        ];
        checks.into_iter().filter(|(good, _)| !good).map(|(_, wrong)| wrong.to_owned()).collect()
    }

    fn named(&self) -> Named<'_> {
        ("image.hook.script", &self.script, &self.sha256, HOOK_BYTES_MAX)
    }

    /// Reads it and verifies its hash and its first bytes.
    ///
    /// # Errors
    /// As [`Hook::verify`].
    pub(super) fn check(&self) -> Result<(), BuildError> {
        read_verified(self.named(), |_| Ok(()))?;
        self.check_head(&self.script)
    }

    /// Copies it to `copy` and verifies its hash.
    ///
    /// # Errors
    /// As [`ExtraFile::verify`]; or it does not begin with `#!`.
    pub(super) fn verify(&self, copy: PathBuf) -> Result<PathBuf, BuildError> {
        copy_verified(self.named(), &copy)?;
        self.check_head(&copy)?;
        Ok(copy)
    }

    fn check_head(&self, at: &Path) -> Result<(), BuildError> {
        let mut head = [0; 2];
        let got = File::open(at).and_then(|mut file| super::read_up_to(&mut file, &mut head));
        match got.map(|got| &head[..got]) {
            Ok(b"#!") => Ok(()),
            _ => Err(refused(&self.script, format!("does not begin with #!, so {HOOK_PATH} could not be run"))),
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn refused(path: &Path, why: String) -> BuildError {
    BuildError::InvalidBinary { path: path.to_owned(), why }
}

/// A file of a setting: the setting, the path, the SHA-256, the largest size in bytes.
type Named<'a> = (&'a str, &'a Path, &'a str, u64);

/// Copies the file to `copy` and verifies its hash.
fn copy_verified(named: Named<'_>, copy: &Path) -> Result<(), BuildError> {
    let not_written = |error| BuildError::Io { step: BuildStep::Check, path: copy.to_owned(), source: error };
    let mut out = File::create(copy).map_err(not_written)?;
    read_verified(named, |bytes| out.write_all(bytes).map_err(not_written))
}

/// Reads the file, passes its bytes on, and verifies its hash.
fn read_verified(named: Named<'_>, mut pass_on: impl FnMut(&[u8]) -> Result<(), BuildError>) -> Result<(), BuildError> {
    let (setting, source, sha256, bytes_max) = named;
    let unreadable = |error: io::Error| refused(source, format!("({setting}) cannot be read: {error}"));
    // A pipe or a device would block or never end.
    let options = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(options).open(source).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(refused(source, format!("({setting}) is not a regular file")));
    }
    let mut limited = file.take(bytes_max + 1);
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0_u64, vec![0; 1 << 20]);
    loop {
        let got = limited.read(&mut buffer).map_err(unreadable)?;
        if got == 0 {
            break;
        }
        hash.update(&buffer[..got]);
        pass_on(&buffer[..got])?;
        bytes += got as u64;
    }
    if bytes > bytes_max {
        return Err(refused(source, format!("is larger than {} MiB", bytes_max >> 20)));
    }
    let found = hex::encode(hash.finalize());
    if found != sha256 {
        return Err(refused(
            source,
            format!("({setting}) has another content: its SHA-256 is {found}, the configuration has {sha256}"),
        ));
    }
    Ok(())
}

/// Which of these files cannot be in one image, one sentence each: two of them, or one and a tool of the other settings or the recipe,
/// have the same path, or the path of one is a directory that another needs.
pub fn collisions(files: &[ExtraFile], clis: &[Cli], packages: &[String]) -> Vec<String> {
    let mut errors = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let path = &file.path;
        let mut wrong = |why: String| errors.push(format!("image.extra_files[{at}] {path:?}: {why}"));
        let (same, before): (Vec<_>, _) = files[..at].iter().partition(|other| other.path == *path);
        if !same.is_empty() {
            wrong("another entry has the same path".to_owned());
        }
        let is_below = |lower: &str, upper: &str| lower.strip_prefix(upper).is_some_and(|rest| rest.starts_with('/'));
        let nested = before.into_iter().find(|other| is_below(path, &other.path) || is_below(&other.path, path));
        let nested = nested.filter(|other| !DIRECTORIES.contains(&other.path.as_str()));
        if let Some(other) = nested {
            wrong(format!("{:?} cannot be a file and a directory", path.as_str().min(other.path.as_str())));
        }
        if DIRECTORIES.contains(&path.as_str()) {
            wrong("is a directory of the system".to_owned());
        }
        for cli in clis {
            let own = format!("/usr/local/lib/{}", cli.name);
            let is_program = path.strip_prefix(PROGRAMS) == Some(cli.name.as_str());
            if is_program || (cli.whole && (*path == own || is_below(path, &own))) {
                wrong(format!("image.extra_clis has the tool {:?} there", cli.name));
            }
        }
        if let Some((name, _)) = file.as_tool().filter(|(name, _)| packages.contains(name)) {
            wrong(format!("image.extra_packages has the tool {name:?} too"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(source: &Path, content: &[u8]) -> ExtraFile {
        ExtraFile {
            source: source.to_owned(),
            sha256: hex::encode(Sha256::digest(content)),
            path: "/usr/local/bin/acme".to_owned(),
            mode: "0755".to_owned(),
            version: None,
        }
    }

    #[test]
    fn every_fault_of_an_extra_file_is_named() {
        let good = file(Path::new("/srv/acme"), b"x");
        assert_eq!(good.validation_errors(), Vec::<String>::new());
        assert_eq!(good.as_tool(), Some(("acme".to_owned(), good.sha256[..12].to_owned())));
        let with = |change: &dyn Fn(&mut ExtraFile)| {
            let mut changed = good.clone();
            change(&mut changed);
            changed.validation_errors().join("; ")
        };
        for mode in ["4755", "2755", "1777", "0999", "rwx", "7", "00755"] {
            assert!(with(&|file| file.mode = mode.to_owned()).contains("set-user-id"), "{mode}");
        }
        for path in
            ["/usr/bin/acme", "usr/local/bin/acme", "/etc/passwd", "/home/user/.bashrc", "/usr/local", "/optional/x"]
        {
            assert!(with(&|file| file.path = path.to_owned()).contains("path is not below"), "{path}");
        }
        for path in
            ["/usr/local/../bin/sh", "/opt/a//b", "/opt/", "/usr/local/bin/a b", "/usr/local/bin/'x'", "/opt/./a"]
        {
            assert!(with(&|file| file.path = path.to_owned()).contains("unusual character"), "{path}");
        }
        assert!(with(&|file| file.path = "/usr/local/bin/anteroom-demo".to_owned()).contains("demo"));
        assert!(with(&|file| file.source = "acme".into()).contains("absolute"));
        assert!(with(&|file| file.sha256 = "ABC".to_owned()).contains("64 hexadecimal"));
        let library = ExtraFile { path: "/opt/acme/lib.js".to_owned(), ..good.clone() };
        assert_eq!((library.validation_errors(), library.as_tool()), (Vec::new(), None));
        assert_eq!(ExtraFile { mode: "0644".to_owned(), ..good }.as_tool(), None, "it cannot be executed");
    }

    #[test]
    fn file_is_refused_if_it_is_missing_has_another_content_or_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("acme");
        let why = |file: &ExtraFile| file.verify(dir.path().join("copy")).unwrap_err().to_string();
        assert!(why(&file(&source, b"right")).contains("cannot be read"));
        std::fs::write(&source, b"right").unwrap();
        let verified = file(&source, b"right").verify(dir.path().join("copy")).unwrap();
        assert_eq!((verified.guest_path.as_str(), verified.mode), ("usr/local/bin/acme", 0o755));
        assert_eq!(std::fs::read(&verified.copy).unwrap(), b"right");
        let differs = why(&file(&source, b"wrong"));
        for content in [b"right", b"wrong"] {
            assert!(differs.contains(&hex::encode(Sha256::digest(content))), "{differs}");
        }
        assert!(differs.contains("image.extra_files.source"), "{differs}");
        assert!(why(&file(dir.path(), b"")).contains("not a regular file"));
        let large = copy_verified(("x", &source, "", 3), &dir.path().join("copy")).unwrap_err().to_string();
        assert!(large.contains("larger than"), "{large}");
        let script = Hook { script: source.clone(), sha256: hex::encode(Sha256::digest(b"right")), network: false };
        assert!(script.verify(dir.path().join("copy")).unwrap_err().to_string().contains("#!"));
    }

    #[test]
    fn files_that_exclude_each_other_are_named_all_at_once() {
        let at = |path: &str| ExtraFile { path: path.to_owned(), ..file(Path::new("/srv/acme"), b"x") };
        let cli: Cli = toml::from_str(
            "name = 'qwen'\nversion = '1'\npackage = 'q@1'\nintegrity = 'sha512-x'\nexecutable = 'package/q'\nwhole = true",
        )
        .unwrap();
        let paths = [
            "/opt/acme",
            "/opt/acme",
            "/opt/acme/lib.js",
            "/usr/local/bin",
            "/usr/local/bin/qwen",
            "/usr/local/lib/qwen/x.js",
            "/usr/local/bin/gh",
            "/opt/acme-2",
        ];
        let errors = collisions(&paths.map(at), &[cli], &["gh".to_owned()]);
        let expected =
            ["same path", "a directory", "directory of the system", "extra_clis", "extra_clis", "extra_packages"];
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for (index, (error, part)) in errors.iter().zip(expected).enumerate() {
            assert!(error.starts_with(&format!("image.extra_files[{}]", index + 1)) && error.contains(part), "{error}");
        }
        assert!(errors[1].contains("\"/opt/acme\" cannot be"), "{errors:?}");
    }
}
