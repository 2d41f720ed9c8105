//! The sign-in page, the consent page, and the redirect back to the program.

use super::{AuthorizationRequest, DemoIdp, accounts::Account, pages, random_token};
use axum::{
    body::Bytes,
    extract::{Query, State},
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::sync::Arc;

/// Maximum length of `state` and `scope`, bytes.
const TEXT_BYTES_MAX: usize = 512;
const REDIRECT_BYTES_MAX: usize = 2_048;
const NAME_CHARS_MAX: usize = 100;
/// SHA-256 in base64url without padding (RFC 7636 §4.2).
const CHALLENGE_BYTES: usize = 43;

/// Query of `GET /authorize` (RFC 6749 §4.1.1, RFC 7636 §4.3).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuthorizeQuery {
    response_type: String,
    client_id: String,
    redirect_uri: String,
    state: String,
    scope: String,
    code_challenge: String,
    code_challenge_method: String,
}

/// Parses a form or query string. Repeated fields are an error.
pub(super) fn parse_form<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(body).ok()?;
    let uri = Uri::try_from(format!("/?{text}")).ok()?;
    Query::try_from_uri(&uri).ok().map(|Query(form)| form)
}

/// Why an authorization request is not valid.
#[derive(Debug)]
pub(super) enum InvalidRequest {
    /// A page says so: these errors must not redirect (RFC 6749 §4.1.2.1).
    Page(String),
    /// A redirect says so.
    Redirect { to: String, error: &'static str, description: &'static str, state: String },
}

/// The redirect of a program that cannot listen: the page shows the code, and the person pastes it.
const SHOW_CODE: &str = "urn:ietf:wg:oauth:2.0:oob";

/// Validates an authorization request.
pub(super) fn validate_query(query: &[u8]) -> Result<AuthorizationRequest, InvalidRequest> {
    let page = |text: &str| InvalidRequest::Page(text.to_owned());
    let query = parse_form::<AuthorizeQuery>(query).ok_or_else(|| page("The query of this address is malformed."))?;
    if !is_client_id(&query.client_id) {
        return Err(page("client_id must be 1 to 100 letters, digits, dots, dashes or underscores."));
    }
    if query.redirect_uri != SHOW_CODE
        && let Err(fault) = check_redirect(&query.redirect_uri)
    {
        return Err(InvalidRequest::Page(format!("redirect_uri {fault}")));
    }
    if let Err((error, description)) = check_query(&query) {
        return Err(match query.redirect_uri.as_str() {
            SHOW_CODE => page(description),
            _ => InvalidRequest::Redirect { to: query.redirect_uri, error, description, state: query.state },
        });
    }
    Ok(AuthorizationRequest {
        client: query.client_id,
        redirect: query.redirect_uri,
        state: query.state,
        challenge: query.code_challenge,
        scope: query.scope,
        name: None,
    })
}

/// `GET /authorize`: returns the sign-in page, an error page, or a redirect with an error.
pub(super) async fn get_authorize_page(State(idp): State<Arc<DemoIdp>>, uri: Uri) -> Response {
    let request = match validate_query(uri.query().unwrap_or_default().as_bytes()) {
        Ok(request) => request,
        Err(InvalidRequest::Page(text)) => return pages::render_error_page(StatusCode::BAD_REQUEST, &text),
        Err(InvalidRequest::Redirect { to, error, description, state }) => {
            return redirect(&to, &[("error", error), ("error_description", description), ("state", &state)]);
        }
    };
    let (client, key) = (request.client.clone(), random_token(""));
    if !idp.state().pages.insert(key.expose().to_owned(), request) {
        return busy();
    }
    pages::render_sign_in_page(key.expose(), &client, None)
}

#[derive(Debug, Deserialize)]
struct SignInForm {
    request: String,
    name: String,
}

