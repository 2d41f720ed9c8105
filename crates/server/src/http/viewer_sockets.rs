//! `WS …/novnc/websock` and `WS …/terminal`: redeem the ticket, connect to the machine, and copy bytes in both directions.

use super::{
    error_response::ErrorResponse, extract::extract_session_id, observe_input::InputKind,
    tickets::VIEW_ONLY_TICKET_PREFIX, viewer_scope::ViewerScope,
};
use crate::{
    app::App,
    auth::{self, LiveCaller},
};
use anteroom_controller::{
    api_error::ApiError,
    audit::{note_actor, note_session},
    caller::{Action, Caller},
    log::line_budget::SECURITY_TARGET,
    random,
    session::{
        active_session::{ActiveSession, HelperConnection, ViewerAccess},
        channels::{reach_terminal, require_active},
        reach_desktop::reach_desktop,
        rejections::{RejectedRequest, record_rejection},
        status::Progress,
        timeline::new_entry,
    },
    unix_time,
};
use anteroom_store::{Role, Sha256Hex, TicketPurpose};
use anteroom_tunnel::{Tunnel, TunnelEnd, TunnelReport, ViewOnlyFilter, WEBSOCKET_SUBPROTOCOL};
use anteroom_wire::{Problem, ProblemBody, SessionId, TimelineKind, agent::TerminalSize};
use axum::{
    extract::{FromRequestParts, Query, Request, State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::watch;

/// Prefix of the subprotocol that carries the ticket.
const TICKET_PREFIX: &str = "ticket.";
/// Time between two sizes of a terminal, milliseconds. A person who drags a window's corner sees the terminal follow.
const RESIZE_INTERVAL_MS: u64 = 50;
/// Terminal size if the request has none.
const DEFAULT_TERMINAL_SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

/// Connects a viewer to the desktop.
pub(super) async fn open_desktop_socket(State(app): State<App>, request: Request) -> Response {
    let (admitted, upgrade) = match admit_viewer(&app, request, TicketPurpose::Desktop).await {
        Ok(admitted) => admitted,
        Err(response) => return response,
    };
    let AdmittedViewer { session, live_caller, helper, is_browser, access, scope } = admitted;
    let place = match session.take_desktop_place(live_caller.id(), access, app.limits.sessions.viewers_max) {
        Ok(place) => place,
        Err(problem) => {
            let error = ApiError::from(problem);
            record_rejection(&app.timeline, &session.id, RejectedRequest::Desktop, &error);
            return reject(&app, is_browser, upgrade, error);
        }
    };
    let (settings, tasks) = (app.limits.tunnel.clone(), app.tasks.clone());
    anteroom_tunnel::accept_websocket(upgrade, &settings, &tasks, move |socket| async move {
        let _helper = helper;
        let closed_by = session.state().machine_close_signal.or(live_caller.signal()).or(place.signal());
        let view_only = access == ViewerAccess::ViewOnly;
        let mut tunnel = Tunnel::new(app.limits.tunnel.clone(), closed_by, Arc::clone(&session.activity)).to_desktop();
        if view_only {
            tunnel = tunnel.view_only();
        }
        let connect = async {
            let reach = |until| {
                let (app, session) = (&app, &session);
                async move { reach_desktop(app, session, view_only, until).await.map_err(answer) }
            };
            let stream = anteroom_tunnel::connect_with_backoff(app.config().sessions.socket_wait_ms_max, reach).await?;
            scope.record_open(&app, Socket::Desktop, view_only).await;
            let filter = ViewOnlyFilter::new(app.limits.tunnel.message_bytes_max);
            let stream = scope.observe_input(&app, stream, InputKind::Rfb(Box::new(filter)));
            let sentence = if view_only {
                "A view-only viewer connected to the desktop."
            } else {
                "A viewer connected to the desktop."
            };
            let entry = new_entry(TimelineKind::ViewerJoined, sentence).with_data(json!({ "view_only": view_only }));
            app.timeline.append_in_background(&session.id, entry);
            Ok(stream)
        };
        let report = tunnel.run(socket, connect).await;
        drop(place);
        scope.record_close(&app, Socket::Desktop, &report).await;
        log_disconnect(&app, &session, Socket::Desktop, &report);
    })
}

/// The body that closes the socket; the fault that caused it is logged.
pub(super) fn answer(error: ApiError) -> ProblemBody {
    error.log_fault();
    error.body()
}

/// The size in `?cols=…&rows=…`; the terminal has it before its first output.
fn requested_size(request: &Request) -> TerminalSize {
    #[derive(Deserialize)]
    struct SizeQuery {
        cols: u16,
        rows: u16,
    }
    match Query::<SizeQuery>::try_from_uri(request.uri()) {
        Ok(Query(size)) => clamp_size(size.cols, size.rows),
        Err(_) => DEFAULT_TERMINAL_SIZE,
    }
}

fn clamp_size(cols: u16, rows: u16) -> TerminalSize {
    TerminalSize { cols: cols.clamp(2, 500), rows: rows.clamp(2, 300) }
}

/// Connects a viewer to the terminal.
pub(super) async fn open_terminal_socket(State(app): State<App>, request: Request) -> Response {
    let size = requested_size(&request);
    let (admitted, upgrade) = match admit_viewer(&app, request, TicketPurpose::Terminal).await {
        Ok(admitted) => admitted,
        Err(response) => return response,
    };
    let AdmittedViewer { session, live_caller, is_browser, scope, .. } = admitted;
    let Ok(permit) = Arc::clone(&session.terminal_permits).try_acquire_owned() else {
        let error = ApiError::from(Problem::TooManyViewers);
        record_rejection(&app.timeline, &session.id, RejectedRequest::Terminal, &error);
        return reject(&app, is_browser, upgrade, error);
    };
    let name = hex::encode(random::random_bytes::<8>());
    let (settings, tasks) = (app.limits.tunnel.clone(), app.tasks.clone());
    anteroom_tunnel::accept_websocket(upgrade, &settings, &tasks, move |socket| async move {
        let _permit = permit;
        let newest_size = watch::Sender::new(size);
        let sizes = newest_size.subscribe();
        let closed_by = session.state().machine_close_signal.or(live_caller.signal());
        let tunnel = Tunnel::new(app.limits.tunnel.clone(), closed_by, Arc::clone(&session.activity))
            .with_text_message_handler(move |text| handle_control(&newest_size, text));
        let connect = async {
            let stream = reach_terminal(&app, &session, &name, size).await.map_err(answer)?;
            scope.record_open(&app, Socket::Terminal, false).await;
            Ok(scope.observe_input(&app, stream, InputKind::EveryByte))
        };
        let report = tokio::select! {
            report = tunnel.run(socket, connect) => report,
            never = send_newest_sizes(&session, &name, sizes) => match never {},
        };
        scope.record_close(&app, Socket::Terminal, &report).await;
        log_disconnect(&app, &session, Socket::Terminal, &report);
    })
}

/// The WebSocket of a viewer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Socket {
    Desktop,
    Terminal,
}

impl Socket {
    fn rejected_request(self) -> RejectedRequest {
        match self {
            Self::Desktop => RejectedRequest::Desktop,
            Self::Terminal => RejectedRequest::Terminal,
        }
    }
}

/// Logs the end of a connection and records it on the timeline: as a rejection if the machine was never connected.
fn log_disconnect(app: &App, session: &ActiveSession, socket: Socket, report: &TunnelReport) {
    let end = format!("{:?}", report.end);
    let (problem, detail) = match &report.end {
        TunnelEnd::ConnectFailed(body) | TunnelEnd::ViewerProtocolError(body) => {
            (body.problem(), body.detail.as_deref())
        }
        TunnelEnd::Closed(cause) => (Some(Problem::from(*cause)), None),
        TunnelEnd::ViewerTimeout => (Some(Problem::IdleTimeout), Some("no data and no pong within the timeout")),
        TunnelEnd::StreamEnded(error) => (Some(Problem::DesktopUnreachable), error.as_deref()),
        TunnelEnd::ViewerClosed(_) | TunnelEnd::ViewerLost => (None, None),
    };
    let reason = problem.map(Problem::code);
    tracing::info!(
        outcome = "socket_ended", session = %session.id, ?socket, reason, detail, connected = report.was_connected,
        bytes_up = report.bytes_up, bytes_down = report.bytes_down, duration_ms = report.duration_ms, end,
        "WebSocket closed"
    );
    if !report.was_connected {
        if let Some(problem) = problem {
            record_rejection(
                &app.timeline,
                &session.id,
                socket.rejected_request(),
                &ApiError::new(problem, detail.unwrap_or_default()),
            );
        }
        // A viewer that closed the socket before the machine was connected is not recorded.
        return;
    }
    let data = json!({
        "bytes_up": report.bytes_up, "bytes_down": report.bytes_down, "duration_ms": report.duration_ms,
        "end": end, "reason": reason, "detail": detail,
    });
    let kind = match socket {
        Socket::Terminal => TimelineKind::TerminalDisconnected,
        Socket::Desktop => TimelineKind::ViewerDisconnected,
    };
    app.timeline.append_in_background(&session.id, new_entry(kind, "A viewer's connection ended.").with_data(data));
}

/// A control message of the terminal page.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Control {
    Resize { cols: u16, rows: u16 },
}

