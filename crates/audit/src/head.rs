//! The head of the chain: number and hash of the newest record, kept outside of the records' files.

use crate::{MacKeys, record::FIRST_HASH};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// The name of the head's file in the trail's directory.
pub(crate) const HEAD_FILE: &str = "head.json";
/// A head file is smaller than this, bytes.
const HEAD_BYTES_MAX: u64 = 4_096;

/// The newest record of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number; 0: there is none.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { seq: 0, hash: FIRST_HASH.to_owned() }
    }
}

/// A head as it is stored.
#[derive(Serialize, Deserialize)]
struct SignedHead {
    #[serde(flatten)]
    head: Head,
    key: u32,
    mac: String,
}

/// A head that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadHead {
    /// There is none.
    Missing,
    /// It is authentic, or its key is not known.
    Found(Head),
    /// It is malformed or has a wrong MAC.
    Forged,
}

impl Head {
    /// The head as one line for storage elsewhere.
    pub fn encode(&self, keys: &MacKeys) -> String {
        let key = keys.newest();
        let mac = keys.sign(key, &[self.signed_text().as_bytes()]).unwrap_or_default();
        serde_json::to_string(&SignedHead { head: self.clone(), key, mac }).unwrap_or_default()
    }

    /// Parses a line of [`Self::encode`]. `None`: it is malformed, or its MAC is wrong.
    pub fn decode(text: &str, keys: &MacKeys) -> Option<Self> {
        let SignedHead { head, key, mac } = serde_json::from_str(text.trim()).ok()?;
        (keys.check(key, &[head.signed_text().as_bytes()], &mac) != Some(false)).then_some(head)
    }

    /// What the MAC covers. The label is another one than that of records.
    fn signed_text(&self) -> String {
        format!("head\0{}\0{}", self.seq, self.hash)
    }

    pub(crate) fn read(path: &Path, keys: &MacKeys) -> io::Result<ReadHead> {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ReadHead::Missing),
            Err(error) => return Err(error),
            Ok(meta) if !meta.is_file() || meta.len() > HEAD_BYTES_MAX => return Ok(ReadHead::Forged),
            Ok(_) => {}
        }
        let text = fs::read_to_string(path)?;
        Ok(Self::decode(&text, keys).map_or(ReadHead::Forged, ReadHead::Found))
    }

    /// Replaces the file by a rename, so that a reader sees the old head or the new one.
    pub(crate) fn write(&self, path: &Path, keys: &MacKeys) -> io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(self.encode(keys).as_bytes())?;
        fs::rename(&temporary, path)
    }
}
