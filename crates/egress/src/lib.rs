//! The egress gate: opens the outbound connections of machines.
//!
//! A machine has no network card. A program in it requests a connection **by host name**, and the gate allows or denies the
//! request:
//!
//! ```text
//!  CONNECT host:port ─▶ a name? ─▶ allowed by the provider? ─▶ address in egress.overrides? ──yes──────┐
//!  (controller channel)  │ no       │ no                        │ no                                   ▼
//!                        ▼          ▼                           ▼                                   connect ─▶ copy
//!                       403        403         a proxy for it? ─no─▶ resolve once ─▶ every address public? ─▶ │
//!                                               │ yes                 502 · 504        403         502 · 504
//!                                               └─▶ CONNECT or SOCKS5 by name ─▶ copy
//!                                                    502
//! ```
//!
//! - IP addresses are denied: the policy is a list of names.
//! - The name is resolved here, once. The connection goes only to the addresses that were checked, so a second answer of
//!   the name server (DNS rebinding) is never used. One address that is neither public nor allowed denies the name.
//! - With an [`UpstreamProxy`], the name goes to the proxy, which resolves it and has rules of its own. The provider's list is applied
//!   first, as without one.
//! - `egress.overrides` (set by the operator) replaces resolution for a name and port, e.g. with a test server. The
//!   provider must still allow the name.
//! - A connection to port 443 must begin with a TLS ClientHello that names the granted host.
//! - A connection that the machine gives up in its TLS handshake makes the gate look at the host's certificate itself, once for each name:
//!   if its authority is not trusted or its dates do not fit this host's clock, that is reported too.
//! - The bytes of a session are limited in each direction, and their rate.
//! - Every decision is reported to the session ([`EgressDecision`]); [`EgressSummary`] selects those for the timeline.

mod act_check;
mod address;
mod client_hello;
mod decision;
mod dial;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod host_name;
mod host_overrides;
mod machine_egress_gate;
mod probe;
mod proxy;
mod refused_handshake;
mod summary;
#[cfg(test)]
mod tests;
mod traffic;

pub use act_check::ActCheck;
pub use address::{AllowedRanges, SpecialRange, is_public, mask_address, special_range};
pub use client_hello::CLIENT_HELLO_BYTES_MAX;
pub use decision::{CloseCause, EgressDecision, EgressOutcome, ReachedBy};
pub use dial::{GatedStream, Way};
pub use host_name::{HostName, NAME_BYTES_MAX};
pub use host_overrides::{HostOverrides, InvalidOverride};
pub use machine_egress_gate::{CHECKED_HOSTS_MAX, MachineEgressGate};
pub use probe::{Probe, ProbeFailure, ProbeTls, TlsReport};
pub use proxy::{InvalidProxy, PROXY_HEAD_BYTES_MAX, ProxyCredentials, UpstreamProxy};
pub use summary::{EgressSummary, HostTotals, SummaryLine};

use anteroom_wire::{Problem, ProblemBody, provider::Provider};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpStream, sync::Semaphore, time::Instant};

/// Limits of the gate. The server uses the defaults; tests of the gate change them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressSettings {
    /// Timeout for resolving a name, milliseconds. The system's resolver tries its second name server after 5 s.
    pub resolve_ms_max: u64,
    /// Timeout for all connection attempts of one request together, milliseconds. Two attempts fit.
    pub connect_ms_max: u64,
    /// Timeout for connecting to one address, milliseconds. Two lost packets are sent again within it.
    pub connect_attempt_ms_max: u64,
    /// Delay before the next address is tried in parallel, milliseconds (RFC 8305 §5 recommends 250).
    pub connect_attempt_delay_ms: u64,
    /// Addresses of one name that are tried. With the delay above, all are tried within 2 s.
    pub addresses_per_name_max: usize,
    /// A connection without traffic in both directions for this long is closed, seconds. A model's answer takes less; a tool opens
    /// a new connection for its next request.
    pub connection_idle_s_max: u64,
    /// Longest duration of a connection, seconds. It applies to sessions that last longer than the default of
    /// `sessions.session_s_max`, one hour.
    pub connection_lifetime_s_max: u64,
    /// Open connections of one machine. Must be below the channel's number of streams (15), so that streams remain for events
    /// and the delivery.
    pub connections_per_machine_max: usize,
    /// Timeout of a request that waits until a connection of the machine closes, milliseconds. Tools retry a failed request, so it
    /// is short.
    pub connection_slot_wait_ms_max: u64,
    /// Bytes that the machines of one session may send. An open connection may exceed it by one read.
    pub session_upload_bytes_max: u64,
    /// Bytes that the machines of one session may receive, likewise.
    pub session_download_bytes_max: u64,
    /// The rate of a session in each direction, bytes in a second; one second's worth may be sent at once.
    pub session_bytes_per_s_max: u64,
    /// Names that are resolved at once, for all machines together (each blocks a thread until the system's resolver answers).
    pub concurrent_lookups_max: usize,
}

