//! Metadata, keys, claims and tokens of an OpenID provider.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anteroom_controller::fuzzing::check_openid_answers(data));