/// `POST /authorize`: the form of the sign-in page; returns the consent page.
pub(super) async fn submit_sign_in_form(State(idp): State<Arc<DemoIdp>>, body: Bytes) -> Response {
    let Some(form) = parse_form::<SignInForm>(&body) else {
        return pages::render_error_page(StatusCode::BAD_REQUEST, "The form is malformed.");
    };
    let name = form.name.trim();
    if !is_name(name) {
        return pages::render_error_page(
            StatusCode::BAD_REQUEST,
            "A name has 1 to 100 printable characters. Go back and try again.",
        );
    }
    let mut state = idp.state();
    // The entry is not removed, so that the user can go back in the browser to correct the name.
    let Some(request) = state.pages.get(&form.request).cloned() else { return expired() };
    let client = request.client.clone();
    if Account::of(name) == Account::WrongPassword {
        return pages::render_sign_in_page(
            &form.request,
            &client,
            Some("The password is wrong, because this name asks for that. Try again with another name."),
        );
    }
    let key = random_token("");
    let request = AuthorizationRequest { name: Some(name.to_owned()), ..request };
    if !state.pages.insert(key.expose().to_owned(), request) {
        return busy();
    }
    drop(state);
    pages::render_consent_page(key.expose(), &client, name)
}

#[derive(Debug, Deserialize)]
struct ConsentForm {
    request: String,
    decision: Decision,
}

/// What the person decides.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Decision {
    Allow,
    Deny,
}

/// `POST /consent`: the form of the consent page; redirects back to the program.
pub(super) async fn submit_consent_form(State(idp): State<Arc<DemoIdp>>, body: Bytes) -> Response {
    let Some(form) = parse_form::<ConsentForm>(&body) else {
        return pages::render_error_page(StatusCode::BAD_REQUEST, "The form is malformed.");
    };
    let request = idp.state().pages.remove(&form.request);
    let Some((request, name)) = request.and_then(|request| request.name.clone().map(|name| (request, name))) else {
        return expired();
    };
    match decide_request(&idp, request, &name, form.decision) {
        Some(SignInEnd { redirect: Some(to), .. }) => found(&to),
        Some(SignInEnd { code: Some(code), .. }) => {
            pages::render_value_page("Your code", "Copy this code and paste it where the program asks for it.", &code)
        }
        Some(SignInEnd { .. }) => pages::render_value_page(
            "Not allowed",
            "To tell the program, paste this where it asks for a code.",
            ACCESS_DENIED,
        ),
        None => busy(),
    }
}

/// What is shown instead of a code to a person who declined.
const ACCESS_DENIED: &str = "access_denied";

/// The end of a sign-in on the pages.
#[derive(Debug)]
pub(super) struct SignInEnd {
    pub(super) is_allowed: bool,
    /// Where the browser goes.
    pub(super) redirect: Option<String>,
    /// The code to paste, if there is no redirect.
    pub(super) code: Option<String>,
}

/// Ends a sign-in; `None`: too many are in progress.
pub(super) fn decide_request(
    idp: &DemoIdp,
    request: AuthorizationRequest,
    name: &str,
    decision: Decision,
) -> Option<SignInEnd> {
    let is_allowed = matches!(decision, Decision::Allow) && Account::of(name) != Account::Denies;
    let (to, oauth_state) = (request.redirect.clone(), request.state.clone());
    let mut code = None;
    if is_allowed {
        let new = random_token("demo_code_").expose().to_owned();
        let request = AuthorizationRequest { name: Some(name.to_owned()), ..request };
        if !idp.state().codes.insert(new.clone(), request) {
            return None;
        }
        code = Some(new);
    }
    if to == SHOW_CODE {
        return Some(SignInEnd { is_allowed, redirect: None, code });
    }
    let result = code.as_deref().map_or(("error", ACCESS_DENIED), |code| ("code", code));
    Some(SignInEnd {
        is_allowed,
        redirect: Some(redirect_address(&to, &[result, ("state", &oauth_state)])),
        code: None,
    })
}

fn expired() -> Response {
    pages::render_error_page(
        StatusCode::BAD_REQUEST,
        "This page was already used or has expired. Start the sign-in again.",
    )
}

/// Whether the text is a name: 1 to 100 printable characters.
pub(super) fn is_name(name: &str) -> bool {
    let name = name.trim();
    !name.is_empty() && name.chars().count() <= NAME_CHARS_MAX && !name.chars().any(char::is_control)
}

