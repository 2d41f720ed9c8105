//! `GET /api/providers`.

use super::{error_response::ErrorResponse, extract::AuthenticatedCaller};
use anteroom_controller::{providers::to_provider_view, session::server_context::ServerContext};
use anteroom_wire::api::ProviderList;
use axum::{Json, extract::State};

/// Lists the configured providers with their sign-in methods, and whether a session can be started.
#[utoipa::path(get, operation_id = "list_providers", path = "/api/providers", responses(
    (status = 304, description = "The client has the same list (`If-None-Match`)."),
    (status = 200, description = "The providers.", body = ProviderList),
))]
pub(super) async fn list_providers(
    State(server_context): State<ServerContext>,
    AuthenticatedCaller(_caller): AuthenticatedCaller,
) -> Result<Json<ProviderList>, ErrorResponse> {
    let (providers, versions) = (server_context.providers(), &server_context.image.tool_versions);
    Ok(Json(ProviderList {
        providers: providers.iter().map(|provider| to_provider_view(provider, versions)).collect(),
    }))
}
