//! Runs a test in a private mount namespace: the test program runs the test again as root of a user namespace, where it may mount
//! file systems. The namespace ends with its last process.
//!
//! A test with a network of its own also has its own processes: all of them end with it, even if it is killed.
//!
//! On a host that forbids user namespaces the test fails with the settings to change, so that no fault is silently skipped.

use crate::inject::command;
use std::{
    io::Read as _,
    process::{Child, Command, Output, Stdio},
};

/// Set in the second run.
const INSIDE: &str = "ANTEROOM_TEST_IN_NAMESPACE";

/// The command that enters a namespace, without the program to run.
fn unshare_command() -> Command {
    let mut unshare = command("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "--"]);
    unshare
}

/// As [`unshare_command`], with a network of its own. Root keeps its users, since PostgreSQL and machines run as others.
fn unshare_network_command() -> Command {
    let mut unshare = command("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    // The first process of the namespace, which takes in what its own processes leave.
    unshare.args(["sh", "-c", "\"$@\"; exit $?", "sh"]);
    unshare
}

/// Returns true in the second run. In the first run this runs the test `name` (with its module path) in a namespace, and panics if it fails there.
pub(crate) fn rerun_inside(name: &str) -> bool {
    rerun(name, unshare_command)
}

/// As [`rerun_inside`], with a network of its own.
pub(crate) fn rerun_in_network(name: &str) -> bool {
    rerun(name, unshare_network_command)
}

fn rerun(name: &str, unshare_command: fn() -> Command) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        std::thread::spawn(end_with_first_run);
        return true;
    }
    if let Err(missing) = check_available(unshare_command().arg("true").output()) {
        panic!("{missing}");
    }
    let this = std::env::current_exe().unwrap();
    let mut second = unshare_command();
    second.arg(this).args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    let output = output_of(second.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let [out, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    eprintln!("{out}\n{errors}");
    assert!(output.status.success(), "{name} failed in its namespace: {}", output.status);
    // A wrong name would run no test and succeed.
    assert!(out.contains("test result: ok. 1 passed"), "{name} was not run");
    false
}

/// Keeps the input open until the second run has ended.
fn output_of(mut second: Child) -> Output {
    let _input = second.stdin.take();
    second.wait_with_output().unwrap()
}

/// The input of the second run ends when the first run does, also when that is killed.
fn end_with_first_run() {
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(1);
}

/// Checks the result of an attempt to enter a namespace; the error names the settings to change.
fn check_available(attempt: std::io::Result<Output>) -> Result<(), String> {
    let why = match attempt {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("unshare: {error} (Debian's package util-linux)"),
    };
    Err(format!(
        "this test mounts file systems in a private namespace, which this host does not allow for this user: {why}. It is \
         allowed by user.max_user_namespaces above 0, and where the kernel has them kernel.unprivileged_userns_clone=1 and \
         kernel.apparmor_restrict_unprivileged_userns=0; in a container, by its seccomp profile."
    ))
}

#[test]
fn missing_user_namespaces_are_reported_with_the_settings_to_change() {
    let error =
        check_available(unshare_command().args(["sh", "-c", "echo not here >&2; exit 1"]).output()).unwrap_err();
    assert!(error.contains("not here") && error.contains("user.max_user_namespaces"), "{error}");
    let absent = check_available(command("unshare-that-is-not-there").output()).unwrap_err();
    assert!(absent.contains("util-linux"), "{absent}");
}

#[test]
fn processes_of_a_killed_test_end_with_it() {
    let mark = format!("{}.5", 100_000 + std::process::id());
    let script = format!("setsid sh -c 'echo started; exec sleep {mark}' & read end");
    let mut test = unshare_network_command();
    let mut test = test.args(["sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    test.stdout.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
    let is_alive = || {
        let found = std::fs::read_dir("/proc").unwrap().flatten();
        found
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .any(|line| line.ends_with(format!("{mark}\0").as_bytes()))
    };
    assert!(is_alive());
    // What its descriptor does when it is killed.
    drop(test.stdin.take());
    assert!(!test.wait().unwrap().success());
    assert!(!is_alive());
}
