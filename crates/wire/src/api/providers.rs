//! The tools that are offered.

use super::MethodView;
use crate::{
    ProviderId,
    provider::{Lane, StoragePolicy},
};
use serde::{Deserialize, Serialize};
#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// `GET /api/providers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ProviderList {
    /// In the order they are offered.
    pub providers: Vec<ProviderView>,
}

/// A tool to choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ProviderView {
    /// Its id.
    pub id: ProviderId,
    /// The name people know.
    pub name: String,
    /// Version in the image; `null` when the image lacks it.
    pub version: Option<String>,
    /// The ways of signing in.
    pub lanes: Vec<Lane>,
    /// What happens with a captured credential.
    pub policy: StoragePolicy,
    /// The policy in a sentence, for people.
    pub policy_sentence: String,
    /// All methods, the preferred one first.
    pub methods: Vec<MethodView>,
    /// Whether a session can be started: the image has the tool and the policy does not forbid it.
    pub available: bool,
    /// The release that the descriptor's rules were taken from; the image may have another.
    #[serde(default)]
    pub tested_version: Option<String>,
    /// Why no session can be started, for people; `null`: one can.
    #[serde(default)]
    pub unavailable: Option<String>,
    /// The tool can be asked whether a stored credential is good.
    #[serde(default)]
    pub can_check: bool,
    /// The tool has a command that signs out at the provider.
    #[serde(default)]
    pub can_sign_out: bool,
}
