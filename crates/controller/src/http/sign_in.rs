//! The sign-in itself: the address to open, opening one in the machine, giving the tool what the person brings, another method, typing.

use super::body::{Json, OwnedSession};
use crate::{
    api_error::ApiError,
    app::App,
    session::{
        channels::{living, open_channels},
        change_method, view,
    },
};
use anteroom_wire::{
    Problem, ProblemBody, Secret, SessionId,
    agent::{Input, OpenUrl, Paste, PasteResult},
    api::{MethodRequest, SessionView, SignInView},
};
use axum::{extract::State, http::StatusCode};
use serde::Deserialize;

const URL_BYTES_MAX: usize = 8 * 1024;
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// The address to open, if the tool has shown one.
#[utoipa::path(get, path = "/api/auth/session/{id}/oauth-url", params(("id" = String, Path)), responses(
    (status = 200, body = SignInView), (status = 409, body = ProblemBody), (status = 410, body = ProblemBody)))]
pub(super) async fn oauth_url(State(app): State<App>, mine: OwnedSession) -> Result<axum::Json<SignInView>, ApiError> {
    let (row, _) = living(&app, &mine.row.id).await?;
    let sign_in = view::view(&app, &row).await?.sign_in;
    if sign_in.url.is_none() {
        return Err(Problem::NoSignInUrl.into());
    }
    Ok(axum::Json(sign_in))
}

/// Opens an address in the machine's browser.
#[utoipa::path(post, path = "/api/auth/session/{id}/open-url", params(("id" = String, Path)), request_body = OpenUrl, responses(
    (status = 204), (status = 400, body = ProblemBody), (status = 410, body = ProblemBody)))]
pub(super) async fn open_url(
    State(app): State<App>,
    mine: OwnedSession,
    Json(open): Json<OpenUrl>,
) -> Result<StatusCode, ApiError> {
    let good = (open.url.starts_with("https://") || open.url.starts_with("http://"))
        && open.url.len() <= URL_BYTES_MAX
        && !open.url.chars().any(|c| c.is_control() || c.is_whitespace());
    if !good {
        return Err(ApiError::new(Problem::Malformed, "url must be an http or https address of at most 8 KiB"));
    }
    let (_, live) = living(&app, &mine.row.id).await?;
    live.activity.touch();
    let channels = open_channels(&app, &live).await?;
    channels.agent.open_url(&open).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the person brings from their own browser.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Brought {
    /// As it was copied, up to 16 KiB; blanks around it do not count, control characters are refused.
    #[schema(value_type = String)]
    text: Secret,
}

/// Gives the tool what the person brings: a code for its open prompt, the address at which the person's browser ended, or the secret
/// that it waits for. The answer says as what it was taken. It is neither logged nor shown.
#[utoipa::path(post, path = "/api/auth/session/{id}/paste", params(("id" = String, Path)), request_body = Brought, responses(
    (status = 200, body = PasteResult), (status = 400, body = ProblemBody), (status = 409, body = ProblemBody),
    (status = 410, body = ProblemBody), (status = 422, body = ProblemBody), (status = 502, body = ProblemBody)))]
pub(super) async fn paste(
    State(app): State<App>,
    mine: OwnedSession,
    Json(brought): Json<Brought>,
) -> Result<axum::Json<PasteResult>, ApiError> {
    Ok(axum::Json(give(&app, &mine.row.id, &brought.text).await?))
}

/// What the provider's page showed.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Code {
    /// The code, or the address at which the browser ended.
    #[schema(value_type = String)]
    code: Secret,
}

/// The same as `…/paste` under its former name and without a word about what became of it.
#[utoipa::path(post, path = "/api/auth/session/{id}/code", params(("id" = String, Path)), request_body = Code, responses(
    (status = 204), (status = 400, body = ProblemBody), (status = 409, body = ProblemBody),
    (status = 410, body = ProblemBody), (status = 422, body = ProblemBody), (status = 502, body = ProblemBody)))]
pub(super) async fn code(
    State(app): State<App>,
    mine: OwnedSession,
    Json(code): Json<Code>,
) -> Result<StatusCode, ApiError> {
    give(&app, &mine.row.id, &code.code).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn give(app: &App, id: &SessionId, brought: &Secret) -> Result<PasteResult, ApiError> {
    let text = brought.expose().trim();
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(ApiError::new(Problem::Malformed, "1 byte to 16 KiB, and no control characters"));
    }
    let (_, live) = living(app, id).await?;
    live.activity.touch();
    let channels = open_channels(app, &live).await?;
    let paste = Paste { text: Secret::new(text.to_owned()) };
    Ok(channels.agent.paste(&paste).await?)
}

/// Signs in by another method, in the same machine: the tool is ended and started anew.
#[utoipa::path(post, path = "/api/auth/session/{id}/method", params(("id" = String, Path)), request_body = MethodRequest, responses(
    (status = 200, body = SessionView), (status = 400, body = ProblemBody), (status = 409, body = ProblemBody),
    (status = 410, body = ProblemBody), (status = 502, body = ProblemBody)))]
pub(super) async fn method(
    State(app): State<App>,
    mine: OwnedSession,
    Json(wanted): Json<MethodRequest>,
) -> Result<axum::Json<SessionView>, ApiError> {
    let row = change_method::change_method(&app, &mine.row.id, &wanted.method).await?;
    Ok(axum::Json(view::view(&app, &row).await?))
}

/// Text for the tool's terminal.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    /// The text, as it is.
    #[schema(value_type = String)]
    text: Secret,
    /// Press Enter afterwards.
    #[serde(default)]
    enter: bool,
}

/// Types into the tool's terminal. What is typed is neither logged nor shown.
#[utoipa::path(post, path = "/api/auth/session/{id}/type", params(("id" = String, Path)), request_body = Text, responses(
    (status = 204), (status = 400, body = ProblemBody), (status = 410, body = ProblemBody)))]
pub(super) async fn type_text(
    State(app): State<App>,
    mine: OwnedSession,
    Json(text): Json<Text>,
) -> Result<StatusCode, ApiError> {
    let Text { text, enter } = text;
    if text.expose().len() > TEXT_BYTES_MAX || text.expose().chars().any(char::is_control) {
        return Err(ApiError::new(Problem::Malformed, "at most 16 KiB and no control characters"));
    }
    let (_, live) = living(&app, &mine.row.id).await?;
    live.activity.touch();
    let channels = open_channels(&app, &live).await?;
    channels.agent.input(&Input { text, enter }).await?;
    Ok(StatusCode::NO_CONTENT)
}
