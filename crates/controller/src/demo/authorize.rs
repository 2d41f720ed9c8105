//! The two pages a person goes through, and the way back to the program.

use super::{Asked, DemoIdp, pages};
use crate::random;
use axum::{
    body::Bytes,
    extract::{Query, State},
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::sync::Arc;

/// A state, a client's name and a scope are short; a redirect address is not much longer.
const TEXT_BYTES_MAX: usize = 512;
const REDIRECT_BYTES_MAX: usize = 2_048;
const NAME_CHARS_MAX: usize = 100;
/// SHA-256 in base64url without padding (RFC 7636 §4.2).
const CHALLENGE_BYTES: usize = 43;

/// `GET /authorize` (RFC 6749 §4.1.1, RFC 7636 §4.3).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Question {
    response_type: String,
    client_id: String,
    redirect_uri: String,
    state: String,
    scope: String,
    code_challenge: String,
    code_challenge_method: String,
}

/// Reads a form, or a query, whose fields each occur at most once.
pub(super) fn form<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(body).ok()?;
    let uri = Uri::try_from(format!("/?{text}")).ok()?;
    Query::try_from_uri(&uri).ok().map(|Query(form)| form)
}

/// `GET /authorize`: the first page, a page that says what is wrong, or the way back with an error.
pub(super) async fn ask(State(idp): State<Arc<DemoIdp>>, uri: Uri) -> Response {
    let Some(question) = form::<Question>(uri.query().unwrap_or_default().as_bytes()) else {
        return pages::error(StatusCode::BAD_REQUEST, "The address that led here is not well formed.");
    };
    // Until these two are known to be good there is nobody to send back to (RFC 6749 §4.1.2.1).
    if !is_client(&question.client_id) {
        return pages::error(
            StatusCode::BAD_REQUEST,
            "client_id must be 1 to 100 letters, digits, dots, dashes or underscores.",
        );
    }
    if let Err(what) = check_redirect(&question.redirect_uri) {
        return pages::error(StatusCode::BAD_REQUEST, &format!("redirect_uri {what}"));
    }
    if let Err((error, what)) = check(&question) {
        return back(
            &question.redirect_uri,
            &[("error", error), ("error_description", what), ("state", &question.state)],
        );
    }
    let asked = Asked {
        client: question.client_id,
        redirect: question.redirect_uri,
        state: question.state,
        challenge: question.code_challenge,
        scope: question.scope,
        name: None,
    };
    let (client, key) = (asked.client.clone(), random::token(""));
    if !idp.desk().pages.put(key.expose().to_owned(), asked) {
        return busy();
    }
    pages::sign_in(key.expose(), &client)
}

#[derive(Debug, Deserialize)]
struct Named {
    request: String,
    name: String,
}

/// `POST /authorize`: the first page's form; answers with the second page.
pub(super) async fn sign_in(State(idp): State<Arc<DemoIdp>>, body: Bytes) -> Response {
    let Some(form) = form::<Named>(&body) else {
        return pages::error(StatusCode::BAD_REQUEST, "The form is not well formed.");
    };
    let name = form.name.trim();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return pages::error(
            StatusCode::BAD_REQUEST,
            "A name has 1 to 100 printable characters. Go back and try again.",
        );
    }
    let mut desk = idp.desk();
    // Looked at, not taken: going back in the browser to correct the name is allowed.
    let Some(asked) = desk.pages.get(&form.request).cloned() else { return gone() };
    let client = asked.client.clone();
    let key = random::token("");
    if !desk.pages.put(key.expose().to_owned(), Asked { name: Some(name.to_owned()), ..asked }) {
        return busy();
    }
    drop(desk);
    pages::consent(key.expose(), &client, name)
}

