//! Serves `CONNECT host:port` requests of a machine: opens the connection through the gate and copies bytes until one side
//! ends or a limit is reached.

use super::{
    CloseCause, EgressDecision, EgressError, EgressGate, EgressOutcome, GatedStream, HostName, ProbeFailure,
    client_hello::{ClientHelloError, UNRECOGNIZED_NAME_ALERT, read_client_hello},
    host_name::escape_control_characters,
    refused_handshake::is_given_up,
    traffic::{Allowance, Counted, Traffic},
};
use crate::EgressSettings;
use anteroom_wire::{
    Problem,
    agent::{EGRESS_BY_HEADER, EgressBy},
    provider::{EgressRule, Provider},
    time::to_millis,
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional_with_sizes},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Size of the copy buffer of each direction (8 KiB cost three times the processor time).
const COPY_BYTES: usize = 64 * 1024;

/// The port whose connections must begin with a TLS handshake that names the granted host. Other ports carry what their rule grants.
const TLS_PORT: u16 = 443;
/// Hosts of one session whose certificates the gate looks at, because the machine gave up the TLS handshake.
pub const CHECKED_HOSTS_MAX: usize = 16;

/// What a machine requests.
#[derive(Debug, Clone)]
struct Target {
    host: String,
    port: u16,
    by: Option<EgressBy>,
}

/// The gate for one session's machines: with its provider's egress list, its limits and the callback of its session.
///
/// Cheap to clone; all clones share the limits.
#[derive(Clone)]
pub struct MachineEgressGate {
    gate: Arc<EgressGate>,
    /// With the hosts that were granted to this session alone.
    provider: Arc<RwLock<Arc<Provider>>>,
    slots: Arc<Semaphore>,
    upload: Arc<Allowance>,
    download: Arc<Allowance>,
    /// The hosts whose certificates the gate looked at.
    checked: Arc<Mutex<BTreeSet<String>>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    on_decision: Arc<dyn Fn(EgressDecision) + Send + Sync>,
}

impl fmt::Debug for MachineEgressGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineGate")
            .field("provider", &self.provider.read().id)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

impl MachineEgressGate {
    /// `tasks` runs the connections; `shutdown` closes all of them; `on_decision` receives every decision and must not block.
    pub fn new(
        gate: Arc<EgressGate>,
        provider: Arc<Provider>,
        tasks: TaskTracker,
        shutdown: CancellationToken,
        on_decision: impl Fn(EgressDecision) + Send + Sync + 'static,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(gate.settings().connections_per_machine_max.max(1)));
        let settings = gate.settings();
        let allowance = |bytes_max| Arc::new(Allowance::new(bytes_max, settings.session_bytes_per_s_max));
        let (upload, download) =
            (allowance(settings.session_upload_bytes_max), allowance(settings.session_download_bytes_max));
        let provider = Arc::new(RwLock::new(provider));
        let checked = Arc::default();
        let on_decision = Arc::new(on_decision);
        Self { gate, provider, slots, upload, download, checked, tasks, shutdown, on_decision }
    }

    /// Whether the machines may connect to this name at port 443.
    pub fn grants(&self, host: &HostName) -> bool {
        self.provider.read().egress.iter().any(|rule| rule.allows(host.as_str(), TLS_PORT))
    }

    /// Grants this name at port 443 to the machines of this session, from the next connection on.
    pub fn grant(&self, host: &HostName) {
        let mut provider = self.provider.write();
        let rule = EgressRule { host: host.to_string(), ports: Vec::new(), reason: String::new() };
        let mut granted = Provider::clone(&provider);
        granted.egress.push(rule);
        *provider = Arc::new(granted);
    }

