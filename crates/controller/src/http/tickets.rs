//! Tickets: what opens one WebSocket, once.

use super::body::{Json, OwnedSession};
use crate::{
    app::App,
    clock, random,
    api_error::ApiError,
    session::{
        channels::living,
        rejections::{RejectedRequest, record_rejection},
    },
};
use anteroom_store::{NewTicket, TicketPurpose, Sha256Hex};
use anteroom_wire::{Problem, ProblemBody, api::Ticket};
use axum::extract::State;
use serde::Deserialize;

/// What a view-only ticket begins with. The whole ticket is what was hashed, so nobody can take it off.
pub(super) const VIEW_ONLY_PREFIX: &str = "view_";

/// What the ticket opens.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Which socket.
    purpose: Door,
    /// For the desktop: the viewer sees it and cannot act on it.
    #[serde(default)]
    view_only: bool,
}

/// A socket of a session.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// The desktop.
    Desktop,
    /// The terminal.
    Terminal,
}

impl From<Door> for TicketPurpose {
    fn from(door: Door) -> Self {
        match door {
            Door::Desktop => Self::Desktop,
            Door::Terminal => Self::Terminal,
        }
    }
}

/// Gives a single-use ticket for a WebSocket of a living session.
#[utoipa::path(post, path = "/api/auth/session/{id}/ticket", params(("id" = String, Path)), request_body = Wanted, responses(
    (status = 200, body = Ticket), (status = 400, body = ProblemBody), (status = 403, body = ProblemBody), (status = 410, body = ProblemBody)))]
pub(super) async fn ticket(
    State(app): State<App>,
    mine: OwnedSession,
    Json(wanted): Json<Wanted>,
) -> Result<axum::Json<Ticket>, ApiError> {
    let what = match wanted.purpose {
        Door::Desktop => RejectedRequest::DesktopTicket,
        Door::Terminal => RejectedRequest::TerminalTicket,
    };
    let made = make(&app, &mine, &wanted).await;
    made.map(axum::Json).inspect_err(|refusal| record_rejection(&app, &mine.row.id, what, refusal))
}

async fn make(app: &App, mine: &OwnedSession, wanted: &Wanted) -> Result<Ticket, ApiError> {
    let (row, _) = living(app, &mine.row.id).await?;
    let view_only = wanted.view_only;
    if view_only && matches!(wanted.purpose, Door::Terminal) {
        return Err(ApiError::new(Problem::Malformed, "only a desktop can be looked at without acting"));
    }
    let ticket = random::token(if view_only { VIEW_ONLY_PREFIX } else { "" });
    let expires_in_s = app.config.sessions.ticket_s_max;
    let new = NewTicket {
        hash: Sha256Hex::of_secret(&ticket),
        session: row.id,
        caller: mine.caller.id.clone(),
        purpose: wanted.purpose.into(),
        expires_at_ms: clock::now() + expires_in_s * 1_000,
    };
    app.store.create_ticket(&new).await?;
    Ok(Ticket { ticket: ticket.expose().to_owned(), expires_in_s })
}
