//! The client against a socket that answers from a script.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use anteroom_firecracker::{Client, Connection, Error, Operation, Request, Version, body::*};
use proptest::{collection::vec, prelude::*};
use std::{
    error::Error as _,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    thread::{self, JoinHandle},
    time::Duration,
};

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(20);
const NO_CONTENT: &str = "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n";
const NOT_STARTED: &str = r#"{"id":"a","state":"Not started","vmm_version":"1.12.1","app_name":"Firecracker"}"#;

fn with_body(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nServer: Firecracker API\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn version(text: &str) -> String {
    with_body("200 OK", &format!(r#"{{"firecracker_version":"{text}"}}"#))
}

/// Answers each request with the next text, in two parts; closes the socket after the last. Returns the requests.
fn answer(answers: Vec<String>) -> (UnixStream, JoinHandle<Vec<String>>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let thread = thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let mut buffer = [0; 4096];
            let count = theirs.read(&mut buffer).unwrap();
            requests.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
            let (first, second) = answer.split_at(answer.len() / 2);
            theirs.write_all(first.as_bytes()).unwrap();
            thread::yield_now();
            // The client may have closed the socket because of the first part.
            let _ = theirs.write_all(second.as_bytes());
        }
        requests
    });
    (ours, thread)
}

fn connect(answers: Vec<String>) -> (Result<Client, Error>, JoinHandle<Vec<String>>) {
    let (stream, thread) = answer(answers);
    (Client::new(stream, LONG), thread)
}

fn load_params(vsock_override: Option<VsockOverride>) -> SnapshotLoadParams {
    SnapshotLoadParams {
        snapshot_path: "s".into(),
        mem_backend: MemoryBackend { backend_type: MemoryBackendType::File, backend_path: "m".into() },
        resume_vm: true,
        vsock_override,
    }
}

