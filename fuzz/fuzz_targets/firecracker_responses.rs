//! What a Firecracker that was taken over answers to its keeper.
#![no_main]

use anteroom_firecracker::{Connection, Error, Request};
use libfuzzer_sys::fuzz_target;
use std::{io::Write, net::Shutdown, os::unix::net::UnixStream};

/// Less than the buffer of a socket, so that one thread can write and then read.
const BYTES_MAX: usize = 32 * 1024;
const ERROR_BYTES_MAX: usize = 8 * 1024;
const VERSION: &[u8] = b"HTTP/1.1 200 \r\nContent-Length: 32\r\n\r\n{\"firecracker_version\":\"1.13.1\"}";

/// Reads answers until there is no other; returns whether the connection can still be used.
fn read_answers(connection: &mut Connection) -> bool {
    loop {
        match connection.read_response() {
            Ok(Some(response)) => drop(response.instance_info()),
            Ok(None) => return true,
            Err(error) => {
                assert!(error.to_string().len() <= ERROR_BYTES_MAX, "{} bytes", error.to_string().len());
                if !matches!(error, Error::Fault { .. }) {
                    return false;
                }
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else { return };
    let data = &data[..data.len().min(BYTES_MAX)];
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets can be made");
    let mut connection = Connection::new(ours).expect("the socket is open");
    if first < 224 {
        theirs.write_all(VERSION).expect("the buffer is large enough");
        assert!(read_answers(&mut connection) && connection.version().is_some());
        connection.send(&Request::describe_instance()).expect("the socket is open");
    }
    // In two pieces, so that answers are incomplete at first.
    let (head, tail) = data.split_at(data.len() * usize::from(first % 8) / 8);
    theirs.write_all(head).expect("the buffer is large enough");
    if read_answers(&mut connection) {
        theirs.write_all(tail).expect("the buffer is large enough");
        theirs.shutdown(Shutdown::Both).expect("the socket is open");
        read_answers(&mut connection);
    }
});
