//! A value that is replaced as a whole while others use it.

use parking_lot::RwLock;
use std::sync::Arc;

/// A value that can be replaced. Clones share it. Who has read it keeps the value that it read.
#[derive(Debug)]
pub struct Live<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Live<T> {
    /// With this value at first.
    pub fn new(value: impl Into<Arc<T>>) -> Self {
        Self(Arc::new(RwLock::new(value.into())))
    }

    /// The current value.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read())
    }

    /// Replaces the value.
    pub fn set(&self, value: impl Into<Arc<T>>) {
        *self.0.write() = value.into();
    }
}
