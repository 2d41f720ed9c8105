//! What the client sends, compared with Firecracker's API description of 1.12 and 1.16 (`fields.txt`). The socket accepts everything; `real/contract.rs`
//! records the same with the real program.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod requests;
mod table;

use anteroom_firecracker::{Client, Operation, Version};
use requests::Recorded;
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    thread::{self, JoinHandle},
    time::Duration,
};
use table::Description;

const WAIT_MAX: Duration = Duration::from_secs(20);

fn answer(operation: Operation, version: &str) -> String {
    let body = if operation == Operation::GetFirecrackerVersion {
        format!(r#"{{"firecracker_version":"{version}"}}"#)
    } else if operation == Operation::DescribeInstance {
        format!(r#"{{"app_name":"Firecracker","id":"a","state":"Running","vmm_version":"{version}"}}"#)
    } else {
        return "HTTP/1.1 204 \r\n\r\n".to_owned();
    };
    format!("HTTP/1.1 200 \r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Accepts all requests until the client closes the socket; returns them.
fn accept_all(version: &'static str) -> (Client, JoinHandle<Vec<Recorded>>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let thread = thread::spawn(move || {
        let (mut bytes, mut recorded) = (Vec::new(), Vec::new());
        loop {
            let mut chunk = [0; 4096];
            match theirs.read(&mut chunk).unwrap() {
                0 => return recorded,
                count => bytes.extend_from_slice(&chunk[..count]),
            }
            while let Some((request, length)) = Recorded::parse(&bytes) {
                bytes.drain(..length);
                theirs.write_all(answer(request.operation, version).as_bytes()).unwrap();
                recorded.push(request);
            }
        }
    });
    (Client::new(ours, WAIT_MAX).unwrap(), thread)
}

fn record(version: &'static str) -> Vec<Recorded> {
    let (mut client, thread) = accept_all(version);
    requests::boot_and_save(&mut client, Path::new("/machine")).unwrap();
    requests::load(&mut client, Path::new("/machine")).unwrap();
    drop(client);
    thread.join().unwrap()
}

#[test]
fn requests_to_1_12_are_those_of_its_description() {
    requests::check(&record("1.12.1"), Version::minor(1, 12));
}

#[test]
fn requests_to_1_16_are_those_of_its_description() {
    requests::check(&record("1.16.1"), Version::minor(1, 16));
}

#[test]
fn requests_to_versions_between_need_nothing_newer() {
    let fields = table::Fields::read();
    for version in ["1.13.0", "1.14.0", "1.15.1"] {
        for request in record(version) {
            assert!(fields.has(request.operation, Description::V1_16), "{version}: {}", request.operation);
        }
    }
}
