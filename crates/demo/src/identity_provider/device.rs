//! Device codes (RFC 8628): the endpoint for programs, and the pages on which a person enters the code.

use super::{
    DemoIdp, Grant,
    accounts::Account,
    authorize::{Decision, is_client_id, is_name, parse_form},
    pages, random_token,
    token::{OAuthError, error_response},
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

/// Letters of user codes: without vowels, so that no word appears (RFC 8628 §6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters of a user code.
const CODE_LETTERS: usize = 8;
/// Seconds between two polls of a program.
const INTERVAL_S: u64 = 1;

/// A device that waits for its person.
#[derive(Debug, Clone)]
pub(super) struct DeviceRequest {
    client: String,
    scope: String,
    outcome: Outcome,
}

#[derive(Debug, Clone)]
enum Outcome {
    Pending,
    Allowed { name: String },
    Denied(&'static str),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeviceAuthorizationRequest {
    client_id: String,
    scope: String,
}

/// `POST /device_authorization` (RFC 8628 §3.1).
pub(super) async fn authorize_device(State(idp): State<Arc<DemoIdp>>, body: Bytes) -> Response {
    let request = parse_form::<DeviceAuthorizationRequest>(&body).filter(|request| is_client_id(&request.client_id));
    let Some(request) = request else { return error_response("invalid_request", "client_id is missing or malformed") };
    let device_code = random_token("demo_device_").expose().to_owned();
    let user_code = random_user_code();
    let device = DeviceRequest { client: request.client_id, scope: request.scope, outcome: Outcome::Pending };
    let is_stored = {
        let mut state = idp.state();
        state.devices.insert(device_code.clone(), device)
            && state.user_codes.insert(user_code.clone(), device_code.clone())
    };
    if !is_stored {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": "temporarily_unavailable" }))).into_response();
    }
    let page = format!("{}/device", idp.public_url);
    Json(json!({
        "device_code": device_code,
        "user_code": user_code,
        "verification_uri": page,
        "verification_uri_complete": format!("{page}?user_code={user_code}"),
        "expires_in": idp.settings.device_s_max,
        "interval": INTERVAL_S,
    }))
    .into_response()
}

/// `BCDF-GHJK`.
///
/// # Panics
/// When the operating system provides no random bytes.
#[allow(clippy::expect_used, reason = "without random bytes no code is secret, so the process must stop")]
fn random_user_code() -> String {
    let mut bytes = [0; CODE_LETTERS];
    getrandom::fill(&mut bytes).expect("the operating system provides random bytes");
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    let (first, second) = bytes.split_at(CODE_LETTERS / 2);
    first.iter().map(letter).chain(['-']).chain(second.iter().map(letter)).collect()
}

/// `POST /token` with a device code (RFC 8628 §3.4).
pub(super) fn redeem_device_code(idp: &DemoIdp, device_code: &str, client: &str) -> Result<Grant, OAuthError> {
    let mut state = idp.state();
    let device = state.devices.get(device_code).filter(|device| device.client == client).cloned();
    let device = device.ok_or(("expired_token", "the device code has expired or is unknown"))?;
    match device.outcome {
        Outcome::Pending => Err(("authorization_pending", "the code was not entered yet")),
        Outcome::Denied(why) => {
            state.devices.remove(device_code);
            Err(("access_denied", why))
        }
        Outcome::Allowed { name } => {
            state.devices.remove(device_code);
            Ok(Grant { client: device.client, name, scope: device.scope })
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeviceForm {
    user_code: String,
    name: String,
    decision: Option<Decision>,
}

/// `GET /device`: the page on which a person enters the code.
pub(super) async fn get_device_page(uri: Uri) -> Response {
    let form = parse_form::<DeviceForm>(uri.query().unwrap_or_default().as_bytes()).unwrap_or_default();
    pages::render_device_page(&form.user_code, None)
}

/// `POST /device`: the code and the name; then the decision.
pub(super) async fn submit_device_form(State(idp): State<Arc<DemoIdp>>, body: Bytes) -> Response {
    let Some(form) = parse_form::<DeviceForm>(&body) else {
        return pages::render_error_page(StatusCode::BAD_REQUEST, "The form is malformed.");
    };
    let code = normalized(&form.user_code);
    let client = {
        let state = idp.state();
        let device = state.user_codes.get(&code).and_then(|device| state.devices.get(device));
        device.map(|device| device.client.clone())
    };
    let Some(client) = client else {
        return pages::render_device_page(&form.user_code, Some("This code is not valid or has expired. Check it."));
    };
    if !is_name(&form.name) {
        return pages::render_device_page(&form.user_code, Some("A name has 1 to 100 printable characters."));
    }
    if Account::of(&form.name) == Account::WrongPassword {
        return pages::render_device_page(
            &form.user_code,
            Some("The password is wrong, because this name asks for that. Try again with another name."),
        );
    }
    let Some(decision) = form.decision else {
        return pages::render_device_consent_page(&code, &client, form.name.trim());
    };
    match decide_device(&idp, &code, form.name.trim(), decision) {
        Ok(true) => pages::render_text_page("You are done", "You can close this page and go back to the program."),
        Ok(false) => {
            pages::render_text_page("Not allowed", "The program does not get access. You can close this page.")
        }
        Err(why) => pages::render_error_page(StatusCode::BAD_REQUEST, why),
    }
}

/// Decides on a user code. Whether the program gets access; an error: the code is not valid.
pub(super) fn decide_device(
    idp: &DemoIdp,
    user_code: &str,
    name: &str,
    decision: Decision,
) -> Result<bool, &'static str> {
    let mut state = idp.state();
    let device_code = state.user_codes.remove(&normalized(user_code));
    let device_code = device_code.ok_or("This code is not valid or has expired.")?;
    let outcome = match (Account::of(name), decision) {
        (Account::Workspace, _) => Outcome::Denied("this workspace forbids device codes"),
        (Account::Denies, _) => Outcome::Denied("the account's administrator denies access"),
        (_, Decision::Deny) => Outcome::Denied("the person denied access"),
        (_, Decision::Allow) => Outcome::Allowed { name: name.to_owned() },
    };
    let is_allowed = matches!(outcome, Outcome::Allowed { .. });
    let device = state.devices.get_mut(&device_code).ok_or("This code has expired.")?;
    device.outcome = outcome;
    Ok(is_allowed)
}

/// The code in the form in which it is stored: people type small letters and leave the hyphen out.
fn normalized(code: &str) -> String {
    let letters: String = code.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_uppercase()).collect();
    match letters.split_at_checked(CODE_LETTERS / 2) {
        Some((first, second)) => format!("{first}-{second}"),
        None => letters,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_codes_are_read_as_people_type_them() {
        let code = random_user_code();
        assert_eq!(code.len(), 9);
        assert_eq!(normalized(&code.to_lowercase().replace('-', " ")), code);
        assert_eq!(normalized("x"), "X");
    }
}
