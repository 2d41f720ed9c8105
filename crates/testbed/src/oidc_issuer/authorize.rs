//! The authorization endpoint with its page, and the end-session endpoint.

use super::{
    fault::OidcFault,
    provider::{Authentication, Grant, PendingRequest, Provider, ResponseMode, SharedProvider},
};
use crate::code_flow::{AuthorizationRequest, escape_html, html_page, parse_form, random_hex};
use anteroom_controller::unix_time::now_unix_ms;
use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use reqwest::Url;
use std::collections::BTreeMap;

/// The cookie by which the provider recognizes a browser in which a person has signed in.
const COOKIE: &str = "provider_session";

/// `GET /authorize` (RFC 6749 section 4.1.1, OpenID Connect Core section 3.1.2.1).
pub(super) async fn get_authorize_page(
    State(shared): State<SharedProvider>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = parse_form(&query.unwrap_or_default());
    let mut provider = shared.lock();
    if let Err(why) = check_client(&provider, &query) {
        return reject(&mut provider, &why);
    }
    let (authorization, response_mode) = match check_request(&provider, &query) {
        Ok(checked) => checked,
        Err((error, why)) => {
            let [redirect_uri, state] = ["redirect_uri", "state"].map(|key| query.get(key).cloned());
            provider.issuer.rejections.push(why.clone());
            let parameters = [("error", error), ("error_description", &why), ("state", &state.unwrap_or_default())];
            return redirect(&redirect_uri.unwrap_or_default(), ResponseMode::Query, &parameters);
        }
    };
    let request = PendingRequest { authorization, response_mode, nonce: query.get("nonce").cloned() };
    let prompts: Vec<_> = query.get("prompt").into_iter().flat_map(|prompt| prompt.split(' ')).collect();
    let known = cookie(&headers).and_then(|cookie| provider.browsers.get(&cookie).cloned());
    let max_age_s = query.get("max_age").and_then(|age| age.parse::<u64>().ok());
    let fresh = known.filter(|known| {
        let has_passed = max_age_s.is_some_and(|max_age_s| now_unix_ms() / 1000 > known.auth_time_s + max_age_s);
        !prompts.contains(&"login") && max_age_s != Some(0) && !has_passed
    });
    match fresh {
        Some(authentication) => grant_code(&mut provider, request, authentication),
        None if prompts.contains(&"none") => redirect_with_error(&provider, &request, "login_required"),
        None => show_page(&mut provider, request),
    }
}

/// Checks the client and its redirect URI. Without them the browser must not be redirected.
fn check_client(provider: &Provider, query: &BTreeMap<String, String>) -> Result<(), String> {
    if query.get("client_id") != Some(&provider.client.id) {
        return Err("unknown client_id".to_owned());
    }
    let redirect_uri = query.get("redirect_uri").ok_or("redirect_uri is missing")?;
    if !provider.client.redirect_uris.contains(redirect_uri) {
        return Err(format!("the redirect_uri {redirect_uri} is not registered"));
    }
    Ok(())
}

/// # Errors
/// The OAuth error and its description.
fn check_request(
    provider: &Provider,
    query: &BTreeMap<String, String>,
) -> Result<(AuthorizationRequest, ResponseMode), (&'static str, String)> {
    let authorization = AuthorizationRequest::parse(query).map_err(|why| ("invalid_request", why))?;
    if authorization.challenge.is_none() {
        return Err(("invalid_request", "code_challenge is missing".to_owned()));
    }
    if !authorization.scope.split(' ').any(|scope| scope == "openid") {
        return Err(("invalid_scope", "the scope has no openid".to_owned()));
    }
    let response_mode = match query.get("response_mode").map(String::as_str) {
        None | Some("query") => ResponseMode::Query,
        Some("fragment") if !provider.has(OidcFault::QueryResponsesOnly) => ResponseMode::Fragment,
        Some(_) => return Err(("invalid_request", "unknown response_mode".to_owned())),
    };
    Ok((authorization, response_mode))
}

/// The page on which a person signs in or denies access.
fn show_page(provider: &mut Provider, request: PendingRequest) -> Response {
    let Ok(id) = random_hex(16) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let people: String = provider
        .people
        .iter()
        .map(|person| {
            let (subject, name) = (escape_html(&person.subject), escape_html(&person.name));
            let groups = escape_html(&person.claims["groups"].to_string());
            format!("<p><button name=\"subject\" value=\"{subject}\">{name}</button> {subject}, groups {groups}</p>")
        })
        .collect();
    let page = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>Example identity provider</title><h1>Sign in</h1>\
         <form method=\"post\" action=\"{}/authorize\"><input type=\"hidden\" name=\"request\" value=\"{id}\">{people}\
         <p><button name=\"deny\" value=\"1\">Deny</button></p></form>",
        provider.url
    );
    provider.pending.insert(id, request);
    Html(page).into_response()
}

