//! Raw streams over `CONNECT`: the desktop and the terminal.

use super::{Answer, Refused, empty};
use crate::{
    agent::Agent,
    log, spare,
    terminal::{self, TerminalError},
    watched::watched,
};
use anteroom_wire::{
    Problem,
    agent::{Stage, TERMINAL_COLS_HEADER, TERMINAL_ID_HEADER, TERMINAL_ROWS_HEADER, TerminalSize},
};
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::{
    io,
    ops::RangeInclusive,
    os::fd::OwnedFd,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd},
    net::UnixStream,
};

const COPY_BYTES: usize = 64 * 1024;
const COLS: RangeInclusive<u16> = 2..=500;
const ROWS: RangeInclusive<u16> = 2..=300;
const VIEWS_MAX: usize = 16;

pub(super) async fn desktop(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Answer, Refused> {
    let Some(socket) = &agent.place.rfb_socket else {
        return Err(Refused::new(Problem::DesktopUnreachable, "this machine has no desktop"));
    };
    if let Some(spare) = agent.desk.take().await {
        let socket = socket.clone();
        tokio::spawn(async move {
            let Ok(viewer) = hyper::upgrade::on(request).await else { return };
            let mut viewer = TokioIo::new(viewer);
            match spare::seat(&mut viewer, spare, &socket).await {
                Ok(mut display) => {
                    let _ = tokio::io::copy_bidirectional_with_sizes(&mut viewer, &mut display, COPY_BYTES, COPY_BYTES)
                        .await;
                }
                Err(error) => log::line(&format!("a viewer was not seated: {error}")),
            }
        });
        return Ok(empty(StatusCode::OK));
    }
    let mut display = UnixStream::connect(socket).await.map_err(|error| {
        agent.stages.failed(Stage::Display, &format!("no connection: {error}"));
        Refused::new(Problem::DesktopUnreachable, error.to_string())
    })?;
    tokio::spawn(async move {
        if let Ok(viewer) = hyper::upgrade::on(request).await {
            let mut viewer = TokioIo::new(viewer);
            let _ = tokio::io::copy_bidirectional_with_sizes(&mut viewer, &mut display, COPY_BYTES, COPY_BYTES).await;
        }
    });
    Ok(empty(StatusCode::OK))
}

pub(super) fn terminal(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Answer, Refused> {
    let id = text(request.headers(), TERMINAL_ID_HEADER)?.to_owned();
    let plain = (1..=40).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !plain {
        return Err(Refused::new(Problem::Malformed, format!("{TERMINAL_ID_HEADER} must be 1 to 40 of a-z 0-9")));
    }
    let cols = number(request.headers(), TERMINAL_COLS_HEADER, &COLS)?;
    let rows = number(request.headers(), TERMINAL_ROWS_HEADER, &ROWS)?;
    let mut views = agent.views.lock().unwrap_or_else(PoisonError::into_inner);
    views.retain(|_, view| view.strong_count() > 0);
    if views.len() >= VIEWS_MAX {
        return Err(Refused::new(Problem::TooManyViewers, format!("at most {VIEWS_MAX} terminal streams")));
    }
    let view = terminal::view(agent, cols, rows).map_err(|error| match error {
        TerminalError::Down => Refused::new(Problem::NotReady, error.to_string()),
        TerminalError::Slow | TerminalError::Refused(_) | TerminalError::Start(_) => {
            Refused::new(Problem::Internal, error.to_string())
        }
    })?;
    let stream = Pty::new(view.pty.clone()).map_err(|error| Refused::new(Problem::Internal, error.to_string()))?;
    views.insert(id, Arc::downgrade(&view.pty));
    drop(views);
    tokio::spawn(async move {
        // Held to the end of the stream: dropping it ends the client.
        let mut client = view.client;
        let Ok(viewer) = hyper::upgrade::on(request).await else { return };
        let (mut viewer, mut stream) = (TokioIo::new(viewer), stream);
        tokio::select! {
            _ = tokio::io::copy_bidirectional_with_sizes(&mut viewer, &mut stream, COPY_BYTES, COPY_BYTES) => {}
            code = client.wait() => log::line(&format!("a terminal stream's client ended with {code}")),
        }
    });
    Ok(empty(StatusCode::OK))
}

pub(super) fn resize(agent: &Arc<Agent>, id: &str, size: TerminalSize) -> Result<Answer, Refused> {
    if !COLS.contains(&size.cols) || !ROWS.contains(&size.rows) {
        return Err(Refused::new(Problem::Malformed, "cols must be 2 to 500 and rows 2 to 300"));
    }
    let view = agent.views.lock().unwrap_or_else(PoisonError::into_inner).get(id).and_then(std::sync::Weak::upgrade);
    let view = view.ok_or_else(|| Refused::new(Problem::PathNotFound, "there is no such terminal stream"))?;
    terminal::resize(&view, size.cols, size.rows)
        .map_err(|error| Refused::new(Problem::Internal, error.to_string()))?;
    Ok(empty(StatusCode::NO_CONTENT))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Refused> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| Refused::new(Problem::Malformed, format!("the header {name} is missing")))
}

fn number(headers: &HeaderMap, name: &str, range: &RangeInclusive<u16>) -> Result<u16, Refused> {
    let value = text(headers, name)?.parse().ok().filter(|value| range.contains(value));
    value
        .ok_or_else(|| Refused::new(Problem::Malformed, format!("{name} must be {} to {}", range.start(), range.end())))
}

/// The controlling side of a pseudo-terminal as a stream.
struct Pty {
    fd: AsyncFd<Arc<OwnedFd>>,
}

impl Pty {
    fn new(pty: Arc<OwnedFd>) -> io::Result<Self> {
        Ok(Self { fd: watched(pty, Interest::READABLE | Interest::WRITABLE)? })
    }
}

impl AsyncRead for Pty {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            match guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), unfilled)?)) {
                Ok(Ok(n)) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                // Linux says EIO once the last program on the other side is gone: that is the end.
                Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Pty {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.fd.poll_write_ready(cx))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), buf)?)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