/// The size in a control message.
pub(crate) fn parse_terminal_size(text: &str) -> Result<TerminalSize, ProblemBody> {
    let Ok(Control::Resize { cols, rows }) = serde_json::from_str(text) else {
        return Err(Problem::Malformed.with_detail("expected {\"type\":\"resize\",\"cols\":n,\"rows\":n}"));
    };
    Ok(clamp_size(cols, rows))
}

fn handle_control(newest_size: &watch::Sender<TerminalSize>, text: &str) -> Result<(), ProblemBody> {
    newest_size.send_replace(parse_terminal_size(text)?);
    Ok(())
}

/// Sends the newest size of a terminal to the machine's agent until it has accepted it, one request at a time and at most one every
/// [`RESIZE_INTERVAL_MS`]: a viewer may send as many sizes as it likes.
async fn send_newest_sizes(
    session: &ActiveSession,
    stream: &str,
    mut sizes: watch::Receiver<TerminalSize>,
) -> Infallible {
    while sizes.changed().await.is_ok() {
        loop {
            tokio::time::sleep(Duration::from_millis(RESIZE_INTERVAL_MS)).await;
            let size = *sizes.borrow_and_update();
            let channels = match session.state().progress {
                Progress::Open { channels } => Some(channels),
                Progress::Queued { .. }
                | Progress::Preparing { .. }
                | Progress::Claiming { .. }
                | Progress::Attached
                | Progress::Lost
                | Progress::Closing => None,
            };
            // Fails while the stream is not open yet, and when it is ending: then this ends with the tunnel.
            if let Some(channels) = channels
                && channels.agent.resize_terminal(stream, size).await.is_ok()
            {
                break;
            }
        }
    }
    std::future::pending().await
}

