//! Requests from a machine through its channel: deliver a credential, post events, and `CONNECT` for egress.

use super::{
    agent,
    error_response::ErrorResponse,
    record_request::record_request,
    request_body::{BodyOwner, limit_body},
};
use crate::app::{App, AppParts};
use anteroom_controller::{api_error::ApiError, session::request_rates::MachineRequest};
use anteroom_egress::MachineEgressGate;
use anteroom_machine::{BoxBody, ControllerService};
use anteroom_wire::{
    MachineId, Problem,
    agent::{EVENTS_PATH, STORE_CREDENTIAL_PATH},
};
use axum::{
    Extension, Router, extract::DefaultBodyLimit, middleware::from_fn_with_state, response::IntoResponse, routing::post,
};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};
use tokio::time::timeout;
use tower::ServiceExt;

/// How long a request of a machine waits until its session is resumed, milliseconds.
const ADOPTION_MS_MAX: u64 = 20_000;

/// The service for the channels of all machines. `app` is set when the server is assembled. It is a weak reference because the app
/// owns the machines that hold this service.
pub fn controller_service(app: Arc<OnceLock<Weak<AppParts>>>) -> ControllerService {
    Arc::new(move |machine, request| {
        let app = app.get().and_then(App::upgrade);
        Box::pin(async move {
            let Some(app) = app else { return boxed(ErrorResponse::from(Problem::ShuttingDown).into_response()) };
            if let Some(session) = app.sessions.by_machine(&machine) {
                // Before the body is read: until then HTTP/2's flow control holds it back in the machine.
                session.request_rates.wait_permitted(MachineRequest::Channel, 1).await;
            }
            if request.method() == Method::CONNECT {
                return connect(&app, &machine, request).await;
            }
            let limits = &app.limits.http;
            let budget = app.body_budgets.of(BodyOwner::Machine(machine.clone()), limits);
            let (request, _held) = limit_body(request.map(axum::body::Body::new), limits, budget);
            let recorded = from_fn_with_state(app.clone(), record_request);
            let routes = routes(app).layer(recorded).layer(Extension(machine));
            match routes.oneshot(request).await {
                Ok(response) => boxed(response),
                Err(never) => match never {},
            }
        })
    })
}

/// The agent's two routes. A delivery may be larger than other request bodies.
fn routes(app: App) -> Router {
    Router::new()
        .route(STORE_CREDENTIAL_PATH, post(agent::accept_credential))
        .route(EVENTS_PATH, post(agent::receive_events))
        .fallback(|| async { ErrorResponse::from(Problem::PathNotFound) })
        .method_not_allowed_fallback(|| async { ErrorResponse::from(Problem::MethodNotAllowed) })
        .layer(DefaultBodyLimit::max(app.limits.http.delivery_bytes_max))
        .with_state(app)
}

async fn connect(app: &App, machine: &MachineId, request: Request<Incoming>) -> Response<BoxBody> {
    match gate_of(app, machine).await {
        Ok(gate) => {
            let (parts, body) = gate.serve_connect(request).await.into_parts();
            Response::from_parts(parts, body.map_err(|never: Infallible| match never {}).boxed_unsync())
        }
        Err(error) => boxed(ErrorResponse(error).into_response()),
    }
}

/// The gate of the machine's session. A server that starts connects to its machines before it resumes their sessions, so a request waits
/// for that; one that meets a server that stops is sent again by its machine.
async fn gate_of(app: &App, machine: &MachineId) -> Result<MachineEgressGate, ApiError> {
    let limit = Duration::from_millis(ADOPTION_MS_MAX);
    tokio::select! {
        biased;
        () = app.stop.cancelled() => Err(Problem::ShuttingDown.into()),
        gate = timeout(limit, app.sessions.wait_egress_gate(machine)) => {
            gate.map_err(|_| ApiError::new(Problem::EgressTimeout, "this machine belongs to no session"))
        }
    }
}

fn boxed(response: axum::response::Response) -> Response<BoxBody> {
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}
