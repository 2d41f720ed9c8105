//! Writes the `.tar.gz` archive: files of bounded size, and a manifest that lists the files and what was truncated.

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    io::{self, Write},
};

/// An archive that is being written.
pub(super) struct BundleArchive {
    tar: tar::Builder<GzEncoder<Vec<u8>>>,
    /// The directory that all files of the archive are in.
    top: String,
    file_bytes_max: usize,
    created_at_ms: u64,
    /// The manifest's list of files.
    files: Vec<Value>,
}

/// The last lines of a file, bounded in total bytes.
#[derive(Debug)]
pub(super) struct LineTailBuffer {
    lines: VecDeque<String>,
    bytes: usize,
    bytes_max: usize,
    dropped: usize,
}

impl LineTailBuffer {
    /// Adds a line and drops the oldest lines over the limit.
    pub(super) fn push(&mut self, line: &str) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line.to_owned());
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len() + 1;
            self.dropped += 1;
        }
    }
}

impl BundleArchive {
    /// An empty archive whose files have at most `file_bytes_max` bytes each.
    pub(super) fn new(session: &str, file_bytes_max: usize) -> Self {
        Self {
            tar: tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default())),
            top: format!("bundle-{session}"),
            file_bytes_max,
            created_at_ms: crate::unix_time::now_unix_ms(),
            files: Vec::new(),
        }
    }

    /// Adds a JSON file. A value over the size limit is replaced by a note with its size.
    pub(super) fn add_json(&mut self, name: &str, value: Value) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(&value)?;
        let mut note = Value::Null;
        if bytes.len() > self.file_bytes_max {
            note = json!(format!("{} bytes were too many", bytes.len()));
            bytes = serde_json::to_vec_pretty(&json!({ "left_out": note }))?;
        }
        self.add(name, &bytes, note)
    }

    /// Adds a short text file without a size check.
    pub(super) fn add_text(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.add(name, text.as_bytes(), Value::Null)
    }

    /// Adds a file of lines. Over the size limit only the last lines are kept.
    pub(super) fn add_lines(&mut self, name: &str, lines: impl Iterator<Item = String>) -> io::Result<()> {
        let mut buffer = self.new_tail_buffer();
        lines.for_each(|line| buffer.push(&line));
        self.add_tail_buffer(name, buffer)
    }

    /// An empty buffer for [`Self::add_tail_buffer`], with this archive's size limit.
    pub(super) fn new_tail_buffer(&self) -> LineTailBuffer {
        LineTailBuffer { lines: VecDeque::new(), bytes: 0, bytes_max: self.file_bytes_max, dropped: 0 }
    }

    /// Adds a file of the buffered lines.
    pub(super) fn add_tail_buffer(&mut self, name: &str, buffer: LineTailBuffer) -> io::Result<()> {
        let text: String = buffer.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let note = if buffer.dropped > 0 {
            json!(format!("the first {} lines were left out", buffer.dropped))
        } else {
            Value::Null
        };
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
        header.set_mtime(self.created_at_ms / 1_000);
        self.tar.append_data(&mut header, format!("{}/{name}", self.top), bytes)
    }

    /// Adds the manifest and returns the archive's bytes.
    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        let manifest = json!({
            "what": "Anteroom support bundle. It contains no credentials, codes, tokens or complete URLs.",
            "made_at": crate::unix_time::format_rfc3339(self.created_at_ms),
            "files": self.files,
        });
        let bytes = serde_json::to_vec_pretty(&manifest)?;
        self.append("manifest.json", &bytes)?;
        let mut packed = self.tar.into_inner()?;
        packed.flush()?;
        packed.finish()
    }
}
