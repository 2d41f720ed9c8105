//! When a file counts as the credential: it is JSON with everything the provider requires, it was written after the
//! claim, and it is not what stood there before.

use anteroom_wire::provider::CredentialRules;
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

/// What stood at a path before the claim.
pub(crate) type Baseline = Option<[u8; 32]>;

/// What one look found.
pub(crate) enum Look {
    /// Nothing there.
    Absent,
    /// Something that is no credential; why, without any value.
    Rejected(String),
    /// A whole, new credential.
    Whole(Seen),
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

/// Looks at `path` once.
pub(crate) fn look(
    path: &Path,
    rules: &CredentialRules,
    bytes_max: u64,
    before: &Baseline,
    claimed_at: SystemTime,
) -> Look {
    let seen = match read(path, bytes_max) {
        Ok(None) => return Look::Absent,
        Ok(Some(Ok(seen))) => seen,
        Ok(Some(Err(why))) => return Look::Rejected(why),
        Err(error) => return Look::Rejected(format!("cannot be read: {}", error.kind())),
    };
    if before.as_ref() == Some(&seen.stamp.digest) {
        return Look::Rejected("the same as before the sign-in".to_owned());
    }
    if seen.stamp.modified + Duration::from_millis(COARSE_MS) < claimed_at {
        return Look::Rejected("older than the sign-in".to_owned());
    }
    match shape_fault(&seen.bytes, &rules.required) {
        Some(why) => Look::Rejected(why),
        None => Look::Whole(seen),
    }
}

/// What is wrong with the bytes' shape; names keys, never values.
fn shape_fault(bytes: &[u8], required: &[String]) -> Option<String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Some("empty".to_owned());
    }
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

    fn judge(content: &str, before: &Baseline, claimed_at: SystemTime) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        std::fs::write(&path, content).unwrap();
        match look(&path, &rules(), MAX, before, claimed_at) {
            Look::Absent => Err("absent".into()),
            Look::Rejected(why) => Err(why),
            Look::Whole(seen) => {
                assert_eq!(seen.bytes, content.as_bytes());
                Ok(())
            }
        }
    }

    #[test]
    fn only_a_whole_credential_counts_and_a_refusal_names_keys_not_values() {
        let long_ago = SystemTime::UNIX_EPOCH;
        let whole = r#"{"tokens":{"access":"s3cret"},"at":5,"extra":[]}"#;
        let judge = |content: &str| judge(content, &None, long_ago);
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
        assert_eq!(judge(whole, &same, SystemTime::UNIX_EPOCH), Err("the same as before the sign-in".into()));
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(judge(whole, &None, later), Err("older than the sign-in".into()));
    }

    #[test]
    fn a_link_or_a_pipe_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for (path, expected) in [(link, "a symbolic link"), (pipe, "not a plain file")] {
            let found = look(&path, &rules(), MAX, &None, SystemTime::UNIX_EPOCH);
            assert!(matches!(found, Look::Rejected(why) if why == expected));
        }
        assert!(matches!(look(&dir.path().join("none/x"), &rules(), MAX, &None, SystemTime::UNIX_EPOCH), Look::Absent));
    }
}
