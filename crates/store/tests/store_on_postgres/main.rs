//! The tests of `store`, on PostgreSQL, and those of what only PostgreSQL has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports errors by failing")]

#[path = "../store/callers.rs"]
mod callers;
mod comes_back;
#[path = "../store/credential_model.rs"]
mod credential_model;
#[path = "../store/credentials.rs"]
mod credentials;
mod database;
mod differences;
#[path = "../store/external.rs"]
mod external;
#[path = "../store/faults.rs"]
mod faults;
#[path = "../store/fixture.rs"]
mod fixture;
#[path = "../store/hosts.rs"]
mod hosts;
#[path = "../store/lifetime.rs"]
mod lifetime;
#[path = "../store/model.rs"]
mod model;
mod older_schema;
#[path = "../store/outbox.rs"]
mod outbox;
mod own_server;
mod plans;
#[path = "../store/row_macs.rs"]
mod row_macs;
#[path = "../store/schema.rs"]
mod schema;
#[path = "../store/sessions.rs"]
mod sessions;
mod several_servers;
mod statement_texts;
#[path = "../store/transitions.rs"]
mod transitions;
#[path = "../store/turns.rs"]
mod turns;
#[path = "../store/webhook_credentials.rs"]
mod webhook_credentials;
mod whole;
#[path = "../store/write_observer.rs"]
mod write_observer;
