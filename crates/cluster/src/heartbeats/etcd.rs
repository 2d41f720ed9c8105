//! Heartbeats in etcd: one key for each host, without a lease.
//!
//! A lease that etcd ends is not used: after its leader was frozen it has ended leases of living hosts. A heartbeat is a transaction that
//! writes the key if no other process has written it since. So a second process with the same host id is noticed.

use super::{
    RegisterError, Written,
    etcd_member::{Answer, Members},
};
use crate::{Heartbeat, Mark, Observed};
use anteroom_wire::Secret;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::Uri;
use parking_lot::Mutex;
use rustls::ClientConfig;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// How often one heartbeat is tried: the answer to an earlier one may have been lost.
const ATTEMPTS_MAX: usize = 3;

/// How etcd is reached.
#[derive(Debug, Clone)]
pub struct EtcdSettings {
    /// The name of this cluster, which is part of its keys.
    pub cluster: String,
    /// The members, `http://…` or `https://…`.
    pub endpoints: Vec<Uri>,
    /// For members with TLS.
    pub tls: Arc<ClientConfig>,
    /// User and password, if etcd wants them.
    pub user: Option<(String, Secret)>,
}

/// A register in etcd.
#[derive(Debug)]
pub struct EtcdRegister {
    members: Members,
    prefix: String,
    /// The revision of the key that this process wrote last; `None`: it has not written yet.
    written: Mutex<Option<u64>>,
}

/// A key with its value.
#[derive(Debug, Deserialize)]
pub(super) struct KeyValue {
    #[serde(default, deserialize_with = "super::etcd_member::number")]
    mod_revision: u64,
    #[serde(default)]
    value: String,
}

impl KeyValue {
    /// The heartbeat in the value; `None`: a newer version of this program wrote it, or another one.
    fn heartbeat(&self) -> Option<Heartbeat> {
        serde_json::from_slice(&STANDARD.decode(&self.value).ok()?).ok()
    }
}

/// What became of one attempt.
enum Attempt {
    Done(Written),
    Again,
}

impl EtcdRegister {
    /// A register in this etcd. Nothing is connected yet.
    pub fn new(settings: EtcdSettings) -> Self {
        let prefix = format!("/anteroom/{}/hosts/", settings.cluster);
        Self { members: Members::new(settings), prefix, written: Mutex::new(None) }
    }

    /// See [`Register::write`](super::Register::write).
    pub(super) async fn write(&self, heartbeat: &Heartbeat) -> Result<Written, RegisterError> {
        let key = STANDARD.encode(format!("{}{}", self.prefix, heartbeat.host));
        let value = serde_json::to_vec(heartbeat).map_err(|error| RegisterError(error.to_string()))?;
        let value = STANDARD.encode(value);
        for _ in 0..ATTEMPTS_MAX {
            if let Attempt::Done(written) = self.attempt(&key, &value, heartbeat).await? {
                return Ok(written);
            }
        }
        Err(RegisterError("the key changes all the time".to_owned()))
    }

    async fn attempt(&self, key: &str, value: &str, heartbeat: &Heartbeat) -> Result<Attempt, RegisterError> {
        let written = *self.written.lock();
        let expected = match written {
            Some(revision) => revision,
            // A process that begins takes over what an earlier one wrote.
            None => {
                let found = self.members.post("/v3/kv/range", &json!({ "key": key })).await?;
                found.kvs.first().map_or(0, |found| found.mod_revision)
            }
        };
        let answer = self.members.post("/v3/kv/txn", &transaction(key, value, expected)).await?;
        if answer.succeeded {
            *self.written.lock() = Some(answer.header.revision);
            return Ok(Attempt::Done(Written::Acknowledged));
        }
        let found = answer.responses.into_iter().find_map(|response| response.range).and_then(|range| range.first());
        let (revision, before) = found.map_or((0, None), |found| (found.mod_revision, found.heartbeat()));
        let is_mine = before.as_ref().is_none_or(|before| before.process == heartbeat.process);
        let is_newer = before.is_some_and(|before| before.incarnation > heartbeat.incarnation);
        if is_newer || (written.is_some() && revision != 0 && !is_mine) {
            return Ok(Attempt::Done(Written::Replaced));
        }
        // An answer was lost, or etcd was restored from a backup.
        *self.written.lock() = Some(revision);
        Ok(Attempt::Again)
    }

    /// See [`Register::read`](super::Register::read).
    pub(super) async fn read(&self) -> Result<Vec<Observed>, RegisterError> {
        let mut end = self.prefix.clone().into_bytes();
        // The prefix ends with a slash, whose successor is `0`.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        // Without `serializable` the read is linearizable.
        let request = json!({ "key": STANDARD.encode(&self.prefix), "range_end": STANDARD.encode(&end) });
        let Answer { kvs, .. } = self.members.post("/v3/kv/range", &request).await?;
        let observed = kvs
            .iter()
            .filter_map(|found| Some(Observed { heartbeat: found.heartbeat()?, mark: Mark(found.mod_revision) }));
        Ok(observed.collect())
    }
}

/// Writes the value if the key's revision is the expected one, else reads the key. A revision of 0: there is no key.
fn transaction(key: &str, value: &str, expected: u64) -> Value {
    json!({
        "compare": [{ "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": expected.to_string() }],
        "success": [{ "request_put": { "key": key, "value": value } }],
        "failure": [{ "request_range": { "key": key } }],
    })
}
