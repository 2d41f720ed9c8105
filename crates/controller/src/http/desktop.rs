//! `WS …/novnc/websock` and `WS …/terminal`: check the ticket, reach the machine, join the two.

use super::{body::session_id, tickets::VIEW_ONLY_PREFIX};
use crate::{
    api_error::ApiError,
    app::App,
    auth::{self, Caller},
    clock, random,
    session::{
        active_session::ActiveSession,
        channels::{living, reach_terminal},
        reach_desktop::reach_desktop,
        rejections::{RejectedRequest, record_rejection},
        status::Progress,
        timeline,
    },
    tunnel::{self, SUBPROTOCOL, Tunnel, TunnelEnd, TunnelReport},
};
use anteroom_store::{TicketPurpose, Sha256Hex};
use anteroom_wire::{Problem, SessionId, agent::TerminalSize};
use axum::{
    extract::{FromRequestParts, Query, Request, State, WebSocketUpgrade},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// What a ticket's subprotocol begins with.
const TICKET_PREFIX: &str = "ticket.";
/// A terminal whose caller does not say how large it is.
const TERMINAL_SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

/// The desktop.
pub(super) async fn desktop(State(app): State<App>, request: Request) -> Response {
    let (entered, upgrade) = match arrive(&app, request, TicketPurpose::Desktop).await {
        Ok(arrived) => arrived,
        Err(response) => return response,
    };
    let Entered { live, browser, view_only } = entered;
    let viewer = match live.connect_viewer(app.config.sessions.viewers_max) {
        Ok(viewer) => viewer,
        Err(problem) => {
            let refusal = ApiError::from(problem);
            record_rejection(&app, &live.id, RejectedRequest::Desktop, &refusal);
            return turn_away(&app, browser, upgrade, refusal);
        }
    };
    let (settings, tasks) = (app.config.tunnel.clone(), app.tasks.clone());
    tunnel::accept(upgrade, &settings, &tasks, move |socket| async move {
        let _viewer = viewer;
        let mut tunnel = Tunnel::new(app.config.tunnel.clone(), live.state().sockets, Arc::clone(&live.activity));
        if view_only {
            tunnel = tunnel.view_only();
        }
        let connect = async {
            let reach = |until| {
                let (app, live) = (&app, &live);
                async move { reach_desktop(app, live, until).await.map_err(|refusal| refusal.body()) }
            };
            let stream = tunnel::wait_for_first_bytes(app.config.sessions.socket_wait_ms_max, reach).await?;
            let sentence =
                if view_only { "Somebody looks at the desktop, view only." } else { "Somebody looks at the desktop." };
            timeline::append_in_background(
                &app,
                &live.id,
                "viewer_joined",
                sentence,
                json!({ "view_only": view_only }),
            );
            Ok(stream)
        };
        let report = tunnel.run(socket, connect).await;
        left(&app, &live, RejectedRequest::Desktop, &report);
    })
}

/// The size that `?cols=…&rows=…` asks for: what the terminal shows is laid out for it from the first byte on.
fn asked_size(request: &Request) -> TerminalSize {
    #[derive(Deserialize)]
    struct Asked {
        cols: u16,
        rows: u16,
    }
    match Query::<Asked>::try_from_uri(request.uri()) {
        Ok(Query(asked)) => bounded(asked.cols, asked.rows),
        Err(_) => TERMINAL_SIZE,
    }
}

fn bounded(cols: u16, rows: u16) -> TerminalSize {
    TerminalSize { cols: cols.clamp(2, 500), rows: rows.clamp(2, 300) }
}

/// The terminal.
pub(super) async fn terminal(State(app): State<App>, request: Request) -> Response {
    let size = asked_size(&request);
    let (entered, upgrade) = match arrive(&app, request, TicketPurpose::Terminal).await {
        Ok(arrived) => arrived,
        Err(response) => return response,
    };
    let live = entered.live;
    let name = random::hex(&random::bytes::<8>());
    let (settings, tasks) = (app.config.tunnel.clone(), app.tasks.clone());
    tunnel::accept(upgrade, &settings, &tasks, move |socket| async move {
        let (heard, (told, stream)) = (Arc::clone(&live), (app.clone(), name.clone()));
        let tunnel = Tunnel::new(app.config.tunnel.clone(), live.state().sockets, Arc::clone(&live.activity))
            .with_control(move |text| resize(&told, &heard, &stream, text));
        let connect = async { reach_terminal(&app, &live, &name, size).await.map_err(|refusal| refusal.body()) };
        let report = tunnel.run(socket, connect).await;
        left(&app, &live, RejectedRequest::Terminal, &report);
    })
}

/// Puts a connection's end on the timeline: as a refusal if it never reached the machine.
fn left(app: &App, live: &ActiveSession, what: RejectedRequest, report: &TunnelReport) {
    let end = format!("{:?}", report.end);
    let (reason, detail) = match &report.end {
        TunnelEnd::ConnectFailed(body) | TunnelEnd::ViewerProtocolError(body) => {
            (Some(body.code.as_str()), body.detail.as_deref())
        }
        TunnelEnd::SessionEnded(problem) => (Some(problem.code()), None),
        TunnelEnd::ViewerTimeout => (Some(Problem::IdleTimeout.code()), Some("no sign of life in time")),
        TunnelEnd::StreamEnded(error) => (Some(Problem::DesktopUnreachable.code()), error.as_deref()),
        TunnelEnd::ViewerClosed(_) | TunnelEnd::ViewerLost => (None, None),
    };
    tracing::info!(
        outcome = "socket_ended", session = %live.id, ?what, reason, detail, connected = report.connected,
        bytes_up = report.bytes_up, bytes_down = report.bytes_down, duration_ms = report.duration_ms, end,
        "a WebSocket ended"
    );
    if !report.connected {
        if let Some(problem) = reason.and_then(Problem::from_code) {
            record_rejection(app, &live.id, what, &ApiError::new(problem, detail.unwrap_or_default()));
        }
        // Who left before there was anything to see was neither let in nor refused.
        return;
    }
    let data = json!({
        "bytes_up": report.bytes_up, "bytes_down": report.bytes_down, "duration_ms": report.duration_ms,
        "end": end, "reason": reason, "detail": detail,
    });
    let kind = if what == RejectedRequest::Terminal { "terminal_left" } else { "viewer_left" };
    timeline::append_in_background(app, &live.id, kind, "A connection to the machine ended.", data);
}

/// What a page says about its terminal.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Control {
    Resize { cols: u16, rows: u16 },
}

