//! The lines that start a connection on a machine's channel, on both sides.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    anteroom_agent::fuzzing::check_channel_markers(data);
    anteroom_machine::fuzzing::check_channel_echo(data);
});
