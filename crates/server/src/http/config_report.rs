//! `GET /api/config`: the settings of this server.

use super::error_response::ErrorResponse;
use crate::app::App;
use anteroom_controller::{
    api_error::ApiError,
    config::{ConfigErrors, ShownSetting},
    config_files::read_with_files,
};
use anteroom_wire::ProblemBody;
use axum::{Json, extract::State};
use serde::Serialize;

/// The settings of a server.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ConfigReport {
    /// Every setting, as it is in use.
    pub settings: Vec<UsedSetting>,
    /// What is wrong with the configuration as it is now: this server would refuse to load it. One sentence each.
    pub errors: Vec<String>,
}

/// A setting that is in use.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct UsedSetting {
    /// Its full name.
    pub name: String,
    /// Its value, without what may be secret; `null`: it is not set.
    pub value: serde_json::Value,
    /// Where the value comes from: `default`, the file, the flag or the variable.
    pub source: String,
}

/// Returns every setting of the running server, and what is wrong with its configuration file and the files that it names as they are
/// now. Secrets are only named by their files. Operators only.
#[utoipa::path(get, operation_id = "get_config", path = "/api/config", responses(
    (status = 200, description = "The settings.", body = ConfigReport),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
))]
pub(super) async fn get_config(State(app): State<App>) -> Result<Json<ConfigReport>, ErrorResponse> {
    let (config, sources) = (app.config(), app.config_sources.get().cloned().unwrap_or_default());
    let report = tokio::task::spawn_blocking(move || {
        let errors = match read_with_files(&sources) {
            Ok(_) => Vec::new(),
            Err(ConfigErrors { errors, .. }) => errors,
        };
        let used = |(name, ShownSetting { value, source })| {
            Ok(UsedSetting { name, value: serde_json::to_value(value)?, source })
        };
        let settings: Result<_, serde_json::Error> = sources.describe(&config).into_iter().map(used).collect();
        settings.map(|settings| ConfigReport { settings, errors })
    });
    Ok(Json(report.await.map_err(ApiError::internal)?.map_err(ApiError::internal)?))
}
