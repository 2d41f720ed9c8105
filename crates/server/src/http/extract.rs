//! Extractors for JSON bodies, queries and path ids. Their errors name the error without quoting the input.

use super::{error_response::ErrorResponse, request_body::read_body, routes::RequestedAction};
use crate::peer::ClientAddress;
use anteroom_controller::{api_error::ApiError, audit::note_session, caller::Caller, session::context::SessionContext};
use anteroom_store::SessionRow;
use anteroom_wire::{CallerId, CredentialId, HostId, MessageId, Problem, SessionId, json_fault};
use axum::{
    RequestExt,
    extract::{FromRef, FromRequest, FromRequestParts, RawPathParams, Request},
    http::{header, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{fmt::Display, str::FromStr};

/// Maximum length of an error text of serde in a response, bytes. It may quote a key, which may be as long as the body.
const FAULT_BYTES_MAX: usize = 400;

/// A JSON body.
pub(super) struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ErrorResponse;

    async fn from_request(request: Request, _: &S) -> Result<Self, ErrorResponse> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        if !kind.trim_start().to_ascii_lowercase().starts_with("application/json") {
            return Err(Problem::UnsupportedMediaType.into());
        }
        let bytes = read_body(request.into_limited_body()).await?;
        // serde's error text may quote the body, which may be secret.
        read_json(&bytes)
            .map(Self)
            .map_err(|error| ApiError::new(Problem::Malformed, json_fault::describe::<T>(&bytes, &error)).into())
    }
}

/// Reads JSON. A whole number may be written with a fraction of zero, like `1.0`: to JSON Schema both are integers.
fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    let read = serde_json::from_slice(bytes);
    let Err(error) = &read else { return read };
    if !error.to_string().starts_with("invalid type: floating point") {
        return read;
    }
    let Ok(mut value) = serde_json::from_slice(bytes) else { return read };
    write_whole_numbers_as_integers(&mut value);
    // The first error has the position.
    serde_json::from_value(value).or(read)
}

fn write_whole_numbers_as_integers(value: &mut Value) {
    /// Larger ones are not exact.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Array(values) => values.iter_mut().for_each(write_whole_numbers_as_integers),
        Value::Object(members) => members.values_mut().for_each(write_whole_numbers_as_integers),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|whole| whole.fract() == 0.0 && whole.abs() <= WHOLE_MAX);
            if let Some(integer) = whole.and_then(|whole| format!("{whole:.0}").parse::<i64>().ok()) {
                *number = integer.into();
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The authenticated caller.
pub(super) struct AuthenticatedCaller(pub Caller);

impl<S: Sync> FromRequestParts<S> for AuthenticatedCaller {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ErrorResponse> {
        parts.extensions.get().cloned().map(Self).ok_or_else(|| Problem::Unauthenticated.into())
    }
}

impl<S: Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ErrorResponse> {
        parts.extensions.get().copied().ok_or_else(|| Problem::Unauthenticated.into())
    }
}

/// The session in the path, after checking that the caller may do to it what the route does.
pub(super) struct OwnedSession {
    /// The session's row in the database.
    pub row: SessionRow,
    /// The caller.
    pub caller: Caller,
}

impl<S: Send + Sync> FromRequestParts<S> for OwnedSession
where
    SessionContext: FromRef<S>,
{
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorResponse> {
        let AuthenticatedCaller(caller) = AuthenticatedCaller::from_request_parts(parts, state).await?;
        let id = extract_session_id(parts).await?;
        let context = SessionContext::from_ref(state);
        let row = context.store.get_session(&id).await?.ok_or(Problem::UnknownSession)?;
        // A route without an action cannot have a session.
        let action = parts.extensions.get::<RequestedAction>().ok_or(Problem::PathNotFound)?;
        caller.require(action.0, &row)?;
        note_session(&row);
        Ok(Self { row, caller })
    }
}

/// Parses the session id in the path.
pub(super) async fn extract_session_id(parts: &mut Parts) -> Result<SessionId, ApiError> {
    id(parts).await
}

/// The credential id in the path.
pub(super) struct CredentialPath(pub CredentialId);

impl<S: Sync> FromRequestParts<S> for CredentialPath {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ErrorResponse> {
        Ok(Self(id(parts).await?))
    }
}

/// The id of a host of the cluster in the path.
pub(super) struct HostPath(pub HostId);

impl<S: Sync> FromRequestParts<S> for HostPath {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ErrorResponse> {
        Ok(Self(id(parts).await?))
    }
}

/// The id of a webhook message in the path.
pub(super) struct MessagePath(pub MessageId);

impl<S: Sync> FromRequestParts<S> for MessagePath {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ErrorResponse> {
        Ok(Self(id(parts).await?))
    }
}

/// The caller's id in the path: of a token or a browser.
pub(super) struct CallerPath(pub CallerId);

impl<S: Sync> FromRequestParts<S> for CallerPath {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ErrorResponse> {
        Ok(Self(id(parts).await?))
    }
}

/// The helper's id in a path that has a session's, too.
pub(super) struct HelperPath(pub CallerId);

impl<S: Sync> FromRequestParts<S> for HelperPath {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ErrorResponse> {
        Ok(Self(named_id(parts, "helper").await?))
    }
}

async fn id<T: FromStr<Err: Display>>(parts: &mut Parts) -> Result<T, ApiError> {
    named_id(parts, "id").await
}

/// Parses the id that has this name in the pattern of the path.
async fn named_id<T: FromStr<Err: Display>>(parts: &mut Parts, name: &str) -> Result<T, ApiError> {
    let path = RawPathParams::from_request_parts(parts, &()).await;
    let path = path.map_err(|_| ApiError::new(Problem::Malformed, "the path is not valid UTF-8"))?;
    let id = path.iter().find(|(key, _)| *key == name).map(|(_, id)| id);
    let id = id.ok_or_else(|| ApiError::new(Problem::Malformed, "the path has no id"))?;
    id.parse().map_err(|error| ApiError::new(Problem::Malformed, format!("{error}")))
}

/// The query string.
pub(super) struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ErrorResponse> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        query.map(|query| Self(query.0)).map_err(|rejection| {
            let detail = Some(rejection.body_text()).filter(|text| text.len() <= FAULT_BYTES_MAX);
            ApiError::new(Problem::Malformed, detail.unwrap_or_else(|| "the query string is malformed".into())).into()
        })
    }
}
