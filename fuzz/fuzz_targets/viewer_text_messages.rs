//! Text messages of a viewer's WebSocket.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anteroom_server::fuzzing::check_viewer_text_message(data));
