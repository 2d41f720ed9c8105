//! External machines: desktops that exist already, named in the configuration, and used by a session instead of a clone.
//!
//! ```text
//!  [external_machines.NAME] ─▶ ExternalMachines (parse, every fault at once)
//!                                   │ get(NAME)
//!  viewer ─▶ reach_desktop ─▶ dial ─┴▶ TCP ─▶ (WebSocket handshake) ─▶ RFB greeting ─▶ an open stream
//!                              └─▶ a named fault: no route · refused · timeout · silent · closed · wrong protocol
//! ```
//!
//! Each viewer's connect dials anew and nothing is kept between two: what was so a minute ago is no answer. Addresses stay
//! on this side: a fault's words never hold one. The agent of such a machine is outside, too; it delivers over HTTP with
//! the token that lies in the machine's token file, of which only the hash is kept here.

mod address;
mod dial;
mod settings;
#[cfg(test)]
mod tests;

pub use address::{Address, Scheme};
pub use dial::{Duplex, Fault, dial};

use anteroom_store::Sha256Hex;
use anteroom_wire::{Problem, SessionId};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

/// One external machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalMachine {
    /// Its name in the configuration: what clients are told.
    pub name: String,
    /// Where its desktop is: for operators only.
    pub desktop: Address,
    /// The hash of the token that its agent delivers with.
    pub agent_token: Sha256Hex,
    /// How long connecting may take, milliseconds; the name's resolution is a part of it.
    pub connect_ms_max: u64,
    /// How long a connected desktop may be silent before its greeting is whole, milliseconds.
    pub greeting_ms_max: u64,
}

/// The external machines of a configuration, and what the last dial of each came to.
#[derive(Debug, Default)]
pub struct ExternalMachines {
    machines: BTreeMap<String, Arc<ExternalMachine>>,
    last: Mutex<HashMap<String, (SessionId, Option<Problem>)>>,
}

impl ExternalMachines {
    /// Reads the tables below `[external_machines]` and the token files they name.
    ///
    /// # Errors
    /// Everything that is wrong, one sentence each.
    pub fn load(tables: &BTreeMap<String, toml::Value>) -> Result<Self, Vec<String>> {
        settings::load(tables).map(|machines| Self { machines, last: Mutex::default() })
    }

    /// The machine of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<ExternalMachine>> {
        self.machines.get(name)
    }

    /// Remembers what a dial for this session came to (`None`: an open desktop); whether the one before was otherwise.
    pub fn is_news(&self, name: &str, session: &SessionId, fault: Option<Problem>) -> bool {
        let now = (session.clone(), fault);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(name.to_owned(), now.clone()).as_ref() != Some(&now)
    }

    /// Whether an agent with this token belongs to one of them.
    pub fn has_agent(&self, token: &Sha256Hex) -> bool {
        self.machines.values().any(|machine| machine.agent_token == *token)
    }

    /// Those whose limits together are longer than a socket waits: their own faults would never be told.
    pub fn too_slow_for(&self, socket_wait_ms_max: u64) -> Vec<String> {
        let slow = self
            .machines
            .values()
            .filter(|machine| machine.connect_ms_max + machine.greeting_ms_max > socket_wait_ms_max);
        let words = |machine: &Arc<ExternalMachine>| {
            format!(
                "external_machines.{}: connect_ms_max and greeting_ms_max together are more than sessions.socket_wait_ms_max, \
                 {socket_wait_ms_max}",
                machine.name
            )
        };
        slow.map(words).collect()
    }

    /// Their names, for people.
    pub fn names(&self) -> String {
        if self.machines.is_empty() {
            "none".to_owned()
        } else {
            self.machines.keys().cloned().collect::<Vec<_>>().join(", ")
        }
    }
}
