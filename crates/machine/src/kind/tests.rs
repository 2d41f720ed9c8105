use super::*;
use crate::kvm::{DeviceFailure, GroupAccess, TinyGuestFailure};

fn program() -> FirecrackerProgram {
    FirecrackerProgram { path: "/opt/firecracker".into(), version: "1.12.1".parse().unwrap() }
}

fn failures() -> Vec<FirecrackerFailure> {
    let path: std::path::PathBuf = "/opt/firecracker".into();
    vec![
        FirecrackerFailure::NotInstalled,
        FirecrackerFailure::DoesNotRun { path: path.clone(), error: "killed".into() },
        FirecrackerFailure::TooOld { path: path.clone(), version: "1.11.0".parse().unwrap() },
        FirecrackerFailure::TooNew { path, version: "1.17.0".parse().unwrap() },
    ]
}

fn boots() -> KvmReport {
    KvmReport::BootsLinux { cpu: "host".into() }
}

/// Reports of hosts on which KVM boots no Linux.
fn broken() -> Vec<KvmReport> {
    let user = "eve".to_owned();
    let access = GroupAccess::Granted { group: "kvm".into(), user: user.clone() };
    vec![
        KvmReport::DeviceFails { cause: DeviceFailure::Absent },
        KvmReport::DeviceFails { cause: DeviceFailure::NotPermitted { user, access } },
        KvmReport::DeviceFails { cause: DeviceFailure::CannotOpen { error: "busy".into() } },
        KvmReport::TinyGuestFails { cause: TinyGuestFailure::Timeout { ms: 5_000 } },
        KvmReport::LinuxFails { why: "-cpu host: internal error".into() },
    ]
}

const EMULATED: MachineKind = MachineKind::Qemu { accelerator: Accelerator::Emulation };

fn qemu_with_kvm() -> MachineKind {
    MachineKind::Qemu { accelerator: Accelerator::Kvm { cpu: "host".into() } }
}

#[test]
fn auto_is_firecracker_then_qemu_with_kvm_then_emulation() {
    let auto =
        |kvm: &KvmReport, firecracker| choose(RequestedKind::Auto, RequestedAccelerator::Auto, kvm, &firecracker);
    assert_eq!(auto(&boots(), Ok(program())), Ok(MachineKind::Firecracker { firecracker: program() }));
    for failure in failures() {
        assert_eq!(auto(&boots(), Err(failure)), Ok(qemu_with_kvm()));
    }
    for report in broken() {
        assert_eq!(auto(&report, Ok(program())), Ok(EMULATED), "{report:?}");
        assert_eq!(auto(&report, Err(FirecrackerFailure::NotInstalled)), Ok(EMULATED), "{report:?}");
    }
}

#[test]
fn a_machine_may_take_the_guests_memory_and_that_of_its_vmm() {
    let hardware = Hardware { memory_mib: 1_536, cpus: 2, tcg_cache_mib: 256 };
    assert_eq!(EMULATED.host_memory_mib_max(&hardware), 1_536 + 256 + QEMU_OVERHEAD_MIB);
    assert_eq!(qemu_with_kvm().host_memory_mib_max(&hardware), 1_536 + QEMU_OVERHEAD_MIB);
    let firecracker = MachineKind::Firecracker { firecracker: program() };
    assert_eq!(firecracker.host_memory_mib_max(&hardware), 1_536 + FIRECRACKER_OVERHEAD_MIB);
}

#[test]
fn qemu_is_never_firecracker() {
    let qemu = |accelerator, kvm: &KvmReport| choose(RequestedKind::Qemu, accelerator, kvm, &Ok(program()));
    assert_eq!(qemu(RequestedAccelerator::Auto, &boots()), Ok(qemu_with_kvm()));
    assert_eq!(qemu(RequestedAccelerator::Kvm, &boots()), Ok(qemu_with_kvm()));
    assert_eq!(qemu(RequestedAccelerator::Emulation, &boots()), Ok(EMULATED));
    for report in broken() {
        assert_eq!(qemu(RequestedAccelerator::Auto, &report), Ok(EMULATED), "{report:?}");
    }
}

