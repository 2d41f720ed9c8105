//! The TLS handshake with which a machine's connection begins.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anteroom_egress::fuzzing::check_client_hello(data));
