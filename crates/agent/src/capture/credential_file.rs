//! Checks whether a file is the credential: it is JSON with everything that the provider requires, or text that matches a pattern; it was
//! written after the claim, and its content has changed since then.

use super::rejection::Rejection;
use anteroom_wire::provider::CredentialFormat;
use rustix::fs::{FileType, Mode, OFlags};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

/// File times are coarser than the clock: a file written right after the claim may appear this much older.
const COARSE_MS: u64 = 50;

/// The content of a file at one moment.
#[derive(Clone)]
pub(crate) struct FileSnapshot {
    pub(crate) bytes: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) stamp: FileStamp,
}

/// Identifies the content of a file: if two reads return the same stamp, the file was not changed in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileStamp {
    inode: u64,
    modified: SystemTime,
    pub(crate) digest: [u8; 32],
}

/// The digest of the content at a path at the claim; `None`: there was no file.
pub(crate) type Baseline = Option<[u8; 32]>;

/// The result of reading one path.
pub(crate) enum CheckResult {
    /// There is no file.
    Absent,
    /// The file has a content that does not count.
    Unchanged,
    /// The file is not a credential.
    Rejected(Rejection),
    /// A complete, new credential.
    Complete(FileSnapshot),
}

/// Reads `path` if it is a plain file of at most `bytes_max`. `Ok(None)`: there is no file.
fn read(path: &Path, bytes_max: u64) -> Result<Option<FileSnapshot>, Rejection> {
    // No link is followed and nothing that blocks is opened, since the tool controls the path.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err(Rejection::SymbolicLink),
        Err(error) => return Err(io::Error::from(error).into()),
    };
    let metadata = file.metadata()?;
    if FileType::from_raw_mode(metadata.mode()) != FileType::RegularFile {
        return Err(Rejection::NotAPlainFile);
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(Rejection::TooLarge { bytes_max });
    }
    let stamp =
        FileStamp { inode: metadata.ino(), modified: metadata.modified()?, digest: Sha256::digest(&bytes).into() };
    Ok(Some(FileSnapshot { bytes, mode: metadata.mode() & 0o7777, stamp }))
}

/// The current content at `path`, to be compared with later contents.
pub(crate) fn read_baseline(path: &Path, bytes_max: u64) -> Baseline {
    read(path, bytes_max).ok().flatten().map(|file| file.stamp.digest)
}

/// Decides whether a file counts as a credential.
pub(crate) struct CheckRules<'a> {
    pub(crate) format: &'a CredentialFormat,
    pub(crate) bytes_max: u64,
    /// Contents that do not count.
    pub(crate) ignored: Vec<[u8; 32]>,
    /// A file that was written earlier does not count; `None`: the time does not matter.
    pub(crate) not_before: Option<SystemTime>,
}

/// Reads and checks `path` once.
pub(crate) fn read_and_check(path: &Path, rules: &CheckRules<'_>) -> CheckResult {
    let file = match read(path, rules.bytes_max) {
        Ok(None) => return CheckResult::Absent,
        Ok(Some(file)) => file,
        Err(reason) => return CheckResult::Rejected(reason),
    };
    if rules.ignored.contains(&file.stamp.digest) {
        return CheckResult::Unchanged;
    }
    if rules.not_before.is_some_and(|time| file.is_older(time)) {
        return CheckResult::Rejected(Rejection::OlderThanSignIn);
    }
    match rules.format.check_bytes(&file.bytes) {
        Ok(()) => CheckResult::Complete(file),
        Err(fault) => CheckResult::Rejected(fault.into()),
    }
}

/// Reads a companion file of the credential, which may have any content: a plain file of at most `bytes_max`. `Ok(None)`: there is no
/// file, or it was neither written after `not_before` nor changed since `baseline`.
///
/// # Errors
/// Why the file is not delivered.
pub(crate) fn read_companion(
    path: &Path,
    bytes_max: u64,
    baseline: &Baseline,
    not_before: Option<SystemTime>,
) -> Result<Option<FileSnapshot>, Rejection> {
    let Some(file) = read(path, bytes_max)? else { return Ok(None) };
    let is_new = not_before.is_none_or(|time| !file.is_older(time)) || *baseline != Some(file.stamp.digest);
    Ok(is_new.then_some(file))
}

