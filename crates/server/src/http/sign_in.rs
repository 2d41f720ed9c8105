//! Requests of a sign-in: read the sign-in URL, open a URL in the machine's browser, paste into the tool, change the method, type into
//! the terminal.

use super::{
    error_response::ErrorResponse,
    extract::{Json, OwnedSession},
};
use anteroom_controller::{
    api_error::ApiError,
    session::context::SessionContext,
    session::{
        active_session::ActiveSession,
        change_method,
        channels::{open_channels, require_active},
        consent::require_consent,
        request_rates::ViewerRequest,
        settings, view,
    },
};
use anteroom_machine::Channels;
use anteroom_store::SessionRow;
use anteroom_wire::{
    Problem, ProblemBody, Secret,
    agent::{OpenUrl, Paste, PasteResult, TypeText},
    api::{MethodRequest, SessionView, SignInView},
};
use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use std::sync::Arc;

/// The longest address that a viewer opens, bytes.
pub(super) const URL_BYTES_MAX: usize = 8 * 1024;
/// The longest text for the tool, bytes.
pub(super) const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Returns the sign-in URL. 409: the tool has not shown one yet.
#[utoipa::path(get, operation_id = "get_sign_in_url", path = "/api/auth/session/{id}/oauth-url", params(("id" = String, Path)), responses(
    (status = 200, description = "The sign-in state with its URL.", body = SignInView),
    (status = 409, description = "The tool has not shown a URL yet.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
))]
pub(super) async fn get_sign_in(
    State(context): State<SessionContext>,
    owned: OwnedSession,
) -> Result<axum::Json<SignInView>, ErrorResponse> {
    let (row, _) = require_active(&context, &owned.row.id).await?;
    let sign_in = view::to_session_view(&context, &row).await?.sign_in;
    if sign_in.url.is_none() {
        return Err(Problem::NoSignInUrl.into());
    }
    Ok(axum::Json(sign_in))
}

/// The channels to the machine of an active session. The request counts as activity, so the idle timeout starts again.
async fn channels_for_input(context: &SessionContext, owned: &OwnedSession) -> Result<Channels, ApiError> {
    let (_, session) = active_for_input(context, owned).await?;
    open_channels(context, &session).await
}

/// An active session that the caller may act in. The request counts as activity.
async fn active_for_input(
    context: &SessionContext,
    owned: &OwnedSession,
) -> Result<(SessionRow, Arc<ActiveSession>), ApiError> {
    let (row, session) = require_active(context, &owned.row.id).await?;
    session.request_rates.check(ViewerRequest::Input)?;
    require_consent(context, &owned.caller, &row).await?;
    session.activity.record();
    Ok((row, session))
}

/// Opens an http or https URL of at most 8 KiB in the machine's browser.
#[utoipa::path(post, path = "/api/auth/session/{id}/open-url", params(("id" = String, Path)), request_body = OpenUrl, responses(
    (status = 204, description = "The URL was opened."),
    (status = 400, description = "The URL is malformed or too long.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
    (status = 429, description = "Too many in a short time.", body = ProblemBody),
))]
pub(super) async fn open_url(
    State(context): State<SessionContext>,
    owned: OwnedSession,
    Json(open): Json<OpenUrl>,
) -> Result<StatusCode, ErrorResponse> {
    let is_valid = (open.url.starts_with("https://") || open.url.starts_with("http://"))
        && open.url.len() <= URL_BYTES_MAX
        && !open.url.chars().any(|c| c.is_control() || c.is_whitespace());
    if !is_valid {
        return Err(ApiError::new(Problem::Malformed, "url must be an http or https URL of at most 8 KiB").into());
    }
    let channels = channels_for_input(&context, &owned).await?;
    channels.agent.open_url(&open).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Request of `POST …/paste`: text that the user copied from their browser.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasteRequest {
    /// The text as copied, 1 byte to 16 KiB; it may have line breaks and tabs, and no other control characters.
    #[schema(value_type = String)]
    text: Secret,
}

/// Passes text from the user to the tool: a code for its open prompt, the URL of the callback, a secret, or the setting that is asked for.
///
/// The response reports how the text was interpreted. The text is neither logged nor displayed. 409: the tool expects no input.
/// 422: the text was rejected. 502: the agent does not answer.
#[utoipa::path(post, path = "/api/auth/session/{id}/paste", params(("id" = String, Path)), request_body = PasteRequest, responses(
    (status = 200, description = "How the text was interpreted.", body = PasteResult),
    (status = 400, description = "The request is malformed.", body = ProblemBody),
    (status = 409, description = "The tool expects no input now.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
    (status = 429, description = "Too many in a short time.", body = ProblemBody),
    (status = 422, description = "The text was rejected.", body = ProblemBody),
    (status = 502, description = "The machine's agent does not answer.", body = ProblemBody),
))]
pub(super) async fn submit_paste(
    State(context): State<SessionContext>,
    owned: OwnedSession,
    Json(request): Json<PasteRequest>,
) -> Result<axum::Json<PasteResult>, ErrorResponse> {
    Ok(axum::Json(paste_into_tool(&context, &owned, &request.text).await?))
}

