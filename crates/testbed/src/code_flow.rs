//! The authorization code flow of a fake identity provider: the codes granted on its authorize page, each of which can be exchanged
//! once, by the client that requested it. Shared by the issuers that have an authorize page.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Url;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

/// Whether the authorize page asks the user for consent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConsentRequirement {
    /// The browser is redirected at once.
    #[default]
    Skipped,
    /// The browser shows a consent page, which is one button.
    Required,
}

/// The path that the consent page requests when a browser displays it.
pub(crate) const CONSENT_SHOWN_PATH: &str = "/consent-shown";

/// The parameters of an authorize URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthorizationRequest {
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) scope: String,
    /// `None`: this kind of URL has no state.
    pub(crate) state: Option<String>,
    /// The S256 challenge; `None`: the tool does not use PKCE.
    pub(crate) challenge: Option<String>,
}

/// The parameters of a code exchange at the token endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenRequest {
    pub(crate) code: String,
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) verifier: Option<String>,
    /// `None`: this provider's tools do not send it.
    pub(crate) state: Option<String>,
}

impl TokenRequest {
    /// The parameters that every provider's tools send, from the fields of a request.
    pub(crate) fn parse(field: impl Fn(&str) -> String) -> Self {
        let [code, client_id, redirect_uri] = ["code", "client_id", "redirect_uri"].map(field);
        Self { code, client_id, redirect_uri, verifier: None, state: None }
    }
}

/// The state of an issuer: granted codes, issued tokens, and a record of its requests.
#[derive(Debug, Default)]
pub(crate) struct IssuerState {
    pub(crate) consent_page: ConsentRequirement,
    /// How many times the consent page has reported that a browser displays it.
    pub(crate) consent_views: u32,
    authorization_codes: BTreeMap<String, AuthorizationRequest>,
    used_codes: BTreeSet<String>,
    pub(crate) access_tokens: BTreeSet<String>,
    pub(crate) refresh_tokens: BTreeSet<String>,
    pub(crate) issued_secrets: Vec<String>,
    pub(crate) requests: Vec<String>,
    pub(crate) unknown_requests: Vec<String>,
    pub(crate) rejections: Vec<String>,
}

impl AuthorizationRequest {
    /// Parses the query of an authorize URL.
    ///
    /// # Errors
    /// The reason why it is invalid.
    pub(crate) fn parse(query: &BTreeMap<String, String>) -> Result<Self, String> {
        let need = |key: &str| query.get(key).cloned().ok_or_else(|| format!("{key} is missing"));
        if need("response_type")? != "code" {
            return Err("response_type is not code".to_owned());
        }
        let challenge = query.get("code_challenge").cloned();
        if challenge.is_some() && query.get("code_challenge_method").is_none_or(|method| method != "S256") {
            return Err("code_challenge_method is not S256".to_owned());
        }
        if challenge.as_ref().is_some_and(|challenge| challenge.len() != 43) {
            return Err("code_challenge is no SHA-256".to_owned());
        }
        let state = need("state")?;
        Ok(Self {
            client_id: need("client_id")?,
            redirect_uri: need("redirect_uri")?,
            scope: need("scope")?,
            state: Some(state),
            challenge,
        })
    }

    /// Whether the browser is redirected to the same host.
    pub(crate) fn is_loopback(&self) -> bool {
        Url::parse(&self.redirect_uri)
            .is_ok_and(|url| url.scheme() == "http" && matches!(url.host_str(), Some("localhost" | "127.0.0.1")))
    }

    /// The URL that the browser is redirected to with the code.
    pub(crate) fn redirect_url(&self, code: &str, more: &[(&str, &str)]) -> Result<String, String> {
        let mut url = Url::parse(&self.redirect_uri).map_err(|error| format!("redirect_uri: {error}"))?;
        url.query_pairs_mut().append_pair("code", code);
        if let Some(state) = &self.state {
            url.query_pairs_mut().append_pair("state", state);
        }
        url.query_pairs_mut().extend_pairs(more);
        Ok(url.into())
    }
}

impl IssuerState {
    /// The consent page for an authorize URL with this query; `None`: consent is not required or has been given.
    pub(crate) fn consent_prompt(&self, query: &BTreeMap<String, String>) -> Option<axum::response::Html<String>> {
        let given = query.get("consent").is_some_and(|consent| consent == "given");
        (self.consent_page == ConsentRequirement::Required && !given).then(|| consent_page(query))
    }

    /// Records a code that was granted for this request.
    pub(crate) fn issue_code(&mut self, code: String, authorization: AuthorizationRequest) {
        self.authorization_codes.insert(code, authorization);
    }

