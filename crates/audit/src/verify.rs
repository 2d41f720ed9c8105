//! Finds what was changed in a trail, and names the place.

mod chain;
mod heads;

use crate::{
    Head, MacKeys,
    head::{HEAD_FILE, ReadHead},
    record::FIRST_HASH,
    segments::list_segments,
};
use chain::ChainWalk;
use heads::check_heads;
use serde::{Deserialize, Serialize};
use std::{io, path::Path, thread, time::Duration};

/// Findings that are listed; a trail that was rewritten has one for each record.
const FINDINGS_MAX: usize = 100;
/// How often the head of a trail that is written at the same time is read.
const ATTEMPTS_MAX: u32 = 10;
/// The wait before it is read again.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(50);

/// A head from another place than the head file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHead {
    /// The place, as a phrase: "the database".
    pub place: String,
    /// The head. `None`: what is stored there is not authentic.
    pub head: Option<Head>,
}

impl KnownHead {
    /// The head that a running server has in its memory.
    pub(crate) fn of_server(head: Head) -> Self {
        Self { place: "the running server".to_owned(), head: Some(head) }
    }
}

/// Something that was changed, removed or added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "utoipa", schema(as = AuditFinding))]
pub struct Finding {
    /// The kind, for programs: docs/audit.md lists them.
    pub kind: String,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in the file, 1 for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The first record that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_seq: Option<u64>,
    /// The last record that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_seq: Option<u64>,
    /// One sentence, for people.
    pub text: String,
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "utoipa", schema(as = AuditVerification))]
pub struct Verification {
    /// Whether nothing was found.
    pub intact: bool,
    /// Records that were read.
    pub records: u64,
    /// Files that were read.
    pub files: u64,
    /// The first record that is kept; records before it were removed by the retention.
    pub first_seq: u64,
    /// The last record.
    pub last_seq: u64,
    /// The hash of the last record.
    pub last_hash: String,
    /// The last record that a MAC authenticates, and with it all before it; 0 without a key.
    pub authenticated_to: u64,
    /// What was found, in the order of the files; at most 100.
    pub findings: Vec<Finding>,
}

impl Finding {
    fn new(kind: &str, text: String) -> Self {
        Self { kind: kind.to_owned(), file: None, line: None, from_seq: None, to_seq: None, text }
    }

    fn at(self, file: &str, line: u64) -> Self {
        Self { file: Some(file.to_owned()), line: Some(line), ..self }
    }

    fn records(self, from: u64, to: u64) -> Self {
        Self { from_seq: Some(from), to_seq: Some(to), ..self }
    }
}

/// Verifies the trail in a directory. Without keys, MACs are not checked: a chain that was calculated again after a change is then noticed
/// only by its heads. `known` are heads from other places than the head file.
///
/// # Errors
/// A file cannot be read.
pub fn verify(dir: &Path, keys: &MacKeys, known: &[KnownHead]) -> io::Result<Verification> {
    // The head is read before the records: a trail that is written at the same time then has its record.
    let stored = Head::read(&dir.join(HEAD_FILE), keys)?;
    let mut walk = ChainWalk::new(keys);
    for segment in list_segments(dir)? {
        walk.read_segment(&segment)?;
    }
    walk.end();
    let newest = wait_for_head(dir, keys, walk.last.seq)?;
    let mut findings = std::mem::take(&mut walk.findings);
    findings.extend(check_heads(&walk, &stored, &newest, known));
    findings.truncate(FINDINGS_MAX);
    Ok(Verification {
        intact: findings.is_empty(),
        records: walk.records,
        files: walk.files,
        first_seq: walk.first_seq,
        last_seq: walk.last.seq,
        last_hash: walk.last.hash,
        authenticated_to: walk.authenticated_to,
        findings,
    })
}

/// The head file, after a writer had the time to write the head of the record `last`, which it writes after the record.
fn wait_for_head(dir: &Path, keys: &MacKeys, last: u64) -> io::Result<ReadHead> {
    let mut attempts = 1;
    loop {
        let newest = Head::read(&dir.join(HEAD_FILE), keys)?;
        match &newest {
            ReadHead::Found(head) if head.seq < last && attempts < ATTEMPTS_MAX => {
                attempts += 1;
                #[expect(
                    clippy::disallowed_methods,
                    reason = "callers run it on a thread for blocking work, and the writer gives no signal"
                )]
                thread::sleep(ATTEMPT_INTERVAL);
            }
            ReadHead::Found(_) | ReadHead::Missing | ReadHead::Forged => return Ok(newest),
        }
    }
}

/// Whether a record is the first of all.
fn is_first(seq: u64, prev: &str) -> bool {
    seq == 1 && prev == FIRST_HASH
}

#[cfg(test)]
mod tests;
