//! The security types that a desktop offers (RFC 6143 §7.1.2), read from the bytes that it sends.
//!
//! The view-only filter needs them: a desktop that accepts a type which it did not offer would read the following bytes of the viewer
//! differently than the filter does.

use anteroom_rfb::handshake::PROTOCOL_VERSION;
use parking_lot::Mutex;
use std::sync::Arc;

/// The bytes of the version message.
const VERSION_BYTES: usize = PROTOCOL_VERSION.len();
/// The version, the number of types and the most types.
const OFFER_BYTES_MAX: usize = VERSION_BYTES + 1 + 255;

/// What a desktop offered so far. Clones share it: one half of the tunnel writes it, the other reads it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SecurityOffer(Arc<Mutex<Vec<u8>>>);

impl SecurityOffer {
    /// Reads the next bytes from the desktop. Bytes after the offer are ignored.
    pub(crate) fn read(&self, bytes: &[u8]) {
        let mut seen = self.0.lock();
        let wanted = OFFER_BYTES_MAX - seen.len();
        seen.extend_from_slice(&bytes[..bytes.len().min(wanted)]);
    }

    /// The version message of the desktop; `None`: it is not complete yet.
    pub(crate) fn version(&self) -> Option<[u8; VERSION_BYTES]> {
        self.0.lock().first_chunk().copied()
    }

    /// The offered types; `None`: the offer is not complete yet. A desktop that rejects the viewer offers none.
    pub(crate) fn types(&self) -> Option<Vec<u8>> {
        let seen = self.0.lock();
        let (count, types) = seen.get(VERSION_BYTES..)?.split_first()?;
        types.get(..usize::from(*count)).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offer_is_read_from_chunks_of_any_size_and_bounded() {
        let stream = [&PROTOCOL_VERSION[..], &[2, 1, 16], &[0; 1_000]].concat();
        for size in [1, 5, 12, 13, 14, 2_000] {
            let offer = SecurityOffer::default();
            assert_eq!((offer.version(), offer.types()), (None, None));
            stream.chunks(size).for_each(|chunk| offer.read(chunk));
            assert_eq!((offer.version(), offer.types()), (Some(*PROTOCOL_VERSION), Some(vec![1, 16])));
            assert!(offer.0.lock().len() <= OFFER_BYTES_MAX);
        }
    }
}
