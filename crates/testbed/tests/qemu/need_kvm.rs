//! `scripts/need_kvm.mjs`, by which `./test --kvm` stops where KVM does not boot Linux.

use anteroom_testbed::{Qemu, plain_process::built_program};
use std::process::Stdio;
use tokio::{io::AsyncWriteExt, process::Command};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/need_kvm.mjs");

#[tokio::test]
async fn qemu_tests_with_kvm_stop_unless_doctor_reports_that_kvm_boots_linux() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("anteroom.toml");
    let settings = toml::Table::from_iter(
        [("state_dir", dir.path().join("state")), ("cache_dir", Qemu::test_cache_dir().unwrap())]
            .map(|(name, path)| (name.to_owned(), path.display().to_string().into())),
    );
    std::fs::write(&config, settings.to_string()).unwrap();
    let mut doctor = Command::new(built_program("anteroom").unwrap());
    doctor.arg("--config").arg(config).args(["doctor", "--json"]);
    let doctor = doctor.output().await.unwrap();
    let checks: Vec<serde_json::Value> = serde_json::from_slice(&doctor.stdout).unwrap();
    let named = |name: &str| checks.iter().find(|check| check["name"] == name);
    let steps = ["KVM device", "KVM guest", "KVM Linux"].map(|name| named(name).unwrap());
    let failed = steps.iter().find(|check| check["status"] != "ok");

    let mut script = Command::new("node");
    script.arg(SCRIPT).args(["device", "guest", "Linux"]);
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut script = script.spawn().unwrap();
    script.stdin.take().unwrap().write_all(&doctor.stdout).await.unwrap();
    let output = script.wait_with_output().await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    match failed {
        None => assert_eq!((output.status.code(), error.as_ref()), (Some(0), "")),
        Some(check) => {
            assert_eq!(output.status.code(), Some(1), "{error}");
            let expected = format!("error: KVM does not boot Linux here: {}\n", check["detail"].as_str().unwrap());
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
