//! The hosts of a cluster, for operators.

use crate::{HostId, Secret, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// `GET /api/hosts`: the hosts of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct HostList {
    /// The name of the cluster; absent: this server is alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The host that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<HostId>,
    /// In the order of their names. Empty: this server is alone.
    pub hosts: Vec<HostView>,
}

/// A host of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct HostView {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Whether it works.
    pub state: HostState,
    /// Whether it takes no further sessions.
    pub draining: bool,
    /// How often it has joined after it was fenced: 1 for the first time.
    pub incarnation: u64,
    /// Its active sessions.
    pub sessions: u64,
    /// Machines that run; absent: it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machines: Option<u64>,
    /// Machines that it runs at most; absent: it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machines_max: Option<u64>,
    /// The version of its server; absent: it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where other hosts reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_url: Option<String>,
    /// Its zone of failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What sessions can ask for.
    pub labels: BTreeMap<String, String>,
    /// Its last heartbeat in the database, RFC 3339; heartbeats in etcd are not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_at: Option<String>,
    /// When its present incarnation joined, RFC 3339.
    pub joined_at: String,
    /// Who fenced it last, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced: Option<String>,
}

/// Whether a host works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// It answered the host that was asked.
    Answers,
    /// It did not answer within half a second.
    Silent,
    /// Its sessions were taken away; it joins again when it comes back.
    Fenced,
}

/// `POST /api/hosts/invitations`: what a new machine needs to join.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct HostInvitation {
    /// For the standard input of `anteroom host join`, once.
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub invitation: Secret,
    /// How long it is valid, seconds.
    pub expires_in_s: u64,
    /// SHA-256 of the certificate of the cluster's authority, hex.
    pub authority: String,
}

/// What one host answers another that asks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Machines that run.
    pub machines: u64,
    /// Machines that it runs at most.
    pub machines_max: u64,
    /// The version of its server.
    pub version: String,
}

/// What a host answers that was asked to take a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TakeAnswer {
    /// It has taken it.
    Taken,
    /// The session does not wait: another host has taken it, or it has ended.
    NotWaiting,
    /// It takes no further sessions.
    Draining,
    /// It has no room.
    NoRoom,
    /// It has not what the session needs, or the session's caller has as many machines as it may have.
    Unsuitable,
    /// It cannot reach the database.
    Unavailable,
}

/// Which session a host is asked to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeRequest {
    /// The session.
    pub session: SessionId,
}

/// Of which sessions a host is asked for views.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewsRequest {
    /// The sessions.
    pub sessions: Vec<SessionId>,
}

/// What a host does for the erasure of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EraseOnHost {
    /// Sessions to end.
    pub end: Vec<SessionId>,
    /// Machines whose receipts are removed.
    pub machines: Vec<String>,
    /// Sessions whose support bundles are removed.
    pub sessions: Vec<String>,
}

/// The files that a host has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedFiles {
    /// Receipts.
    pub receipts: u64,
    /// Support bundles.
    pub bundles: u64,
}
