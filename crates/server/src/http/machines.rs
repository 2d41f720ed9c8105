//! `GET /api/machines`.

use super::error_response::ErrorResponse;
use anteroom_controller::{overview::machine_list, session::server_context::ServerContext};
use anteroom_wire::{ProblemBody, api::MachineList};
use axum::{Json, extract::State};

/// Lists the machines of this host with their sessions, and the image of new ones. Operators only.
#[utoipa::path(get, operation_id = "list_machines", path = "/api/machines", responses(
    (status = 200, description = "The machines and the image.", body = MachineList),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
))]
pub(super) async fn list_machines(
    State(server_context): State<ServerContext>,
) -> Result<Json<MachineList>, ErrorResponse> {
    Ok(Json(machine_list::list_machines(&server_context).await?))
}
