//! Serves the agent's Unix socket: URLs from the URL opener, and the pane, which waits here for commands. The peer's user is checked.

use crate::{
    agent::Agent,
    log,
    platform::local_socket::{FIRST_LINE_MS_MAX, LocalRequest, read_line, write_line},
    sign_in::url_opener,
    terminal::pane,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::BufReader,
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

const CONNECTIONS_MAX: usize = 32;
const ACCEPT_AGAIN_MS: u64 = 100;

/// Serves the user's programs, forever.
pub(crate) async fn serve_local_api(agent: Arc<Agent>, listener: UnixListener) -> io::Result<()> {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors: a later attempt may succeed.
                log::write_line(&format!("local socket: {error}"));
                tokio::time::sleep(Duration::from_millis(ACCEPT_AGAIN_MS)).await;
                continue;
            }
        };
        let Ok(permit) = connections.clone().try_acquire_owned() else { continue };
        let agent = agent.clone();
        tokio::spawn(async move {
            if let Err(error) = serve_one(&agent, stream).await {
                log::write_line(&format!("local socket: {error}"));
            }
            drop(permit);
        });
    }
}

async fn serve_one(agent: &Arc<Agent>, stream: UnixStream) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != rustix::process::getuid().as_raw() && Some(uid) != agent.environment.user_id() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {uid} may not connect")));
    }
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let first = tokio::time::timeout(Duration::from_millis(FIRST_LINE_MS_MAX), read_line(&mut read)).await??;
    match first {
        Some(LocalRequest::OpenUrl(url)) => write_line(&mut write, &url_opener::receive_url(agent, url)).await,
        Some(LocalRequest::Pane) => pane::controller::control_panes(agent, read, write).await,
        None => Ok(()),
    }
}
