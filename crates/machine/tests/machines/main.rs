//! Tests of the crate's public API with programs that play a machine, a keeper or an agent. What every kind of machine does is tested by
//! the suite `conformance` of the crate `testbed`.
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
mod verified;
