//! The authorize page, the page that shows a code, and the token endpoint.

use crate::code_flow::{AuthorizationRequest, IssuerState, TokenRequest, html_page, random_hex};
use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::{collections::BTreeMap, io};

const MANUAL: &str = "https://codeassist.google.com/authcode";
/// The lifetime of an access token, seconds.
const ACCESS_S: u64 = 3_599;

/// `GET /o/oauth2/v2/auth`. The user always grants access.
pub(super) fn get_authorize_page(issuer: &mut IssuerState, query: &BTreeMap<String, String>) -> Response {
    if let Some(page) = issuer.consent_prompt(query) {
        return page.into_response();
    }
    let granted = AuthorizationRequest::parse(query).and_then(|authorization| {
        if !authorization.is_loopback() && authorization.redirect_uri != MANUAL {
            return Err("an unknown redirect_uri".to_owned());
        }
        if query.get("access_type").is_none_or(|kind| kind != "offline") {
            return Err("access_type is not offline: there would be no refresh token".to_owned());
        }
        let code = format!("4/0A{}", random_hex(24).map_err(|error| error.to_string())?);
        let back = authorization
            .redirect_url(&code, &[("scope", &authorization.scope), ("authuser", "0"), ("prompt", "consent")])?;
        issuer.issue_code(code, authorization);
        Ok(back)
    });
    match granted {
        Ok(back) => (StatusCode::FOUND, [(header::LOCATION, back)]).into_response(),
        Err(why) => {
            issuer.rejections.push(why.clone());
            (StatusCode::BAD_REQUEST, html_page("Access blocked: authorization error", &why)).into_response()
        }
    }
}

/// `GET /authcode`: the page that shows the code for pasting.
pub(super) fn get_code_page(issuer: &IssuerState, query: &BTreeMap<String, String>) -> Response {
    let code = query.get("code").map(String::as_str).unwrap_or_default();
    if !issuer.has_issued_code(code) {
        return (StatusCode::BAD_REQUEST, html_page("Something went wrong", "unknown code")).into_response();
    }
    html_page("Copy this code into Gemini CLI", code).into_response()
}

/// The page that the tool opens after the sign-in.
pub(super) fn result_page(heading: &str) -> Response {
    html_page(heading, "You can close this window.").into_response()
}

/// `POST /token`.
pub(super) fn exchange_code(issuer: &mut IssuerState, form: &BTreeMap<String, String>) -> Response {
    let text = |key: &str| form.get(key).cloned().unwrap_or_default();
    if text("client_secret").is_empty() {
        return reject(StatusCode::UNAUTHORIZED, "invalid_client", "the client secret is missing");
    }
    let scope = match text("grant_type").as_str() {
        "authorization_code" => {
            let request = TokenRequest { verifier: form.get("code_verifier").cloned(), ..TokenRequest::parse(text) };
            issuer.exchange_code(&request).map(|authorization| authorization.scope)
        }
        "refresh_token" if issuer.refresh_tokens.contains(&text("refresh_token")) => Ok(String::new()),
        "refresh_token" => Err("unknown refresh token".to_owned()),
        _ => Err("unknown grant_type".to_owned()),
    };
    let issued = scope.map(|scope| tokens(issuer, &scope, &text("client_id"), form.get("refresh_token")));
    match issued {
        Ok(Ok(tokens)) => Json(tokens).into_response(),
        Ok(Err(_)) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Err(why) => reject(StatusCode::BAD_REQUEST, "invalid_grant", &why),
    }
}

/// Issues new tokens. A refresh token is kept.
fn tokens(issuer: &mut IssuerState, scope: &str, client: &str, refresh: Option<&String>) -> io::Result<Value> {
    let access = format!("ya29.{}", random_hex(32)?);
    let renewed = refresh.is_some();
    let refresh =
        refresh.map_or_else(|| random_hex(24).map(|random| format!("1//{random}")), |known| Ok(known.clone()))?;
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "iss": "https://accounts.google.com", "aud": client, "azp": client, "sub": "100000000000000000001",
        "email": "ada@example.test", "email_verified": true, "jti": random_hex(16)?,
    });
    let id = format!("{}.{}.{}", part(&json!({ "alg": "none", "typ": "JWT" })), part(&claims), random_hex(32)?);
    issuer.record_tokens(&access, &refresh);
    issuer.issued_secrets.push(id.clone());
    let mut answer = json!({
        "access_token": access, "expires_in": ACCESS_S, "scope": scope, "token_type": "Bearer", "id_token": id,
    });
    if !renewed {
        answer["refresh_token"] = refresh.into();
    }
    Ok(answer)
}

fn reject(status: StatusCode, error: &str, why: &str) -> Response {
    (status, Json(json!({ "error": error, "error_description": why }))).into_response()
}

/// `POST /tokeninfo`: called when the tool starts with a stored credential.
pub(super) fn get_token_info(issuer: &IssuerState, bearer: &str) -> Response {
    if !issuer.has_issued_access_token(bearer) {
        return reject(StatusCode::BAD_REQUEST, "invalid_token", "unknown token");
    }
    Json(json!({ "expires_in": ACCESS_S, "access_type": "offline", "scope": "openid email", "aud": "any" }))
        .into_response()
}

/// `GET /oauth2/v2/userinfo`.
pub(super) fn get_user_info(issuer: &IssuerState, bearer: &str) -> Response {
    if !issuer.has_issued_access_token(bearer) {
        return reject(StatusCode::UNAUTHORIZED, "invalid_token", "unknown token");
    }
    let person = json!({
        "id": "100000000000000000001", "email": "ada@example.test", "verified_email": true, "name": "Ada Example",
    });
    Json(person).into_response()
}
