//! A mount namespace of a test's own, as every user may make one: the test's program runs this one test again as the root of a
//! user namespace, where it may mount what nobody else sees, and which goes with the last process in it.
//!
//! Where even that is forbidden the test fails and says what is missing: nobody shall take a fault for tried that was not.

use crate::inject::command;
use std::process::{Command, Output};

/// Set for the second run.
const INSIDE: &str = "ANTEROOM_TEST_IN_NAMESPACE";

/// The way in; what it is to run follows.
fn enter() -> Command {
    let mut unshare = command("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "--"]);
    unshare
}

/// Whether this is the run inside. The first call of the test `name` (with its modules) has it run there, and fails as that does.
pub(crate) fn inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if let Err(missing) = possible(enter().arg("true").output()) {
        panic!("{missing}");
    }
    let this = std::env::current_exe().unwrap();
    let output = enter().arg(this).args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let [out, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    eprintln!("{out}\n{errors}");
    assert!(output.status.success(), "{name} failed in a namespace of its own: {}", output.status);
    // A name that is no test's would run nothing, and well.
    assert!(out.contains("test result: ok. 1 passed"), "{name} was not run");
    false
}

/// What an attempt to enter came to, or the sentence that says what is missing.
fn possible(attempt: std::io::Result<Output>) -> Result<(), String> {
    let why = match attempt {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("unshare: {error} (Debian's package util-linux)"),
    };
    Err(format!(
        "this test mounts file systems in a namespace of its own, and this host does not let this user make one: {why}. It is \
         allowed by user.max_user_namespaces above 0, and where the kernel has them kernel.unprivileged_userns_clone=1 and \
         kernel.apparmor_restrict_unprivileged_userns=0; in a container, by its seccomp profile."
    ))
}

#[test]
fn missing_user_namespaces_are_reported_with_the_settings_to_change() {
    let refused = possible(enter().args(["sh", "-c", "echo not here >&2; exit 1"]).output()).unwrap_err();
    assert!(refused.contains("not here") && refused.contains("user.max_user_namespaces"), "{refused}");
    let absent = possible(command("unshare-that-is-not-there").output()).unwrap_err();
    assert!(absent.contains("util-linux"), "{absent}");
}
