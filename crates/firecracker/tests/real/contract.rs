//! Records what the client sends to the real program, which accepts all of it, and compares it with Firecracker's API description.

use crate::{
    process::{Programs, WAIT_MAX, command, connect, wait_exit},
    requests::{self, Recorded},
};
use anteroom_firecracker::{Client, Version};
use std::{
    fs,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    process::Stdio,
    thread::{self, JoinHandle},
};

/// Copies `from` to `to` until it ends; returns all bytes.
fn copy(mut from: UnixStream, mut to: UnixStream) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            bytes.extend_from_slice(&chunk[..count]);
            to.write_all(&chunk[..count]).unwrap();
        }
        let _ = to.shutdown(Shutdown::Write);
        bytes
    })
}

/// Starts Firecracker in `dir`, and calls `execute` with a client whose requests are recorded.
fn record(programs: &Programs, dir: &Path, execute: impl FnOnce(&mut Client)) -> io::Result<Vec<Recorded>> {
    let socket = dir.join("api.sock");
    let _ = fs::remove_file(&socket);
    let mut command = command(&programs.firecracker());
    command.args(["--api-sock", "api.sock"]).current_dir(dir);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    drop(connect(&socket, &mut child));
    let firecracker = UnixStream::connect(&socket)?;
    let (ours, theirs) = UnixStream::pair()?;
    let requests = copy(theirs.try_clone()?, firecracker.try_clone()?);
    let responses = copy(firecracker, theirs);
    execute(&mut Client::new(ours, WAIT_MAX).unwrap());
    let bytes = requests.join().unwrap();
    child.kill()?;
    wait_exit(&mut child);
    responses.join().unwrap();
    let mut rest = bytes.as_slice();
    let mut recorded = Vec::new();
    while let Some((request, length)) = Recorded::parse(rest) {
        recorded.push(request);
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "an incomplete request");
    Ok(recorded)
}

#[test]
fn real_program_accepts_every_request_of_its_description() {
    let Some(programs) = Programs::find() else { return };
    let dir = tempfile::tempdir().unwrap();
    fs::copy(programs.kernel(), dir.path().join("kernel")).unwrap();
    fs::write(dir.path().join("drive"), [0; 4096]).unwrap();
    fs::write(dir.path().join("initrd"), "no archive").unwrap();
    for name in ["log", "metrics"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let mut version = Version::minor(0, 0);
    let mut recorded = record(&programs, dir.path(), |client| {
        version = client.version();
        requests::boot_and_save(client, dir.path()).unwrap();
    })
    .unwrap();
    fs::remove_file(dir.path().join("vsock.sock")).unwrap();
    recorded.extend(record(&programs, dir.path(), |client| requests::load(client, dir.path()).unwrap()).unwrap());
    requests::check(&recorded, version);
}
