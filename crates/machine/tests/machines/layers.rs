//! Which layers of confinement a host has, found out without a machine. Features that a host may lack are denied to the keeper
//! in each test: by a limit of its user namespace, or by a filter that answers as an older kernel.

use anteroom_machine::{Layer, LayerStatus, ProbeLayersError, probe_layers};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

const KEEPER: &str = env!("CARGO_BIN_EXE_anteroom-keeper");
const ENOSYS: u32 = 38;

fn superuser() -> bool {
    rustix::process::geteuid().is_root()
}

/// A keeper that `script` starts: `"$@"` are its arguments, `$KEEPER` is its program.
fn keeper_started_by(dir: &Path, script: &str) -> PathBuf {
    let program = dir.join("keeper");
    fs::write(&program, format!("#!/bin/sh\nexport KEEPER={KEEPER}\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// The report of a keeper on a kernel without the system call `missing`.
fn report_without(missing: i64) -> serde_json::Value {
    let filter = SeccompFilter::new(
        [(missing, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(ENOSYS),
        TargetArch::x86_64,
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    #[allow(clippy::disallowed_methods, reason = "a keeper without a machine")]
    let mut command = Command::new(KEEPER);
    command.args(["keeper", "--probe-layers"]);
    #[allow(unsafe_code, reason = "the closure makes system calls only, as pre_exec demands")]
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&program).map_err(std::io::Error::other));
    }
    serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
}

/// The layers that are off. A host seldom has a delegated cgroup, so that one is left out.
fn off(layers: &BTreeMap<Layer, LayerStatus>) -> Vec<Layer> {
    let layers = layers.iter().filter(|(layer, _)| **layer != Layer::Cgroup);
    layers.filter(|(_, status)| **status != LayerStatus::On).map(|(layer, _)| *layer).collect()
}

#[tokio::test]
async fn layers_of_this_host_are_reported_without_a_machine() {
    let layers = probe_layers(Path::new(KEEPER)).await.unwrap();
    assert_eq!(layers.len(), 9, "{layers:?}");
    for (layer, status) in &layers {
        if let LayerStatus::Off { why, remedy } = status {
            assert!(!why.is_empty() && !remedy.is_empty(), "{layer:?}: {status:?}");
        }
    }
    assert_eq!(layers[&Layer::SystemCalls], LayerStatus::On);
    assert_eq!(layers[&Layer::ResourceLimits], LayerStatus::On);
    assert_eq!(layers[&Layer::User] == LayerStatus::On, superuser());
}

#[tokio::test]
async fn switched_off_user_namespaces_are_named_with_the_command_and_the_other_layers_stay_on() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"exec unshare --user --map-root-user sh -c \
        'echo 0 > /proc/sys/user/max_user_namespaces && exec "$KEEPER" "$@"' sh "$@""#;
    let layers = probe_layers(&keeper_started_by(dir.path(), script)).await.unwrap();
    let LayerStatus::Off { why, remedy } = &layers[&Layer::UserNamespace] else { panic!("{layers:?}") };
    assert!(why.contains("user.max_user_namespaces=0"), "{why}");
    assert!(remedy.contains("sysctl -w user.max_user_namespaces="), "{remedy}");
    // The superuser of the test's user namespace makes the other namespaces without one.
    assert_eq!(off(&layers), [Layer::User, Layer::UserNamespace], "{layers:?}");
}

#[tokio::test]
async fn without_any_namespace_landlock_system_calls_and_limits_stay_on() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"exec unshare --user --map-root-user sh -c \
        'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all "$KEEPER" "$@"' sh "$@""#;
    let layers = probe_layers(&keeper_started_by(dir.path(), script)).await.unwrap();
    let expected = [Layer::User, Layer::UserNamespace, Layer::Namespaces, Layer::RootDirectory];
    assert_eq!(off(&layers), expected, "{layers:?}");
}

#[test]
fn kernel_without_landlock_switches_that_layer_off_and_no_other() {
    let report = report_without(libc::SYS_landlock_create_ruleset);
    let layers: BTreeMap<Layer, LayerStatus> = serde_json::from_value(report["applied"].clone()).unwrap();
    let LayerStatus::Off { why, remedy } = &layers[&Layer::Landlock] else { panic!("{layers:?}") };
    assert!(why.contains("no Landlock") && remedy.contains("lsm=landlock"), "{why}; {remedy}");
    assert!(off(&layers).iter().all(|layer| matches!(layer, Layer::Landlock | Layer::User)), "{layers:?}");
}

#[test]
fn kernel_without_seccomp_confines_no_machine_and_names_the_cause() {
    let report = report_without(libc::SYS_seccomp);
    let error = report["failed"].as_str().unwrap();
    assert!(error.contains("CONFIG_SECCOMP_FILTER") && error.contains("not implemented"), "{error}");
}

#[tokio::test]
async fn keeper_that_cannot_be_run_or_reports_nothing_is_a_named_error() {
    let dir = tempfile::tempdir().unwrap();
    let missing = probe_layers(&dir.path().join("missing")).await.unwrap_err();
    assert!(matches!(missing, ProbeLayersError::NotRun { .. }), "{missing:?}");
    let silent = probe_layers(&keeper_started_by(dir.path(), "exit 0")).await.unwrap_err();
    assert!(matches!(silent, ProbeLayersError::NoReport { .. }), "{silent:?}");
}
