//! The cases: each takes a host with machines of one kind.

pub(crate) mod channels;
pub(crate) mod exits;
pub(crate) mod freezes;
pub(crate) mod limits;
pub(crate) mod owners;
