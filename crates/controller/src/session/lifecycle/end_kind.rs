//! How a session ends without completing.

/// How a session ends, other than well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndKind {
    /// The owner cancelled it.
    Cancelled,
    /// A deadline passed.
    Expired,
    /// It failed.
    Failed,
}
