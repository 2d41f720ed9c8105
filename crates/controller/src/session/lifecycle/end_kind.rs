//! How a session ends without completing.

/// How a session ends, other than well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndKind {
    /// Its owner wants it.
    Cancelled,
    /// A deadline.
    Expired,
    /// A fault.
    Failed,
}
