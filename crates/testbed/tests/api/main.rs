//! The API as other people's tools use it: the validator of OpenAPI documents, generators of clients, a fuzzer that works from the
//! document, and the clients in `clients/`. The Python programs are those of `scripts/python_tools.txt`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod clients;
mod document;
mod examples;
mod fuzzing;
mod http;
mod tools;