/// A viewer whose ticket was redeemed.
struct AdmittedViewer {
    session: Arc<ActiveSession>,
    /// Counts the connection of the caller to which the ticket was given.
    live_caller: LiveCaller,
    /// Counts the connection of a helper.
    helper: Option<HelperConnection>,
    /// Whether the request comes from a browser, which can read an error only from the close code.
    is_browser: bool,
    access: ViewerAccess,
    /// The viewer, for the audit trail.
    scope: ViewerScope,
}

/// Redeems the ticket and finds the active session. An error is returned as the response for this client.
async fn admit_viewer(
    app: &App,
    request: Request,
    purpose: TicketPurpose,
) -> Result<(AdmittedViewer, WebSocketUpgrade), Response> {
    let (mut parts, _) = request.into_parts();
    // Browsers always send `Origin` with a WebSocket; other clients do not.
    let is_browser = parts.headers.contains_key(header::ORIGIN);
    let id = extract_session_id(&mut parts).await;
    let headers = parts.headers.clone();
    let caller = parts.extensions.get::<Caller>().cloned();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, app).await;
    let admitted = match id {
        Ok(id) => match redeem_ticket(app, &headers, caller.as_ref(), &id, purpose).await {
            Ok(admitted) => Ok(admitted),
            Err(rejected) => {
                if rejected.has_ticket || may_use_session(app, caller.as_ref(), &id).await {
                    record_rejection(&app.timeline, &id, rejected_request(purpose), &rejected.error);
                }
                Err(rejected.error)
            }
        },
        Err(error) => Err(error),
    };
    match (admitted, upgrade) {
        (Ok(Redeemed { session, live_caller, helper, access }), Ok(upgrade)) => {
            session.upgrade_is_missing.store(false, Ordering::Relaxed);
            let scope = ViewerScope::current();
            Ok((AdmittedViewer { session, live_caller, helper, is_browser, access, scope }, upgrade))
        }
        (Err(error), Ok(upgrade)) => Err(reject(app, is_browser, upgrade, error)),
        (Err(error), Err(_)) => Err(ErrorResponse(error).into_response()),
        (Ok(admitted), Err(rejection)) => {
            let error = malformed_handshake(&headers, &rejection);
            if error.problem != Problem::ProxyWithoutUpgrade {
                return Err(ErrorResponse(error).into_response());
            }
            admitted.session.upgrade_is_missing.store(true, Ordering::Relaxed);
            record_rejection(&app.timeline, &admitted.session.id, rejected_request(purpose), &error);
            Err(ErrorResponse(error).into_response())
        }
    }
}

/// The error of a request that is no WebSocket handshake.
pub(super) fn malformed_handshake(headers: &HeaderMap, rejection: &WebSocketUpgradeRejection) -> ApiError {
    let detail = format!("expected a WebSocket handshake: {rejection}");
    // What only browsers and other WebSocket clients send is there, and what a proxy removes is not.
    let is_stripped = headers.contains_key(header::SEC_WEBSOCKET_KEY) && !headers.contains_key(header::UPGRADE);
    ApiError::new(if is_stripped { Problem::ProxyWithoutUpgrade } else { Problem::Malformed }, detail)
}

fn rejected_request(purpose: TicketPurpose) -> RejectedRequest {
    match purpose {
        TicketPurpose::Desktop => RejectedRequest::Desktop,
        TicketPurpose::Terminal => RejectedRequest::Terminal,
    }
}