impl Default for EgressSettings {
    fn default() -> Self {
        Self {
            resolve_ms_max: 10_000,
            connect_ms_max: 15_000,
            connect_attempt_ms_max: 7_000,
            connect_attempt_delay_ms: 250,
            addresses_per_name_max: 8,
            connection_idle_s_max: 300,
            connection_lifetime_s_max: 7_200,
            connections_per_machine_max: 12,
            connection_slot_wait_ms_max: 10_000,
            session_upload_bytes_max: 1 << 30,
            session_download_bytes_max: 8 << 30,
            session_bytes_per_s_max: 16 << 20,
            concurrent_lookups_max: 64,
        }
    }
}

/// Why a request has no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", problem.code())]
pub struct EgressError {
    /// The cause; its HTTP status is 403, 502, 503 or 504.
    pub problem: Problem,
    /// The stage that failed, and for which name. Addresses are masked.
    pub detail: String,
    /// The address that was refused, in full, if that is the cause. Not for machines.
    pub refused_answer: Option<IpAddr>,
}

impl EgressError {
    pub(crate) fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into(), refused_answer: None }
    }

    /// The JSON body of the response.
    pub fn body(&self) -> ProblemBody {
        self.problem.with_detail(self.detail.clone())
    }
}

/// Opens outbound connections for all machines of this host.
#[derive(Debug)]
pub struct EgressGate {
    settings: EgressSettings,
    overrides: HostOverrides,
    allowed: AllowedRanges,
    proxy: Option<UpstreamProxy>,
    unused_proxy_variable: Option<&'static str>,
    authorities: Option<ProbeTls>,
    act_check: ActCheck,
    lookups: Arc<Semaphore>,
}

/// How a host will be reached, and to which addresses.
enum Route<'a> {
    Override(SocketAddr),
    Direct(Vec<SocketAddr>),
    Proxy(&'a UpstreamProxy),
}

impl EgressGate {
    /// A gate with these limits and host overrides. It connects directly, to public addresses.
    pub fn new(settings: EgressSettings, overrides: HostOverrides) -> Self {
        let lookups = Arc::new(Semaphore::new(settings.concurrent_lookups_max.max(1)));
        Self {
            settings,
            overrides,
            allowed: AllowedRanges::default(),
            proxy: None,
            unused_proxy_variable: None,
            authorities: None,
            act_check: ActCheck::default(),
            lookups,
        }
    }

    /// Also connects to addresses in these ranges.
    #[must_use]
    pub fn with_allowed_ranges(self, allowed: AllowedRanges) -> Self {
        Self { allowed, ..self }
    }

    /// Connects through this proxy, except to its exceptions and to host overrides.
    #[must_use]
    pub fn with_proxy(self, proxy: Option<UpstreamProxy>) -> Self {
        Self { proxy, ..self }
    }

    /// Trusts these authorities when it looks at the certificate of a host that a machine gives up. Without them it does not look.
    #[must_use]
    pub fn with_authorities(self, authorities: Option<ProbeTls>) -> Self {
        Self { authorities, ..self }
    }

    /// Asks before each connection and for each chunk whether this host may act.
    #[must_use]
    pub fn with_act_check(self, act_check: ActCheck) -> Self {
        Self { act_check, ..self }
    }

    /// An error while this host may not act.
    fn require_may_act(&self) -> Result<(), EgressError> {
        let lost =
            || EgressError::new(Problem::ClusterContactLost, "nothing is connected until there is contact again");
        if self.act_check.may_act() { Ok(()) } else { Err(lost()) }
    }

    /// Remembers that this variable names a proxy and is not used.
    #[must_use]
    pub fn with_unused_proxy_variable(self, variable: Option<&'static str>) -> Self {
        Self { unused_proxy_variable: variable, ..self }
    }

