//! External machines: existing desktops from the configuration that a session can use instead of a cloned machine.
//!
//! ```text
//!  [external_machines.NAME] ─▶ ExternalMachines (parses, reports all errors at once)
//!                                   │ get(NAME)
//!  viewer ─▶ reach_desktop ─▶ dial ─┴▶ TCP ─▶ (TLS) ─▶ (WebSocket handshake) ─▶ RFB handshake (VeNCrypt, password) ─▶ RFB 3.8 for the viewer
//!                              └─▶ DialError: no route · refused · timeout · silent · closed · certificate · no TLS · wrong protocol ·
//!                                             unsupported security types · wrong password · rejected
//! ```
//!
//! Every viewer opens a new connection; results of earlier attempts are not reused. Clients never see the address: a
//! failure's sentence does not contain it. The agent of an external machine delivers over HTTP with the token in the machine's
//! token file; the server keeps only the hash of the token.

mod desktop_endpoint;
mod dial;
mod dial_error;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod handshake;
mod reason;
mod security_types;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod vencrypt;
mod viewer_handshake;
mod vnc_password;
mod websocket;

pub use desktop_endpoint::{DesktopEndpoint, DesktopEndpointError, EndpointScheme};
pub use dial::{Duplex, dial_desktop};
pub use dial_error::DialError;
pub use tls::{DesktopTls, TlsFault};
pub use vencrypt::VencryptFault;
pub use vnc_password::DesktopLogin;

use anteroom_store::Sha256Hex;
use anteroom_wire::{Problem, SessionId};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// One external machine.
#[derive(Debug, Clone)]
pub struct ExternalMachine {
    /// The name in the configuration, visible to clients.
    pub name: String,
    /// The address of the desktop, visible only to operators.
    pub desktop_endpoint: DesktopEndpoint,
    /// The encryption that the address requires.
    pub encryption: Encryption,
    /// The hash of the token of the machine's agent.
    pub agent_token: Sha256Hex,
    /// How this server signs in at the desktop; `None`: its user enters the password in the page.
    pub login: Option<DesktopLogin>,
    /// Timeout for resolving the name and connecting, milliseconds.
    pub connect_ms_max: u64,
    /// Timeout for all handshakes after connecting, milliseconds.
    pub greeting_ms_max: u64,
}

/// How the connection to a desktop is encrypted.
#[derive(Debug, Clone)]
pub enum Encryption {
    /// Not at all.
    None,
    /// TLS from the first byte.
    Tls(DesktopTls),
    /// TLS after RFB's security type VeNCrypt.
    Vencrypt(DesktopTls),
}

/// The external machines of a configuration, and the result of the last connection attempt to each.
#[derive(Debug, Default)]
pub struct ExternalMachines {
    machines: BTreeMap<String, Arc<ExternalMachine>>,
    last_results: Mutex<HashMap<String, (SessionId, Option<Problem>)>>,
}

impl ExternalMachines {
    /// Parses the tables in `[external_machines]` and reads their token files.
    ///
    /// # Errors
    /// All errors, one sentence each.
    pub fn load(tables: &BTreeMap<String, toml::Value>) -> Result<Self, Vec<String>> {
        settings::load(tables).map(|machines| Self { machines, last_results: Mutex::default() })
    }

    /// The machine of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<ExternalMachine>> {
        self.machines.get(name)
    }

    /// Records the result of a connection attempt for this session (`None`: the desktop was opened). Returns true if it differs
    /// from the result before.
    pub fn record_dial_result(&self, name: &str, session: &SessionId, failure: Option<Problem>) -> bool {
        let result = (session.clone(), failure);
        let mut last_results = self.last_results.lock();
        last_results.insert(name.to_owned(), result.clone()).as_ref() != Some(&result)
    }

    /// Whether this is the token of an agent of an external machine.
    pub fn has_agent_token(&self, token: &Sha256Hex) -> bool {
        self.machines.values().any(|machine| machine.agent_token == *token)
    }

    /// An error for each machine whose timeouts together exceed `socket_wait_ms_max`: viewers would never see its failures.
    pub fn too_slow_for(&self, socket_wait_ms_max: u64) -> Vec<String> {
        let slow = self
            .machines
            .values()
            .filter(|machine| machine.connect_ms_max + machine.greeting_ms_max > socket_wait_ms_max);
        let error = |machine: &Arc<ExternalMachine>| {
            format!(
                "external_machines.{}: connect_ms_max and greeting_ms_max together are more than sessions.socket_wait_ms_max, \
                 {socket_wait_ms_max}",
                machine.name
            )
        };
        slow.map(error).collect()
    }

    /// The names of the machines to which passwords and pictures travel over a network without encryption.
    pub fn unencrypted_names(&self) -> Vec<&str> {
        let unencrypted = |machine: &&Arc<ExternalMachine>| {
            let desktop = &machine.desktop_endpoint;
            !desktop.scheme.is_encrypted() && !desktop.is_on_this_host()
        };
        self.machines.values().filter(unencrypted).map(|machine| machine.name.as_str()).collect()
    }

    /// The names, for messages.
    pub fn comma_separated_names(&self) -> String {
        if self.machines.is_empty() {
            "none".to_owned()
        } else {
            self.machines.keys().cloned().collect::<Vec<_>>().join(", ")
        }
    }
}
