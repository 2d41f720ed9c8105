//! The sign-in itself: the address to open, opening one in the machine, pasting a code, typing.

use super::body::{Json, Mine};
use crate::{
    app::App,
    refusal::{Refusal, chain},
    session::reach_desktop::{living, open_channels},
};
use anteroom_machine::AgentError;
use anteroom_wire::{
    Problem, ProblemBody, Secret, SessionId,
    agent::{Input, OpenUrl},
    api::SignInView,
};
use axum::{extract::State, http::StatusCode};
use serde::Deserialize;

const URL_BYTES_MAX: usize = 8 * 1024;
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// The address to open, if the tool has shown one.
#[utoipa::path(get, path = "/api/auth/session/{id}/oauth-url", params(("id" = String, Path)), responses(
    (status = 200, body = SignInView), (status = 409, body = ProblemBody), (status = 410, body = ProblemBody)))]
pub(super) async fn oauth_url(State(app): State<App>, mine: Mine) -> Result<axum::Json<SignInView>, Refusal> {
    let (row, _) = living(&app, &mine.row.id).await?;
    let sign_in = crate::session::view::view(&app, &row).await?.sign_in;
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
    mine: Mine,
    Json(open): Json<OpenUrl>,
) -> Result<StatusCode, Refusal> {
    let good = (open.url.starts_with("https://") || open.url.starts_with("http://"))
        && open.url.len() <= URL_BYTES_MAX
        && !open.url.chars().any(|c| c.is_control() || c.is_whitespace());
    if !good {
        return Err(Refusal::new(Problem::Malformed, "url must be an http or https address of at most 8 KiB"));
    }
    let (_, live) = living(&app, &mine.row.id).await?;
    live.activity.touch();
    let channels = open_channels(&app, &live).await?;
    channels.agent.open_url(&open).await.map_err(|error| agent_refused(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the provider's page showed.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Code {
    /// The code, as it is.
    #[schema(value_type = String)]
    code: Secret,
}

/// Types a code at the tool's prompt and presses Enter.
#[utoipa::path(post, path = "/api/auth/session/{id}/code", params(("id" = String, Path)), request_body = Code, responses(
    (status = 204), (status = 400, body = ProblemBody), (status = 410, body = ProblemBody)))]
pub(super) async fn code(State(app): State<App>, mine: Mine, Json(code): Json<Code>) -> Result<StatusCode, Refusal> {
    type_into(&app, &mine.row.id, Input { text: Secret::new(code.code.expose().trim().to_owned()), enter: true }).await
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
    mine: Mine,
    Json(text): Json<Text>,
) -> Result<StatusCode, Refusal> {
    type_into(&app, &mine.row.id, Input { text: text.text.clone(), enter: text.enter }).await
}

async fn type_into(app: &App, id: &SessionId, input: Input) -> Result<StatusCode, Refusal> {
    let text = input.text.expose();
    if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(Refusal::new(Problem::Malformed, "at most 16 KiB and no control characters"));
    }
    let (_, live) = living(app, id).await?;
    live.activity.touch();
    let channels = open_channels(app, &live).await?;
    channels.agent.input(&input).await.map_err(|error| agent_refused(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// The agent's own refusal where it gave one, else that it does not answer.
fn agent_refused(error: &AgentError) -> Refusal {
    match problem_of(error) {
        Some((problem, detail)) => Refusal::new(problem, detail.unwrap_or_default()),
        None => Refusal::new(Problem::AgentUnreachable, chain(error)),
    }
}

fn problem_of(error: &AgentError) -> Option<(Problem, Option<String>)> {
    match error {
        AgentError::Refused { problem, .. } => Some((Problem::from_code(&problem.code)?, problem.detail.clone())),
        AgentError::Closed { .. }
        | AgentError::Transport { .. }
        | AgentError::Timeout { .. }
        | AgentError::NotUnderstood { .. }
        | AgentError::Request { .. } => None,
    }
}
