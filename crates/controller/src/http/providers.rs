//! `GET /api/providers`.

use crate::{app::App, callers::Caller, refusal::Refusal};
use anteroom_wire::api::{ProviderList, ProviderView};
use axum::{Json, extract::State};

/// The tools there are.
#[utoipa::path(get, path = "/api/providers", responses((status = 200, body = ProviderList)))]
pub(super) async fn list(State(app): State<App>, _caller: Caller) -> Result<Json<ProviderList>, Refusal> {
    let providers = app.providers.iter().map(|provider| ProviderView {
        id: provider.id.clone(),
        name: provider.name.clone(),
        version: app.image.clis.get(&provider.cli).cloned(),
        lanes: provider.lanes.clone(),
        policy: provider.policy,
        available: app.image.has_cli(&provider.cli),
    });
    Ok(Json(ProviderList { providers: providers.collect() }))
}
