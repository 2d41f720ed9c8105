//! Sign-in of browsers: with a link, or with an OpenID provider.

use crate::SessionId;
use serde::{Deserialize, Serialize};

#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// `POST /api/login`: exchanges a single-use login token for a cookie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct LoginRequest {
    /// The login token, from the link's fragment.
    pub login_token: String,
    /// The key of the browser: 64 hex digits that it keeps and sends as `X-Anteroom` with each request. The cookie is accepted only
    /// with it.
    pub browser_key: String,
    /// Whether the page is in a frame of another site. Its cookie is then partitioned: the browser sends it only from frames of that
    /// site. Only for the links of sessions, and only if the server's settings permit such frames.
    #[serde(default)]
    pub embedded: bool,
}

/// `GET /api/me`: the authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct CurrentCaller {
    /// `operator`, `auditor`, `backend`, `user`, `viewer` or `helper`.
    pub role: String,
    /// Its name, for people.
    pub name: String,
    /// The session that a viewer may see.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub session: Option<SessionId>,
    /// How this browser signed in; `null`: the caller is not a browser.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub sign_in: Option<SignInKind>,
    /// The addresses of this server; only for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<ServerAddresses>,
}

/// Where a server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ServerAddresses {
    /// Where it listens, `ADDRESS:PORT`.
    pub listen: String,
    /// The base of its pages' addresses.
    pub pages: String,
}

/// How a browser signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SignInKind {
    /// With a link.
    Link,
    /// With the OpenID provider.
    Oidc,
}

/// `GET /api/oidc`: the OpenID provider with which people sign in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct OidcProvider {
    /// The issuer identifier; `null`: none is configured.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub issuer: Option<String>,
    /// Where people sign out of the provider; `null`: not known, or the provider has no such address.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub end_session_url: Option<String>,
}

/// `POST /api/oidc/sign-in` and `POST /api/oidc/confirm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct OidcRequest {
    /// The key of the browser, as in [`LoginRequest`].
    pub browser_key: String,
}

/// A sign-in with the OpenID provider that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct OidcStart {
    /// The address of the provider to which the browser goes.
    pub authorization_url: String,
}

/// `POST /api/oidc/callback`: what the provider added to the redirect URI. It contains either `code` or `error`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct OidcAnswer {
    /// The key of the browser that began the sign-in.
    pub browser_key: String,
    /// The value of the authorization request.
    pub state: String,
    /// The authorization code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The code of an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The provider's description of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_description: Option<String>,
    /// The issuer, if the provider names it (RFC 9207).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
}

/// What a finished sign-in or confirmation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct OidcOutcome {
    /// What was done.
    pub outcome: OidcResult,
}

/// What a finished sign-in or confirmation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OidcResult {
    /// The browser is signed in.
    SignedIn,
    /// The person is confirmed.
    Confirmed,
}
