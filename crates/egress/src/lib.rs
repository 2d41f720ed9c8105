//! The egress gate: opens the outbound connections of machines.
//!
//! A machine has no network card. A program in it requests a connection **by host name**, and the gate grants or refuses the
//! request:
//!
//! ```text
//!  CONNECT host:port ─▶ a name? ─▶ granted by the provider? ─▶ address in egress.overrides? ──yes──────┐
//!  (host channel)        │ no       │ no                        │ no                                   ▼
//!                        ▼          ▼                           ▼                                   connect ─▶ copy
//!                       403        403                     resolve once ─▶ every address public? ─▶    │
//!                                                           502 · 504        403                    502 · 504
//! ```
//!
//! - IP addresses are refused: the policy is a list of names.
//! - The name is resolved here, once. The connection goes only to the addresses that were checked, so a second answer of
//!   the name server (DNS rebinding) is never used. One address that is not public refuses the name.
//! - `egress.overrides` (set by the operator) replaces resolution for a name and port, e.g. with a test server. The
//!   provider must still grant the name.
//! - Every decision is reported to the session ([`EgressDecision`]); [`EgressSummary`] selects those for the timeline.

mod address;
mod decision;
mod dial;
mod host_overrides;
mod name;
mod serve;
mod summary;
#[cfg(test)]
mod tests;

pub use address::{is_public, mask};
pub use decision::{CloseCause, EgressDecision, EgressOutcome};
pub use dial::GatedStream;
pub use host_overrides::{HostOverrides, InvalidOverride};
pub use name::HostName;
pub use serve::MachineGate;
pub use summary::{EgressSummary, HostTotals, SummaryLine};

use anteroom_wire::{Problem, ProblemBody, provider::Provider};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::Instant};

/// Default of [`GateSettings::idle_s_max`], seconds.
pub const IDLE_S_MAX: u64 = 300;
/// Default of [`GateSettings::total_s_max`], seconds.
pub const TOTAL_S_MAX: u64 = 7_200;

/// Limits of the gate. The server sets `idle_s_max` and `total_s_max` from its configuration; the others are constants for it, and
/// tests of the gate change them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateSettings {
    /// Timeout for resolving a name, milliseconds. The system's resolver tries its second name server after 5 s.
    pub resolve_ms_max: u64,
    /// Timeout for all connection attempts of one request together, milliseconds. Two attempts fit.
    pub connect_ms_max: u64,
    /// Timeout for connecting to one address, milliseconds. Two lost packets are sent again within it.
    pub attempt_ms_max: u64,
    /// Delay before the next address is tried in parallel, milliseconds (RFC 8305 §5 recommends 250).
    pub stagger_ms: u64,
    /// Addresses of one name that are tried. With the delay above, all are tried within 2 s.
    pub addresses_max: usize,
    /// A connection without traffic in both directions for this long is closed, seconds.
    pub idle_s_max: u64,
    /// Longest duration of a connection, seconds.
    pub total_s_max: u64,
    /// Open connections of one machine. Must be below the channel's number of streams (15), so that streams remain for events
    /// and the delivery.
    pub connections_max: usize,
    /// Timeout of a request that waits until a connection of the machine closes, milliseconds. Tools retry a failed request, so it
    /// is short.
    pub connection_wait_ms_max: u64,
    /// Names that are resolved at once, for all machines together (each blocks a thread until the system's resolver answers).
    pub concurrent_lookups_max: usize,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            resolve_ms_max: 10_000,
            connect_ms_max: 15_000,
            attempt_ms_max: 7_000,
            stagger_ms: 250,
            addresses_max: 8,
            idle_s_max: IDLE_S_MAX,
            total_s_max: TOTAL_S_MAX,
            connections_max: 12,
            connection_wait_ms_max: 10_000,
            concurrent_lookups_max: 64,
        }
    }
}

/// Why a request has no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", problem.code())]
pub struct EgressError {
    /// The cause; its HTTP status is 403, 502 or 504.
    pub problem: Problem,
    /// The stage that failed, and for which name. Addresses are masked.
    pub detail: String,
}

impl EgressError {
    pub(crate) fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into() }
    }

    /// The JSON body of the response.
    pub fn body(&self) -> ProblemBody {
        self.problem.with(self.detail.clone())
    }
}

/// Opens outbound connections for all machines of this host.
#[derive(Debug)]
pub struct Gate {
    settings: GateSettings,
    overrides: HostOverrides,
    lookups: Arc<Semaphore>,
}

impl Gate {
    /// A gate with these limits and host overrides.
    pub fn new(settings: GateSettings, overrides: HostOverrides) -> Self {
        let lookups = Arc::new(Semaphore::new(settings.concurrent_lookups_max.max(1)));
        Self { settings, overrides, lookups }
    }

    /// The limits.
    pub fn settings(&self) -> &GateSettings {
        &self.settings
    }

    /// Opens a connection to `host:port` if `provider` grants it. `host` is the guest's text.
    ///
    /// # Errors
    /// [`EgressError`]: not a name, not granted, not public (403), not resolvable or reachable (502), timeout (504).
    pub async fn connect(&self, provider: &Provider, host: &str, port: u16) -> Result<GatedStream, EgressError> {
        let name = HostName::parse(host)?;
        if !provider.egress.iter().any(|rule| rule.grants(name.as_str(), port)) {
            return Err(EgressError::new(
                Problem::EgressDenied,
                format!("{name}:{port} is not in the egress list of provider {}", provider.id),
            ));
        }
        let started = Instant::now();
        if let Some(address) = self.overrides.get(&name, port) {
            let socket = dial::dial(&self.settings, &name, vec![address]).await?;
            return Ok(GatedStream::new(socket, address, true, started.elapsed()));
        }
        let addresses = self.resolve(&name, port).await?;
        let addresses = address::require_public(&name, addresses, self.settings.addresses_max)?;
        let socket = dial::dial(&self.settings, &name, addresses).await?;
        let peer = socket.peer_addr().map_err(|error| {
            EgressError::new(Problem::EgressUnreachable, format!("connect to {name}:{port}: {error}"))
        })?;
        Ok(GatedStream::new(socket, peer, false, started.elapsed()))
    }

    /// Queries the system's resolver, with a timeout and a limit on parallel queries.
    async fn resolve(&self, name: &HostName, port: u16) -> Result<Vec<std::net::SocketAddr>, EgressError> {
        let timed_out = || {
            EgressError::new(
                Problem::EgressTimeout,
                format!("resolve {name}: no answer in {} ms", self.settings.resolve_ms_max),
            )
        };
        let query = (name.absolute(), port);
        let lookups = Arc::clone(&self.lookups);
        // The task of the lookup holds the permit, not the caller: the system's resolver cannot be cancelled, and names
        // whose lookup hangs must not block all its threads.
        let lookup = async move {
            let permit = lookups.acquire_owned().await.map_err(std::io::Error::other)?;
            let task = tokio::spawn(async move {
                let _permit = permit;
                tokio::net::lookup_host(query).await.map(Iterator::collect)
            });
            task.await.map_err(std::io::Error::other)?
        };
        tokio::time::timeout(Duration::from_millis(self.settings.resolve_ms_max), lookup)
            .await
            .map_err(|_| timed_out())?
            .map_err(|error| EgressError::new(Problem::EgressUnreachable, format!("resolve {name}: {error}")))
    }
}
