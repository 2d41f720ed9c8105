//! The consent of the person who signs in.

use crate::provider::StoragePolicy;
use serde::{Deserialize, Serialize};

#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// Whether a caller must agree before it can see or use the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum ConsentStatus {
    /// The caller acts for itself, or nothing is signed in.
    NotNeeded,
    /// A viewer that has not agreed yet.
    Required,
    /// A viewer that has agreed.
    Given,
}

/// `GET …/consent`: who asks for the credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ConsentView {
    /// Whether this caller must agree.
    pub status: ConsentStatus,
    /// The display name of the session's owner, for whom the credential is stored; `null`: a person who has no name of their own here.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub owner_name: Option<String>,
    /// The provider's name for people.
    pub provider_name: String,
    /// What happens with a captured credential.
    #[serde(rename = "policy")]
    pub storage_policy: StoragePolicy,
    /// The host to which the page redirects the user at the end.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub return_host: Option<String>,
    /// The request, for people: names owner, provider and return host.
    pub sentence: String,
}
