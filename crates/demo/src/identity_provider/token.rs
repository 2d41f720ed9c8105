//! The endpoints for programs: metadata, token exchange and userinfo.

use super::{DemoIdp, Grant, accounts::Account, authorize::parse_form, device::redeem_device_code};
use anteroom_wire::Secret;
use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};

/// `GET /.well-known/oauth-authorization-server` (RFC 8414 §3.2).
pub(super) async fn get_metadata(State(idp): State<Arc<DemoIdp>>) -> Response {
    let issuer = &idp.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "response_types_supported": ["code"],
        "device_authorization_endpoint": format!("{issuer}/device_authorization"),
        // For a person whose browser is not in the machine: the same page, at an address that it reaches.
        "link_authorization_endpoint": format!("{}/authorize", idp.public_url),
        "grant_types_supported": ["authorization_code", "refresh_token", DEVICE_GRANT],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": ["profile"],
    }))
    .into_response()
}

/// Form of `POST /token` (RFC 6749 §4.1.3 and §6, RFC 7636 §4.5).
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenRequest {
    grant_type: String,
    client_id: String,
    code: String,
    redirect_uri: String,
    code_verifier: String,
    refresh_token: String,
    device_code: String,
}

/// The grant of a device code (RFC 8628 §3.4).
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// `POST /token`: exchanges a code or a refresh token for new tokens.
pub(super) async fn exchange_code(State(idp): State<Arc<DemoIdp>>, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return error_response("invalid_request", "the body must be application/x-www-form-urlencoded");
    }
    let Some(request) = parse_form::<TokenRequest>(&body) else {
        return error_response("invalid_request", "the form is malformed");
    };
    let granted = match request.grant_type.as_str() {
        "authorization_code" => redeem_code(&idp, &request),
        "refresh_token" => refresh(&idp, &request),
        DEVICE_GRANT => redeem_device_code(&idp, &request.device_code, &request.client_id),
        _ => Err(("unsupported_grant_type", "grant_type must be authorization_code, refresh_token or a device code's")),
    };
    if granted.as_ref().is_ok_and(|grant| Account::of(&grant.name) == Account::Slow) {
        tokio::time::sleep(Duration::from_millis(idp.settings.slow_ms)).await;
    }
    match granted {
        Ok(grant) => issue(&idp, grant),
        Err((error, description)) => error_response(error, description),
    }
}

/// An OAuth error code and its description.
pub(super) type OAuthError = (&'static str, &'static str);

fn redeem_code(idp: &DemoIdp, request: &TokenRequest) -> Result<Grant, OAuthError> {
    // Removed before the checks: a code is valid for one attempt.
    let code = idp.state().codes.remove(&request.code);
    let code = code.ok_or(("invalid_grant", "the code is unknown, was already used, or has expired"))?;
    let require = |ok: bool, text: &'static str| if ok { Ok(()) } else { Err(("invalid_grant", text)) };
    require(code.client == request.client_id, "the code belongs to another client_id")?;
    require(code.redirect == request.redirect_uri, "redirect_uri differs from the one in the authorization request")?;
    let verifier = request.code_verifier.as_bytes();
    let is_valid = (43..=128).contains(&verifier.len())
        && verifier.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'));
    require(is_valid, "code_verifier must be 43 to 128 unreserved characters")?;
    require(
        URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) == code.challenge,
        "code_verifier does not match the challenge",
    )?;
    Ok(Grant { client: code.client, name: code.name.unwrap_or_default(), scope: code.scope })
}

fn refresh(idp: &DemoIdp, request: &TokenRequest) -> Result<Grant, OAuthError> {
    let grant = idp.state().refresh_tokens.get(&request.refresh_token).cloned();
    let grant = grant.ok_or(("invalid_grant", "the refresh token is unknown or has expired"))?;
    if grant.client == request.client_id {
        Ok(grant)
    } else {
        Err(("invalid_grant", "the refresh token belongs to another client_id"))
    }
}

fn issue(idp: &DemoIdp, grant: Grant) -> Response {
    let (access, refresh) = idp.new_tokens();
    let scope = grant.scope.clone();
    let needs_project = Account::of(&grant.name) == Account::Workspace;
    let is_stored = {
        let key = |secret: &Secret| secret.expose().to_owned();
        let mut state = idp.state();
        state.access_tokens.insert(key(&access), grant.clone()) && state.refresh_tokens.insert(key(&refresh), grant)
    };
    if !is_stored {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": "temporarily_unavailable" }))).into_response();
    }
    Json(json!({
        "access_token": access,
        "refresh_token": refresh,
        "token_type": "Bearer",
        "expires_in": idp.settings.token_s_max,
        "scope": scope,
        "project_required": needs_project,
    }))
    .into_response()
}

pub(super) fn error_response(error: &str, description: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error, "error_description": description }))).into_response()
}

/// `GET /userinfo` with `Authorization: Bearer demo_at_…`.
pub(super) async fn get_userinfo(State(idp): State<Arc<DemoIdp>>, headers: HeaderMap) -> Response {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let grant = token.and_then(|token| idp.state().access_tokens.get(token).cloned());
    match grant {
        Some(grant) => {
            let subject = hex::encode(&Sha256::digest(grant.name.as_bytes())[..8]);
            Json(json!({ "sub": format!("demo_{subject}"), "name": grant.name })).into_response()
        }
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
            (StatusCode::UNAUTHORIZED, challenge, Json(json!({ "error": "invalid_token" }))).into_response()
        }
    }
}