/// Request of `POST …/code`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CodeRequest {
    /// The code, or the URL of the callback.
    #[schema(value_type = String)]
    code: Secret,
}

/// As `…/paste`, but without the result in the response.
#[utoipa::path(post, operation_id = "paste_code", path = "/api/auth/session/{id}/code", params(("id" = String, Path)), request_body = CodeRequest, responses(
    (status = 204, description = "The text was passed to the tool."),
    (status = 400, description = "The request is malformed.", body = ProblemBody),
    (status = 409, description = "The tool expects no input now.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
    (status = 429, description = "Too many in a short time.", body = ProblemBody),
    (status = 422, description = "The text was rejected.", body = ProblemBody),
    (status = 502, description = "The machine's agent does not answer.", body = ProblemBody),
))]
pub(super) async fn submit_code(
    State(context): State<SessionContext>,
    owned: OwnedSession,
    Json(request): Json<CodeRequest>,
) -> Result<StatusCode, ErrorResponse> {
    paste_into_tool(&context, &owned, &request.code).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn paste_into_tool(
    context: &SessionContext,
    owned: &OwnedSession,
    pasted: &Secret,
) -> Result<PasteResult, ApiError> {
    let text = pasted.expose().trim();
    let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || !text.chars().all(is_text) {
        let detail = "the text must have 1 byte to 16 KiB; of control characters it may have line breaks and tabs";
        return Err(ApiError::new(Problem::Malformed, detail));
    }
    let (row, session) = active_for_input(context, owned).await?;
    if let Some(given) = settings::answer_with(context, &row, &session, text).await? {
        return Ok(given);
    }
    let channels = open_channels(context, &session).await?;
    let paste = Paste { text: Secret::new(text.to_owned()) };
    Ok(channels.agent.submit_paste(&paste).await?)
}

/// Changes the sign-in method. The tool is restarted in the same machine.
#[utoipa::path(post, operation_id = "change_method", path = "/api/auth/session/{id}/method", params(("id" = String, Path)), request_body = MethodRequest, responses(
    (status = 200, description = "The session with its new method.", body = SessionView),
    (status = 400, description = "The request is malformed.", body = ProblemBody),
    (status = 409, description = "A delivery is in progress, the machine is not ready, or it is external.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
    (status = 429, description = "Too many in a short time.", body = ProblemBody),
    (status = 502, description = "The machine's agent does not answer.", body = ProblemBody),
))]
pub(super) async fn change_method(
    State(context): State<SessionContext>,
    owned: OwnedSession,
    Json(request): Json<MethodRequest>,
) -> Result<axum::Json<SessionView>, ErrorResponse> {
    require_consent(&context, &owned.caller, &owned.row).await?;
    let row = change_method::change_method(&context, &owned.row.id, &request.method).await?;
    Ok(axum::Json(view::to_session_view(&context, &row).await?))
}

/// Request of `POST …/type`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TypeRequest {
    /// The text, at most 16 KiB without control characters.
    #[schema(value_type = String)]
    text: Secret,
    /// Whether to press Enter after the text.
    #[serde(default)]
    enter: bool,
}

/// Types text into the tool's terminal. The text is not logged.
#[utoipa::path(post, path = "/api/auth/session/{id}/type", params(("id" = String, Path)), request_body = TypeRequest, responses(
    (status = 204, description = "The text was typed."),
    (status = 400, description = "The request is malformed.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
    (status = 429, description = "Too many in a short time.", body = ProblemBody),
))]
pub(super) async fn type_text(
    State(context): State<SessionContext>,
    owned: OwnedSession,
    Json(text): Json<TypeRequest>,
) -> Result<StatusCode, ErrorResponse> {
    let TypeRequest { text, enter } = text;
    if text.expose().len() > TEXT_BYTES_MAX || text.expose().chars().any(char::is_control) {
        return Err(
            ApiError::new(Problem::Malformed, "the text must have at most 16 KiB and no control characters").into()
        );
    }
    let channels = channels_for_input(&context, &owned).await?;
    channels.agent.type_text(&TypeText { text, press_enter: enter }).await?;
    Ok(StatusCode::NO_CONTENT)
}
