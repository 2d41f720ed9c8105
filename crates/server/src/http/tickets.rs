//! Tickets: each opens one WebSocket once.

use super::{
    error_response::ErrorResponse,
    extract::{Json, OwnedSession},
};
use anteroom_controller::{
    api_error::ApiError,
    caller::Action,
    random,
    session::context::SessionContext,
    session::{
        channels::require_active,
        consent::require_consent,
        rejections::{RejectedRequest, record_rejection},
        request_rates::ViewerRequest,
    },
    unix_time,
};
use anteroom_store::{NewTicket, Sha256Hex, TicketPurpose};
use anteroom_wire::{Problem, ProblemBody, api::Ticket};
use axum::extract::State;
use serde::Deserialize;
use std::sync::atomic::Ordering;

/// Prefix of a view-only ticket. The stored hash covers the prefix, so it cannot be removed.
pub(super) const VIEW_ONLY_TICKET_PREFIX: &str = "view_";

/// Lifetime of a ticket, seconds. A page uses it at once; the rest is for a slow connection.
pub(super) const TICKET_S_MAX: u64 = 60;

/// Request of `POST …/ticket`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TicketRequest {
    /// The WebSocket to open.
    purpose: TicketTarget,
    /// Desktop only: the viewer cannot send keyboard, mouse or clipboard input. It never can if the caller may only look.
    #[serde(default)]
    view_only: bool,
}

/// A WebSocket of a session.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TicketTarget {
    /// The desktop (RFB).
    Desktop,
    /// The terminal.
    Terminal,
}

impl From<TicketTarget> for TicketPurpose {
    fn from(target: TicketTarget) -> Self {
        match target {
            TicketTarget::Desktop => Self::Desktop,
            TicketTarget::Terminal => Self::Terminal,
        }
    }
}

/// Creates a single-use ticket for a WebSocket of an active session. 410: the session has ended.
#[utoipa::path(post, operation_id = "create_ticket", path = "/api/auth/session/{id}/ticket", params(("id" = String, Path)), request_body = TicketRequest, responses(
    (status = 200, description = "The ticket.", body = Ticket),
    (status = 400, description = "The request is malformed.", body = ProblemBody),
    (status = 403, description = "The caller may not use this session.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
    (status = 429, description = "Too many in a short time.", body = ProblemBody),
))]
pub(super) async fn create_ticket(
    State(context): State<SessionContext>,
    owned: OwnedSession,
    Json(request): Json<TicketRequest>,
) -> Result<axum::Json<Ticket>, ErrorResponse> {
    let rejected = match request.purpose {
        TicketTarget::Desktop => RejectedRequest::DesktopTicket,
        TicketTarget::Terminal => RejectedRequest::TerminalTicket,
    };
    let created = store_new_ticket(&context, &owned, &request).await;
    let ticket = created.inspect_err(|error| record_rejection(&context.timeline, &owned.row.id, rejected, error))?;
    Ok(axum::Json(ticket))
}

async fn store_new_ticket(
    context: &SessionContext,
    owned: &OwnedSession,
    request: &TicketRequest,
) -> Result<Ticket, ApiError> {
    let (row, session) = require_active(context, &owned.row.id).await?;
    session.request_rates.check(ViewerRequest::Ticket)?;
    // A browser cannot see why its WebSocket failed. The attempt after this one is made again.
    if session.upgrade_is_missing.swap(false, Ordering::Relaxed) {
        return Err(ApiError::new(Problem::ProxyWithoutUpgrade, "the WebSocket of the last ticket"));
    }
    require_consent(context, &owned.caller, &row).await?;
    let control = owned.caller.require(Action::ControlSession, &row);
    let view_only = match request.purpose {
        TicketTarget::Terminal if request.view_only => {
            return Err(ApiError::new(Problem::Malformed, "view_only is supported only for the desktop"));
        }
        TicketTarget::Terminal => {
            control?;
            false
        }
        TicketTarget::Desktop => request.view_only || control.is_err(),
    };
    let ticket = random::random_token(if view_only { VIEW_ONLY_TICKET_PREFIX } else { "" });
    let expires_in_s = TICKET_S_MAX;
    let new = NewTicket {
        hash: Sha256Hex::of_secret(&ticket),
        session: row.id,
        caller: owned.caller.id.clone(),
        purpose: request.purpose.into(),
        expires_at_ms: unix_time::now_unix_ms() + expires_in_s * 1_000,
    };
    context.store.create_ticket(&new).await?;
    Ok(Ticket { ticket: ticket.expose().to_owned(), expires_in_s })
}
