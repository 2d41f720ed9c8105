//! Runs a test in a private mount namespace: the test program runs the test again as root of a user namespace, where it may mount
//! file systems. The namespace ends with its last process.
//!
//! On a host that forbids user namespaces the test fails with the settings to change, so that no fault is silently skipped.

use crate::inject::command;
use std::process::{Command, Output};

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
    unshare.args(["--mount", "--net", "--"]);
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
        return true;
    }
    if let Err(missing) = check_available(unshare_command().arg("true").output()) {
        panic!("{missing}");
    }
    let this = std::env::current_exe().unwrap();
    let output = unshare_command().arg(this).args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let [out, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    eprintln!("{out}\n{errors}");
    assert!(output.status.success(), "{name} failed in its namespace: {}", output.status);
    // A wrong name would run no test and succeed.
    assert!(out.contains("test result: ok. 1 passed"), "{name} was not run");
    false
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
