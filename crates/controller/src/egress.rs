//! The egress gate: the only way out of a machine.
//!
//! A machine has no network card. A program in it that wants a connection asks for one **by name**, and this gate says
//! yes or no:
//!
//! ```text
//!  CONNECT host:port ─▶ a name? ─▶ granted by the provider? ─▶ answered by the operator? ──────────────┐
//!  (host channel)        │ no       │ no                        │ no                                   ▼
//!                        ▼          ▼                           ▼                                   connect ─▶ copy
//!                       403        403                     resolve once ─▶ every address public? ─▶    │
//!                                                           502 · 504        403                    502 · 504
//! ```
//!
//! - Literal addresses are refused: a policy of names cannot judge them.
//! - The name is resolved here, once; the connection goes only to the addresses that were checked, so a second answer of
//!   the name server (DNS rebinding) is never used. One address that is not public refuses the name.
//! - `answers` (the operator's own configuration) replaces resolution for a name and port, for stand-ins on this host. The
//!   provider must still grant the name.
//! - Every decision is told to the session ([`EgressDecision`]); [`EgressSummary`] makes a short timeline of them.

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

/// Every limit of the gate.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateSettings {
    /// How long a name may take to resolve, milliseconds.
    pub resolve_ms_max: u64,
    /// How long all attempts to connect may take together, milliseconds.
    pub connect_ms_max: u64,
    /// How long one address may take, milliseconds.
    pub attempt_ms_max: u64,
    /// After how long the next address is tried beside the one before, milliseconds (RFC 8305 §5 recommends 250).
    pub stagger_ms: u64,
    /// How many addresses of one name are tried.
    pub addresses_max: usize,
    /// A connection that carries nothing either way for this long is closed, seconds.
    pub idle_s_max: u64,
    /// A connection is closed after this long in any case, seconds.
    pub total_s_max: u64,
    /// Connections of one machine at once. Must be below the channel's number of streams (15), so that events and the
    /// delivery always find room.
    pub streams_max: usize,
    /// How long a request waits for one of those, milliseconds.
    pub stream_wait_ms_max: u64,
    /// Names being resolved at once, all machines together (each holds a thread until the system's resolver answers).
    pub resolves_max: usize,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            resolve_ms_max: 10_000,
            connect_ms_max: 15_000,
            attempt_ms_max: 7_000,
            stagger_ms: 250,
            addresses_max: 8,
            idle_s_max: 300,
            total_s_max: 7_200,
            streams_max: 12,
            stream_wait_ms_max: 10_000,
            resolves_max: 64,
        }
    }
}

/// A request that the gate turned down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", problem.code())]
pub struct EgressError {
    /// The cause; its HTTP status is 403, 502 or 504.
    pub problem: Problem,
    /// Which stage said no, and to what. Addresses are masked.
    pub detail: String,
}

impl EgressError {
    pub(crate) fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into() }
    }

    /// The JSON body of this refusal.
    pub fn body(&self) -> ProblemBody {
        self.problem.with(self.detail.clone())
    }
}

/// Decides which outbound connections exist, for all machines of this host.
#[derive(Debug)]
pub struct Gate {
    settings: GateSettings,
    answers: HostOverrides,
    resolves: Arc<Semaphore>,
}

impl Gate {
    /// A gate with these limits and these operator's answers.
    pub fn new(settings: GateSettings, answers: HostOverrides) -> Self {
        let resolves = Arc::new(Semaphore::new(settings.resolves_max.max(1)));
        Self { settings, answers, resolves }
    }

    /// The limits.
    pub fn settings(&self) -> &GateSettings {
        &self.settings
    }

    /// Opens a connection to `host:port` if `provider` grants it. `host` is as the guest wrote it.
    ///
    /// # Errors
    /// A [`EgressError`]: not a name, not granted, not public (403), not resolvable or reachable (502), too slow (504).
    pub async fn connect(&self, provider: &Provider, host: &str, port: u16) -> Result<GatedStream, EgressError> {
        let name = HostName::parse(host)?;
        if !provider.egress.iter().any(|rule| rule.grants(name.as_str(), port)) {
            return Err(EgressError::new(
                Problem::EgressDenied,
                format!("{name}:{port} is not on the list of {}", provider.id),
            ));
        }
        let started = Instant::now();
        if let Some(address) = self.answers.get(&name, port) {
            let socket = dial::dial(&self.settings, &name, vec![address]).await?;
            return Ok(GatedStream::new(socket, address, true, started.elapsed()));
        }
        let addresses = self.resolve(&name, port).await?;
        let addresses = address::admit(&name, addresses, self.settings.addresses_max)?;
        let socket = dial::dial(&self.settings, &name, addresses).await?;
        let peer = socket
            .peer_addr()
            .map_err(|error| EgressError::new(Problem::EgressUnreachable, format!("connect to {name}:{port}: {error}")))?;
        Ok(GatedStream::new(socket, peer, false, started.elapsed()))
    }

    /// Asks the system's resolver, with a limit in time and in number.
    async fn resolve(&self, name: &HostName, port: u16) -> Result<Vec<std::net::SocketAddr>, EgressError> {
        let late = || {
            EgressError::new(
                Problem::EgressTimeout,
                format!("resolve {name}: no answer in {} ms", self.settings.resolve_ms_max),
            )
        };
        let question = (name.as_question(), port);
        let resolves = Arc::clone(&self.resolves);
        // The permit stays with the look-up, not with the waiter: the system's resolver cannot be interrupted, and
        // names that hang must not take all its threads.
        let looked_up = async move {
            let permit = resolves.acquire_owned().await.map_err(std::io::Error::other)?;
            let task = tokio::spawn(async move {
                let _permit = permit;
                tokio::net::lookup_host(question).await.map(Iterator::collect)
            });
            task.await.map_err(std::io::Error::other)?
        };
        tokio::time::timeout(Duration::from_millis(self.settings.resolve_ms_max), looked_up)
            .await
            .map_err(|_| late())?
            .map_err(|error| EgressError::new(Problem::EgressUnreachable, format!("resolve {name}: {error}")))
    }
}
