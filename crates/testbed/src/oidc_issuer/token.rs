//! The token endpoint and the userinfo endpoint.

use super::{
    fault::OidcFault,
    id_token::{AccessTokenHash, id_token},
    provider::{Grant, Provider, SharedProvider},
};
use crate::code_flow::{TokenRequest, parse_form, random_hex};
use anteroom_controller::unix_time::now_unix_ms;
use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::stream;
use serde_json::{Value, json};
use std::{collections::BTreeMap, io, iter};

/// The lifetime of a code, seconds.
const CODE_S_MAX: u64 = 60;
/// The lifetime of an access token, seconds.
const ACCESS_S: u64 = 300;
/// The lengths of a code verifier (RFC 7636 section 4.1).
const VERIFIER_CHARS: std::ops::RangeInclusive<usize> = 43..=128;

/// The OAuth error and its description.
type Refusal = (&'static str, String);

/// `POST /token` (RFC 6749 section 4.1.3).
pub(super) async fn exchange_code(State(shared): State<SharedProvider>, headers: HeaderMap, body: String) -> Response {
    if shared.lock().has(OidcFault::TokenSilent) {
        return std::future::pending().await;
    }
    if shared.lock().has(OidcFault::TokenEndless) {
        return endless_body(&shared);
    }
    let mut provider = shared.lock();
    if let Some(faulty) = faulty_answer(&provider) {
        return faulty;
    }
    let answer = check_form(&provider, &headers, &body).and_then(|form| {
        let (code, grant) = use_code(&mut provider, &form)?;
        issue_tokens(&mut provider, &code, &grant).map_err(|error| ("server_error", error.to_string()))
    });
    match answer {
        Ok(tokens) => ([(header::CACHE_CONTROL, "no-store")], Json(tokens)).into_response(),
        Err((error, why)) => {
            provider.issuer.rejections.push(why.clone());
            let body = Json(json!({ "error": error, "error_description": why }));
            match error {
                "invalid_client" => {
                    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"token\"")], body)
                        .into_response()
                }
                _ => (StatusCode::BAD_REQUEST, body).into_response(),
            }
        }
    }
}

fn faulty_answer(provider: &Provider) -> Option<Response> {
    if provider.has(OidcFault::TokenServerError) {
        return Some((StatusCode::INTERNAL_SERVER_ERROR, "<h1>Internal error</h1>").into_response());
    }
    if provider.has(OidcFault::TokenRedirect) {
        return Some(Redirect::temporary(&format!("{}/elsewhere", provider.url)).into_response());
    }
    provider.has(OidcFault::TokenMalformed).then(|| "{\"access_token\":".into_response())
}

/// Checks the form's type and the client's authentication.
fn check_form(provider: &Provider, headers: &HeaderMap, body: &str) -> Result<BTreeMap<String, String>, Refusal> {
    let is_form = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if is_form.is_none_or(|kind| !kind.starts_with("application/x-www-form-urlencoded")) {
        return Err(("invalid_request", "the body is not a form".to_owned()));
    }
    let form = parse_form(body);
    let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    let (id, secret) = match (basic, form.get("client_secret")) {
        (Some(_), Some(_)) => return Err(("invalid_request", "the client authenticates twice".to_owned())),
        (Some(basic), None) => parse_basic(basic).ok_or(("invalid_client", "malformed credentials".to_owned()))?,
        (None, Some(secret)) => (form.get("client_id").cloned().unwrap_or_default(), secret.clone()),
        (None, None) => return Err(("invalid_client", "the client does not authenticate".to_owned())),
    };
    if (&id, &secret) != (&provider.client.id, &provider.client.secret) {
        return Err(("invalid_client", "another client or client secret".to_owned()));
    }
    Ok(form)
}

/// The client id and secret of HTTP Basic, each form-encoded (RFC 6749 section 2.3.1).
fn parse_basic(encoded: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decode = |part: &str| parse_form(&format!("part={part}")).remove("part");
    Some((decode(id)?, decode(secret)?))
}

/// Checks the code and its verifier, and ends the code.
fn use_code(provider: &mut Provider, form: &BTreeMap<String, String>) -> Result<(String, Grant), Refusal> {
    if form.get("grant_type").is_none_or(|kind| kind != "authorization_code") {
        return Err(("unsupported_grant_type", "only authorization_code is supported".to_owned()));
    }
    let verifier = form.get("code_verifier").cloned();
    if verifier.as_ref().is_some_and(|verifier| !VERIFIER_CHARS.contains(&verifier.len())) {
        return Err(("invalid_request", "the length of code_verifier is invalid".to_owned()));
    }
    let text = |key: &str| form.get(key).cloned().unwrap_or_default();
    // HTTP Basic may have named the client.
    let client_id = form.get("client_id").unwrap_or(&provider.client.id).clone();
    let request = TokenRequest { verifier, client_id, ..TokenRequest::parse(text) };
    let grant = provider.grants.get(&request.code).cloned().ok_or(("invalid_grant", "unknown code".to_owned()))?;
    let has_expired = now_unix_ms() / 1000 > grant.issued_at_s + CODE_S_MAX;
    if has_expired || provider.has(OidcFault::ExpiredCode) {
        return Err(("invalid_grant", "the code has expired".to_owned()));
    }
    // The reason is recorded by the caller.
    provider.issuer.check_and_use_code(&request).map_err(|why| ("invalid_grant", why))?;
    Ok((request.code, grant))
}

fn issue_tokens(provider: &mut Provider, code: &str, grant: &Grant) -> io::Result<Value> {
    let [access, refresh] = [random_hex(24)?, random_hex(24)?];
    provider.issuer.record_tokens(&access, &refresh);
    provider.token_subjects.insert(access.clone(), grant.authentication.subject.clone());
    provider.grants.remove(code);
    let mut tokens = json!({ "access_token": access, "token_type": "Bearer", "expires_in": ACCESS_S });
    if !provider.has(OidcFault::NoIdToken) {
        let id_token = id_token(provider, grant, &AccessTokenHash::of(&access))?;
        provider.issuer.issued_secrets.push(id_token.clone());
        tokens["id_token"] = id_token.into();
    }
    Ok(tokens)
}

/// `GET /userinfo` (OpenID Connect Core section 5.3).
pub(super) async fn get_user_info(State(shared): State<SharedProvider>, headers: HeaderMap) -> Response {
    let provider = shared.lock();
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let subject = bearer.and_then(|token| provider.token_subjects.get(token));
    let Some(person) = subject.and_then(|subject| provider.find_person(subject)) else {
        let challenge = "Bearer error=\"invalid_token\"";
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
    };
    let mut claims = person.claims.clone();
    claims["sub"] = person.subject.clone().into();
    claims["name"] = person.name.clone().into();
    Json(claims).into_response()
}

/// A JSON document that does not end, while the client reads it.
pub(super) fn endless_body(shared: &SharedProvider) -> Response {
    let (shared, first, chunk) =
        (shared.clone(), Bytes::from_static(b"{\"padding\":\""), Bytes::from(vec![b'x'; 65_536]));
    let chunks = iter::once(first).chain(iter::repeat(chunk)).map(move |chunk| {
        shared.lock().endless_bytes += chunk.len() as u64;
        io::Result::Ok(chunk)
    });
    let body = Body::from_stream(stream::iter(chunks));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
