//! Bodies of requests to the API.
#![no_main]

use anteroom_fuzz::require_round_trip;
use anteroom_wire::{
    agent::{OpenUrl, TerminalSize},
    api::{CredentialUseRequest, LoginRequest, MethodRequest, StartRequest},
    api_tokens::{CreateTokenRequest, RevokeTokenRequest, RotateTokenRequest},
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    require_round_trip::<StartRequest>(data);
    require_round_trip::<CredentialUseRequest>(data);
    require_round_trip::<MethodRequest>(data);
    require_round_trip::<LoginRequest>(data);
    require_round_trip::<CreateTokenRequest>(data);
    require_round_trip::<RotateTokenRequest>(data);
    require_round_trip::<RevokeTokenRequest>(data);
    require_round_trip::<OpenUrl>(data);
    require_round_trip::<TerminalSize>(data);
});
