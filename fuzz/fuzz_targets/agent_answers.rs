//! What an agent answers to the controller.
#![no_main]

use anteroom_fuzz::{require_clean, require_round_trip};
use anteroom_wire::{
    ProblemBody,
    agent::{AgentInfo, ClaimResult, PasteResult, Screen, SignInStatus},
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(info) = require_round_trip::<AgentInfo>(data) {
        require_clean(&info);
    }
    if let Some(result) = require_round_trip::<PasteResult>(data) {
        require_clean(&result);
    }
    if let Some(screen) = require_round_trip::<Screen>(data) {
        require_clean(&screen);
    }
    if let Some(status) = require_round_trip::<SignInStatus>(data) {
        // The server checks addresses against the provider's hosts and shows none that has controls.
        require_clean(&SignInStatus { url: None, browser_url: None, ..status });
    }
    require_round_trip::<ClaimResult>(data);
    require_round_trip::<ProblemBody>(data);
});