/// A rejected viewer.
struct TicketError {
    error: ApiError,
    /// The ticket was valid, so the caller is known.
    has_ticket: bool,
}

impl<R: Into<ApiError>> From<R> for TicketError {
    fn from(error: R) -> Self {
        Self { error: error.into(), has_ticket: false }
    }
}

/// A redeemed ticket.
struct Redeemed {
    session: Arc<ActiveSession>,
    /// The connection of the ticket's caller.
    live_caller: LiveCaller,
    helper: Option<HelperConnection>,
    /// As the ticket asks for; view-only if the caller may only look.
    access: ViewerAccess,
}

/// Redeems the ticket.
async fn redeem_ticket(
    app: &App,
    headers: &HeaderMap,
    caller: Option<&Caller>,
    id: &SessionId,
    purpose: TicketPurpose,
) -> Result<Redeemed, TicketError> {
    auth::require_own_origin_or_token(&app.auth, headers, caller)?;
    let is_page = headers.contains_key(header::ORIGIN) && auth::require_own_origin(&app.auth, headers).is_ok();
    if !is_page {
        require_program(app, headers, caller, id).await?;
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    let ticket = offered.flat_map(|line| line.split(',')).find_map(|name| name.trim().strip_prefix(TICKET_PREFIX));
    let Some(ticket) = ticket else {
        let detail = format!("offer the subprotocols {WEBSOCKET_SUBPROTOCOL} and {TICKET_PREFIX}<ticket>");
        return Err(ApiError::new(Problem::Unauthenticated, detail).into());
    };
    let hash = Sha256Hex::of_bytes(ticket.as_bytes());
    // Without a valid ticket the response must not reveal whether the session exists.
    let redeemed = app.store.redeem_ticket(&hash, id, purpose, unix_time::now_unix_ms()).await?;
    let caller = redeemed.ok_or(Problem::TicketUsed)?;
    note_actor("ticket", &caller, None);
    let live_caller = app.auth.live_callers.connect(&caller);
    let caller = Caller::from(app.store.get_caller(&caller).await?.ok_or(Problem::TicketUsed)?);
    let with_ticket = |error| TicketError { error, has_ticket: true };
    let (row, session) = require_active(app, id).await.map_err(with_ticket)?;
    note_session(&row);
    let control = caller.require(Action::ControlSession, &row);
    let access = match purpose {
        TicketPurpose::Terminal => {
            control.map_err(with_ticket)?;
            ViewerAccess::Control
        }
        TicketPurpose::Desktop => {
            caller.require(Action::ViewDesktop, &row).map_err(with_ticket)?;
            let view_only = ticket.starts_with(VIEW_ONLY_TICKET_PREFIX) || control.is_err();
            if view_only { ViewerAccess::ViewOnly } else { ViewerAccess::Control }
        }
    };
    let helper = matches!(caller.role, Role::Helper(_)).then(|| session.connect_helper(&caller.id));
    Ok(Redeemed { session, live_caller, helper, access })
}

/// Requires that a client without the `Origin` header of this server's pages is an identified program. Browsers send the header, and
/// programs can send a token.
async fn require_program(
    app: &App,
    headers: &HeaderMap,
    caller: Option<&Caller>,
    id: &SessionId,
) -> Result<(), ApiError> {
    // A cookie identifies a browser; a token, or the operator's socket, a program.
    let is_program = auth::bearer_token(headers).is_some() || !headers.contains_key(header::COOKIE);
    if is_program && may_use_session(app, caller, id).await {
        return Ok(());
    }
    let detail =
        "a WebSocket without an Origin header needs `Authorization: Bearer` of a caller that may use the session";
    Err(ApiError::new(Problem::Unauthenticated, detail))
}

/// Whether the caller, identified by a cookie or an API token, may use the session.
async fn may_use_session(app: &App, caller: Option<&Caller>, id: &SessionId) -> bool {
    let Some(caller) = caller else { return false };
    app.store.get_session(id).await.ok().flatten().is_some_and(|row| caller.require(Action::ReadSession, &row).is_ok())
}

/// Rejects the WebSocket: with a close code for browsers, with an HTTP error for other clients.
fn reject(app: &App, is_browser: bool, upgrade: WebSocketUpgrade, error: ApiError) -> Response {
    tracing::info!(target: SECURITY_TARGET, outcome = "socket_rejected", reason = error.problem.code(), detail = %error.detail, "WebSocket rejected");
    if is_browser {
        error.log_fault();
        let mut response = anteroom_tunnel::reject_websocket(upgrade, &app.limits.tunnel, &app.tasks, error.problem);
        // The audit trail records it.
        response.extensions_mut().insert(error.problem);
        response
    } else {
        ErrorResponse(error).into_response()
    }
}
