//! The last bytes of a stream.

use std::collections::VecDeque;

/// Keeps the last `bytes_max` bytes of what is pushed.
#[derive(Debug)]
pub(crate) struct TailBuffer {
    bytes: VecDeque<u8>,
    bytes_max: usize,
}

impl TailBuffer {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: VecDeque::new(), bytes_max }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let keep = bytes.len().min(self.bytes_max);
        let excess = (self.bytes.len() + keep).saturating_sub(self.bytes_max);
        self.bytes.drain(..excess);
        self.bytes.extend(bytes.get(bytes.len() - keep..).unwrap_or_default());
    }

    /// The bytes as text; invalid UTF-8 is replaced.
    pub(crate) fn text(&self) -> String {
        let (front, back) = self.bytes.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tail_buffer_keeps_the_last_bytes(pushes in prop::collection::vec("[a-z]{0,40}", 0..20), max in 0usize..64) {
            let mut tail_buffer = TailBuffer::new(max);
            for push in &pushes {
                tail_buffer.push(push.as_bytes());
            }
            let all = pushes.concat();
            prop_assert_eq!(tail_buffer.text(), &all[all.len().saturating_sub(max)..]);
        }
    }
}
