//! Does nothing. Built together with the targets, so that Cargo unites the features of dependencies as in the tests' build and uses its
//! dependencies again: it does so for examples, and not for programs.
#![no_main]

libfuzzer_sys::fuzz_target!(|_data: &[u8]| {});
