//! What another host asks this one: its state, to take a session that waits, views of its sessions.

use super::own_status;
use crate::{
    app::App,
    peers::{ERASE_PATH, PING_PATH, TAKE_PATH, VIEWS_PATH},
};
use anteroom_controller::{
    cluster::TakeResponse,
    erasure,
    session::{views_of_hosts, waiting_sessions},
};
use anteroom_wire::hosts::{EraseOnHost, ErasedFiles, TakeAnswer, TakeRequest, ViewsRequest};
use axum::body::Body;
use http::{Method, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::{Serialize, de::DeserializeOwned};

/// The most bytes of a question.
const QUESTION_BYTES_MAX: usize = 1_024 * 1_024;

/// Answers a question. `Err`: it is none, but a request that is passed on.
pub(super) async fn answer(app: &App, parts: &Parts, body: Incoming) -> Result<Response<Body>, Incoming> {
    match (parts.uri.path(), &parts.method) {
        (PING_PATH, _) => Ok(to_response(Some(own_status(app)))),
        (TAKE_PATH, &Method::POST) => Ok(to_response(take(app, body).await)),
        (VIEWS_PATH, &Method::POST) => {
            let Some(ViewsRequest { sessions }) = read(body).await else { return Ok(to_response(None::<()>)) };
            Ok(to_response(views_of_hosts::own_views(app, &sessions).await.ok()))
        }
        (ERASE_PATH, &Method::POST) => Ok(to_response(erase(app, body).await)),
        _ => Err(body),
    }
}

async fn take(app: &App, body: Incoming) -> Option<TakeResponse> {
    let TakeRequest { session } = read(body).await?;
    let context = app.server_context.clone();
    // On a task of its own: the host that asks may stop waiting, and a session that was taken needs its supervisor.
    let taking = app.tasks.spawn(async move { waiting_sessions::take_offered(&context, &session).await });
    Some(taking.await.unwrap_or(TakeResponse { answer: TakeAnswer::Unavailable, room: None }))
}

async fn erase(app: &App, body: Incoming) -> Option<ErasedFiles> {
    let question: EraseOnHost = read(body).await?;
    erasure::erase_for(app, &question).await.ok()
}

async fn read<T: DeserializeOwned>(body: Incoming) -> Option<T> {
    let body = Limited::new(body, QUESTION_BYTES_MAX).collect().await.ok()?;
    serde_json::from_slice(&body.to_bytes()).ok()
}

/// `None`: the question is not well formed, or cannot be answered now.
fn to_response(answer: Option<impl Serialize>) -> Response<Body> {
    let body = answer.and_then(|answer| serde_json::to_vec(&answer).ok());
    let mut response = Response::new(Body::empty());
    match body {
        Some(body) => *response.body_mut() = Body::from(body),
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}
