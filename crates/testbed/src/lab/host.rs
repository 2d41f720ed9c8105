//! A host of a lab, and what can happen to all of it at once.

use super::{Door, Place};
use crate::{MachineBackend, TestConfig, TestServer};
use anteroom_wire::HostId;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;

/// A host.
pub struct LabHost<M: MachineBackend = crate::PlainProcess> {
    /// Its network.
    pub place: Place,
    /// Its server and its files.
    pub server: TestServer<M>,
}

impl<M: MachineBackend> LabHost<M> {
    pub(super) async fn start(place: Place, mut config: TestConfig<M>) -> anyhow::Result<Self> {
        config.door = Some(Door::open(&place)?);
        Ok(Self { server: TestServer::start(config).await?, place })
    }

    /// Its id, which it keeps.
    ///
    /// # Errors
    /// Its server has not been started.
    pub fn id(&self) -> anyhow::Result<HostId> {
        let file = fs::read_to_string(self.server.state_dir().join("host.json"))?;
        let file: serde_json::Value = serde_json::from_str(&file)?;
        Ok(file["id"].as_str().context("host.json has no id")?.parse()?)
    }

    /// Sends a signal to each process of the host: its server, keepers, machines and what runs in them.
    pub fn signal_all(&self, signal: Signal) {
        for found in self.server.leak_scan().find_processes() {
            if let Some(pid) = Pid::from_raw(found.pid) {
                // It may have ended since it was found.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// The host loses its power: no process of it runs on, and its link is dead. Its files stay.
    ///
    /// # Errors
    /// Its link cannot be cut, or its server cannot be killed.
    pub async fn power_off(&mut self) -> anyhow::Result<()> {
        self.place.set_link(false)?;
        // Stopped first, so that no process sees the end of another one.
        self.signal_all(Signal::STOP);
        self.signal_all(Signal::KILL);
        self.server.kill_server().await
    }
}
