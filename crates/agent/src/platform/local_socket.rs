//! The agent's Unix socket for programs in the machine: how they find it, and what they send.
//!
//! The messages are JSON, one value a line. The pane and the URL opener are programs of the unprivileged user, so nothing secret is sent
//! as a message.

use super::environment::{ExecutionEnvironment, USER_ID};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{io, os::unix::fs::PermissionsExt, path::PathBuf};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, unix::OwnedReadHalf},
};

/// The longest line: a URL of 8 KiB, escaped for JSON.
pub(crate) const LINE_BYTES_MAX: u64 = 64 * 1024;
/// How long the first line of a connection, or its answer, may take.
pub(crate) const FIRST_LINE_MS_MAX: u64 = 5_000;

/// The first line of a connection.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LocalRequest {
    /// Open this URL. Answered by [`OpenUrlResponse`].
    OpenUrl(String),
    /// The caller is a pane and waits for commands.
    Pane,
}

/// The answer to [`LocalRequest::OpenUrl`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OpenUrlResponse {
    Accepted,
    Rejected(String),
}

/// The path of the agent's socket, from the environment of a program that the agent started.
pub(crate) fn socket_path() -> PathBuf {
    std::env::var_os("ANTEROOM_SOCKET").map_or_else(|| "/run/anteroom/local.sock".into(), PathBuf::from)
}

/// Listens for the user's programs.
pub(crate) fn listen(environment: &ExecutionEnvironment) -> io::Result<UnixListener> {
    let path = &environment.local_socket;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    let mut mode = 0o600;
    if environment.is_machine() {
        std::os::unix::fs::chown(path, None, Some(USER_ID))?;
        mode = 0o660;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Reads one JSON line; `None` at the end of the stream.
pub(crate) async fn read_line<T: DeserializeOwned>(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    from.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

/// Writes one JSON line.
pub(crate) async fn write_line(to: &mut (impl AsyncWriteExt + Unpin), value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line).await
}