    /// A variable of this program's environment that names a proxy, if the gate uses none.
    pub fn unused_proxy_variable(&self) -> Option<&'static str> {
        self.unused_proxy_variable
    }

    /// The limits.
    pub fn settings(&self) -> &EgressSettings {
        &self.settings
    }

    /// Opens a connection to `host:port` if `provider` allows it. `host` is the guest's text.
    ///
    /// # Errors
    /// [`EgressError`]: not a name, not allowed, not public (403), not resolvable or reachable, refused by the proxy (502), no contact with
    /// the cluster (503), timeout (504).
    pub async fn connect(&self, provider: &Provider, host: &str, port: u16) -> Result<GatedStream, EgressError> {
        let started = Instant::now();
        let name = require_granted(provider, host, port)?;
        let route = self.route(&name, port).await?;
        // Resolving the name may have taken long.
        self.require_may_act()?;
        self.open(&name, port, route, started).await
    }

    /// Chooses the way to a granted name. Resolves it, unless the proxy does.
    async fn route(&self, name: &HostName, port: u16) -> Result<Route<'_>, EgressError> {
        if let Some(address) = self.overrides.get(name, port) {
            return Ok(Route::Override(address));
        }
        if let Some(proxy) = self.proxy.as_ref().filter(|proxy| proxy.is_for(name)) {
            return Ok(Route::Proxy(proxy));
        }
        let addresses = self.resolve(name.as_str(), name.to_absolute(), port).await?;
        let addresses_max = self.settings.addresses_per_name_max;
        address::require_public(name, addresses, addresses_max, &self.allowed).map(Route::Direct)
    }

    async fn open(
        &self,
        name: &HostName,
        port: u16,
        route: Route<'_>,
        started: Instant,
    ) -> Result<GatedStream, EgressError> {
        match route {
            Route::Override(address) => {
                let socket = dial::dial(&self.settings, name.as_str(), vec![address]).await.map_err(of_override)?;
                Ok(GatedStream::new(socket, Way::Override(address), started.elapsed()))
            }
            Route::Direct(addresses) => {
                let socket = dial::dial(&self.settings, name.as_str(), addresses).await?;
                let peer = socket.peer_addr().map_err(|error| {
                    EgressError::new(Problem::EgressUnreachable, format!("connect to {name}:{port}: {error}"))
                })?;
                Ok(GatedStream::new(socket, Way::Direct(peer), started.elapsed()))
            }
            Route::Proxy(proxy) => {
                let socket = self.reach_proxy(proxy).await?;
                let limit = Duration::from_millis(self.settings.connect_ms_max);
                let tunnel = tokio::time::timeout(limit, proxy.tunnel(socket, name, port)).await;
                let tunnel = tunnel.unwrap_or_else(|_| Err(proxy.silent(name, port, self.settings.connect_ms_max)))?;
                Ok(GatedStream::new(tunnel, Way::Proxy, started.elapsed()))
            }
        }
    }

    /// A connection to the proxy. The operator chose it, so its address may be private.
    async fn reach_proxy(&self, proxy: &UpstreamProxy) -> Result<TcpStream, EgressError> {
        let (host, port) = proxy.address();
        let addresses = match host.parse() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => self
                .resolve("the proxy's name", host.to_owned(), port)
                .await
                .map_err(|error| proxy.unreachable(&error.detail))?,
        };
        let socket = dial::dial(&self.settings, "it", addresses).await;
        socket.map_err(|error| proxy.unreachable(&error.detail))
    }

    /// Queries the system's resolver, with a timeout and a limit on parallel queries.
    /// `name` is for the error.
    async fn resolve(&self, name: &str, host: String, port: u16) -> Result<Vec<SocketAddr>, EgressError> {
        let timed_out = || {
            EgressError::new(
                Problem::EgressTimeout,
                format!("resolve {name}: no answer in {} ms", self.settings.resolve_ms_max),
            )
        };
        let query = (host, port);
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

/// The error of a connection to an address that the operator has configured.
fn of_override(error: EgressError) -> EgressError {
    EgressError { detail: format!("{}; its address is from egress.overrides", error.detail), ..error }
}

/// The name, if the provider's list has it with this port.
fn require_granted(provider: &Provider, host: &str, port: u16) -> Result<HostName, EgressError> {
    let name = HostName::parse(host)?;
    if provider.egress.iter().any(|rule| rule.allows(name.as_str(), port)) {
        return Ok(name);
    }
    let detail = format!("{name}:{port} is not in the egress list of provider {}", provider.id);
    Err(EgressError::new(Problem::EgressDenied, detail))
}
