//! Machines that cannot be started, each with its cause.

use super::host::Host;
use anteroom_machine::{Confinement, ExitReason, Monitor, ProcessSpec};
use std::{fs, path::PathBuf};

/// Starts one machine with a changed spec and returns why it never started.
async fn rejection(host: &Host, change: impl Fn(&mut ProcessSpec) + Send + Sync + 'static) -> String {
    let server = host.open_changed(change).await;
    let mut machine = server.start();
    let (reason, _) = machine.removed().await;
    server.end().await;
    let ExitReason::NeverStarted { error } = reason else { panic!("{reason:?}") };
    error
}

/// A change of the path behind one of the names of a spec.
fn replace(name: &'static str, path: PathBuf) -> impl Fn(&mut ProcessSpec) {
    move |spec| {
        let Confinement::Confined { files, .. } = &mut spec.confinement else { panic!("not confined") };
        files.iter_mut().find(|file| file.name == name).unwrap().path = path.clone();
    }
}

#[tokio::test]
async fn missing_firecracker_is_named() {
    let Some(host) = Host::new().await else { return };
    let error = rejection(&host, |spec| spec.program = "/no/such/firecracker".into()).await;
    assert!(error.contains("/no/such/firecracker") && error.contains("No such file"), "{error}");
}

#[tokio::test]
async fn invalid_snapshot_is_rejected_with_firecrackers_cause() {
    let Some(host) = Host::new().await else { return };
    let (state, memory) = (host.template.dir().join("state"), host.template.dir().join("memory"));
    let saved = fs::read(&state).unwrap();
    let mut changed = saved.clone();
    changed[200] ^= 1;
    let file = |name: &str| host.path().join(name);
    fs::write(file("changed-state"), &changed).unwrap();
    fs::write(file("short-state"), &saved[..saved.len() / 2]).unwrap();
    fs::copy(&memory, file("short-memory")).unwrap();
    fs::File::options().write(true).open(file("short-memory")).unwrap().set_len(4096).unwrap();
    for (name, path, cause) in [
        ("/machine/state", "changed-state", "CRC64 validation failed"),
        ("/machine/state", "short-state", "CRC64 validation failed"),
        ("/machine/memory", "short-memory", "greater then file length"),
        ("/machine/memory", "no-memory", "No such file"),
    ] {
        let error = rejection(&host, replace(name, file(path))).await;
        assert!(error.contains(cause), "{path}: {error}");
    }
}

#[tokio::test]
async fn kvm_that_cannot_be_opened_is_named() {
    let Some(host) = Host::new().await else { return };
    let error = rejection(&host, replace("/dev/kvm", host.path().join("kvm"))).await;
    assert!(error.contains("kvm\" cannot be opened"), "{error}");
    let file = host.path().join("file");
    fs::write(&file, "").unwrap();
    let error = rejection(&host, replace("/dev/kvm", file)).await;
    assert!(error.contains("KVM"), "{error}");
}

/// A program that answers as Firecracker's API: `answer` is a Python expression of bytes.
fn fake(answer: &str) -> impl Fn(&mut ProcessSpec) + use<> {
    let code = format!(
        "import socket\nlistener = socket.socket(socket.AF_UNIX)\nlistener.bind('api.sock')\nlistener.listen()\n\
         connection = listener.accept()[0]\nconnection.recv(4096)\nconnection.sendall({answer})\nconnection.recv(1)"
    );
    move |spec| {
        spec.program = "/usr/bin/python3".into();
        spec.args = vec!["-I".into(), "-S".into(), "-c".into(), code.clone()];
        let Monitor::Firecracker { answer_ms_max, .. } = &mut spec.monitor else { panic!("not Firecracker") };
        *answer_ms_max = 5_000;
    }
}

fn version_answer(version: &str) -> String {
    let body = format!(r#"{{"firecracker_version":"{version}"}}"#);
    format!("b'HTTP/1.1 200 \\r\\nContent-Length: {}\\r\\n\\r\\n{body}'", body.len())
}

#[tokio::test]
async fn unsupported_version_is_rejected_with_the_remedy() {
    let Some(host) = Host::new().await else { return };
    for (version, cause) in [("1.11.0", "too old"), ("1.17.0", "too new"), ("x", "invalid version")] {
        let error = rejection(&host, fake(&version_answer(version))).await;
        assert!(error.contains(cause), "{version}: {error}");
    }
}

#[tokio::test]
async fn program_that_is_not_firecracker_is_rejected_with_the_cause() {
    let Some(host) = Host::new().await else { return };
    let error = rejection(&host, fake("b'220 mail.example\\r\\n\\r\\n'")).await;
    assert!(error.contains("not valid HTTP"), "{error}");
    let error = rejection(&host, |spec| spec.program = "/usr/bin/true".into()).await;
    assert!(error.contains("Firecracker exited"), "{error}");
}

#[tokio::test]
async fn firecracker_that_never_answers_is_unresponsive() {
    let Some(host) = Host::new().await else { return };
    let server = host.open_changed(fake("b''")).await;
    let mut machine = server.start();
    assert_eq!(machine.removed().await.0, ExitReason::VmmError { status: "unresponsive".into() });
    server.end().await;
}