/// `POST /authorize`: the form of the page.
pub(super) async fn submit_authorize_page(State(shared): State<SharedProvider>, form: String) -> Response {
    let form = parse_form(&form);
    let mut provider = shared.lock();
    let Some(request) = form.get("request").and_then(|id| provider.pending.remove(id)) else {
        return reject(&mut provider, "the form was submitted before");
    };
    if form.contains_key("deny") {
        return redirect_with_error(&provider, &request, "access_denied");
    }
    let Some(person) = form.get("subject").and_then(|subject| provider.find_person(subject)) else {
        return reject(&mut provider, "unknown person");
    };
    let authentication = Authentication { subject: person.subject.clone(), auth_time_s: now_unix_ms() / 1000 };
    let Ok(session) = random_hex(16) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    provider.browsers.insert(session.clone(), authentication.clone());
    let mut response = grant_code(&mut provider, request, authentication);
    if let Ok(value) = format!("{COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax").parse() {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

/// Redirects the browser with a code (RFC 6749 section 4.1.2, RFC 9207).
fn grant_code(provider: &mut Provider, request: PendingRequest, authentication: Authentication) -> Response {
    let Ok(code) = random_hex(24) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let PendingRequest { authorization, response_mode, nonce } = request;
    let grant = Grant { authentication, nonce, issued_at_s: now_unix_ms() / 1000 };
    provider.grants.insert(code.clone(), grant);
    provider.issuer.issued_secrets.push(code.clone());
    provider.issuer.issue_code(code.clone(), authorization.clone());
    let (another_state, another_issuer) = ("f".repeat(64), "https://elsewhere.test");
    let state = authorization.state.as_deref().unwrap_or_default();
    let state = if provider.has(OidcFault::AnotherState) { &another_state } else { state };
    let issuer = if provider.has(OidcFault::AnotherResponseIssuer) { another_issuer } else { &provider.url };
    redirect(&authorization.redirect_uri, response_mode, &[("code", &code), ("state", state), ("iss", issuer)])
}

fn redirect_with_error(provider: &Provider, request: &PendingRequest, error: &str) -> Response {
    let state = request.authorization.state.as_deref().unwrap_or_default();
    let parameters = [("error", error), ("state", state), ("iss", &provider.url)];
    redirect(&request.authorization.redirect_uri, request.response_mode, &parameters)
}

/// `GET /sign-out` (OpenID Connect RP-Initiated Logout 1.0).
pub(super) async fn end_session(
    State(shared): State<SharedProvider>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = parse_form(&query.unwrap_or_default());
    let mut provider = shared.lock();
    if let Some(cookie) = cookie(&headers) {
        provider.browsers.remove(&cookie);
    }
    match query.get("post_logout_redirect_uri") {
        None => html_page("Signed out", "You can close this window.").into_response(),
        Some(uri) if provider.client.post_logout_redirect_uris.contains(uri) => {
            let state: Vec<_> = query.get("state").map(|state| ("state", state.as_str())).into_iter().collect();
            redirect(uri, ResponseMode::Query, &state)
        }
        Some(uri) => {
            let why = format!("the post_logout_redirect_uri {uri} is not registered");
            reject(&mut provider, &why)
        }
    }
}

fn redirect(to: &str, mode: ResponseMode, parameters: &[(&str, &str)]) -> Response {
    match Url::parse_with_params(to, parameters) {
        Ok(mut url) => {
            let query = url.query().filter(|query| !query.is_empty()).map(str::to_owned);
            match mode {
                ResponseMode::Query => url.set_query(query.as_deref()),
                ResponseMode::Fragment => {
                    url.set_query(None);
                    url.set_fragment(query.as_deref());
                }
            }
            (StatusCode::SEE_OTHER, [(header::LOCATION, String::from(url))]).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, html_page("Sign-in failed", &error.to_string())).into_response(),
    }
}

fn reject(provider: &mut Provider, why: &str) -> Response {
    provider.issuer.rejections.push(why.to_owned());
    (StatusCode::BAD_REQUEST, html_page("Sign-in failed", why)).into_response()
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    cookies.split("; ").find_map(|cookie| cookie.strip_prefix(COOKIE)?.strip_prefix('=').map(str::to_owned))
}