    /// Answers one `CONNECT` request: 200 when the connection is open (a task of the tracker then copies its bytes), 503 without a
    /// report if the gate closes before that, else 403, 502, 503 or 504 with a [`ProblemBody`](anteroom_wire::ProblemBody). Returns within the sum of the gate's timeouts.
    pub async fn serve_connect<B: Send + 'static>(&self, mut request: Request<B>) -> Response<Full<Bytes>> {
        let started = Instant::now();
        let Some(target) = connect_target(&request) else {
            return error_response(&EgressError::new(Problem::Malformed, "expected CONNECT host:port"));
        };
        let opened = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {
                return error_response(&EgressError::new(Problem::ShuttingDown, "the machine or the server is stopping"));
            }
            opened = self.open(&target.host, target.port) => opened,
        };
        match opened {
            Ok((stream, slot)) => {
                let connect_ms = to_millis(stream.connect_time());
                self.report(&target, EgressOutcome::Allowed { by: stream.way().into(), connect_ms });
                let upgrade = hyper::upgrade::on(&mut request);
                let this = self.clone();
                self.tasks.spawn(async move { this.copy_until_end(&target, upgrade, stream, slot).await });
                Response::new(Full::default())
            }
            Err(error) => {
                let (problem, detail) = (error.problem, error.detail.clone());
                let after_ms = to_millis(started.elapsed());
                self.report(&target, EgressOutcome::Failed { problem, detail, after_ms });
                error_response(&error)
            }
        }
    }

    async fn open(&self, host: &str, port: u16) -> Result<(GatedStream, OwnedSemaphorePermit), EgressError> {
        self.require_allowance()?;
        let wait_max = Duration::from_millis(self.gate.settings().connection_slot_wait_ms_max);
        let slot = match timeout(wait_max, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_)) | Err(_) => {
                let most = self.gate.settings().connections_per_machine_max;
                let detail = format!("the machine already has {most} connections open");
                return Err(EgressError::new(Problem::EgressTimeout, detail));
            }
        };
        let provider = Arc::clone(&self.provider.read());
        Ok((self.gate.connect(&provider, host, port).await?, slot))
    }

    /// An error once the session has used all bytes of one direction.
    fn require_allowance(&self) -> Result<(), EgressError> {
        for (allowance, direction) in [(&self.upload, "sent"), (&self.download, "received")] {
            if allowance.is_used_up() {
                let detail = format!("the session has {direction} all of its {} bytes", allowance.bytes_max());
                return Err(EgressError::new(Problem::EgressLimit, detail));
            }
        }
        Ok(())
    }

    fn report(&self, target: &Target, outcome: EgressOutcome) {
        let Target { host, port, by } = target;
        let name = HostName::parse(host);
        let host = name.map_or_else(|_| escape_control_characters(host), |name| name.as_str().to_owned());
        (self.on_decision)(EgressDecision { host, port: *port, by: *by, outcome });
    }

    /// Copies bytes until the connection ends, then reports the totals. Releases `slot` at the end.
    async fn copy_until_end(
        &self,
        target: &Target,
        upgrade: hyper::upgrade::OnUpgrade,
        stream: GatedStream,
        slot: OwnedSemaphorePermit,
    ) {
        let started = Instant::now();
        let (up, down) = (Arc::new(Traffic::new(started)), Arc::new(Traffic::new(started)));
        let mut hello_bytes = 0;
        let upgrade_max = Duration::from_millis(self.gate.settings().connect_ms_max);
        let why = match timeout(upgrade_max, upgrade).await {
            Ok(Ok(upgraded)) => {
                let act_check = &self.gate.act_check;
                let guest = Counted::new(TokioIo::new(upgraded), &up, &self.upload, act_check);
                let outside = Counted::new(stream, &down, &self.download, act_check);
                tokio::select! {
                    why = self.copy_checked(target, guest, outside, &mut hello_bytes) => why,
                    why = timed_out(self.gate.settings(), started, &up, &down) => why,
                    () = self.shutdown.cancelled() => CloseCause::Shutdown,
                }
            }
            Ok(Err(_)) | Err(_) => CloseCause::ConnectionLost,
        };
        drop(slot);
        let (bytes_up, bytes_down) = (up.bytes.load(Relaxed), down.bytes.load(Relaxed));
        let duration_ms = to_millis(started.elapsed());
        self.report(target, EgressOutcome::Closed { bytes_up, bytes_down, duration_ms, why });
        if is_given_up(hello_bytes, bytes_up, bytes_down) {
            tokio::select! {
                () = self.check_certificate(target) => {}
                () = self.shutdown.cancelled() => {}
            }
        }
    }

    /// Looks at the certificate of a host that the machine gave up, once, and reports why the machine does not accept it.
    async fn check_certificate(&self, target: &Target) {
        let Some(authorities) = &self.gate.authorities else { return };
        {
            let mut checked = self.checked.lock();
            if checked.len() >= CHECKED_HOSTS_MAX || !checked.insert(target.host.to_ascii_lowercase()) {
                return;
            }
        }
        let provider = Arc::clone(&self.provider.read());
        let probe = self.gate.probe(&provider, &target.host, target.port, authorities).await;
        let Some(failure) = probe.failure else { return };
        let problem = match &failure {
            ProbeFailure::UnknownAuthority { .. } => Problem::EgressUnknownAuthority,
            ProbeFailure::Dates { .. } => Problem::EgressCertificateDates,
            // What the machine saw need not be what the gate saw.
            ProbeFailure::Gate(_)
            | ProbeFailure::Certificate { .. }
            | ProbeFailure::Tls(_)
            | ProbeFailure::TlsTimeout(_) => return,
        };
        self.report_failure(target, problem, failure.to_string());
    }
}

