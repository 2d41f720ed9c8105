//! The hosts of the cluster: list, invite, drain, remove, fence. Operators only.

use super::{
    error_response::ErrorResponse,
    extract::{AuthenticatedCaller, HostPath, Json},
};
use crate::{app::App, peer_server};
use anteroom_cluster::peer::INVITATION_S_MAX;
use anteroom_controller::{api_error::ApiError, audit::note_detail, cluster_hosts};
use anteroom_store::HostRow;
use anteroom_wire::{
    Problem, ProblemBody,
    hosts::{HostInvitation, HostList, HostStatus, HostView},
};
use axum::{extract::State, http::StatusCode};
use futures_util::future::join_all;
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes of hosts.
pub(super) fn hosts_api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_cluster_hosts))
        .routes(routes!(invite_host))
        .routes(routes!(drain_host))
        .routes(routes!(undrain_host))
        .routes(routes!(fence_host))
        .routes(routes!(remove_host))
}

/// Lists the hosts of the cluster. Each is asked at once; one that does not answer within half a second is `silent`. Operators only.
#[utoipa::path(get, operation_id = "list_hosts", path = "/api/hosts", responses(
    (status = 200, description = "The hosts; none: this server is alone.", body = HostList),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
))]
pub(super) async fn list_cluster_hosts(State(app): State<App>) -> Result<axum::Json<HostList>, ErrorResponse> {
    let cluster = app.config().cluster.name.clone();
    if cluster.is_none() {
        return Ok(axum::Json(HostList { cluster, own: None, hosts: Vec::new() }));
    }
    let rows = cluster_hosts::list_rows(&app).await?;
    let sessions = cluster_hosts::count_sessions(&app).await?;
    let asked = rows.into_iter().map(|row| async {
        let status = status_of(&app, &row).await;
        let count = sessions.get(&row.id).copied().unwrap_or_default();
        cluster_hosts::to_view(row, count, status)
    });
    let hosts: Vec<HostView> = join_all(asked).await;
    Ok(axum::Json(HostList { cluster, own: app.store.holder().map(|own| own.host), hosts }))
}

async fn status_of(app: &App, row: &HostRow) -> Option<HostStatus> {
    if app.store.holder().is_some_and(|own| own.host == row.id) {
        return Some(peer_server::own_status(app));
    }
    app.peers.get()?.ask_status(&row.id).await
}

/// Makes an invitation for a machine that is to join the cluster through this host: valid once, for 15 minutes. Operators only.
#[utoipa::path(post, operation_id = "invite_host", path = "/api/hosts/invitations", responses(
    (status = 200, description = "The invitation, which is not shown again.", body = HostInvitation),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 409, description = "This server is alone, or the certificates of hosts come from files.", body = ProblemBody),
))]
pub(super) async fn invite_host(State(app): State<App>) -> Result<axum::Json<HostInvitation>, ErrorResponse> {
    require_cluster(&app)?;
    let invitation = peer_server::invite(&app).await?;
    let authority = invitation.authority.to_string();
    let invitation = anteroom_wire::Secret::new(invitation.to_text().to_string());
    Ok(axum::Json(HostInvitation { invitation, expires_in_s: INVITATION_S_MAX, authority }))
}

/// Makes the host take no further sessions. Its sessions go on until they end. Operators only.
#[utoipa::path(post, operation_id = "drain_host", path = "/api/hosts/{id}/drain", params(("id" = String, Path)), responses(
    (status = 204, description = "The host takes no further sessions."),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 404, description = "There is no such host.", body = ProblemBody),
))]
pub(super) async fn drain_host(State(app): State<App>, HostPath(host): HostPath) -> Result<StatusCode, ErrorResponse> {
    note_detail("host", host.to_string());
    cluster_hosts::set_draining(&app, &host, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes the host take sessions again. Operators only.
#[utoipa::path(post, operation_id = "undrain_host", path = "/api/hosts/{id}/undrain", params(("id" = String, Path)), responses(
    (status = 204, description = "The host takes sessions."),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 404, description = "There is no such host.", body = ProblemBody),
))]
pub(super) async fn undrain_host(
    State(app): State<App>,
    HostPath(host): HostPath,
) -> Result<StatusCode, ErrorResponse> {
    note_detail("host", host.to_string());
    cluster_hosts::set_draining(&app, &host, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Request of `POST /api/hosts/{id}/fence`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FenceRequest {
    /// The operator has seen that the host is switched off or that its machines have ended. If they run on, a session has two machines.
    i_saw_it_dead: bool,
}

/// Answer of `POST /api/hosts/{id}/fence`.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(super) struct FencedHost {
    /// Sessions that wait for another host.
    sessions: u64,
}

/// Takes the sessions of a dead host away at once; other hosts begin with them again. Refused while the host answers. Operators only.
#[utoipa::path(post, operation_id = "fence_host", path = "/api/hosts/{id}/fence", params(("id" = String, Path)), request_body = FenceRequest, responses(
    (status = 200, description = "The host is fenced.", body = FencedHost),
    (status = 400, description = "`i_saw_it_dead` is not true.", body = ProblemBody),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 404, description = "There is no such host.", body = ProblemBody),
    (status = 409, description = "It answers, or was fenced already.", body = ProblemBody),
))]
pub(super) async fn fence_host(
    State(app): State<App>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    HostPath(host): HostPath,
    Json(request): Json<FenceRequest>,
) -> Result<axum::Json<FencedHost>, ErrorResponse> {
    note_detail("host", host.to_string());
    if !request.i_saw_it_dead {
        return Err(ApiError::new(Problem::Malformed, "i_saw_it_dead must be true").into());
    }
    let answers = match app.peers.get() {
        _ if app.store.holder().is_some_and(|own| own.host == host) => true,
        Some(peers) => peers.ask_status(&host).await.is_some(),
        None => false,
    };
    let sessions = cluster_hosts::fence(&app, &host, answers, &caller).await?;
    Ok(axum::Json(FencedHost { sessions }))
}

/// Removes a host that holds no session from the cluster, for good: its certificate counts no more. Operators only.
#[utoipa::path(delete, operation_id = "remove_host", path = "/api/hosts/{id}", params(("id" = String, Path)), responses(
    (status = 204, description = "The host is removed."),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 404, description = "There is no such host.", body = ProblemBody),
    (status = 409, description = "It holds sessions, or it is the host that answers.", body = ProblemBody),
))]
pub(super) async fn remove_host(State(app): State<App>, HostPath(host): HostPath) -> Result<StatusCode, ErrorResponse> {
    note_detail("host", host.to_string());
    cluster_hosts::remove(&app, &host).await?;
    if let Some(peers) = app.peers.get() {
        peers.directory.look().await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

fn require_cluster(app: &App) -> Result<(), ApiError> {
    if app.config().cluster.is_set() { Ok(()) } else { Err(Problem::NotClustered.into()) }
}
