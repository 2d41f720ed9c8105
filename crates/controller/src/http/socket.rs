//! Tickets: what opens one WebSocket, once.

use super::body::{Json, Mine};
use crate::{app::App, clock, random, refusal::Refusal, session::reach_desktop::living};
use anteroom_store::{NewTicket, Purpose, Sha256Hex};
use anteroom_wire::{ProblemBody, api::Ticket};
use axum::extract::State;
use serde::Deserialize;

/// What the ticket opens.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Which socket.
    purpose: Door,
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

impl From<Door> for Purpose {
    fn from(door: Door) -> Self {
        match door {
            Door::Desktop => Self::Desktop,
            Door::Terminal => Self::Terminal,
        }
    }
}

/// Gives a single-use ticket for a WebSocket of a living session.
#[utoipa::path(post, path = "/api/auth/session/{id}/ticket", params(("id" = String, Path)), request_body = Wanted, responses(
    (status = 200, body = Ticket), (status = 403, body = ProblemBody), (status = 410, body = ProblemBody)))]
pub(super) async fn ticket(
    State(app): State<App>,
    mine: Mine,
    Json(wanted): Json<Wanted>,
) -> Result<axum::Json<Ticket>, Refusal> {
    let (row, _) = living(&app, &mine.row.id).await?;
    let ticket = random::token("");
    let expires_in_s = app.config.sessions.ticket_s_max;
    let new = NewTicket {
        hash: Sha256Hex::of_secret(&ticket),
        session: row.id,
        caller: mine.caller.id,
        purpose: wanted.purpose.into(),
        expires_at_ms: clock::now() + expires_in_s * 1_000,
    };
    app.store.create_ticket(&new).await?;
    Ok(axum::Json(Ticket { ticket: ticket.expose().to_owned(), expires_in_s }))
}
