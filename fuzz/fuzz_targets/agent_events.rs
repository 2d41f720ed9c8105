//! Events that an agent posts.
#![no_main]

use anteroom_fuzz::{require_clean, require_round_trip};
use anteroom_wire::agent::EventBatch;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(batch) = require_round_trip::<EventBatch>(data) {
        require_clean(&batch);
    }
});
