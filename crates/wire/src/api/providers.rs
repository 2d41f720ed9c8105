//! The providers that are offered.

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
    /// In the order in which they are offered.
    pub providers: Vec<ProviderView>,
}

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ProviderView {
    /// Its id.
    pub id: ProviderId,
    /// The name for people.
    pub name: String,
    /// Version in the image; `null` when the image lacks it.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub version: Option<String>,
    /// The lanes of the preferred method.
    pub lanes: Vec<Lane>,
    /// What happens with a captured credential.
    #[serde(rename = "policy")]
    pub storage_policy: StoragePolicy,
    /// The policy in a sentence, for people.
    pub policy_sentence: String,
    /// All methods, the preferred one first.
    pub methods: Vec<MethodView>,
    /// Whether a session can be started: the image has the tool and the policy does not forbid it.
    pub available: bool,
    /// The release that the descriptor's rules were taken from; the image may have another.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub tested_version: Option<String>,
    /// Why no session can be started, for people; `null`: a session can be started.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub unavailable: Option<String>,
    /// Anybody can sign in, under any name.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub without_account: bool,
    /// The tool has a command that checks a stored credential.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub can_check: bool,
    /// The tool has a command that signs out at the provider.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub can_sign_out: bool,
    /// Settings that some accounts need, for `settings` at the start of a session.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub settings: Vec<SettingView>,
}

/// A setting that some accounts of a provider need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct SettingView {
    /// Its id.
    pub id: String,
    /// A label, for people.
    pub label: String,
    /// The complete value must match this regular expression.
    pub pattern: String,
    /// A description of the expected value, for people.
    pub expected_format: String,
}
