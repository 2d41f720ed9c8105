//! What a user pastes, the sign-in address that a tool prints, and the redirect with which a tool answers a callback.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anteroom_agent::fuzzing::check_pasted_text(data));
