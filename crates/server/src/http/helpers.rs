//! The helpers of a session: list them, end one.

use super::{
    error_response::ErrorResponse,
    extract::{HelperPath, OwnedSession},
};
use crate::auth::Auth;
use anteroom_controller::{
    audit::note_detail,
    caller::Action,
    session::{
        context::SessionContext,
        helpers::{self, HelperAddresses},
    },
};
use anteroom_store::Role;
use anteroom_wire::{ProblemBody, api::HelperList};
use axum::{Json, extract::State, http::StatusCode};

/// Lists the session's helpers and the invitations that were not used yet.
#[utoipa::path(get, operation_id = "list_helpers", path = "/api/auth/session/{id}/helpers", params(("id" = String, Path)), responses(
    (status = 200, description = "The helpers.", body = HelperList),
    (status = 403, description = "The caller may not list them.", body = ProblemBody),
    (status = 404, description = "There is no such session.", body = ProblemBody),
))]
pub(super) async fn list_helpers(
    State(context): State<SessionContext>,
    owned: OwnedSession,
) -> Result<Json<HelperList>, ErrorResponse> {
    let addresses = match &owned.caller.role {
        Role::Operator => HelperAddresses::Shown,
        Role::Auditor | Role::Backend | Role::User | Role::Viewer(_) | Role::Helper(_) => HelperAddresses::Hidden,
    };
    Ok(Json(helpers::list_helpers(&context, &owned.row.id, addresses).await?))
}

/// Ends the access of a helper: its cookie is not accepted any more, and its WebSockets and event streams are closed. An invitation that
/// was not used yet cannot be used any more. A helper may end its own access only.
#[utoipa::path(delete, operation_id = "end_helper", path = "/api/auth/session/{id}/helpers/{helper}",
    params(("id" = String, Path), ("helper" = String, Path)), responses(
    (status = 204, description = "The access is ended."),
    (status = 403, description = "The caller may not end it.", body = ProblemBody),
    (status = 404, description = "The session has no such helper or open invitation.", body = ProblemBody),
))]
pub(super) async fn end_helper(
    State(context): State<SessionContext>,
    State(auth): State<Auth>,
    owned: OwnedSession,
    HelperPath(helper): HelperPath,
) -> Result<StatusCode, ErrorResponse> {
    note_detail("helper", &helper);
    if owned.caller.id != helper {
        owned.caller.require(Action::ControlSession, &owned.row)?;
    }
    helpers::end_helper(&context, &owned.row.id, &helper).await?;
    auth.live_callers.check_soon();
    Ok(StatusCode::NO_CONTENT)
}
