//! OAuth: the issuer's metadata, the authorization request, the exchange of a code, the account that signed in.

use crate::{
    credential_file::Credentials,
    http_client::{self, HttpError, HttpRequestMethod, HttpResponse},
    now_unix_s, query,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::StatusCode;
use serde::Deserialize;
use sha2::{Digest, Sha256};

const CLIENT_ID: &str = "anteroom-demo";
const SCOPE: &str = "profile";
/// Where an issuer may keep its metadata: RFC 8414 §3, OpenID Connect Discovery 1.0 §4.
const METADATA_PATHS: [&str; 2] = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];

/// The issuer's metadata (RFC 8414 §2), as far as it is used here.
#[derive(Debug, Deserialize)]
pub(crate) struct Issuer {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    /// Where a person's own browser reaches the authorization endpoint.
    link_authorization_endpoint: Option<String>,
}

/// Why a request to the issuer failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OauthError {
    #[error("the identity provider does not answer")]
    Http(#[from] HttpError),
    #[error("{0} is not an identity provider: it has no metadata")]
    NoMetadata(String),
    #[error("the metadata of {0} is not well formed")]
    Metadata(String, #[source] serde_json::Error),
    #[error("the metadata of {asked} belongs to {found}")]
    OtherIssuer { asked: String, found: String },
    #[error("the identity provider rejected the code: {0}")]
    CodeRejected(String),
    #[error("the identity provider's answer to the code is not well formed")]
    Tokens(#[source] serde_json::Error),
    #[error("the identity provider does not offer device codes")]
    NoDeviceCodes,
    #[error("the key was rejected")]
    KeyRejected,
    #[error("no random numbers")]
    Random(#[from] getrandom::Error),
}

/// An authorization request, with the values that bind the response to it.
pub(crate) struct AuthorizationRequest {
    pub(crate) state: String,
    verifier: String,
    redirect_uri: String,
}

/// The redirect of a program that does not listen: the page shows the code.
pub(crate) const SHOW_CODE: &str = "urn:ietf:wg:oauth:2.0:oob";

impl AuthorizationRequest {
    /// A new request, whose response goes to `redirect_uri`.
    pub(crate) fn new(redirect_uri: String) -> Result<Self, OauthError> {
        Ok(Self { state: random(16)?, verifier: random(32)?, redirect_uri })
    }
}

/// `bytes` random bytes as base64url.
fn random(bytes: usize) -> Result<String, getrandom::Error> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer)?;
    Ok(URL_SAFE_NO_PAD.encode(buffer))
}

impl Issuer {
    /// Fetches the issuer's metadata.
    pub(crate) async fn discover(issuer: &str) -> Result<Self, OauthError> {
        let issuer = issuer.trim_end_matches('/');
        for path in METADATA_PATHS {
            let HttpResponse { status, body } =
                http_client::request(&format!("{issuer}{path}"), HttpRequestMethod::Get { bearer: None }).await?;
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

    /// The URL at which the user signs in with a browser of another computer, whose page shows the code.
    pub(crate) fn link_url(&self, request: &AuthorizationRequest) -> String {
        let endpoint = self.link_authorization_endpoint.as_deref().unwrap_or(&self.authorization_endpoint);
        Self::url_at(endpoint, request)
    }

    /// The URL at which the user signs in (RFC 6749 §4.1.1, RFC 7636 §4.3).
    pub(crate) fn authorization_url(&self, request: &AuthorizationRequest) -> String {
        Self::url_at(&self.authorization_endpoint, request)
    }

    fn url_at(endpoint: &str, request: &AuthorizationRequest) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(request.verifier.as_bytes()));
        let query = query::encode_query(&[
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("redirect_uri", &request.redirect_uri),
            ("scope", SCOPE),
            ("state", &request.state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let join = if endpoint.contains('?') { '&' } else { '?' };
        format!("{endpoint}{join}{query}")
    }

    /// Exchanges a code for tokens (RFC 6749 §4.1.3, RFC 7636 §4.5) and fetches the account's name.
    pub(crate) async fn exchange_code(
        &self,
        request: &AuthorizationRequest,
        code: &str,
    ) -> Result<NewCredentials, OauthError> {
        let form = query::encode_query(&[
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT_ID),
            ("code", code),
            ("redirect_uri", &request.redirect_uri),
            ("code_verifier", &request.verifier),
        ]);
        let HttpResponse { status, body } =
            http_client::request(&self.token_endpoint, HttpRequestMethod::PostForm(form)).await?;
        if status != StatusCode::OK {
            return Err(OauthError::CodeRejected(error_text(status, &body)));
        }
        self.credentials(&body).await
    }

    /// Asks for a device code (RFC 8628 §3.1).
    pub(crate) async fn authorize_device(&self) -> Result<DeviceCode, OauthError> {
        let endpoint = self.device_authorization_endpoint.as_ref().ok_or(OauthError::NoDeviceCodes)?;
        let form = query::encode_query(&[("client_id", CLIENT_ID), ("scope", SCOPE)]);
        let HttpResponse { status, body } = http_client::request(endpoint, HttpRequestMethod::PostForm(form)).await?;
        if status != StatusCode::OK {
            return Err(OauthError::CodeRejected(error_text(status, &body)));
        }
        serde_json::from_slice(&body).map_err(OauthError::Tokens)
    }

    /// Asks once whether the person has entered the code (RFC 8628 §3.4); `None`: not yet.
    pub(crate) async fn poll_device(&self, device: &DeviceCode) -> Result<Option<NewCredentials>, OauthError> {
        let form = query::encode_query(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", CLIENT_ID),
            ("device_code", &device.device_code),
        ]);
        let HttpResponse { status, body } =
            http_client::request(&self.token_endpoint, HttpRequestMethod::PostForm(form)).await?;
        match status {
            StatusCode::OK => self.credentials(&body).await.map(Some),
            _ if is_pending(&body) => Ok(None),
            _ => Err(OauthError::CodeRejected(error_text(status, &body))),
        }
    }

    /// The credential of an API key.
    pub(crate) async fn check_key(&self, key: String) -> Result<Credentials, OauthError> {
        let address = self.userinfo_endpoint.as_deref().ok_or(OauthError::KeyRejected)?;
        let found = http_client::request(address, HttpRequestMethod::Get { bearer: Some(&key) }).await?;
        if found.status != StatusCode::OK {
            return Err(OauthError::KeyRejected);
        }
        let account = self.account(&key).await?;
        let (token_type, refresh_token, project) = ("Bearer".to_owned(), None, None);
        Ok(Credentials {
            access_token: key,
            refresh_token,
            token_type,
            expires_at: u64::from(u32::MAX),
            account,
            project,
        })
    }

    async fn credentials(&self, body: &[u8]) -> Result<NewCredentials, OauthError> {
        let tokens: Tokens = serde_json::from_slice(body).map_err(OauthError::Tokens)?;
        let account = self.account(&tokens.access_token).await?;
        let credentials = Credentials {
            expires_at: now_unix_s().saturating_add(tokens.expires_in.unwrap_or(3600)),
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token,
            token_type: tokens.token_type,
            account,
            project: None,
        };
        Ok(NewCredentials { credentials, needs_project: tokens.project_required })
    }

    /// The account's name; a placeholder if the issuer does not return one.
    async fn account(&self, access_token: &str) -> Result<String, OauthError> {
        let unnamed = || "unknown".to_owned();
        let Some(address) = &self.userinfo_endpoint else { return Ok(unnamed()) };
        let HttpResponse { status, body } =
            http_client::request(address, HttpRequestMethod::Get { bearer: Some(access_token) }).await?;
        let info: UserInfo = match serde_json::from_slice(&body) {
            Ok(info) if status == StatusCode::OK => info,
            Ok(_) | Err(_) => return Ok(unnamed()),
        };
        Ok([info.email, info.name, info.sub]
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
    /// The account needs a project before it can be used.
    #[serde(default)]
    project_required: bool,
}

/// A new credential.
pub(crate) struct NewCredentials {
    pub(crate) credentials: Credentials,
    /// It is usable only with a project.
    pub(crate) needs_project: bool,
}

/// RFC 8628 §3.2.
#[derive(Deserialize)]
pub(crate) struct DeviceCode {
    device_code: String,
    pub(crate) user_code: String,
    pub(crate) verification_uri: String,
    pub(crate) expires_in: u64,
    pub(crate) interval: Option<u64>,
}

/// Whether the error response says that the program must ask again (RFC 8628 §3.5).
fn is_pending(body: &[u8]) -> bool {
    let error = serde_json::from_slice::<ErrorResponse>(body).map(|response| response.error);
    error.is_ok_and(|error| error == "authorization_pending" || error == "slow_down")
}

/// RFC 6749 §5.2.
#[derive(Deserialize)]
struct ErrorResponse {
    error: String,
    error_description: Option<String>,
}

/// OpenID Connect Core 1.0 §5.3.2.
#[derive(Deserialize)]
struct UserInfo {
    sub: Option<String>,
    name: Option<String>,
    email: Option<String>,
}

/// The text of an error response (RFC 6749 §5.2).
fn error_text(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<ErrorResponse>(body) {
        Ok(ErrorResponse { error, error_description: Some(description) }) => format!("{description} ({error})"),
        Ok(ErrorResponse { error, error_description: None }) => error,
        Err(_) => format!("HTTP {status}"),
    }
}
