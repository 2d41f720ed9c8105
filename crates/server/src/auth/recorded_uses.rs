//! Writes of last uses that are in progress, so that many requests of a caller make one write.

use anteroom_wire::CallerId;
use parking_lot::Mutex;
use std::{collections::HashSet, sync::Arc};

/// The callers whose last use is being written.
#[derive(Debug, Clone, Default)]
pub struct RecordedUses(Arc<Mutex<HashSet<CallerId>>>);

/// A write in progress, until it is dropped.
pub(super) struct Recording {
    uses: RecordedUses,
    id: CallerId,
}

impl RecordedUses {
    /// Begins a write; `None`: one is in progress.
    pub(super) fn begin(&self, id: &CallerId) -> Option<Recording> {
        let is_new = self.0.lock().insert(id.clone());
        is_new.then(|| Recording { uses: self.clone(), id: id.clone() })
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.uses.0.lock().remove(&self.id);
    }
}