fn resize(app: &App, live: &Arc<ActiveSession>, stream: &str, text: &str) -> Result<(), anteroom_wire::ProblemBody> {
    let Ok(Control::Resize { cols, rows }) = serde_json::from_str(text) else {
        return Err(Problem::Malformed.with("expected {\"type\":\"resize\",\"cols\":n,\"rows\":n}"));
    };
    let size = bounded(cols, rows);
    if let Progress::Open { channels } = live.state().progress {
        let stream = stream.to_owned();
        app.tasks.spawn(async move {
            // A stream that is just ending has no size to change.
            let _ = channels.agent.terminal_size(&stream, size).await;
        });
    }
    Ok(())
}

struct Entered {
    live: Arc<ActiveSession>,
    browser: bool,
    view_only: bool,
}

/// Checks the ticket and finds the living session; a refusal is already in the form that the caller can hear.
async fn arrive(app: &App, request: Request, purpose: TicketPurpose) -> Result<(Entered, WebSocketUpgrade), Response> {
    let (mut parts, _) = request.into_parts();
    // Only browsers send it, and always on a WebSocket.
    let browser = parts.headers.contains_key(header::ORIGIN);
    let id = session_id(&mut parts).await;
    let headers = parts.headers.clone();
    let caller = parts.extensions.get::<Caller>().cloned();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, app).await;
    let admitted = match id {
        Ok(id) => match admit(app, &headers, &id, purpose).await {
            Ok(admitted) => Ok(admitted),
            Err(turned) => {
                if turned.is_known || may_see(app, caller.as_ref(), &id).await {
                    let what = match purpose {
                        TicketPurpose::Desktop => RejectedRequest::Desktop,
                        TicketPurpose::Terminal => RejectedRequest::Terminal,
                    };
                    record_rejection(app, &id, what, &turned.refusal);
                }
                Err(turned.refusal)
            }
        },
        Err(refusal) => Err(refusal),
    };
    match (admitted, upgrade) {
        (Ok((live, view_only)), Ok(upgrade)) => Ok((Entered { live, browser, view_only }, upgrade)),
        (Err(refusal), Ok(upgrade)) => Err(turn_away(app, browser, upgrade, refusal)),
        (Err(refusal), Err(_)) => Err(refusal.into_response()),
        (Ok(_), Err(rejection)) => {
            Err(ApiError::new(Problem::Malformed, format!("a WebSocket is expected here: {rejection}")).into_response())
        }
    }
}

/// Who is not let in.
struct NotAdmitted {
    refusal: ApiError,
    /// The ticket was good: this is no stranger.
    is_known: bool,
}

impl<R: Into<ApiError>> From<R> for NotAdmitted {
    fn from(refusal: R) -> Self {
        Self { refusal: refusal.into(), is_known: false }
    }
}

/// The living session, and whether the ticket is for looking only.
async fn admit(
    app: &App,
    headers: &HeaderMap,
    id: &SessionId,
    purpose: TicketPurpose,
) -> Result<(Arc<ActiveSession>, bool), NotAdmitted> {
    auth::own_origin(app, headers)?;
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    let ticket = offered.flat_map(|line| line.split(',')).find_map(|name| name.trim().strip_prefix(TICKET_PREFIX));
    let Some(ticket) = ticket else {
        let detail = format!("offer the subprotocols {SUBPROTOCOL} and {TICKET_PREFIX}<ticket>");
        return Err(ApiError::new(Problem::Unauthenticated, detail).into());
    };
    let hash = Sha256Hex::of(ticket.as_bytes());
    if app.store.redeem_ticket(&hash, id, purpose, clock::now()).await?.is_none() {
        // Whoever has no ticket for it is not told whether the session exists.
        return Err(Problem::TicketUsed.into());
    }
    match living(app, id).await {
        Ok((_, live)) => Ok((live, ticket.starts_with(VIEW_ONLY_PREFIX))),
        Err(refusal) => Err(NotAdmitted { refusal, is_known: true }),
    }
}

/// Whether the caller, known by a cookie or an API token, may see the session.
async fn may_see(app: &App, caller: Option<&Caller>, id: &SessionId) -> bool {
    let Some(caller) = caller else { return false };
    app.store.session(id).await.ok().flatten().is_some_and(|row| caller.may_use(&row).is_ok())
}

fn turn_away(app: &App, browser: bool, upgrade: WebSocketUpgrade, refusal: ApiError) -> Response {
    tracing::info!(outcome = "socket_refused", reason = refusal.problem.code(), detail = %refusal.detail, "a WebSocket was refused");
    if browser {
        tunnel::reject(upgrade, &app.config.tunnel, &app.tasks, refusal.problem)
    } else {
        refusal.into_response()
    }
}