    /// The number of codes granted.
    pub(crate) fn issued_code_count(&self) -> usize {
        self.authorization_codes.len()
    }

    /// Whether this code was granted.
    pub(crate) fn has_issued_code(&self, code: &str) -> bool {
        self.authorization_codes.contains_key(code)
    }

    /// Checks an exchange against the authorization request of its code, and marks the code as used.
    ///
    /// # Errors
    /// The reason for the rejection, which is also recorded.
    pub(crate) fn exchange_code(&mut self, request: &TokenRequest) -> Result<AuthorizationRequest, String> {
        let checked = self.check_and_use_code(request);
        self.rejections.extend(checked.as_ref().err().cloned());
        checked
    }

    /// As [`Self::exchange_code`], without recording the reason for a rejection.
    pub(crate) fn check_and_use_code(&mut self, request: &TokenRequest) -> Result<AuthorizationRequest, String> {
        let authorization = self.check(request)?;
        self.used_codes.insert(request.code.clone());
        Ok(authorization)
    }

    fn check(&self, request: &TokenRequest) -> Result<AuthorizationRequest, String> {
        let authorization = self.authorization_codes.get(&request.code).ok_or("unknown code")?;
        let check = |ok: bool, fault: &str| if ok { Ok(()) } else { Err(fault.to_owned()) };
        check(!self.used_codes.contains(&request.code), "code used twice")?;
        check(authorization.client_id == request.client_id, "another client_id")?;
        check(authorization.redirect_uri == request.redirect_uri, "another redirect_uri")?;
        if let (Some(expected), Some(actual)) = (&authorization.state, &request.state) {
            check(expected == actual, "another state")?;
        }
        match (&authorization.challenge, &request.verifier) {
            (Some(challenge), Some(verifier)) => {
                let proof = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
                check(&proof == challenge, "the verifier does not fit the challenge")?;
            }
            (Some(_), None) => return Err("the verifier is missing".to_owned()),
            (None, Some(_)) => return Err("a verifier without a challenge".to_owned()),
            (None, None) => {}
        }
        Ok(authorization.clone())
    }

    /// Records a pair of tokens as issued.
    pub(crate) fn record_tokens(&mut self, access: &str, refresh: &str) {
        self.access_tokens.insert(access.to_owned());
        self.refresh_tokens.insert(refresh.to_owned());
        self.issued_secrets.extend([access.to_owned(), refresh.to_owned()]);
    }

    /// Whether an `Authorization` header contains a token that this issuer has issued.
    pub(crate) fn has_issued_access_token(&self, authorization: &str) -> bool {
        authorization.strip_prefix("Bearer ").is_some_and(|token| self.access_tokens.contains(token))
    }
}

/// Random bytes as hex digits, two for each byte.
pub(crate) fn random_hex(bytes: usize) -> io::Result<String> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(hex::encode(random))
}

/// Parses a query or a form. Of several values for a key, the last is kept.
pub(crate) fn parse_form(encoded: &str) -> BTreeMap<String, String> {
    let url = Url::parse(&format!("https://form.invalid/?{encoded}"));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

/// Encodes a text for an HTML element or a quoted attribute.
pub(crate) fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

/// A page with a heading and a text that a user copies (`id="text"`).
pub(crate) fn html_page(heading: &str, text: &str) -> axum::response::Html<String> {
    axum::response::Html(format!(
        "<!doctype html><meta charset=utf-8><title>{0}</title><h1>{0}</h1><pre id=\"text\">{1}</pre>",
        escape_html(heading),
        escape_html(text)
    ))
}

/// A page with one button as large as the window. The button repeats the request with the same query and the user's consent; it works
/// once. A browser that displays the page requests [`CONSENT_SHOWN_PATH`]; one that shows that a program drives it says so in
/// the query and does not count: the pages of account services refuse such browsers.
fn consent_page(query: &BTreeMap<String, String>) -> axum::response::Html<String> {
    let kept: String = query
        .iter()
        .map(|(key, value)| {
            format!("<input type=hidden name=\"{}\" value=\"{}\">", escape_html(key), escape_html(value))
        })
        .collect();
    axum::response::Html(format!(
        "<!doctype html><meta charset=utf-8><title>Allow?</title>\
         <form onsubmit=\"this.querySelector('button').disabled=true\"><input type=hidden name=consent value=given>{kept}\
         <button style=\"position:fixed;inset:0;width:100%;font-size:8vmin\">Allow</button></form>\
         <script>const driven=navigator.webdriver!==false||/headless/i.test(navigator.userAgent)||navigator.languages.length===0;\
         onload=()=>requestAnimationFrame(()=>fetch(\"{CONSENT_SHOWN_PATH}\"+(driven?\"?driven\":\"\")))</script>"
    ))
}
