//! Headers of a stranger's request: cookies, tokens, origin, host, forwarded addresses.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anteroom_server::fuzzing::check_request_headers(data));
