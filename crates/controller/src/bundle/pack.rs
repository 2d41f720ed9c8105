//! The archive: files of bounded size, and a manifest that says what was cut.

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    io::{self, Write},
};

/// An archive in the making.
pub(super) struct Pack {
    tar: tar::Builder<GzEncoder<Vec<u8>>>,
    /// What all names begin with, so that unpacking makes one directory.
    top: String,
    part_bytes_max: usize,
    made_at_ms: u64,
    files: Vec<Value>,
}

/// The last lines of a file in the making.
#[derive(Debug)]
pub(super) struct Lines {
    kept: VecDeque<String>,
    bytes: usize,
    bytes_max: usize,
    lost: usize,
}

impl Lines {
    /// Adds a line; the oldest go when there are too many bytes.
    pub(super) fn push(&mut self, line: &str) {
        self.bytes += line.len() + 1;
        self.kept.push_back(line.to_owned());
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.len() + 1;
            self.lost += 1;
        }
    }
}

impl Pack {
    /// An archive whose files have at most `part_bytes_max` bytes each.
    pub(super) fn new(session: &str, part_bytes_max: usize) -> Self {
        Self {
            tar: tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default())),
            top: format!("bundle-{session}"),
            part_bytes_max,
            made_at_ms: crate::clock::now(),
            files: Vec::new(),
        }
    }

    /// A JSON file. One that is too large is replaced by its size.
    pub(super) fn json(&mut self, name: &str, value: Value) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(&value)?;
        let mut note = Value::Null;
        if bytes.len() > self.part_bytes_max {
            note = json!(format!("{} bytes were too many", bytes.len()));
            bytes = serde_json::to_vec_pretty(&json!({ "left_out": note }))?;
        }
        self.add(name, &bytes, note)
    }

    /// A text of our own, which is short.
    pub(super) fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.add(name, text.as_bytes(), Value::Null)
    }

    /// A file of lines; of too many the last are kept.
    pub(super) fn lines(&mut self, name: &str, lines: impl Iterator<Item = String>) -> io::Result<()> {
        let mut kept = self.begin_lines();
        lines.for_each(|line| kept.push(&line));
        self.end_lines(name, kept)
    }

    /// Begins a file of lines.
    pub(super) fn begin_lines(&self) -> Lines {
        Lines { kept: VecDeque::new(), bytes: 0, bytes_max: self.part_bytes_max, lost: 0 }
    }

    /// Ends it.
    pub(super) fn end_lines(&mut self, name: &str, lines: Lines) -> io::Result<()> {
        let text: String = lines.kept.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let note =
            if lines.lost > 0 { json!(format!("the first {} lines were too many", lines.lost)) } else { Value::Null };
        self.add(name, text.as_bytes(), note)
    }

    fn add(&mut self, name: &str, bytes: &[u8], note: Value) -> io::Result<()> {
        self.files.push(json!({ "name": name, "bytes": bytes.len(), "note": note }));
        self.append(name, bytes)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.made_at_ms / 1_000);
        self.tar.append_data(&mut header, format!("{}/{name}", self.top), bytes)
    }

    /// Writes the manifest and gives the archive.
    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        let manifest = json!({
            "what": "A support bundle of Anteroom. It holds no credentials, codes, tokens or whole addresses.",
            "made_at": crate::clock::rfc3339(self.made_at_ms),
            "files": self.files,
        });
        let bytes = serde_json::to_vec_pretty(&manifest)?;
        self.append("manifest.json", &bytes)?;
        let mut packed = self.tar.into_inner()?;
        packed.flush()?;
        packed.finish()
    }
}
