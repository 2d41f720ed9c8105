//! Black-box tests of the store: its guarantees, also with concurrent calls, a locked database or direct SQL.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test reports errors by failing")]

mod callers;
mod columns;
mod credential_model;
mod credentials;
mod database;
mod external;
mod faults;
mod files;
mod fixture;
mod hosts;
mod lifetime;
mod migrations;
mod model;
mod outbox;
mod row_macs;
mod schema;
mod sessions;
mod transitions;
mod turns;
mod upgrade;
mod webhook_credentials;
mod write_observer;
