//! What a viewer sends to a desktop, at any speed: no key and no button may be lost.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anteroom_tunnel::fuzzing::check_desktop_input(data));