impl MachineEgressGate {
    /// Checks the beginning of a TLS connection, then copies bytes in both directions. Reports why it denies the rest.
    async fn copy_checked(
        &self,
        target: &Target,
        mut guest: Counted<TokioIo<hyper::upgrade::Upgraded>>,
        mut outside: Counted<GatedStream>,
        hello_bytes: &mut u64,
    ) -> CloseCause {
        let Target { host, port, .. } = target;
        if *port == TLS_PORT {
            match read_client_hello(&mut guest, host).await {
                Ok(bytes) if outside.write_all(&bytes).await.is_ok() => *hello_bytes = bytes.len() as u64,
                Ok(_) => return CloseCause::ConnectionLost,
                Err(ClientHelloError::Ended(_)) if self.gate.require_may_act().is_err() => {
                    return CloseCause::ClusterContactLost;
                }
                Err(ClientHelloError::Ended(_)) if self.require_allowance().is_ok() => {
                    return CloseCause::ConnectionLost;
                }
                Err(ClientHelloError::Ended(_)) => return self.deny_rest(target),
                Err(error) => {
                    let detail = format!("the connection to {host}:{port}: {error}");
                    self.report_failure(target, Problem::EgressTlsName, detail);
                    // The machine may have closed the connection.
                    let _ = guest.write_all(&UNRECOGNIZED_NAME_ALERT).await;
                    let _ = guest.shutdown().await;
                    return CloseCause::TlsNameDenied;
                }
            }
        }
        match copy_bidirectional_with_sizes(&mut guest, &mut outside, COPY_BYTES, COPY_BYTES).await {
            Ok(_) => CloseCause::Completed,
            Err(_) if self.gate.require_may_act().is_err() => CloseCause::ClusterContactLost,
            Err(_) if self.require_allowance().is_ok() => CloseCause::ConnectionLost,
            Err(_) => self.deny_rest(target),
        }
    }

    /// Reports that the session has used all bytes of one direction.
    fn deny_rest(&self, target: &Target) -> CloseCause {
        if let Err(error) = self.require_allowance() {
            self.report_failure(target, error.problem, error.detail);
        }
        CloseCause::ByteLimit
    }

    fn report_failure(&self, target: &Target, problem: Problem, detail: String) {
        self.report(target, EgressOutcome::Failed { problem, detail, after_ms: 0 });
    }
}

/// Waits until the idle timeout or the longest duration of the connection is reached.
async fn timed_out(settings: &EgressSettings, started: Instant, up: &Traffic, down: &Traffic) -> CloseCause {
    let ends_at = started + Duration::from_secs(settings.connection_lifetime_s_max);
    loop {
        let last = started + Duration::from_millis(up.last_ms.load(Relaxed).max(down.last_ms.load(Relaxed)));
        let idle_at = last + Duration::from_secs(settings.connection_idle_s_max);
        let now = Instant::now();
        if now >= ends_at {
            return CloseCause::LifetimeExceeded;
        }
        if now >= idle_at {
            return CloseCause::IdleTimeout;
        }
        sleep_until(idle_at.min(ends_at)).await;
    }
}

/// The target of a `CONNECT` request: its authority, without user info.
fn connect_target<B>(request: &Request<B>) -> Option<Target> {
    let authority = request.uri().authority()?;
    let is_valid = request.method() == Method::CONNECT && !authority.as_str().contains('@');
    let port = authority.port_u16().filter(|&port| port != 0)?;
    is_valid.then(|| Target { host: authority.host().to_owned(), port, by: program_of(request.headers()) })
}

fn program_of(headers: &HeaderMap) -> Option<EgressBy> {
    EgressBy::parse(headers.get(EGRESS_BY_HEADER)?.to_str().ok()?)
}

fn error_response(error: &EgressError) -> Response<Full<Bytes>> {
    // The body has only texts, so serialization does not fail. With an empty body the status would still be correct.
    let body = serde_json::to_vec(&error.body()).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        StatusCode::from_u16(error.problem.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
