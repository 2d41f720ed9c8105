//! Deliveries of captured credentials, and the files in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anteroom_controller::fuzzing::check_delivery(data));
