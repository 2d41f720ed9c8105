//! The authorization code flow as an identity provider sees it: who was let in at the authorize page, and that a code is
//! exchanged once, by whoever asked for it. Shared by the stand-ins that have such a page.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Url;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

/// What the authorize page does with the person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consent {
    /// Takes it for given: the browser is sent on at once.
    #[default]
    Given,
    /// Asks, by a page that is one button.
    Asked,
}

/// Where the page that asks tells that it is shown.
pub(crate) const SHOWN: &str = "/consent-shown";

/// What the tool asked for at the authorize page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) scope: String,
    /// `None`: an address that does not carry it.
    pub(crate) state: Option<String>,
    /// The S256 challenge; `None`: the tool uses no proof key.
    pub(crate) challenge: Option<String>,
}

/// What the tool brings to the token endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Brought {
    pub(crate) code: String,
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) verifier: Option<String>,
    /// `None`: this provider's tools do not repeat it.
    pub(crate) state: Option<String>,
}

/// The memory of an issuer.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) consent: Consent,
    /// How often the page that asks was shown, by its own word.
    pub(crate) shown: u32,
    granted: BTreeMap<String, Asked>,
    used: BTreeSet<String>,
    pub(crate) access: BTreeSet<String>,
    pub(crate) refresh: BTreeSet<String>,
    pub(crate) canaries: Vec<String>,
    pub(crate) calls: Vec<String>,
    pub(crate) strangers: Vec<String>,
    pub(crate) refusals: Vec<String>,
}

impl Asked {
    /// Reads the query of an authorize address; says what is wrong with it.
    pub(crate) fn read(query: &BTreeMap<String, String>) -> Result<Self, String> {
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

    /// Whether the browser is sent back to the machine where the tool runs.
    pub(crate) fn is_loopback(&self) -> bool {
        Url::parse(&self.redirect_uri)
            .is_ok_and(|url| url.scheme() == "http" && matches!(url.host_str(), Some("localhost" | "127.0.0.1")))
    }

    /// Where the browser goes with the code.
    pub(crate) fn back(&self, code: &str, more: &[(&str, &str)]) -> Result<String, String> {
        let mut url = Url::parse(&self.redirect_uri).map_err(|error| format!("redirect_uri: {error}"))?;
        url.query_pairs_mut().append_pair("code", code);
        if let Some(state) = &self.state {
            url.query_pairs_mut().append_pair("state", state);
        }
        url.query_pairs_mut().extend_pairs(more);
        Ok(url.into())
    }
}

impl Desk {
    /// The page that asks the person, unless they need not be asked or have answered; for an address with this query.
    pub(crate) fn asks(&self, query: &BTreeMap<String, String>) -> Option<axum::response::Html<String>> {
        let answered = query.get("consent").is_some_and(|answer| answer == "given");
        (self.consent == Consent::Asked && !answered).then(|| consent_page(query))
    }

    /// The person allows it: a code, good once.
    pub(crate) fn grant(&mut self, code: String, asked: Asked) {
        self.granted.insert(code, asked);
    }

    /// How many codes were handed out.
    pub(crate) fn granted_count(&self) -> usize {
        self.granted.len()
    }

    /// Whether a code was handed out.
    pub(crate) fn knows(&self, code: &str) -> bool {
        self.granted.contains_key(code)
    }

    /// Checks what was brought against what was asked; says what does not fit, and remembers that it said so.
    pub(crate) fn exchange(&mut self, brought: &Brought) -> Result<Asked, String> {
        let checked = self.check(brought);
        match &checked {
            Ok(_) => {
                self.used.insert(brought.code.clone());
            }
            Err(why) => self.refusals.push(why.clone()),
        }
        checked
    }

    fn check(&self, brought: &Brought) -> Result<Asked, String> {
        let asked = self.granted.get(&brought.code).ok_or("unknown code")?;
        let fits = |good: bool, what: &str| if good { Ok(()) } else { Err(what.to_owned()) };
        fits(!self.used.contains(&brought.code), "code used twice")?;
        fits(asked.client_id == brought.client_id, "another client_id")?;
        fits(asked.redirect_uri == brought.redirect_uri, "another redirect_uri")?;
        if let (Some(asked), Some(brought)) = (&asked.state, &brought.state) {
            fits(asked == brought, "another state")?;
        }
        match (&asked.challenge, &brought.verifier) {
            (Some(challenge), Some(verifier)) => {
                let proof = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
                fits(&proof == challenge, "the verifier does not fit the challenge")?;
            }
            (Some(_), None) => return Err("the verifier is missing".to_owned()),
            (None, Some(_)) => return Err("a verifier without a challenge".to_owned()),
            (None, None) => {}
        }
        Ok(asked.clone())
    }

    /// Remembers a pair of tokens as issued.
    pub(crate) fn issued(&mut self, access: &str, refresh: &str) {
        self.access.insert(access.to_owned());
        self.refresh.insert(refresh.to_owned());
        self.canaries.extend([access.to_owned(), refresh.to_owned()]);
    }

    /// Whether an `Authorization` header holds a token of ours.
    pub(crate) fn is_ours(&self, authorization: &str) -> bool {
        authorization.strip_prefix("Bearer ").is_some_and(|token| self.access.contains(token))
    }
}

/// Random bytes as hex, two digits each.
pub(crate) fn chance(bytes: usize) -> io::Result<String> {
    let mut chance = vec![0; bytes];
    getrandom::fill(&mut chance).map_err(io::Error::other)?;
    Ok(chance.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A query or a form as keys and values; the last of several counts.
pub(crate) fn pairs(encoded: &str) -> BTreeMap<String, String> {
    let url = Url::parse(&format!("https://form.invalid/?{encoded}"));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

/// A page with one heading and one text that a person copies (`id="text"`).
pub(crate) fn page(heading: &str, text: &str) -> axum::response::Html<String> {
    let safe = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    axum::response::Html(format!(
        "<!doctype html><meta charset=utf-8><title>{0}</title><h1>{0}</h1><pre id=\"text\">{1}</pre>",
        safe(heading),
        safe(text)
    ))
}

/// One button as large as the window: it sends the same query again, with the person's consent, once however often it is clicked. A page
/// that is shown says so.
fn consent_page(query: &BTreeMap<String, String>) -> axum::response::Html<String> {
    let safe = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    let kept: String = query
        .iter()
        .map(|(key, value)| format!("<input type=hidden name=\"{}\" value=\"{}\">", safe(key), safe(value)))
        .collect();
    axum::response::Html(format!(
        "<!doctype html><meta charset=utf-8><title>Allow?</title>\
         <form onsubmit=\"this.querySelector('button').disabled=true\"><input type=hidden name=consent value=given>{kept}\
         <button style=\"position:fixed;inset:0;width:100%;font-size:8vmin\">Allow</button></form>\
         <script>onload=()=>requestAnimationFrame(()=>fetch(\"{SHOWN}\"))</script>"
    ))
}
