//! The agent's own Unix socket, for programs of the person's: the `BROWSER` shim hands over the address that the tool
//! wants opened (the only place where the tool tells it whole), and the pane waits here for what it shall run.
//!
//! One JSON value a line. The peer's user is checked; both kinds of caller are the person's own programs, so nothing
//! secret goes over it.

use crate::{agent::Agent, browser, finder, log, pane};
use anteroom_wire::{
    agent::UrlSource,
    provider::{Lane, LinkFrom},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    ffi::OsString,
    io::{self, BufRead, Read, Write},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedReadHalf},
    sync::Semaphore,
};

/// The longest line, an address of 8 KiB in JSON included.
const LINE_BYTES_MAX: u64 = 64 * 1024;
const CALLERS_MAX: usize = 32;
const FIRST_LINE_MS_MAX: u64 = 5_000;
const ACCEPT_AGAIN_MS: u64 = 100;

/// How a caller begins.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    /// Open this address.
    OpenUrl(String),
    /// I am the pane: what shall I run?
    Pane,
}

/// The agent's answer to [`Call::OpenUrl`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Taken,
    Refused(String),
}

/// Where the agent listens, as told in the environment.
pub(crate) fn socket_path() -> PathBuf {
    std::env::var_os("ANTEROOM_SOCKET").map_or_else(|| "/run/anteroom/shim.sock".into(), PathBuf::from)
}

/// The shim: `browser URL`. Exit 0 once the agent has the address.
pub(crate) fn hand_over(args: &[OsString]) -> ExitCode {
    let Some(url) = args.iter().filter_map(|arg| arg.to_str()).find(|arg| !arg.starts_with('-')) else {
        log::line("usage: browser URL");
        return ExitCode::from(2);
    };
    match ask(url) {
        Ok(Answer::Taken) => ExitCode::SUCCESS,
        Ok(Answer::Refused(why)) => {
            log::line(&why);
            ExitCode::FAILURE
        }
        Err(error) => {
            log::line(&format!("the agent cannot be asked: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn ask(url: &str) -> io::Result<Answer> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket_path())?;
    let limit = Some(Duration::from_millis(FIRST_LINE_MS_MAX));
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    let mut line = serde_json::to_string(&Call::OpenUrl(url.to_owned()))?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    io::BufReader::new(stream).take(LINE_BYTES_MAX).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
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

/// Listens for the person's programs.
pub(crate) fn listen(agent: &Agent) -> io::Result<UnixListener> {
    let path = &agent.place.shim_socket;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    let mode = if agent.place.is_machine() { 0o666 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Serves them, for ever.
pub(crate) async fn serve(agent: Arc<Agent>, listener: UnixListener) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(CALLERS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors: the next may succeed.
                log::line(&format!("shim socket: {error}"));
                tokio::time::sleep(Duration::from_millis(ACCEPT_AGAIN_MS)).await;
                continue;
            }
        };
        let Ok(place) = room.clone().try_acquire_owned() else { continue };
        let agent = agent.clone();
        tokio::spawn(async move {
            if let Err(error) = serve_one(&agent, stream).await {
                log::line(&format!("shim socket: {error}"));
            }
            drop(place);
        });
    }
}

async fn serve_one(agent: &Arc<Agent>, stream: UnixStream) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != rustix::process::getuid().as_raw() && Some(uid) != agent.place.person_id() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {uid} may not ask")));
    }
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let first = tokio::time::timeout(Duration::from_millis(FIRST_LINE_MS_MAX), read_line(&mut read)).await??;
    match first {
        Some(Call::OpenUrl(url)) => write_line(&mut write, &open_url(agent, url).await).await,
        Some(Call::Pane) => pane::attend(agent, read, write).await,
        None => Ok(()),
    }
}

async fn open_url(agent: &Arc<Agent>, url: String) -> Answer {
    let Some(host) = finder::web_host(&url) else {
        return Answer::Refused("only http and https addresses can be opened".to_owned());
    };
    let owner = agent.claim_now();
    let link_from = owner.as_ref().map_or_else(LinkFrom::default, |owner| owner.provider.sign_in.link_from);
    agent.board.url(url.clone(), UrlSource::Shim, link_from);
    let in_machine = owner.is_some_and(|owner| owner.provider.lanes.contains(&Lane::Desktop));
    if in_machine && agent.browser.is_some() {
        let agent = agent.clone();
        tokio::spawn(async move {
            if let Err(error) = browser::open(&agent, &url, &host).await {
                log::line(&format!("browser: {error}"));
            }
        });
    }
    Answer::Taken
}