#[derive(Debug, Deserialize)]
struct Decided {
    request: String,
    decision: Decision,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Decision {
    Allow,
    Deny,
}

/// `POST /consent`: the second page's form; 302 back to the program.
pub(super) async fn consent(State(idp): State<Arc<DemoIdp>>, body: Bytes) -> Response {
    let Some(form) = form::<Decided>(&body) else {
        return pages::error(StatusCode::BAD_REQUEST, "The form is not well formed.");
    };
    let mut desk = idp.desk();
    let asked = match desk.pages.take(&form.request) {
        Some(asked) if asked.name.is_some() => asked,
        Some(_) | None => return gone(),
    };
    let (redirect, state) = (asked.redirect.clone(), asked.state.clone());
    match form.decision {
        Decision::Deny => back(&redirect, &[("error", "access_denied"), ("state", &state)]),
        Decision::Allow => {
            let code = random::token("demo_code_");
            if !desk.codes.put(code.expose().to_owned(), asked) {
                return busy();
            }
            back(&redirect, &[("code", code.expose()), ("state", &state)])
        }
    }
}

fn gone() -> Response {
    pages::error(StatusCode::BAD_REQUEST, "This page was used before or is too old. Start the sign-in again.")
}

fn busy() -> Response {
    pages::error(StatusCode::SERVICE_UNAVAILABLE, "Too many people are signing in. Try again in a while.")
}

fn is_client(client: &str) -> bool {
    (1..=100).contains(&client.len())
        && client.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Loopback, http, with a port (RFC 8252 §7.3). `[::1]` is left out: a page's policy cannot name it.
fn check_redirect(redirect: &str) -> Result<(), &'static str> {
    if redirect.is_empty() {
        return Err("is missing.");
    }
    let plain = redirect.len() <= REDIRECT_BYTES_MAX && redirect.bytes().all(|b| b.is_ascii_graphic());
    let uri = redirect.parse::<Uri>().ok().filter(|_| plain && !redirect.contains('#'));
    let uri = uri.ok_or("is not a plain address without a fragment.")?;
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let loopback = matches!(uri.host(), Some("127.0.0.1" | "localhost")) && !authority.contains('@');
    let port = uri.port_u16().is_some_and(|port| port != 0);
    if uri.scheme_str() == Some("http") && loopback && port {
        Ok(())
    } else {
        Err("must be http://127.0.0.1:PORT/… or http://localhost:PORT/…")
    }
}

/// The rest of the question: error code and words for the program.
fn check(question: &Question) -> Result<(), (&'static str, &'static str)> {
    if question.response_type != "code" {
        return Err(("unsupported_response_type", "response_type must be code"));
    }
    let need = |good: bool, what: &'static str| if good { Ok(()) } else { Err(("invalid_request", what)) };
    need((1..=TEXT_BYTES_MAX).contains(&question.state.len()), "state must have 1 to 512 bytes")?;
    need(question.scope.len() <= TEXT_BYTES_MAX, "scope is too long")?;
    need(question.code_challenge_method == "S256", "code_challenge_method must be S256")?;
    let challenge = question.code_challenge.as_bytes();
    let good = challenge.len() == CHALLENGE_BYTES
        && challenge.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    need(good, "code_challenge must be 43 characters of base64url")
}

/// 302 to the program, the parameters added to its own query.
fn back(redirect: &str, parameters: &[(&str, &str)]) -> Response {
    let mut address = redirect.to_owned();
    for (name, value) in parameters {
        address.push(if address.contains('?') { '&' } else { '?' });
        address.push_str(name);
        address.push('=');
        address.push_str(&percent_encoded(value));
    }
    match HeaderValue::try_from(address) {
        Ok(address) => (StatusCode::FOUND, [(header::LOCATION, address)]).into_response(),
        Err(_) => pages::error(StatusCode::BAD_REQUEST, "redirect_uri is not an address."),
    }
}

/// Everything but the unreserved characters (RFC 3986 §2.3) as %XX.
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
    fn only_a_program_on_loopback_is_sent_back_to() {
        for good in ["http://127.0.0.1:4000/callback", "http://localhost:1455/auth/callback?x=1"] {
            assert_eq!(check_redirect(good), Ok(()), "{good}");
        }
        for bad in [
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
            assert!(check_redirect(bad).is_err(), "{bad}");
        }
    }
}