#[test]
fn emulation_that_is_set_is_used_even_where_kvm_works() {
    let choice = choose(RequestedKind::Auto, RequestedAccelerator::Emulation, &boots(), &Ok(program()));
    assert_eq!(choice, Ok(EMULATED));
    assert_eq!(
        explain(&EMULATED, RequestedAccelerator::Emulation, &boots()),
        "machines.accelerator = \"emulation\" is set, therefore machines run under QEMU's emulation, which is slower and not a \
         security boundary"
    );
}

#[test]
fn firecracker_that_cannot_run_is_an_error_with_its_cause() {
    let chosen = |kvm: &KvmReport, firecracker| {
        let choice = choose(RequestedKind::Firecracker, RequestedAccelerator::Auto, kvm, &firecracker);
        choice.map_err(|error| anteroom_wire::chain(&error))
    };
    assert_eq!(chosen(&boots(), Ok(program())), Ok(MachineKind::Firecracker { firecracker: program() }));
    let expected = ["not in PATH", "killed", "1.11.0, which is too old", "1.17.0, which is too new"];
    for (failure, part) in failures().into_iter().zip(expected) {
        let error = chosen(&boots(), Err(failure)).unwrap_err();
        assert!(error.contains("machines.kind = \"firecracker\"") && error.contains(part), "{part}: {error}");
    }
    let expected = [
        "there is no /dev/kvm",
        "usermod -aG kvm eve",
        "busy",
        "did not end within 5000 ms",
        "-cpu host: internal error",
    ];
    for (report, part) in broken().into_iter().zip(expected) {
        let error = chosen(&report, Ok(program())).unwrap_err();
        assert!(error.contains("machines.kind = \"firecracker\"") && error.contains(part), "{part}: {error}");
    }
}

#[test]
fn firecracker_with_emulation_is_rejected() {
    let choice = choose(RequestedKind::Firecracker, RequestedAccelerator::Emulation, &boots(), &Ok(program()));
    assert_eq!(choice, Err(KindError::FirecrackerEmulated));
}

#[test]
fn kvm_that_is_set_and_boots_no_linux_is_an_error_with_its_cause() {
    for requested in [RequestedKind::Auto, RequestedKind::Qemu] {
        for report in broken() {
            let error = choose(requested, RequestedAccelerator::Kvm, &report, &Ok(program())).unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("machines.accelerator = \"kvm\" is set, but {report}: ")),
                "{error}"
            );
        }
    }
}

#[test]
fn firecracker_runs_without_qemu() {
    let report = KvmReport::LinuxNotTried { why: LinuxNotTried::NoQemu };
    let choice = choose(RequestedKind::Firecracker, RequestedAccelerator::Auto, &report, &Ok(program()));
    assert_eq!(choice, Ok(MachineKind::Firecracker { firecracker: program() }));
}

#[test]
fn sentence_names_what_kvm_can_do_and_the_kind_that_follows() {
    let sentence = |kvm: &KvmReport, firecracker| {
        let choice = choose(RequestedKind::Auto, RequestedAccelerator::Auto, kvm, &firecracker).unwrap();
        explain(&choice, RequestedAccelerator::Auto, kvm)
    };
    let missing = || Err(FirecrackerFailure::NotInstalled);
    assert_eq!(
        sentence(&KvmReport::LinuxFails { why: "internal error".into() }, missing()),
        "KVM is present and runs a tiny guest, but does not boot Linux, therefore machines run under QEMU's emulation, which is \
         slower and not a security boundary"
    );
    for report in broken() {
        let found = sentence(&report, missing());
        assert!(found.starts_with(&report.to_string()) && found.ends_with("not a security boundary"), "{found}");
    }
    assert_eq!(
        sentence(&boots(), missing()),
        "KVM is present, runs a tiny guest and boots Linux, therefore machines run under QEMU with KVM"
    );
    assert_eq!(
        sentence(&boots(), Ok(program())),
        "KVM is present, runs a tiny guest and boots Linux, therefore machines run under Firecracker 1.12.1"
    );
}
