//! `GET /api/providers`.

use crate::{api_error::ApiError, app::App, auth::Caller, providers::provider_view};
use anteroom_wire::api::ProviderList;
use axum::{Json, extract::State};

/// Lists the configured providers with their sign-in methods, and whether a session can be started.
#[utoipa::path(get, path = "/api/providers", responses(
    (status = 200, description = "The providers.", body = ProviderList),
))]
pub(super) async fn list(State(app): State<App>, _caller: Caller) -> Result<Json<ProviderList>, ApiError> {
    let providers = app.providers.iter().map(|provider| provider_view(provider, &app.image.clis));
    Ok(Json(ProviderList { providers: providers.collect() }))
}
