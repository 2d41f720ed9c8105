//! Whether this host may act for its sessions.

use std::{fmt, sync::Arc};

/// Asked before each connection and for each chunk of bytes. It must not block.
#[derive(Clone)]
pub struct ActCheck(Arc<dyn Fn() -> bool + Send + Sync>);

impl ActCheck {
    /// Asks this function.
    pub fn new(may_act: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(may_act))
    }

    /// The answer now.
    pub fn may_act(&self) -> bool {
        (self.0)()
    }
}

impl Default for ActCheck {
    /// Always.
    fn default() -> Self {
        Self::new(|| true)
    }
}

impl fmt::Debug for ActCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActCheck").field(&self.may_act()).finish()
    }
}
