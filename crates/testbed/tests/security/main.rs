//! Attacks over HTTP and WebSocket that must fail: one file for each subject. Machines are plain processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod browser_client;
mod channel_answers;
mod channel_http2;
mod channel_view_only;
mod desktop_places;
mod embedding;
#[allow(dead_code, reason = "shared with the binary `server`, which uses all of it")]
#[path = "../server/fake_agent.rs"]
mod fake_agent;
#[allow(dead_code, reason = "shared with the binary `server`, which uses all of it")]
#[path = "../server/fixture.rs"]
mod fixture;
mod guest_floods;
mod helper_access;
mod helper_invitations;
mod host_facts;
mod hostile_agent;
mod hostile_machine;
mod http2_frames;
mod idle_session;
mod mutated_input;
mod oidc_access;
mod oidc_callbacks;
mod oidc_confirmation;
mod oidc_connections;
mod oidc_faults;
mod oidc_fixture;
mod oidc_sign_in;
mod oidc_traces;
#[allow(dead_code, reason = "shared with the tests of the store on PostgreSQL, which use all of it")]
#[path = "../../../store/tests/store_on_postgres/own_server.rs"]
mod own_server;
mod raw_http;
mod s02_bodies;
mod s03_connections;
mod s05_browsers;
mod s06_guests_address_and_prompts;
mod s07_logs_and_timelines;
mod s09_fair_turns;
mod s09_rates;
mod s10_audit;
mod s10_audit_tampering;
mod s11_revocation;
mod s12_terminal_output;
mod s15_plaintext;
mod s17_backup;
mod s17_erasure;
mod s17_key_rotation;
mod s17_key_sources;
mod s17_locked_pin;
mod s17_move;
mod s17_row_macs;
mod s17_rows;
mod s17_sessions;
mod s17_tampering;
mod s19_event_streams;
mod s20_egress;
mod s21_host_and_origin;
mod s26_api_tokens;
mod s26_kinds_of_callers;
mod s29_headers;
mod s33_view_only;
mod s34_consent;
mod s34_names;
mod stored_credentials;
mod viewer_floods;
