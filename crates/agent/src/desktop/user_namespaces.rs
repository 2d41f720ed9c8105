//! User namespaces: closed, because they let an ordinary program reach much more of the kernel. Only Chromium's sandbox needs them, and only
//! while Chromium starts: its zygotes keep theirs, and every later renderer is a child of a zygote.
//!
//! ```text
//!  boot: closed ─▶ Chromium starts: open ─▶ its first page is shown: closed ─▶ (it exits and is started again: open …)
//! ```

use std::{fs, io};

const LIMIT_FILE: &str = "/proc/sys/user/max_user_namespaces";
/// Enough for a start of Chromium, which makes some to check its sandbox and one for each zygote.
const NAMESPACES_WHILE_STARTING_MAX: u32 = 32;

/// Lets programs make user namespaces.
pub(super) fn open() -> io::Result<()> {
    fs::write(LIMIT_FILE, NAMESPACES_WHILE_STARTING_MAX.to_string())
}

/// Prevents new user namespaces. Those that exist are kept.
pub(crate) fn close() -> io::Result<()> {
    fs::write(LIMIT_FILE, "0")
}
