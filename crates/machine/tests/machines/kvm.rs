//! What KVM can do on this host, as far as no image is needed.

use anteroom_machine::kvm::{self, KvmReport, KvmStep, LinuxNotTried, ProbeSettings, StepResult, TinyGuestFailure};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

async fn probe_with(keeper: &Path) -> KvmReport {
    let dir = tempfile::tempdir().unwrap();
    let settings = ProbeSettings {
        qemu_program: None,
        keeper_program: keeper.to_owned(),
        cache_dir: dir.path().to_owned(),
        boot_ms_max: 1,
    };
    let report = kvm::probe(None, &settings).await.unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left or cached");
    report
}

fn open_kvm() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/kvm")
}

#[tokio::test]
async fn tiny_guest_is_run_exactly_where_kvm_can_be_opened() {
    let report = probe_with(Path::new(env!("CARGO_BIN_EXE_anteroom-keeper"))).await;
    let device = report.steps().map(|(_, result)| result)[0].clone();
    assert_eq!(open_kvm().is_ok(), device == StepResult::Ok, "{report:?}");
    match report {
        KvmReport::DeviceFails { cause } => eprintln!("not checked further: {cause}"),
        KvmReport::TinyGuestFails { cause } => eprintln!("KVM is broken on this host: {cause}"),
        KvmReport::LinuxNotTried { why } => assert_eq!(why, LinuxNotTried::NoImage),
        KvmReport::LinuxFails { .. } | KvmReport::BootsLinux { .. } => panic!("there is no image: {report:?}"),
    }
}

#[tokio::test]
async fn keeper_that_does_not_run_the_tiny_guest_is_a_failed_step() {
    if let Err(error) = open_kvm() {
        eprintln!("skipped: /dev/kvm cannot be opened ({error})");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let keeper = dir.path().join("keeper");
    fs::write(&keeper, "#!/bin/sh\nexit 7\n").unwrap();
    fs::set_permissions(&keeper, fs::Permissions::from_mode(0o755)).unwrap();
    let report = probe_with(&keeper).await;
    assert!(matches!(&report, KvmReport::TinyGuestFails { cause: TinyGuestFailure::Process { .. } }), "{report:?}");
    let [_, (step, result), (_, linux)] = report.steps();
    assert_eq!(step, KvmStep::TinyGuest);
    assert!(matches!(&result, StepResult::Failed(cause) if cause.contains("exit status: 7")), "{result:?}");
    assert!(matches!(linux, StepResult::NotTried(_)));
}