impl FileSnapshot {
    /// Whether the file was written before `than`, allowing for the resolution of file times.
    fn is_older(&self, than: SystemTime) -> bool {
        self.stamp.modified + Duration::from_millis(COARSE_MS) < than
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_wire::provider::{CredentialRules, FileFormat};

    const MAX: u64 = 1024;

    fn rules() -> CredentialRules {
        CredentialRules {
            paths: vec!["auth.json".into()],
            required: vec!["/tokens/access".into(), "/at".into()],
            ..CredentialRules::default()
        }
    }

    fn scan_with(
        path: &Path,
        rules: &CredentialRules,
        baseline: Baseline,
        not_before: Option<SystemTime>,
    ) -> CheckResult {
        let format = CredentialFormat::new(rules).unwrap();
        read_and_check(
            path,
            &CheckRules { format: &format, bytes_max: MAX, ignored: baseline.into_iter().collect(), not_before },
        )
    }

    fn check(content: &str, baseline: Baseline, not_before: Option<SystemTime>) -> Result<(), String> {
        check_with(&rules(), content.as_bytes(), baseline, not_before)
    }

    fn check_with(
        rules: &CredentialRules,
        content: &[u8],
        baseline: Baseline,
        not_before: Option<SystemTime>,
    ) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        std::fs::write(&path, content).unwrap();
        match scan_with(&path, rules, baseline, not_before) {
            CheckResult::Absent => Err("absent".into()),
            CheckResult::Unchanged => Err("unchanged".into()),
            CheckResult::Rejected(reason) => Err(reason.to_string()),
            CheckResult::Complete(file) => {
                assert_eq!(file.bytes, content);
                Ok(())
            }
        }
    }

    #[test]
    fn only_a_complete_credential_counts_and_a_rejection_names_keys_not_values() {
        let complete = r#"{"tokens":{"access":"s3cret"},"at":5,"extra":[]}"#;
        let check = |content: &str| check(content, None, Some(SystemTime::UNIX_EPOCH));
        assert_eq!(check(complete), Ok(()));
        for cut in 1..complete.len() {
            assert_eq!(check(&complete[..cut]), Err("not complete JSON".into()), "cut at {cut}");
        }
        assert_eq!(check(" \n"), Err("the file is empty".into()));
        assert_eq!(check(r#"{"tokens":{"access":""},"at":"s3cret"}"#), Err("missing or empty: /tokens/access".into()));
        assert_eq!(check(r#"{"tokens":null,"at":{}}"#), Err("missing or empty: /tokens/access, /at".into()));
        assert_eq!(check(&"x".repeat(2000)), Err("larger than 1024 bytes".into()));
    }

    #[test]
    fn content_from_before_the_claim_does_not_count() {
        let complete = r#"{"tokens":{"access":"a"},"at":1}"#;
        let same = Some(Sha256::digest(complete.as_bytes()).into());
        assert_eq!(check(complete, same, Some(SystemTime::UNIX_EPOCH)), Err("unchanged".into()));
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(check(complete, None, Some(later)), Err("older than the sign-in".into()));
        assert_eq!(check(complete, None, None), Ok(()));
    }

    #[test]
    fn text_counts_when_it_matches_and_a_rejection_quotes_nothing() {
        let text = CredentialRules {
            format: FileFormat::Text,
            text_matches: Some(r"(?m)^token = \S+$".into()),
            ..CredentialRules::default()
        };
        let check = |content: &[u8]| check_with(&text, content, None, None);
        assert_eq!(check(b"# x\ntoken = s3cret\n"), Ok(()));
        assert_eq!(check(b"token ="), Err("the text does not match the provider's pattern: it is incomplete, or the token is in a keyring instead of the file".into()));
        assert_eq!(check(b"token = \xff\n"), Err("not UTF-8 text".into()));
        assert_eq!(check(b" \n"), Err("the file is empty".into()));
    }

    #[test]
    fn companion_is_delivered_when_it_is_new_or_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts");
        assert!(read_companion(&path, MAX, &None, None).unwrap().is_none());
        std::fs::write(&path, "any").unwrap();
        let same: Baseline = Some(Sha256::digest("any").into());
        let later = SystemTime::now() + Duration::from_secs(60);
        assert!(read_companion(&path, MAX, &same, Some(later)).unwrap().is_none());
        assert!(read_companion(&path, MAX, &same, Some(SystemTime::UNIX_EPOCH)).unwrap().is_some());
        assert!(read_companion(&path, MAX, &None, Some(later)).unwrap().is_some());
        assert_eq!(read_companion(&path, 1, &None, None).err().unwrap(), Rejection::TooLarge { bytes_max: 1 });
    }

    #[test]
    fn link_and_pipe_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for (path, expected) in [(link, "a symbolic link"), (pipe, "not a plain file")] {
            let found = scan_with(&path, &rules(), None, None);
            assert!(matches!(found, CheckResult::Rejected(reason) if reason.to_string() == expected));
        }
        assert!(matches!(scan_with(&dir.path().join("none/x"), &rules(), None, None), CheckResult::Absent));
    }
}
