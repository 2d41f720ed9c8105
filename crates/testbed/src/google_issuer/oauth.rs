//! Signing in: the authorize page, the page that shows a code, the token endpoint.

use crate::code_flow::{Asked, Brought, Desk, chance, page};
use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::{collections::BTreeMap, io};

const MANUAL: &str = "https://codeassist.google.com/authcode";
/// How long an access token lives, seconds.
const ACCESS_S: u64 = 3_599;

/// `GET /o/oauth2/v2/auth`: the person allows.
pub(super) fn authorize(desk: &mut Desk, query: &BTreeMap<String, String>) -> Response {
    if let Some(page) = desk.asks(query) {
        return page.into_response();
    }
    let granted = Asked::read(query).and_then(|asked| {
        if !asked.is_loopback() && asked.redirect_uri != MANUAL {
            return Err("an unknown redirect_uri".to_owned());
        }
        if query.get("access_type").is_none_or(|kind| kind != "offline") {
            return Err("access_type is not offline: there would be no refresh token".to_owned());
        }
        let code = format!("4/0A{}", chance(24).map_err(|error| error.to_string())?);
        let back = asked.back(&code, &[("scope", &asked.scope), ("authuser", "0"), ("prompt", "consent")])?;
        desk.grant(code, asked);
        Ok(back)
    });
    match granted {
        Ok(back) => (StatusCode::FOUND, [(header::LOCATION, back)]).into_response(),
        Err(why) => {
            desk.refusals.push(why.clone());
            (StatusCode::BAD_REQUEST, page("Access blocked: authorization error", &why)).into_response()
        }
    }
}

/// `GET /authcode`: the page that shows the code, for pasting.
pub(super) fn code(desk: &Desk, query: &BTreeMap<String, String>) -> Response {
    let code = query.get("code").map(String::as_str).unwrap_or_default();
    if !desk.knows(code) {
        return (StatusCode::BAD_REQUEST, page("Something went wrong", "unknown code")).into_response();
    }
    page("Copy this code into Gemini CLI", code).into_response()
}

/// Where the tool sends the browser in the end.
pub(super) fn outcome(heading: &str) -> Response {
    page(heading, "You can close this window.").into_response()
}

/// `POST /token`.
pub(super) fn exchange(desk: &mut Desk, form: &BTreeMap<String, String>) -> Response {
    let text = |key: &str| form.get(key).cloned().unwrap_or_default();
    if text("client_secret").is_empty() {
        return refused(StatusCode::UNAUTHORIZED, "invalid_client", "the client secret is missing");
    }
    let scope = match text("grant_type").as_str() {
        "authorization_code" => {
            let brought = Brought {
                code: text("code"),
                client_id: text("client_id"),
                redirect_uri: text("redirect_uri"),
                verifier: form.get("code_verifier").cloned(),
                state: None,
            };
            desk.exchange(&brought).map(|asked| asked.scope)
        }
        "refresh_token" if desk.refresh.contains(&text("refresh_token")) => Ok(String::new()),
        "refresh_token" => Err("unknown refresh token".to_owned()),
        _ => Err("unknown grant_type".to_owned()),
    };
    let issued = scope.map(|scope| tokens(desk, &scope, &text("client_id"), form.get("refresh_token")));
    match issued {
        Ok(Ok(tokens)) => Json(tokens).into_response(),
        Ok(Err(_)) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Err(why) => refused(StatusCode::BAD_REQUEST, "invalid_grant", &why),
    }
}

/// New tokens; a refresh token stays as it is.
fn tokens(desk: &mut Desk, scope: &str, client: &str, refresh: Option<&String>) -> io::Result<Value> {
    let access = format!("ya29.{}", chance(32)?);
    let renewed = refresh.is_some();
    let refresh = refresh.map_or_else(|| chance(24).map(|chance| format!("1//{chance}")), |known| Ok(known.clone()))?;
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "iss": "https://accounts.google.com", "aud": client, "azp": client, "sub": "100000000000000000001",
        "email": "ada@example.test", "email_verified": true, "jti": chance(16)?,
    });
    let id = format!("{}.{}.{}", part(&json!({ "alg": "none", "typ": "JWT" })), part(&claims), chance(32)?);
    desk.issued(&access, &refresh);
    desk.canaries.push(id.clone());
    let mut answer = json!({
        "access_token": access, "expires_in": ACCESS_S, "scope": scope, "token_type": "Bearer", "id_token": id,
    });
    if !renewed {
        answer["refresh_token"] = refresh.into();
    }
    Ok(answer)
}

fn refused(status: StatusCode, error: &str, why: &str) -> Response {
    (status, Json(json!({ "error": error, "error_description": why }))).into_response()
}

/// `POST /tokeninfo`: asked when the tool starts with a stored credential.
pub(super) fn token_info(desk: &Desk, bearer: &str) -> Response {
    if !desk.is_ours(bearer) {
        return refused(StatusCode::BAD_REQUEST, "invalid_token", "unknown token");
    }
    Json(json!({ "expires_in": ACCESS_S, "access_type": "offline", "scope": "openid email", "aud": "any" }))
        .into_response()
}

/// `GET /oauth2/v2/userinfo`.
pub(super) fn user_info(desk: &Desk, bearer: &str) -> Response {
    if !desk.is_ours(bearer) {
        return refused(StatusCode::UNAUTHORIZED, "invalid_token", "unknown token");
    }
    let person = json!({
        "id": "100000000000000000001", "email": "ada@example.test", "verified_email": true, "name": "Ada Example",
    });
    Json(person).into_response()
}
