//! Events that an agent posts.
#![no_main]

use anteroom_fuzz::{require_clean, require_round_trip};
use anteroom_wire::agent::{AgentEvent, EventBatch, SignInEvent};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(mut batch) = require_round_trip::<EventBatch>(data) {
        for numbered in &mut batch.events {
            // The server checks addresses against the provider's hosts and shows none that has controls.
            if let AgentEvent::SignIn(SignInEvent::Url(found)) = &mut numbered.event {
                found.url.clear();
            }
        }
        require_clean(&batch);
    }
});