fn busy() -> Response {
    pages::render_error_page(
        StatusCode::SERVICE_UNAVAILABLE,
        "Too many sign-ins are in progress. Try again in a few minutes.",
    )
}

pub(super) fn is_client_id(client: &str) -> bool {
    (1..=100).contains(&client.len())
        && client.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Accepts only http on a loopback address with a port (RFC 8252 §7.3). `[::1]` is not accepted, because a Content Security Policy
/// cannot name it.
fn check_redirect(redirect: &str) -> Result<(), &'static str> {
    if redirect.is_empty() {
        return Err("is missing.");
    }
    let plain = redirect.len() <= REDIRECT_BYTES_MAX && redirect.bytes().all(|b| b.is_ascii_graphic());
    let uri = redirect.parse::<Uri>().ok().filter(|_| plain && !redirect.contains('#'));
    let uri = uri.ok_or("is not a valid URL without a fragment.")?;
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let loopback = matches!(uri.host(), Some("127.0.0.1" | "localhost")) && !authority.contains('@');
    let port = uri.port_u16().is_some_and(|port| port != 0);
    if uri.scheme_str() == Some("http") && loopback && port {
        Ok(())
    } else {
        Err("must be http://127.0.0.1:PORT/… or http://localhost:PORT/…")
    }
}

/// Checks the other fields. The error is the OAuth error code and its description.
fn check_query(query: &AuthorizeQuery) -> Result<(), (&'static str, &'static str)> {
    if query.response_type != "code" {
        return Err(("unsupported_response_type", "response_type must be code"));
    }
    let require = |ok: bool, text: &'static str| if ok { Ok(()) } else { Err(("invalid_request", text)) };
    require((1..=TEXT_BYTES_MAX).contains(&query.state.len()), "state must have 1 to 512 bytes")?;
    require(query.scope.len() <= TEXT_BYTES_MAX, "scope is too long")?;
    require(query.code_challenge_method == "S256", "code_challenge_method must be S256")?;
    let challenge = query.code_challenge.as_bytes();
    let is_valid = challenge.len() == CHALLENGE_BYTES
        && challenge.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    require(is_valid, "code_challenge must be 43 characters of base64url")
}

/// A 302 redirect to the program, with the parameters added to the query of `redirect_uri`.
fn redirect(redirect_uri: &str, parameters: &[(&str, &str)]) -> Response {
    found(&redirect_address(redirect_uri, parameters))
}

fn redirect_address(redirect_uri: &str, parameters: &[(&str, &str)]) -> String {
    let mut address = redirect_uri.to_owned();
    for (name, value) in parameters {
        address.push(if address.contains('?') { '&' } else { '?' });
        address.push_str(name);
        address.push('=');
        address.push_str(&percent_encoded(value));
    }
    address
}

fn found(address: &str) -> Response {
    match HeaderValue::try_from(address) {
        Ok(address) => (StatusCode::FOUND, [(header::LOCATION, address)]).into_response(),
        Err(_) => pages::render_error_page(StatusCode::BAD_REQUEST, "redirect_uri is not a valid URL."),
    }
}

/// Percent-encodes everything except the unreserved characters (RFC 3986 §2.3).
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_redirect_uris_are_accepted() {
        for valid in ["http://127.0.0.1:4000/callback", "http://localhost:1455/auth/callback?x=1"] {
            assert_eq!(check_redirect(valid), Ok(()), "{valid}");
        }
        for invalid in [
            "",
            "https://127.0.0.1:4000/",
            "http://127.0.0.1/callback",
            "http://evil.example:80/",
            "http://127.0.0.1:80@evil.example:80/",
            "http://evil.example:80@127.0.0.1:80/",
            "http://127.0.0.1.evil.example:80/",
            "http://127.0.0.1:80/#x",
            "http://127.0.0.1:80/a b",
            "javascript:alert(1)",
            "//127.0.0.1:80/",
        ] {
            assert!(check_redirect(invalid).is_err(), "{invalid}");
        }
    }
}
