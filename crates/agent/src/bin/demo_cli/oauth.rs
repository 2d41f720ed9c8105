//! The protocol: metadata, the question to the browser, the exchange of a code, who signed in.

use crate::{
    credentials::Credentials,
    http_client::{self, Answer, HttpError, Method},
    now_unix_s, query,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::StatusCode;
use serde::Deserialize;
use sha2::{Digest, Sha256};

const CLIENT: &str = "anteroom-demo";
const SCOPE: &str = "profile";
/// Where an issuer may keep its metadata: RFC 8414 §3, OpenID Connect Discovery 1.0 §4.
const METADATA: [&str; 2] = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];

/// What we use of an issuer's metadata (RFC 8414 §2).
#[derive(Debug, Deserialize)]
pub(crate) struct Issuer {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: Option<String>,
}

/// Why the issuer is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OauthError {
    #[error("the identity provider gives no answer")]
    Http(#[from] HttpError),
    #[error("{0} is not an identity provider: it has no metadata")]
    NoMetadata(String),
    #[error("the metadata of {0} is not well formed")]
    Metadata(String, #[source] serde_json::Error),
    #[error("the metadata of {asked} belongs to {found}")]
    OtherIssuer { asked: String, found: String },
    #[error("the identity provider refused the code: {0}")]
    Refused(String),
    #[error("the identity provider's answer to the code is not well formed")]
    Tokens(#[source] serde_json::Error),
    #[error("no random numbers")]
    Random(#[from] getrandom::Error),
}

/// What binds an answer to the question that this process asked.
pub(crate) struct Question {
    pub(crate) state: String,
    verifier: String,
    redirect: String,
}

impl Question {
    /// A new one, to be answered at `redirect`.
    pub(crate) fn new(redirect: String) -> Result<Self, OauthError> {
        Ok(Self { state: random(16)?, verifier: random(32)?, redirect })
    }
}

/// `bytes` random bytes as base64url.
fn random(bytes: usize) -> Result<String, getrandom::Error> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer)?;
    Ok(URL_SAFE_NO_PAD.encode(buffer))
}

impl Issuer {
    /// Asks the issuer what it is.
    pub(crate) async fn discover(issuer: &str) -> Result<Self, OauthError> {
        let issuer = issuer.trim_end_matches('/');
        for path in METADATA {
            let Answer { status, body } =
                http_client::request(&format!("{issuer}{path}"), Method::Get { bearer: None }).await?;
            if status != StatusCode::OK {
                continue;
            }
            let found: Self =
                serde_json::from_slice(&body).map_err(|error| OauthError::Metadata(issuer.to_owned(), error))?;
            // RFC 8414 §3.3: the issuer in the metadata must be the one that was asked.
            if found.issuer.trim_end_matches('/') != issuer {
                return Err(OauthError::OtherIssuer { asked: issuer.to_owned(), found: found.issuer });
            }
            return Ok(found);
        }
        Err(OauthError::NoMetadata(issuer.to_owned()))
    }

    /// The address at which the person signs in (RFC 6749 §4.1.1, RFC 7636 §4.3).
    pub(crate) fn authorize_address(&self, question: &Question) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(question.verifier.as_bytes()));
        let query = query::encode(&[
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("redirect_uri", &question.redirect),
            ("scope", SCOPE),
            ("state", &question.state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let join = if self.authorization_endpoint.contains('?') { '&' } else { '?' };
        format!("{}{join}{query}", self.authorization_endpoint)
    }

    /// Exchanges a code for tokens (RFC 6749 §4.1.3, RFC 7636 §4.5) and asks whose they are.
    pub(crate) async fn exchange(&self, question: &Question, code: &str) -> Result<Credentials, OauthError> {
        let form = query::encode(&[
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT),
            ("code", code),
            ("redirect_uri", &question.redirect),
            ("code_verifier", &question.verifier),
        ]);
        let Answer { status, body } = http_client::request(&self.token_endpoint, Method::Form(form)).await?;
        if status != StatusCode::OK {
            return Err(OauthError::Refused(refusal(status, &body)));
        }
        let tokens: Tokens = serde_json::from_slice(&body).map_err(OauthError::Tokens)?;
        let account = self.account(&tokens.access_token).await?;
        Ok(Credentials {
            expires_at: now_unix_s().saturating_add(tokens.expires_in.unwrap_or(3600)),
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token,
            token_type: tokens.token_type,
            account,
        })
    }

    /// Who signed in, as the issuer names them; an issuer that does not say is no failure.
    async fn account(&self, access_token: &str) -> Result<String, OauthError> {
        let unnamed = || "somebody".to_owned();
        let Some(address) = &self.userinfo_endpoint else { return Ok(unnamed()) };
        let Answer { status, body } = http_client::request(address, Method::Get { bearer: Some(access_token) }).await?;
        let person: Person = match serde_json::from_slice(&body) {
            Ok(person) if status == StatusCode::OK => person,
            Ok(_) | Err(_) => return Ok(unnamed()),
        };
        Ok([person.email, person.name, person.sub]
            .into_iter()
            .flatten()
            .find(|name| !name.is_empty())
            .unwrap_or_else(unnamed))
    }
}

/// RFC 6749 §5.1.
#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

/// OpenID Connect Core 1.0 §5.3.2.
#[derive(Deserialize)]
struct Person {
    sub: Option<String>,
    name: Option<String>,
    email: Option<String>,
}

/// RFC 6749 §5.2, in words.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        error_description: Option<String>,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { error, error_description: Some(description) }) => format!("{description} ({error})"),
        Ok(Refusal { error, error_description: None }) => error,
        Err(_) => format!("HTTP {status}"),
    }
}
