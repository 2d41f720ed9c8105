//! The token endpoint and the endpoints about an account.

use crate::code_flow::{IssuerState, TokenRequest, random_hex};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// The lifetime of an access token, seconds, unless the tool requests another one.
const ACCESS_S: u64 = 28_800;
const REFRESH_S: u64 = 2_592_000;
const ACCOUNT: &str = "5c0f6b1e-0d3a-4f5e-9a51-0a6d3a6f0001";
const ORGANIZATION: &str = "5c0f6b1e-0d3a-4f5e-9a51-0a6d3a6f0002";

/// `POST /v1/oauth/token`.
pub(super) fn exchange_code(issuer: &mut IssuerState, body: &[u8]) -> Response {
    let parameters: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| parameters[key].as_str().unwrap_or_default().to_owned();
    let scope = match text("grant_type").as_str() {
        "authorization_code" => {
            let request = TokenRequest {
                verifier: parameters["code_verifier"].as_str().map(str::to_owned),
                state: Some(text("state")),
                ..TokenRequest::parse(text)
            };
            issuer.exchange_code(&request).map(|authorization| authorization.scope)
        }
        "refresh_token" if issuer.refresh_tokens.remove(&text("refresh_token")) => Ok(text("scope")),
        "refresh_token" => Err("unknown refresh token".to_owned()),
        _ => Err("unknown grant_type".to_owned()),
    };
    let scope = match scope {
        Ok(scope) => scope,
        Err(why) => {
            let error = json!({ "type": "error", "error": { "type": "invalid_grant", "message": why } });
            return (StatusCode::BAD_REQUEST, Json(error)).into_response();
        }
    };
    let (Ok(access), Ok(refresh)) = (random_hex(24), random_hex(24)) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let (access, refresh) = (format!("sk-ant-oat01-{access}"), format!("sk-ant-ort01-{refresh}"));
    issuer.record_tokens(&access, &refresh);
    Json(json!({
        "token_type": "Bearer", "access_token": access, "refresh_token": refresh, "scope": scope,
        "expires_in": parameters["expires_in"].as_u64().unwrap_or(ACCESS_S), "refresh_token_expires_in": REFRESH_S,
        "account": { "uuid": ACCOUNT, "email_address": "ada@example.test" },
        "organization": { "uuid": ORGANIZATION, "name": "Example" },
    }))
    .into_response()
}

/// `GET /api/oauth/profile`.
pub(super) fn get_profile(issuer: &IssuerState, bearer: &str) -> Response {
    let profile = json!({
        "account": {
            "uuid": ACCOUNT, "full_name": "Ada Example", "display_name": "Ada", "email": "ada@example.test",
            "has_claude_max": false, "has_claude_pro": true, "created_at": "2026-01-01T00:00:00Z",
        },
        "organization": {
            "uuid": ORGANIZATION, "name": "Example", "organization_type": "claude_pro",
            "billing_type": "stripe_subscription", "rate_limit_tier": "default_claude_ai",
            "has_extra_usage_enabled": false, "subscription_status": "active",
        },
    });
    if_authenticated(issuer, bearer, profile)
}

/// `GET /api/oauth/claude_cli/roles`.
pub(super) fn get_roles(issuer: &IssuerState, bearer: &str) -> Response {
    let roles = json!({
        "organization_uuid": ORGANIZATION, "organization_name": "Example", "organization_role": "admin",
        "workspace_uuid": null, "workspace_name": null, "workspace_role": null,
    });
    if_authenticated(issuer, bearer, roles)
}

fn if_authenticated(issuer: &IssuerState, bearer: &str, answer: Value) -> Response {
    if issuer.has_issued_access_token(bearer) {
        return Json(answer).into_response();
    }
    let error = json!({ "type": "error", "error": { "type": "authentication_error", "message": "invalid token" } });
    (StatusCode::UNAUTHORIZED, Json(error)).into_response()
}
