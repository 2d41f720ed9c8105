//! The tests of this program, as a user without any rights.

use super::fixture::{KEEPER_VARIABLE, superuser};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// The first of the user ids that no system allocates (systemd, "UIDS-GIDS") and that no machine of the superuser has.
const FIRST_USER: u32 = 0x6000_0000;

#[test]
fn confinement_holds_for_an_ordinary_user_too() {
    if !superuser() {
        eprintln!("not run as the superuser: the tests of this program have run as an ordinary user only");
        return;
    }
    let user = (FIRST_USER + std::process::id()).to_string();
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let copy = |from: &Path, name: &str| {
        let to = dir.path().join(name);
        fs::copy(from, &to).unwrap();
        to
    };
    let test = copy(&std::env::current_exe().unwrap(), "escape");
    let keeper = copy(Path::new(env!("CARGO_BIN_EXE_anteroom-keeper")), "keeper");
    #[allow(clippy::disallowed_methods, reason = "this test itself, as another user")]
    let output = Command::new("setpriv")
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .arg(&test)
        .args(["--test-threads", "1", "--skip", "confinement_holds_for_an_ordinary_user_too"])
        .env(KEEPER_VARIABLE, &keeper)
        .env("TMPDIR", dir.path())
        .env("HOME", dir.path())
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && text.contains(" passed") && !text.contains(" 0 passed");
    assert!(passed, "{text}{}", String::from_utf8_lossy(&output.stderr));
}
