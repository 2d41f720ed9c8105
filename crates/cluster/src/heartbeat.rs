//! What a host writes about itself, and what others read of it.

use anteroom_wire::HostId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an operator says about a host, to choose hosts by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct HostLabels {
    /// The zone of failure in which the host is.
    pub zone: Option<String>,
    /// Names and values.
    pub labels: BTreeMap<String, String>,
}

/// How many machines a host has room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Capacity {
    /// Machines that the host runs at most.
    pub machines_max: u32,
    /// Machines that run.
    pub machines: u32,
    /// Sessions of this host that wait for a machine.
    pub waiting: u32,
}

impl Capacity {
    /// Machines that run or are about to.
    pub fn taken(self) -> u64 {
        u64::from(self.machines) + u64::from(self.waiting)
    }

    /// Whether another session gets a machine at once.
    pub fn has_room(self) -> bool {
        self.taken() < u64::from(self.machines_max)
    }
}

/// What a host says about itself with each heartbeat. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The host that writes.
    pub host: HostId,
    /// Its incarnation, 1 or more.
    pub incarnation: u64,
    /// A random number of this process: a value with another one was written by another process with the same host id.
    pub process: u64,
    /// The number of the heartbeat in this process.
    pub number: u64,
    /// The room that it has.
    pub capacity: Capacity,
    /// Whether it takes no new sessions.
    pub draining: bool,
    /// How it can be chosen.
    #[serde(flatten)]
    pub labels: HostLabels,
    /// The providers whose tools are in its image.
    pub providers: Vec<String>,
    /// The digest of its machine image, hex.
    pub image: String,
    /// The newest version of the protocol between hosts that it speaks.
    pub peer_protocol: u32,
    /// The version of the server.
    pub version: String,
    /// Where other hosts reach it.
    pub peer_url: Option<String>,
    /// Where browsers reach it directly.
    pub direct_url: Option<String>,
}

/// The room of a host between two of its heartbeats, as it answered another host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// The process that answered.
    pub process: u64,
    /// The number of its newest heartbeat at that moment.
    pub heartbeat: u64,
    /// What it said.
    pub capacity: Capacity,
}

impl Room {
    /// Whether it is newer than what this heartbeat says.
    pub fn is_newer_than(&self, heartbeat: &Heartbeat) -> bool {
        self.process == heartbeat.process && self.heartbeat >= heartbeat.number
    }
}

/// What changes in a register with each heartbeat: a revision of etcd, or a number of the database. It is only compared for equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark(pub u64);

/// A host's newest heartbeat, as a register returned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What was written.
    pub heartbeat: Heartbeat,
    /// Differs from the mark of each earlier heartbeat.
    pub mark: Mark,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_round_trips_as_json() {
        let heartbeat = Heartbeat {
            host: HostId::from_parts(1, [2; 10]),
            incarnation: 3,
            process: 4,
            number: 5,
            capacity: Capacity { machines_max: 6, machines: 5, waiting: 1 },
            draining: false,
            labels: HostLabels { zone: Some("a".into()), labels: BTreeMap::from([("gpu".into(), "yes".into())]) },
            providers: vec!["codex".into()],
            image: "00ff".into(),
            peer_protocol: 1,
            version: "0.1.0".into(),
            peer_url: Some("https://h1:7061".into()),
            direct_url: None,
        };
        let text = serde_json::to_string(&heartbeat).unwrap();
        assert_eq!(serde_json::from_str::<Heartbeat>(&text).unwrap(), heartbeat);
    }
}
