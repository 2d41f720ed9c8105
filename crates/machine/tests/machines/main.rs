//! Tests of the crate's public API with machines that are plain processes: keeper, adoption, exits, capacity, channels.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod adoption;
mod channels;
mod confined;
mod ends;
mod exits;
mod kvm;
mod layers;
mod limits;
mod liveness;
mod test_host;
