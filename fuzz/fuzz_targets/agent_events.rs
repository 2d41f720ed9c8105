//! Events that an agent posts.
#![no_main]

use anteroom_wire::agent::EventBatch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(batch) = serde_json::from_slice::<EventBatch>(data) else { return };
    let written = serde_json::to_vec(&batch).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<EventBatch>(&written).expect("and read again"), batch);
});
