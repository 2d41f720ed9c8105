//! The greeting and the VeNCrypt handshake of an external desktop.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anteroom_controller::fuzzing::check_desktop_answers(data));
