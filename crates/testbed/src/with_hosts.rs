//! Programs that see another `/etc/hosts`, without root.

use std::{fs, io, path::Path};
use tokio::process::Command;

/// A command whose `/etc/hosts` is `hosts`, in namespaces of its own; the file is written to `dir`. The process ends with everything
/// that it has started.
///
/// # Errors
/// The file cannot be written.
pub fn with_hosts(dir: &Path, hosts: &str, program: &Path) -> io::Result<Command> {
    let file = dir.join("hosts");
    fs::write(&file, hosts)?;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-current-user", "--keep-caps", "--mount", "--pid", "--fork", "--kill-child"]);
    command.args(["sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(file).arg(program);
    Ok(command)
}
