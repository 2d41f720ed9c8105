//! What a person does on the pages, for programs: an integrator's test decides without a browser, and makes API keys.

use super::{
    DemoIdp, Grant,
    authorize::{Decision, decide_request, is_name, parse_form, validate_query},
    device::decide_device,
    pages, random_token,
};
use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DecisionForm {
    /// The sign-in address that the tool shows; or `user_code`.
    #[serde(default)]
    url: String,
    #[serde(default)]
    user_code: String,
    name: String,
    decision: Decision,
}

/// `POST /decide`: what a person decides on the pages, in one call. `user_code` or `url`, `name`, and `decision` (`allow`, `deny`).
pub(super) async fn decide(State(idp): State<Arc<DemoIdp>>, body: Bytes) -> Response {
    let Some(form) = parse_form::<DecisionForm>(&body).filter(|form| is_name(&form.name)) else {
        return error("the form needs user_code or url, name, and decision (allow or deny)");
    };
    let name = form.name.trim();
    if !form.user_code.is_empty() {
        return match decide_device(&idp, &form.user_code, name, form.decision) {
            Ok(is_allowed) => Json(json!({ "allowed": is_allowed })).into_response(),
            Err(why) => error(why),
        };
    }
    let query = form.url.split_once('?').map_or("", |(_, query)| query).to_owned();
    match validate_query(query.as_bytes()) {
        Ok(request) => match decide_request(&idp, request, name, form.decision) {
            Some(end) => Json(json!({ "allowed": end.is_allowed, "redirect_to": end.redirect, "code": end.code }))
                .into_response(),
            None => error("too many sign-ins are in progress"),
        },
        Err(_) => error("url is not an address of a sign-in"),
    }
}

fn error(sentence: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_request", "error_description": sentence })))
        .into_response()
}

#[derive(Debug, Deserialize)]
struct KeyForm {
    name: String,
}

/// `GET /key`: the page that makes API keys.
pub(super) async fn get_key_page(_: Uri) -> Response {
    pages::render_key_form_page()
}

/// `POST /key`: shows a new API key.
pub(super) async fn submit_key_form(State(idp): State<Arc<DemoIdp>>, body: Bytes) -> Response {
    match new_key(&idp, &body) {
        Ok(key) => pages::render_value_page("Your API key", "Copy this key and paste it where it is asked for.", &key),
        Err(why) => pages::render_error_page(StatusCode::BAD_REQUEST, why),
    }
}

/// `POST /keys`: a new API key as JSON.
pub(super) async fn create_key(State(idp): State<Arc<DemoIdp>>, body: Bytes) -> Response {
    match new_key(&idp, &body) {
        Ok(key) => (StatusCode::CREATED, Json(json!({ "key": key }))).into_response(),
        Err(why) => error(why),
    }
}

fn new_key(idp: &DemoIdp, body: &[u8]) -> Result<String, &'static str> {
    let form = parse_form::<KeyForm>(body).filter(|form| is_name(&form.name));
    let name = form.ok_or("A name has 1 to 100 printable characters.")?.name.trim().to_owned();
    let key = random_token("demo_key_").expose().to_owned();
    let grant = Grant { client: "api-key".to_owned(), name, scope: String::new() };
    let is_stored = idp.state().access_tokens.insert(key.clone(), grant);
    if is_stored { Ok(key) } else { Err("Too many keys exist. Try again in a few minutes.") }
}