#[test]
fn requests_have_method_path_and_body() {
    let info = with_body("200 OK", NOT_STARTED);
    let answers = vec![version("1.12.1"), NO_CONTENT.into(), NO_CONTENT.into(), NO_CONTENT.into(), info];
    let (client, thread) = connect(answers);
    let mut client = client.unwrap();
    assert_eq!(client.version(), Version { major: 1, minor: 12, patch: 1 });
    client.put_machine_configuration(&MachineConfiguration { vcpu_count: 2, mem_size_mib: 256 }).unwrap();
    client.pause_vm().unwrap();
    client.load_snapshot(&load_params(None)).unwrap();
    assert_eq!(client.describe_instance().unwrap().state, InstanceState::NotStarted);
    drop(client);
    let requests = thread.join().unwrap();
    assert!(requests[0].starts_with("GET /version HTTP/1.1\r\n"));
    assert!(requests[1].starts_with("PUT /machine-config HTTP/1.1\r\n"));
    assert!(requests[1].ends_with("\r\n\r\n{\"vcpu_count\":2,\"mem_size_mib\":256}"), "{}", requests[1]);
    assert!(requests[2].starts_with("PATCH /vm ") && requests[2].ends_with("{\"state\":\"Paused\"}"));
    assert!(requests[3].ends_with(
        r#"{"snapshot_path":"s","mem_backend":{"backend_type":"File","backend_path":"m"},"resume_vm":true}"#
    ));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut connection = Connection::new(ours).unwrap();
    let early = connection.send(&Request::pause_vm().unwrap());
    assert!(matches!(early, Err(Error::VersionUnknown { operation: Operation::PatchVm })));
    theirs.write_all(version("1.16.1").as_bytes()).unwrap();
    let response = connection.read_response().unwrap().unwrap();
    assert_eq!(
        (response.operation(), connection.version()),
        (Operation::GetFirecrackerVersion, Some(Version { major: 1, minor: 16, patch: 1 }))
    );
    connection.send(&Request::pause_vm().unwrap()).unwrap();
    connection.send(&Request::describe_instance()).unwrap();
    assert_eq!(connection.read_response().unwrap(), None);
    let refused = with_body("400 Bad Request", r#"{"fault_message":"no"}"#);
    let announced = "HTTP/1.1 100 Continue\r\n\r\n";
    theirs.write_all(format!("{announced}{refused}{}", with_body("200 OK", NOT_STARTED)).as_bytes()).unwrap();
    let fault = connection.read_response();
    assert!(matches!(fault, Err(Error::Fault { operation: Operation::PatchVm, status: 400, .. })), "{fault:?}");
    assert_eq!(connection.read_response().unwrap().unwrap().operation(), Operation::DescribeInstance);
    drop(theirs);
    assert_eq!(connection.read_response().unwrap(), None);
    assert!(connection.is_closed());
}

#[test]
fn unsupported_versions_are_typed_errors() {
    let refused = |text: &str| connect(vec![version(text)]).0.unwrap_err();
    assert!(matches!(refused("1.11.9"), Error::TooOld(found) if found == Version { major: 1, minor: 11, patch: 9 }));
    let newer = refused("1.17.0");
    assert!(matches!(newer, Error::TooNew(found) if found == Version::minor(1, 17)));
    assert_eq!(newer.to_string(), "Firecracker 1.17.0 is too new: install a version from 1.12.0 to 1.16.0");
    let error = refused("later");
    assert!(matches!(error, Error::InvalidVersion(_)));
    assert_eq!(error.source().unwrap().to_string(), "\"later\" is not a version of Firecracker");
}

#[test]
fn request_that_the_version_does_not_have_is_not_sent() {
    let (client, thread) = connect(vec![version("1.13.2")]);
    let mut client = client.unwrap();
    let error = client.put_serial_device(&SerialDevice { serial_out_path: "x".into() }).unwrap_err();
    assert_eq!(error.to_string(), "PUT /serial needs Firecracker 1.14.0 or later; this is 1.13.2");
    let load = client.load_snapshot(&load_params(Some(VsockOverride { uds_path: "v".into() })));
    assert!(matches!(load, Err(Error::NotInVersion { feature: "vsock_override", .. })));
    drop(client);
    assert_eq!(thread.join().unwrap().len(), 1);
}

#[test]
fn rejection_carries_the_fault_message() {
    let rejected = with_body("400 Bad Request", r#"{"fault_message":"no kernel"}"#);
    let unknown = with_body("400 Bad Request", r#"{"error":"Invalid request method and/or path"}"#);
    let (client, _thread) = connect(vec![version("1.16.1"), rejected, unknown, "HTTP/1.1 500 \r\n\r\n".into()]);
    let mut client = client.unwrap();
    let error = client.start_instance().unwrap_err();
    assert_eq!(error.to_string(), "PUT /actions: Firecracker answered with status 400: no kernel");
    let error = client.pause_vm().unwrap_err().to_string();
    assert!(error.contains("Invalid request method and/or path"), "{error}");
    assert!(matches!(client.pause_vm(), Err(Error::Fault { status: 500, .. })));
}

#[test]
fn socket_that_closes_is_a_typed_error() {
    let (client, thread) = connect(vec![version("1.12.1")]);
    let mut client = client.unwrap();
    thread.join().unwrap();
    assert!(matches!(client.pause_vm(), Err(Error::Closed { operation: Operation::PatchVm })));

    let error = Client::connect(Path::new("no/such/socket"), SHORT).unwrap_err();
    assert!(matches!(&error, Error::Connect { source, .. } if source.kind() == std::io::ErrorKind::NotFound));
}

#[test]
fn answer_that_ends_in_the_middle_is_a_typed_error() {
    let whole = with_body("200 OK", NOT_STARTED);
    let body_begins = whole.find("{").unwrap();
    for end in [1, body_begins / 2, body_begins, whole.len() - 1] {
        let (client, _thread) = connect(vec![version("1.12.1"), whole[..end].to_owned()]);
        let error = client.unwrap().describe_instance().unwrap_err();
        assert!(matches!(error, Error::Closed { operation: Operation::DescribeInstance }), "{end}: {error}");
    }
}

#[test]
fn silent_socket_and_incomplete_answer_time_out() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let silent = Client::new(ours, SHORT);
    assert!(matches!(silent, Err(Error::Timeout { timeout_ms: 200, .. })), "{silent:?}");
    drop(theirs);
    let (ours, new) = UnixStream::pair().unwrap();
    theirs = new;
    theirs.write_all(&version("1.12.1").as_bytes()[..40]).unwrap();
    assert!(matches!(Client::new(ours, SHORT), Err(Error::Timeout { .. })));
}

#[test]
fn answer_that_arrives_byte_by_byte_is_read() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut connection = Connection::new(ours).unwrap();
    let bytes = version("1.12.1").into_bytes();
    let (last, first) = bytes.split_last().unwrap();
    for byte in first {
        theirs.write_all(&[*byte]).unwrap();
        assert_eq!(connection.read_response().unwrap(), None);
    }
    theirs.write_all(&[*last]).unwrap();
    assert!(connection.read_response().unwrap().is_some());
}

#[test]
fn invalid_answers_are_typed_errors() {
    assert!(matches!(connect(vec!["SSH-2.0-x\r\n\r\n".into()]).0, Err(Error::NotHttp { .. })));
    assert!(matches!(connect(vec![with_body("200 OK", "{}")]).0, Err(Error::NotJson { .. })));
    let negative = "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_owned();
    assert!(matches!(connect(vec![negative]).0, Err(Error::NotHttp { .. })));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(33));
    assert!(matches!(connect(vec![many]).0, Err(Error::NotHttp { .. })));
}

