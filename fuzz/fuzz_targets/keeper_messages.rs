//! Messages between keeper and controller, receipts, and what a QEMU that was taken over sends to its keeper.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anteroom_machine::fuzzing::check_keeper_messages(data));
