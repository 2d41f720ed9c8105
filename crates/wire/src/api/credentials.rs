//! Stored credentials and their leases.

use crate::{
    CredentialId, ProviderId, SessionId,
    provider::{LogoutScope, StoragePolicy},
};
use serde::{Deserialize, Serialize};
#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// A credential without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct CredentialMeta {
    /// Its id.
    pub id: CredentialId,
    /// The provider.
    pub provider: ProviderId,
    /// The caller's id for the user.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub user_id: Option<String>,
    /// The account at the provider, as the credential's file names it (an e-mail address or a user name); `null`: the file names none.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub account: Option<String>,
    /// The session that delivered it.
    pub session: SessionId,
    /// When it was stored.
    pub stored_at: String,
    /// Its files.
    pub files: Vec<CredentialFile>,
    /// What happens with the credential.
    #[serde(rename = "policy")]
    pub storage_policy: StoragePolicy,
    /// Until when it can be delivered (`deliver_once`).
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub deliver_until: Option<String>,
    /// Whether it can be used.
    pub health: CredentialHealth,
    /// Why it has this health, one sentence.
    pub health_detail: String,
    /// When the tool last checked it; the sign-in counts.
    pub checked_at: String,
    /// When it expires for good, from its content.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub expires_at: Option<String>,
    /// The tool may replace its tokens when it uses the credential: its uses take turns, and the provider may reject a leased copy after
    /// a use, or the stored credential after the copy was used.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub refreshable: bool,
    /// What signing out at the provider ends.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub sign_out_scope: LogoutScope,
    /// What signing out does besides ending this sign-in, or that the tool has no command for it, one sentence; `null`: it only ends it.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub sign_out_note: Option<String>,
}

/// Whether a credential can be used, as far as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum CredentialHealth {
    /// The tool accepted it at the last check.
    Valid,
    /// It expires soon.
    Expiring,
    /// The tool rejected it, or it has expired: sign in again.
    NeedsAuth,
}

impl CredentialHealth {
    /// All values.
    pub const ALL: &'static [Self] = &[Self::Valid, Self::Expiring, Self::NeedsAuth];

    /// The text in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expiring => "expiring",
            Self::NeedsAuth => "needs_auth",
        }
    }
}

/// One file of a credential, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct CredentialFile {
    /// Path below the home directory.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Permission bits.
    pub mode: u32,
}

/// `GET /api/credentials` and `GET …/credentials`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct CredentialList {
    /// Newest first.
    pub credentials: Vec<CredentialMeta>,
    /// The value of `cursor` for the next page; `null`: there are no more credentials.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub next_cursor: Option<CredentialId>,
    /// How many credentials all pages have together; `null` without `count=true`.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub total: Option<u64>,
}

/// `POST /api/credentials/{id}/lease`: the files in plaintext, for their owner; the lease is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Lease {
    /// The credential.
    pub credential: CredentialMeta,
    /// The files, byte for byte.
    pub files: Vec<crate::agent::DeliveredFile>,
    /// What a use of this copy does to the stored credential, one sentence; `null`: nothing, or it is no longer stored.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub notice: Option<String>,
}
