//! When a file counts as the credential: it is JSON with everything that the provider requires, or text that matches; it was written
//! after the claim, and it is not what stood there before.

use anteroom_wire::provider::{CredentialRules, FileFormat};
use regex_lite::Regex;
use rustix::fs::{FileType, Mode, OFlags};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

/// File times are coarser than the clock: a file written right after the claim may look this much older.
const COARSE_MS: u64 = 50;

/// A file's content and what tells it from another.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) bytes: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) stamp: Stamp,
}

/// Two looks with the same stamp saw the same file, unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    modified: SystemTime,
    pub(crate) digest: [u8; 32],
}

/// What stood at a path at the claim.
pub(crate) type Baseline = Option<[u8; 32]>;

/// What one look found.
pub(crate) enum Look {
    /// Nothing there.
    Absent,
    /// What stood there before.
    Unchanged,
    /// Something that is no credential; why, without any value.
    Rejected(String),
    /// A whole, new credential.
    Whole(Seen),
}

/// What a provider's credential looks like.
pub(crate) enum Shape {
    /// JSON with something at each of these pointers.
    Json(Vec<String>),
    /// Text that matches.
    Text(Regex),
}

impl Shape {
    /// # Errors
    /// What is wrong with the rules.
    pub(crate) fn new(rules: &CredentialRules) -> Result<Self, String> {
        match (rules.format, &rules.text_matches) {
            (FileFormat::Json, _) => Ok(Self::Json(rules.required.clone())),
            (FileFormat::Text, Some(pattern)) => {
                let pattern = Regex::new(pattern).map_err(|error| format!("credential.text_matches: {error}"))?;
                Ok(Self::Text(pattern))
            }
            (FileFormat::Text, None) => Err("credential.text_matches is missing".to_owned()),
        }
    }

    /// What is wrong with the bytes; names keys, never values.
    fn fault(&self, bytes: &[u8]) -> Option<String> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Some("empty".to_owned());
        }
        match self {
            Self::Json(required) => json_fault(bytes, required),
            Self::Text(pattern) => match std::str::from_utf8(bytes) {
                Ok(text) if pattern.is_match(text) => None,
                Ok(_) => Some("does not look like the provider's credential".to_owned()),
                Err(_) => Some("not UTF-8 text".to_owned()),
            },
        }
    }
}

/// Reads `path` if it is a plain file of at most `bytes_max`. `Ok(None)`: nothing there.
fn read(path: &Path, bytes_max: u64) -> io::Result<Option<Result<Seen, String>>> {
    // No link is followed and nothing that blocks is opened: the tool chooses what stands here.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Ok(Some(Err("a symbolic link".to_owned()))),
        Err(error) => return Err(error.into()),
    };
    let about = file.metadata()?;
    if FileType::from_raw_mode(about.mode()) != FileType::RegularFile {
        return Ok(Some(Err("not a plain file".to_owned())));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Ok(Some(Err(format!("larger than {bytes_max} bytes"))));
    }
    let stamp = Stamp { inode: about.ino(), modified: about.modified()?, digest: Sha256::digest(&bytes).into() };
    Ok(Some(Ok(Seen { bytes, mode: about.mode() & 0o7777, stamp })))
}

/// What stands at `path` now, to be told apart from what comes later.
pub(crate) fn baseline(path: &Path, bytes_max: u64) -> Baseline {
    read(path, bytes_max).ok().flatten()?.ok().map(|seen| seen.stamp.digest)
}

/// What a file is measured by.
pub(crate) struct Measure<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) bytes_max: u64,
    /// Contents that do not count.
    pub(crate) before: Vec<[u8; 32]>,
    /// A file that was written earlier does not count; `None`: any that is not `before` does.
    pub(crate) since: Option<SystemTime>,
}

/// Looks at `path` once.
pub(crate) fn look(path: &Path, measure: &Measure<'_>) -> Look {
    let seen = match read(path, measure.bytes_max) {
        Ok(None) => return Look::Absent,
        Ok(Some(Ok(seen))) => seen,
        Ok(Some(Err(why))) => return Look::Rejected(why),
        Err(error) => return Look::Rejected(format!("cannot be read: {}", error.kind())),
    };
    if measure.before.contains(&seen.stamp.digest) {
        return Look::Unchanged;
    }
    if measure.since.is_some_and(|since| seen.is_older(since)) {
        return Look::Rejected("older than the sign-in".to_owned());
    }
    match measure.shape.fault(&seen.bytes) {
        Some(why) => Look::Rejected(why),
        None => Look::Whole(seen),
    }
}

/// A further file that belongs to the credential, whatever its content: a plain file of at most `bytes_max`. `Ok(None)`: there is
/// none, or what is there counts neither as new since `since` nor as changed from `before`.
///
/// # Errors
/// Why what stands there is not taken along.
pub(crate) fn beside(
    path: &Path,
    bytes_max: u64,
    before: &Baseline,
    since: Option<SystemTime>,
) -> Result<Option<Seen>, String> {
    let found = read(path, bytes_max).map_err(|error| format!("cannot be read: {}", error.kind()))?;
    let Some(seen) = found.transpose()? else { return Ok(None) };
    let is_new = since.is_none_or(|since| !seen.is_older(since)) || *before != Some(seen.stamp.digest);
    Ok(is_new.then_some(seen))
}