#[test]
fn oversized_answers_are_typed_errors() {
    for length in ["999999999999", "18446744073709551615"] {
        let announced = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        assert!(matches!(connect(vec![announced]).0, Err(Error::TooLong { .. })));
    }
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(300 * 1024));
    assert!(matches!(connect(vec![endless]).0, Err(Error::TooLong { .. })));
}

#[test]
fn answer_to_no_request_is_a_typed_error() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut connection = Connection::new(ours).unwrap();
    theirs.write_all(format!("{}{NO_CONTENT}", version("1.12.1")).as_bytes()).unwrap();
    assert!(connection.read_response().unwrap().is_some());
    assert!(matches!(connection.read_response(), Err(Error::Unrequested)));
}

/// Reads until there is no complete answer; returns how many there were, and the error.
fn read_all(connection: &mut Connection) -> (usize, Option<String>) {
    let mut count = 0;
    loop {
        match connection.read_response() {
            Ok(Some(_)) => count += 1,
            Ok(None) => return (count, None),
            Err(error) => return (count, Some(error.to_string())),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes in vec(any::<u8>(), 0..600), from in 0usize..100) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(ours).unwrap();
        let valid = version("1.12.1").into_bytes();
        theirs.write_all(&[valid.get(..from).unwrap_or(&valid), &bytes].concat()).unwrap();
        let (_, while_open) = read_all(&mut connection);
        drop(theirs);
        let (_, when_closed) = read_all(&mut connection);
        let error = while_open.or(when_closed);
        prop_assert!(error.is_some() || connection.version().is_some());
    }

    #[test]
    fn answers_do_not_depend_on_how_they_are_split(mut ends in vec(0usize..200, 0..6)) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(ours).unwrap();
        let bytes = version("1.16.0").into_bytes();
        ends.push(bytes.len());
        ends.sort_unstable();
        let (mut begin, mut count) = (0, 0);
        for end in ends.into_iter().filter(|end| *end <= bytes.len()) {
            theirs.write_all(&bytes[begin..end]).unwrap();
            begin = end;
            let (answers, error) = read_all(&mut connection);
            prop_assert_eq!(error, None);
            count += answers;
        }
        prop_assert_eq!((count, connection.version()), (1, Some(Version::minor(1, 16))));
    }
}
