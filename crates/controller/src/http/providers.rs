//! `GET /api/providers`.

use crate::{api_error::ApiError, auth::Caller, providers::provider_view, session::launcher::Launcher};
use anteroom_wire::api::ProviderList;
use axum::{Json, extract::State};

/// Lists the configured providers with their sign-in methods, and whether a session can be started.
#[utoipa::path(get, path = "/api/providers", responses(
    (status = 200, description = "The providers.", body = ProviderList),
))]
pub(super) async fn list(State(launcher): State<Launcher>, _caller: Caller) -> Result<Json<ProviderList>, ApiError> {
    let providers = launcher.providers.iter().map(|provider| provider_view(provider, &launcher.image.clis));
    Ok(Json(ProviderList { providers: providers.collect() }))
}
