//! `GET /api/overview` and `GET /api/egress/refused`.

use super::{
    bundle, config_report, error_response::ErrorResponse, extract::Query, hosts, leaks, machines, maintenance,
    reconcile, server_log, session_hosts, session_links, session_log, webhook,
};
use crate::app::App;
use anteroom_controller::{
    overview::{make_overview, refused_hosts::list_refused_hosts},
    session::server_context::ServerContext,
    unix_time::now_unix_ms,
};
use anteroom_wire::{
    ProblemBody,
    api::{Overview, RefusedHostList},
};
use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The period if the request names none: 24 hours, milliseconds.
const PERIOD_MS: u64 = 24 * 3_600 * 1_000;

/// The routes for operators only.
pub(super) fn operator_api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(get_overview))
        .routes(routes!(list_hosts))
        .routes(routes!(machines::list_machines))
        .routes(routes!(session_links::create_session_link))
        .routes(routes!(session_hosts::grant_host))
        .routes(routes!(session_log::get_session_log))
        .routes(routes!(server_log::get_log))
        .routes(routes!(server_log::watch_log))
        .routes(routes!(bundle::create_bundle))
        .routes(routes!(maintenance::create_backup))
        .routes(routes!(maintenance::check_database))
        .routes(routes!(config_report::get_config))
        .routes(routes!(leaks::get_leak_report))
        .routes(routes!(reconcile::run_reconcile))
        .routes(routes!(webhook::get_webhook_report))
        .routes(routes!(webhook::test_webhook))
        .routes(routes!(webhook::resend_webhook_message))
        .merge(hosts::hosts_api())
}

/// Query of an overview.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PeriodQuery {
    /// When the period begins, milliseconds since 1970; default: 24 hours ago.
    since_ms: Option<u64>,
}

impl PeriodQuery {
    fn since_ms(&self) -> u64 {
        self.since_ms.unwrap_or_else(|| now_unix_ms().saturating_sub(PERIOD_MS))
    }
}

/// Returns what runs now, how sessions of the period ended and why, how long starts took, and the host's capacity. Operators only.
#[utoipa::path(get, operation_id = "get_overview", path = "/api/overview", params(PeriodQuery), responses(
    (status = 200, description = "The overview.", body = Overview),
    (status = 400, description = "The query is malformed.", body = ProblemBody),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
))]
pub(super) async fn get_overview(
    State(server_context): State<ServerContext>,
    Query(query): Query<PeriodQuery>,
) -> Result<Json<Overview>, ErrorResponse> {
    Ok(Json(make_overview(&server_context, query.since_ms()).await?))
}

/// Lists the hosts that machines asked for in the period and did not reach, with what would allow them. Operators only.
#[utoipa::path(get, operation_id = "list_refused_hosts", path = "/api/egress/refused", params(PeriodQuery), responses(
    (status = 200, description = "The hosts.", body = RefusedHostList),
    (status = 400, description = "The query is malformed.", body = ProblemBody),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
))]
pub(super) async fn list_hosts(
    State(server_context): State<ServerContext>,
    Query(query): Query<PeriodQuery>,
) -> Result<Json<RefusedHostList>, ErrorResponse> {
    Ok(Json(list_refused_hosts(&server_context, query.since_ms()).await?))
}
