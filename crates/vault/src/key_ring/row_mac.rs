//! MACs of the rows of a database: a row that was changed by anything but this server is noticed.

use super::{
    KeyRing,
    derive::{derive_key, hmac_with},
};
use crate::{KeyError, KeyId, key_file};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt::Write as _;

/// The purpose for which the keys of the MACs are derived.
const KEY_PURPOSE: &str = "anteroom database rows 1";

/// The covered columns of one row, in a form in which no two rows have the same bytes.
#[derive(Debug, Clone)]
pub struct RowContent(Vec<u8>);

impl RowContent {
    /// A row of this table, without columns.
    pub fn new(table: &str) -> Self {
        Self(Vec::with_capacity(256)).text(Some(table))
    }

    /// Appends a column with a text or null.
    #[must_use]
    pub fn text(mut self, value: Option<&str>) -> Self {
        match value {
            None => self.0.push(0),
            Some(text) => {
                self.0.push(1);
                self.0.extend_from_slice(&(text.len() as u64).to_be_bytes());
                self.0.extend_from_slice(text.as_bytes());
            }
        }
        self
    }

    /// Appends a column with a number or null.
    #[must_use]
    pub fn number(mut self, value: Option<i64>) -> Self {
        match value {
            None => self.0.push(0),
            Some(number) => {
                self.0.push(2);
                self.0.extend_from_slice(&number.to_be_bytes());
            }
        }
        self
    }
}

/// Why the MAC of a row is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowMacError {
    /// The row has no MAC.
    #[error("it has no MAC: it was not written by this server")]
    Missing,
    /// The MAC was made with a key that is not in the key file.
    #[error("its MAC was made with key {0}, which is not in the key file")]
    UnknownKey(KeyId),
    /// The row is not the one for which the MAC was made.
    #[error("its MAC is not valid: it was changed or copied outside of this server")]
    Invalid,
}

impl KeyRing {
    /// The MAC of a row, by the primary key: the key's number, `:` and HMAC-SHA256 in hex digits.
    pub fn row_mac(&self, row: &RowContent) -> String {
        let keys = self.keys();
        // A key file without keys is rejected, so there is a last key.
        let Some((id, key)) = keys.last_key_value() else { return String::new() };
        let mut text = format!("{id}:");
        for byte in hmac_of(&key.bytes, row).finalize().into_bytes() {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Checks the MAC of a row. Returns the key that made it.
    ///
    /// # Errors
    /// The row is not the one for which the MAC was made, or the key is not in the ring.
    pub fn check_row_mac(&self, row: &RowContent, mac: Option<&str>) -> Result<KeyId, RowMacError> {
        let (id, hex_tag) = mac.and_then(|mac| mac.split_once(':')).ok_or(RowMacError::Missing)?;
        let id = KeyId(id.parse().map_err(|_| RowMacError::Invalid)?);
        let tag = hex::decode(hex_tag).map_err(|_| RowMacError::Invalid)?;
        let keys = self.keys();
        let key = keys.get(&id).ok_or(RowMacError::UnknownKey(id))?;
        hmac_of(&key.bytes, row).verify_slice(&tag).map_err(|_| RowMacError::Invalid)?;
        Ok(id)
    }

    /// Whether the key file has the mark that the rows of its database have MACs.
    ///
    /// # Errors
    /// The key file cannot be read.
    pub fn is_marked_for_row_macs(&self) -> Result<bool, KeyError> {
        key_file::is_marked_for_row_macs(self.source())
    }

    /// Whether the key file has the mark that the rows of sessions have MACs, too.
    ///
    /// # Errors
    /// The key file cannot be read.
    pub fn is_marked_for_session_macs(&self) -> Result<bool, KeyError> {
        key_file::is_marked_for_session_macs(self.source())
    }

    /// Writes both marks, durably: from then on rows without a MAC are not accepted, whatever the database contains.
    ///
    /// # Errors
    /// The key file cannot be changed.
    pub fn mark_for_row_macs(&self) -> Result<(), KeyError> {
        key_file::mark_for_row_macs(self.source())
    }
}

fn hmac_of(key: &[u8], row: &RowContent) -> Hmac<Sha256> {
    let mut mac = hmac_with(&*derive_key(key, KEY_PURPOSE));
    mac.update(&row.0);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> (tempfile::TempDir, KeyRing) {
        let directory = tempfile::tempdir().unwrap();
        let ring = KeyRing::open_or_create(&directory.path().join("keys")).unwrap();
        (directory, ring)
    }

    #[test]
    fn mac_of_a_row_is_valid_only_for_its_table_columns_and_key() {
        let (_directory, ring) = ring();
        let row = || RowContent::new("callers").text(Some("a")).number(Some(1)).text(None);
        let mac = ring.row_mac(&row());
        assert_eq!(ring.check_row_mac(&row(), Some(&mac)), Ok(KeyId(1)));
        for other in [
            RowContent::new("tickets").text(Some("a")).number(Some(1)).text(None),
            RowContent::new("callers").text(Some("a")).number(Some(2)).text(None),
            RowContent::new("callers").text(Some("a")).number(Some(1)).text(Some("")),
            RowContent::new("callers").text(None).number(Some(1)).text(Some("a")),
            row().text(None),
        ] {
            assert_eq!(ring.check_row_mac(&other, Some(&mac)), Err(RowMacError::Invalid), "{other:?}");
        }
        assert_eq!(ring.check_row_mac(&row(), None), Err(RowMacError::Missing));
        assert_eq!(ring.check_row_mac(&row(), Some("")), Err(RowMacError::Missing));
        assert_eq!(ring.check_row_mac(&row(), Some(&mac[..10])), Err(RowMacError::Invalid), "shortened");
        assert_eq!(ring.check_row_mac(&row(), Some("1:")), Err(RowMacError::Invalid));
        let of_other_key = mac.replacen('1', "2", 1);
        assert_eq!(ring.check_row_mac(&row(), Some(&of_other_key)), Err(RowMacError::UnknownKey(KeyId(2))));
        let (_other_directory, other_ring) = self::ring();
        assert_eq!(other_ring.check_row_mac(&row(), Some(&mac)), Err(RowMacError::Invalid));
    }

    #[test]
    fn mark_of_the_key_file_stays_through_rotation_and_retirement() {
        let (_directory, ring) = ring();
        assert!(!ring.is_marked_for_row_macs().unwrap());
        ring.mark_for_row_macs().unwrap();
        let pending = ring.add_key().unwrap();
        ring.install(pending);
        ring.remove_key(KeyId(1)).unwrap();
        assert!(ring.is_marked_for_row_macs().unwrap() && ring.is_marked_for_session_macs().unwrap());
        assert_eq!(KeyRing::open(ring.source().clone()).unwrap().key_ids(), [KeyId(2)]);
    }
}
