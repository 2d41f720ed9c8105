//! Raw streams over `CONNECT`: the desktop and the terminal.

use super::{ApiResponse, empty};
use crate::{
    agent::Agent,
    api_error::ApiError,
    desktop::preconnected_rfb,
    exec::{EXECS_MAX, serve_upgraded},
    log,
    platform::fd_stream::FdStream,
    terminal::{
        attach::{self, attach_client},
        handle::TerminalError,
    },
};
use anteroom_wire::{
    Problem,
    agent::{Stage, TERMINAL_COLS_HEADER, TERMINAL_ID_HEADER, TERMINAL_ROWS_HEADER, TerminalSize},
};
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::{ops::RangeInclusive, sync::Arc};
use tokio::net::UnixStream;

const COPY_BYTES: usize = 64 * 1024;
const COLS: RangeInclusive<u16> = 2..=500;
const ROWS: RangeInclusive<u16> = 2..=300;
const STREAMS_MAX: usize = 16;

pub(super) async fn open_desktop(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<ApiResponse, ApiError> {
    let Some(socket) = &agent.environment.rfb_socket else {
        return Err(ApiError::new(Problem::DesktopUnreachable, "this machine has no desktop"));
    };
    if let Some(preconnected) = agent.preconnected_rfb_slot.take().await {
        let socket = socket.clone();
        tokio::spawn(async move {
            let Ok(viewer) = hyper::upgrade::on(request).await else { return };
            let mut viewer = TokioIo::new(viewer);
            match preconnected_rfb::connect_viewer(&mut viewer, preconnected, &socket).await {
                Ok(mut display) => {
                    let _ = tokio::io::copy_bidirectional_with_sizes(&mut viewer, &mut display, COPY_BYTES, COPY_BYTES)
                        .await;
                }
                Err(error) => log::write_line(&format!("viewer not connected: {error}")),
            }
        });
        return Ok(empty(StatusCode::OK));
    }
    let mut display = UnixStream::connect(socket).await.map_err(|error| {
        agent.readiness.record_failure(Stage::Display, &format!("no connection: {error}"));
        ApiError::caused_by(Problem::DesktopUnreachable, error)
    })?;
    tokio::spawn(async move {
        if let Ok(viewer) = hyper::upgrade::on(request).await {
            let mut viewer = TokioIo::new(viewer);
            let _ = tokio::io::copy_bidirectional_with_sizes(&mut viewer, &mut display, COPY_BYTES, COPY_BYTES).await;
        }
    });
    Ok(empty(StatusCode::OK))
}

pub(super) fn open_terminal(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<ApiResponse, ApiError> {
    let id = text(request.headers(), TERMINAL_ID_HEADER)?.to_owned();
    let valid = (1..=40).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !valid {
        return Err(ApiError::new(Problem::Malformed, format!("{TERMINAL_ID_HEADER} must be 1 to 40 of a-z 0-9")));
    }
    let cols = number(request.headers(), TERMINAL_COLS_HEADER, &COLS)?;
    let rows = number(request.headers(), TERMINAL_ROWS_HEADER, &ROWS)?;
    let mut streams = agent.terminal_streams.lock();
    streams.retain(|_, pty| pty.strong_count() > 0);
    if streams.len() >= STREAMS_MAX {
        return Err(ApiError::new(Problem::TooManyViewers, format!("at most {STREAMS_MAX} terminal streams")));
    }
    let client = attach_client(&agent.environment, &agent.supervisor.processes, &agent.terminal, cols, rows).map_err(
        |error| match error {
            TerminalError::Down => error.into(),
            TerminalError::Timeout | TerminalError::Tmux(_) | TerminalError::NoSize | TerminalError::Start(_) => {
                ApiError::internal(error)
            }
        },
    )?;
    let stream = FdStream::new(client.pty.clone()).map_err(ApiError::internal)?;
    streams.insert(id, Arc::downgrade(&client.pty));
    drop(streams);
    tokio::spawn(async move {
        // Kept until the stream ends: dropping it ends the client.
        let mut process = client.process;
        let Ok(viewer) = hyper::upgrade::on(request).await else { return };
        let (mut viewer, mut stream) = (TokioIo::new(viewer), stream);
        tokio::select! {
            _ = tokio::io::copy_bidirectional_with_sizes(&mut viewer, &mut stream, COPY_BYTES, COPY_BYTES) => {}
            code = process.wait() => log::write_line(&format!("client of a terminal stream ended with {code}")),
        }
    });
    Ok(empty(StatusCode::OK))
}

pub(super) fn open_exec(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<ApiResponse, ApiError> {
    let Ok(permit) = Arc::clone(&agent.exec_permits).try_acquire_owned() else {
        return Err(ApiError::new(Problem::TooManyViewers, format!("at most {EXECS_MAX} commands at once")));
    };
    let agent = agent.clone();
    tokio::spawn(async move {
        serve_upgraded(agent, request).await;
        drop(permit);
    });
    Ok(empty(StatusCode::OK))
}

pub(super) fn resize_terminal(agent: &Arc<Agent>, id: &str, size: TerminalSize) -> Result<ApiResponse, ApiError> {
    if !COLS.contains(&size.cols) || !ROWS.contains(&size.rows) {
        return Err(ApiError::new(Problem::Malformed, "cols must be 2 to 500 and rows 2 to 300"));
    }
    let streams = agent.terminal_streams.lock();
    let pty = streams.get(id).and_then(std::sync::Weak::upgrade);
    drop(streams);
    let pty = pty.ok_or_else(|| ApiError::new(Problem::PathNotFound, "there is no such terminal stream"))?;
    attach::resize_pty(&pty, size.cols, size.rows).map_err(ApiError::internal)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, ApiError> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| ApiError::new(Problem::Malformed, format!("the header {name} is missing")))
}

fn number(headers: &HeaderMap, name: &str, range: &RangeInclusive<u16>) -> Result<u16, ApiError> {
    let value = text(headers, name)?.parse().ok().filter(|value| range.contains(value));
    value.ok_or_else(|| {
        ApiError::new(Problem::Malformed, format!("{name} must be {} to {}", range.start(), range.end()))
    })
}
