//! `GET /api/providers`.

use super::{error_response::ErrorResponse, extract::AuthenticatedCaller};
use anteroom_controller::{providers::provider_view, session::launcher::Launcher};
use anteroom_wire::api::ProviderList;
use axum::{Json, extract::State};

/// Lists the configured providers with their sign-in methods, and whether a session can be started.
#[utoipa::path(get, operation_id = "list_providers", path = "/api/providers", responses(
    (status = 200, description = "The providers.", body = ProviderList),
))]
pub(super) async fn list(
    State(launcher): State<Launcher>,
    AuthenticatedCaller(_caller): AuthenticatedCaller,
) -> Result<Json<ProviderList>, ErrorResponse> {
    let providers = launcher.providers.iter().map(|provider| provider_view(provider, &launcher.image.clis));
    Ok(Json(ProviderList { providers: providers.collect() }))
}
