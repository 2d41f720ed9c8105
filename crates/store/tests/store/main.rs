//! The store from outside: what it promises, also when several ask at once, the database is locked, or a sql writes in it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod callers;
mod credentials;
mod external;
mod faults;
mod fixture;
mod lifetime;
mod migrations;
mod model;
mod outbox;
mod schema;
mod sessions;
mod transitions;
mod webhook_credentials;
mod write_observer;