impl Seen {
    fn is_older(&self, than: SystemTime) -> bool {
        self.stamp.modified + Duration::from_millis(COARSE_MS) < than
    }
}

fn json_fault(bytes: &[u8], required: &[String]) -> Option<String> {
    // The parser's own message could quote the text.
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else {
        return Some("not whole JSON".to_owned());
    };
    let missing: Vec<&str> = required
        .iter()
        .filter(|pointer| {
            !value.pointer(pointer).is_some_and(|at| at.is_number() || at.as_str().is_some_and(|s| !s.is_empty()))
        })
        .map(String::as_str)
        .collect();
    (!missing.is_empty()).then(|| format!("missing {}", missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 1024;

    fn rules() -> CredentialRules {
        CredentialRules {
            paths: vec!["auth.json".into()],
            required: vec!["/tokens/access".into(), "/at".into()],
            ..CredentialRules::default()
        }
    }

    fn measured(path: &Path, rules: &CredentialRules, before: Baseline, since: Option<SystemTime>) -> Look {
        let shape = Shape::new(rules).unwrap();
        look(path, &Measure { shape: &shape, bytes_max: MAX, before: before.into_iter().collect(), since })
    }

    fn judge(content: &str, before: Baseline, since: Option<SystemTime>) -> Result<(), String> {
        judge_by(&rules(), content.as_bytes(), before, since)
    }

    fn judge_by(
        rules: &CredentialRules,
        content: &[u8],
        before: Baseline,
        since: Option<SystemTime>,
    ) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        std::fs::write(&path, content).unwrap();
        match measured(&path, rules, before, since) {
            Look::Absent => Err("absent".into()),
            Look::Unchanged => Err("unchanged".into()),
            Look::Rejected(why) => Err(why),
            Look::Whole(seen) => {
                assert_eq!(seen.bytes, content);
                Ok(())
            }
        }
    }

    #[test]
    fn only_a_whole_credential_counts_and_a_refusal_names_keys_not_values() {
        let whole = r#"{"tokens":{"access":"s3cret"},"at":5,"extra":[]}"#;
        let judge = |content: &str| judge(content, None, Some(SystemTime::UNIX_EPOCH));
        assert_eq!(judge(whole), Ok(()));
        for cut in 1..whole.len() {
            assert_eq!(judge(&whole[..cut]), Err("not whole JSON".into()), "cut at {cut}");
        }
        assert_eq!(judge(" \n"), Err("empty".into()));
        assert_eq!(judge(r#"{"tokens":{"access":""},"at":"s3cret"}"#), Err("missing /tokens/access".into()));
        assert_eq!(judge(r#"{"tokens":null,"at":{}}"#), Err("missing /tokens/access, /at".into()));
        assert_eq!(judge(&"x".repeat(2000)), Err("larger than 1024 bytes".into()));
    }

    #[test]
    fn what_was_there_before_does_not_count() {
        let whole = r#"{"tokens":{"access":"a"},"at":1}"#;
        let same = Some(Sha256::digest(whole.as_bytes()).into());
        assert_eq!(judge(whole, same, Some(SystemTime::UNIX_EPOCH)), Err("unchanged".into()));
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(judge(whole, None, Some(later)), Err("older than the sign-in".into()));
        assert_eq!(judge(whole, None, None), Ok(()));
    }

    #[test]
    fn a_text_counts_when_it_matches_and_a_refusal_quotes_nothing() {
        let text = CredentialRules {
            format: FileFormat::Text,
            text_matches: Some(r"(?m)^token = \S+$".into()),
            ..CredentialRules::default()
        };
        let judge = |content: &[u8]| judge_by(&text, content, None, None);
        assert_eq!(judge(b"# x\ntoken = s3cret\n"), Ok(()));
        assert_eq!(judge(b"token ="), Err("does not look like the provider's credential".into()));
        assert_eq!(judge(b"token = \xff\n"), Err("not UTF-8 text".into()));
        assert_eq!(judge(b" \n"), Err("empty".into()));
    }

    #[test]
    fn a_file_beside_is_taken_along_when_it_is_new_or_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts");
        assert!(beside(&path, MAX, &None, None).unwrap().is_none());
        std::fs::write(&path, "any").unwrap();
        let same: Baseline = Some(Sha256::digest("any").into());
        let later = SystemTime::now() + Duration::from_secs(60);
        assert!(beside(&path, MAX, &same, Some(later)).unwrap().is_none());
        assert!(beside(&path, MAX, &same, Some(SystemTime::UNIX_EPOCH)).unwrap().is_some());
        assert!(beside(&path, MAX, &None, Some(later)).unwrap().is_some());
        assert_eq!(beside(&path, 1, &None, None).err().unwrap(), "larger than 1 bytes");
    }

    #[test]
    fn a_link_or_a_pipe_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for (path, expected) in [(link, "a symbolic link"), (pipe, "not a plain file")] {
            let found = measured(&path, &rules(), None, None);
            assert!(matches!(found, Look::Rejected(why) if why == expected));
        }
        assert!(matches!(measured(&dir.path().join("none/x"), &rules(), None, None), Look::Absent));
    }
}
