//! The helpers of a session.

use crate::CallerId;
use serde::{Deserialize, Serialize};

#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// `GET …/helpers`, and the event `helpers` of a session's event stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct HelperList {
    /// Open invitations, then helpers, each in the order in which they were made.
    pub helpers: Vec<HelperView>,
}

/// A helper of a session, or an invitation that was not used yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct HelperView {
    /// Its id, the same before and after the invitation is used.
    pub id: CallerId,
    /// The name given at the invitation.
    pub name: String,
    /// Whether the helper has come, and is connected now.
    pub status: HelperStatus,
    /// When the invitation was used (RFC 3339).
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub joined_at: Option<String>,
    /// When the helper's browser last sent a request, to the minute (RFC 3339).
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub last_seen_at: Option<String>,
    /// When the invitation or the access expires (RFC 3339).
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub expires_at: Option<String>,
    /// The address from which the helper's browser signed in; only for operators.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub address: Option<String>,
}

/// Whether a helper has come, and is connected now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HelperStatus {
    /// The invitation was not used yet.
    Invited,
    /// A page of the helper is connected.
    Connected,
    /// No page of the helper is connected.
    Away,
}
