//! Properties of the parser of machines' TLS handshakes, for the fuzz targets: each function panics where one does not hold.

#![allow(clippy::expect_used, reason = "a target panics to report a fault")]

use crate::client_hello::{ClientHelloError, read_client_hello};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    runtime::Runtime,
};

/// The host that was granted, and another one.
const GRANTED: &str = "api.example.com";
const OTHER: &str = "api.example.org";
/// The longest error text that may result: a name has at most 253 bytes.
const ERROR_BYTES_MAX: usize = 1024;

/// The start of a connection from a machine: the first byte selects where the rest is cut in two.
pub fn check_client_hello(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
    let (head, tail) = data.split_at(data.len() * usize::from(first) / 256);
    let whole = passes(&runtime, data, data, GRANTED);
    assert_eq!(passes(&runtime, head.chain(tail), data, GRANTED), whole, "where the bytes are cut changes the result");
    assert!(!whole || !passes(&runtime, data, data, OTHER), "one ClientHello passes for two names");
}

fn passes(runtime: &Runtime, mut stream: impl AsyncRead + Unpin, data: &[u8], granted: &str) -> bool {
    match runtime.block_on(read_client_hello(&mut stream, granted)) {
        Ok(read) => {
            assert!(data.starts_with(&read), "what was read is not passed on");
            true
        }
        Err(error) => {
            assert!(error.to_string().len() <= ERROR_BYTES_MAX, "{} bytes", error.to_string().len());
            let is_granted =
                matches!(&error, ClientHelloError::OtherName { found, .. } if found.eq_ignore_ascii_case(granted));
            assert!(!is_granted, "{error}");
            false
        }
    }
}
