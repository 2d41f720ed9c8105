//! `anteroom doctor` on this host: what it prints follows from the probes, whatever the host is.

use anteroom_machine::{
    image::Image,
    kind::{self, RequestedAccelerator, RequestedKind},
    kvm::{self, KvmStep, StepResult},
    qemu,
};
use anteroom_testbed::{QEMU_WAIT_TIMEOUT, Qemu, plain_process::built_program};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};
use tokio::{process::Command, time::timeout};

/// A command that runs `anteroom doctor --json` with a cache directory.
fn doctor(cache_dir: &Path) -> Command {
    let mut doctor = Command::new(built_program("anteroom").unwrap());
    doctor.arg("--cache-dir").arg(cache_dir).arg("--state-dir").arg(cache_dir.join("state")).args(["doctor", "--json"]);
    doctor
}

/// Its checks. No server runs, so it ends with 3, or with 1 if something is missing.
async fn run(mut doctor: Command) -> Vec<Value> {
    let output = timeout(QEMU_WAIT_TIMEOUT, doctor.output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let checks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"));
    let is_missing = checks.iter().any(|check| check["status"] == "missing");
    assert_eq!(output.status.code(), Some(if is_missing { 1 } else { 3 }), "{checks:#?}");
    checks
}

/// Status and detail of a check.
fn find<'a>(checks: &'a [Value], name: &str) -> (&'a str, &'a str) {
    let found = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {checks:#?}"));
    (found["status"].as_str().unwrap(), found["detail"].as_str().unwrap())
}

#[tokio::test]
async fn qemu_doctor_prints_what_the_probe_of_kvm_found_and_the_kind_that_follows() {
    let dir = tempfile::tempdir().unwrap();
    symlink(Qemu::test_cache_dir().unwrap().join("images"), dir.path().join("images")).unwrap();
    let checks = run(doctor(dir.path())).await;
    let image = Image::open_current(&dir.path().join("images")).unwrap();
    let settings = kvm::ProbeSettings {
        qemu_program: qemu::find_qemu(),
        keeper_program: built_program("anteroom").unwrap(),
        cache_dir: dir.path().to_owned(),
        boot_ms_max: 8_000,
    };
    // The report that doctor's own probe has cached.
    let report = kvm::probe(Some(&image), &settings).await.unwrap();
    for (step, result) in report.steps() {
        let name = match step {
            KvmStep::Device => "KVM device",
            KvmStep::TinyGuest => "KVM guest",
            KvmStep::Linux => "KVM Linux",
        };
        let (status, detail) = find(&checks, name);
        match result {
            StepResult::Ok => assert_eq!(status, "ok", "{name}: {detail}"),
            StepResult::Failed(cause) => {
                let hint = " (docs/kvm.md describes how to get KVM)";
                assert_eq!((status, detail.trim_end_matches(hint)), ("degraded", cause.as_str()));
            }
            StepResult::NotTried(cause) => assert_eq!((status, detail), ("unused", &*format!("not tried: {cause}"))),
        }
    }
    let firecracker = kind::find_firecracker().await;
    let chosen = kind::choose(RequestedKind::Auto, RequestedAccelerator::Auto, &report, &firecracker).unwrap();
    let (status, sentence) = find(&checks, "kind");
    assert_eq!(sentence, kind::explain(&chosen, RequestedAccelerator::Auto, &report));
    assert_eq!(status, if chosen.is_emulated() { "degraded" } else { "ok" });
    let (status, sum) = find(&checks, "isolation");
    assert_eq!(sum.starts_with("emulated: not a security boundary"), chosen.is_emulated(), "{sum}");
    let layer_off = checks
        .iter()
        .any(|check| check["name"].as_str().is_some_and(|name| name.starts_with("layer: ")) && check["status"] != "ok");
    assert_eq!(status, if chosen.is_emulated() || layer_off { "degraded" } else { "ok" }, "{sum}");
}

#[tokio::test]
async fn doctor_names_the_command_that_permits_a_user_to_use_kvm() {
    const NOBODY: u32 = 65_534;
    let dir = tempfile::tempdir().unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let others = fs::metadata("/dev/kvm").map(|device| device.permissions().mode() & 0o006);
    if !is_root || others.as_ref().map_or(true, |mode| *mode == 0o006) {
        eprintln!("skipped: needs the superuser and a /dev/kvm that not everyone may open ({others:?})");
        return;
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = doctor(dir.path());
    command.uid(NOBODY).gid(NOBODY);
    let checks = run(command).await;
    let (status, cause) = find(&checks, "KVM device");
    assert_eq!(status, "degraded");
    assert!(cause.contains("may not open /dev/kvm") && cause.contains("sudo usermod -aG"), "{cause}");
    assert_eq!(find(&checks, "KVM guest").0, "unused");
}

#[tokio::test]
async fn doctor_names_why_a_requested_firecracker_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("anteroom.toml");
    fs::write(&config, "[machines]\nkind = 'firecracker'\n").unwrap();
    let program = dir.path().join("firecracker");
    for (version, part) in [("1.11.0", "too old"), ("1.17.0", "too new"), ("nonsense", "not a version")] {
        fs::write(&program, format!("#!/bin/sh\necho Firecracker v{version}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = doctor(dir.path());
        let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
        command.arg("--config").arg(&config).env("PATH", path);
        let checks = run(command).await;
        let (status, cause) = find(&checks, "firecracker");
        assert_eq!(status, "missing");
        assert!(cause.contains(part), "{part}: {cause}");
    }
}
