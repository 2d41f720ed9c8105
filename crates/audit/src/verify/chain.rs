//! Walks the records in the order of the files.

use super::{FINDINGS_MAX, Finding, is_first};
use crate::{
    Action, Head, MacKeys, Record,
    read::read_line,
    record::Line,
    segments::{Segment, file_name},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader},
};

/// Hashes that are kept, for records in another order and heads in other places.
const HASHES_MAX: usize = 4_096;

/// What was read so far.
pub(super) struct ChainWalk<'a> {
    keys: &'a MacKeys,
    pub(super) records: u64,
    pub(super) files: u64,
    pub(super) first_seq: u64,
    /// The record with the highest number.
    pub(super) last: Head,
    pub(super) authenticated_to: u64,
    pub(super) findings: Vec<Finding>,
    /// The hashes of the last records.
    pub(super) hashes: BTreeMap<u64, String>,
    /// The number of the file before.
    segment: Option<u64>,
    /// The hash before the first record, and its place.
    first: Option<(String, String)>,
    /// The ends of removed files, by the number of their last record.
    pruned: BTreeMap<u64, String>,
    /// The first record since the last one with a valid MAC whose key is not known.
    unknown_key: Option<(u64, u32)>,
}

impl<'a> ChainWalk<'a> {
    pub(super) fn new(keys: &'a MacKeys) -> Self {
        Self {
            keys,
            records: 0,
            files: 0,
            first_seq: 0,
            last: Head::default(),
            authenticated_to: 0,
            findings: Vec::new(),
            hashes: BTreeMap::new(),
            segment: None,
            first: None,
            pruned: BTreeMap::new(),
            unknown_key: None,
        }
    }

    pub(super) fn read_segment(&mut self, segment: &Segment) -> io::Result<()> {
        let name = file_name(segment.number);
        if let Some(before) = self.segment.filter(|before| before + 1 < segment.number) {
            let (from, to) = (file_name(before + 1), file_name(segment.number - 1));
            let files = if from == to { from } else { format!("{from} to {to}") };
            self.found(Finding::new("file_missing", format!("{files}: missing, before {name}.")));
        }
        self.segment = Some(segment.number);
        self.files += 1;
        let file = match File::open(&segment.path) {
            Ok(file) => file,
            // The retention removed it since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut reader = BufReader::new(file);
        let (mut number, mut read) = (0, 0);
        while let Some(line) = read_line(&mut reader)? {
            number += 1;
            read += u64::try_from(line.len()).unwrap_or(u64::MAX) + 1;
            match Line::parse(&line) {
                Some(line) => self.read_record(line, &name, number),
                None => {
                    let text = format!("{name}, line {number}: this is not a record.");
                    self.found(Finding::new("malformed", text).at(&name, number));
                }
            }
        }
        if read < segment.bytes {
            let text = format!("{name}, line {}: the line has no end.", number + 1);
            self.found(Finding::new("unfinished", text).at(&name, number + 1));
        }
        Ok(())
    }

    fn read_record(&mut self, line: Line<'_>, file: &str, number: u64) {
        let has_valid_hash = line.has_valid_hash();
        let record = line.record;
        let seq = record.seq;
        self.records += 1;
        if self.first.is_none() {
            self.first = Some((record.prev.clone(), file.to_owned()));
            self.first_seq = seq;
        } else {
            self.check_order(&record, file, number);
        }
        if has_valid_hash {
            self.check_mac(&record, file, number);
        } else {
            let text =
                format!("{file}, line {number}: record {seq} was changed: its hash does not belong to its content.");
            self.found(Finding::new("changed", text).at(file, number).records(seq, seq));
        }
        if record.action == Action::TrailPrune.as_str()
            && let (Some(seq), Some(hash)) = (record.details.get("last_seq"), record.details.get("last_hash"))
            && let Ok(seq) = seq.parse()
        {
            self.pruned.insert(seq, hash.clone());
        }
        if seq > self.last.seq {
            self.last = Head { seq, hash: record.hash.clone() };
        }
        self.hashes.insert(seq, record.hash);
        if self.hashes.len() > HASHES_MAX {
            self.hashes.pop_first();
        }
    }

    /// Compares number and link of a record with those before it.
    fn check_order(&mut self, record: &Record, file: &str, number: u64) {
        let (seq, last) = (record.seq, self.last.seq);
        if seq <= last {
            let missing = self.findings.iter_mut().rfind(|finding| {
                finding.kind == "removed" && finding.from_seq <= Some(seq) && Some(seq) <= finding.to_seq
            });
            let text = format!("{file}, line {number}: record {seq} follows record {last}: it was moved or repeated.");
            let finding = Finding::new("order", text).at(file, number).records(seq, last);
            match missing {
                // It was not removed, but moved here.
                Some(missing) if missing.from_seq == missing.to_seq => *missing = finding,
                Some(_) | None => self.found(finding),
            }
        } else if seq > last + 1 {
            let text = format!(
                "{file}, line {number}: {} removed before record {seq}.",
                if last + 2 == seq {
                    format!("record {} was", last + 1)
                } else {
                    format!("records {} to {} were", last + 1, seq - 1)
                }
            );
            self.found(Finding::new("removed", text).at(file, number).records(last + 1, seq - 1));
        } else if self.last.hash != record.prev {
            let text = format!(
                "{file}, line {number}: record {seq} does not continue record {last}: one of them was replaced."
            );
            self.found(Finding::new("link", text).at(file, number).records(last, seq));
        }
    }

    fn check_mac(&mut self, record: &Record, file: &str, number: u64) {
        let seq = record.seq;
        match record.check_mac(self.keys) {
            Some(true) => {
                self.authenticated_to = self.authenticated_to.max(seq);
                self.unknown_key = None;
            }
            Some(false) => {
                let text = format!(
                    "{file}, line {number}: record {seq} was not written by this server: its MAC is not one of key {}.",
                    record.key
                );
                self.found(Finding::new("forged", text).at(file, number).records(seq, seq));
            }
            None => _ = self.unknown_key.get_or_insert((seq, record.key)),
        }
    }

    /// Checks the beginning and the end of the chain.
    pub(super) fn end(&mut self) {
        if let Some((prev, file)) = self.first.take()
            && !is_first(self.first_seq, &prev)
            && self.pruned.get(&(self.first_seq.saturating_sub(1))) != Some(&prev)
        {
            let to = self.first_seq.saturating_sub(1);
            let text = format!(
                "{file}: records 1 to {to} are missing before the first one, and no retention removed exactly them."
            );
            self.findings.insert(0, Finding::new("beginning_missing", text).at(&file, 1).records(1, to));
        }
        if let Some((from, key)) = self.unknown_key.filter(|_| !self.keys.is_empty()) {
            let to = self.last.seq;
            let text = format!(
                "records {from} to {to} are not authenticated: key {key} is not in the key ring, and no later record has a MAC that is."
            );
            self.found(Finding::new("not_authenticated", text).records(from, to));
        }
    }

    fn found(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}
