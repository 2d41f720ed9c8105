//! What a machine that joins and its host say to each other.

use anteroom_wire::{HostId, Secret};
use serde::{Deserialize, Serialize};

/// The request of a machine that joins.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The secret of the invitation.
    pub secret: Secret,
    /// The id that the machine has given itself.
    pub host: HostId,
    /// The request for its certificate, PKCS #10 as PEM.
    pub request: String,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// The machine's certificate and the authority's, PEM.
    pub certificate: String,
    /// The authority's certificate, PEM.
    pub authority: String,
    /// The name of the cluster.
    pub cluster: String,
    /// Where its hosts are reached, `https://host:port`.
    pub hosts: Vec<String>,
}
