//! Refuses requests for another host than this server, before anything else looks at them.

use super::error_response::ErrorResponse;
use crate::{app::App, peer::Peer, peers::FromHost};
use anteroom_controller::api_error::ApiError;
use anteroom_wire::Problem;
use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Answers 421 to a request for another host name. The operator's socket is exempt: no browser can connect to it.
pub(super) async fn require_own_host(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_local = request.extensions().get::<ConnectInfo<Peer>>().is_some_and(|info| match info.0 {
        Peer::Local { .. } | Peer::Refused(_) => true,
        Peer::Tcp(_) => false,
    });
    // The host that passed it on has checked it.
    let is_checked = is_local || request.extensions().get::<FromHost>().is_some();
    if !is_checked
        && let Err(error) = app.auth.addresses.require_own_host(request.version(), request.uri(), request.headers())
    {
        let detail = format!("{error}{}", app.auth.addresses.hint());
        return ErrorResponse(ApiError::new(Problem::WrongHost, detail)).into_response();
    }
    next.run(request).await
}
