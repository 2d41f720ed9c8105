//! `/api/tokens`: API tokens, for operators.

use crate::{CallerId, Scope};
use serde::{Deserialize, Serialize};
#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// The roles that an API token can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// Operates the server and may do everything.
    Operator,
    /// Reads the audit log, the tokens and the metrics.
    Auditor,
    /// Starts sessions and owns their credentials.
    #[default]
    Backend,
}

/// `POST /api/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct CreateTokenRequest {
    /// A name, 1 to 100 characters, each word in one alphabet. No valid token of the role has it, and none of any role looks like it.
    pub name: String,
    /// The role. Default: `backend`.
    #[serde(default)]
    pub role: TokenRole,
    /// The scopes. Default: all of the role.
    #[serde(default)]
    pub scopes: Option<Vec<Scope>>,
    /// The lifetime, seconds. Default: until the token is revoked.
    #[serde(default)]
    pub expires_in_s: Option<u64>,
}

/// `POST /api/tokens/{id}/rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct RotateTokenRequest {
    /// How long the old token, and the links and cookies that were made with it, remain valid, seconds.
    pub overlap_s: u64,
}

/// `POST /api/tokens/{id}/revoke`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct RevokeTokenRequest {
    /// Also cancel the active sessions of the token's account.
    #[serde(default)]
    pub end_sessions: bool,
}

/// What a revocation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct RevokedToken {
    /// The number of revoked callers: the token, and cookies from its links.
    pub callers: u64,
    /// The number of sessions that were cancelled.
    pub sessions: u64,
}

/// A token that was created. Its secret is returned once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct CreatedToken {
    /// The secret, for `Authorization: Bearer`.
    pub secret: String,
    /// The token.
    pub token: TokenView,
}

/// A token, or another caller that is not bound to one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct TokenView {
    /// The id.
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub id: CallerId,
    /// `api_token`, `browser_cookie` or `local_socket`.
    pub kind: String,
    /// `operator`, `auditor`, `backend` or `user`.
    pub role: String,
    /// The name.
    pub name: String,
    /// The scopes.
    pub scopes: Vec<Scope>,
    /// When it was created (RFC 3339).
    pub created_at: String,
    /// When it expires (RFC 3339).
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub expires_at: Option<String>,
    /// When it was last used, to the minute (RFC 3339).
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub last_used_at: Option<String>,
    /// When it was revoked (RFC 3339).
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub revoked_at: Option<String>,
}

/// `GET /api/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct TokenList {
    /// Newest first.
    pub tokens: Vec<TokenView>,
    /// The value of `cursor` for the next page; `null`: there are no more tokens.
    #[cfg_attr(feature = "utoipa", schema(required, value_type = Option<String>))]
    pub next_cursor: Option<CallerId>,
    /// How many tokens all pages have together; `null` without `count=true`.
    #[cfg_attr(feature = "utoipa", schema(required))]
    #[serde(default)]
    pub total: Option<u64>,
}
