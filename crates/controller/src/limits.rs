//! Limits that tests change and operators do not: they are not settings. `anteroom serve` always uses the defaults; the server of the
//! tests (`anteroom-testbed serve`) gets other values with its launch configuration. A limit that no test changes is a constant next to
//! its use.

use anteroom_tunnel::TunnelSettings;
use serde::{Deserialize, Serialize};

/// The limits of a server that tests change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerLimits {
    /// Machines.
    pub machines: MachineLimits,
    /// Sessions.
    pub sessions: SessionLimits,
    /// Requests.
    pub http: HttpLimits,
    /// Browsers that are signed in.
    pub browsers: BrowserLimits,
    /// Rates of requests.
    pub rates: RateLimits,
    /// Connections over TCP.
    pub connections: ConnectionLimits,
    /// WebSockets to desktops and terminals.
    pub tunnel: TunnelSettings,
    /// The database.
    pub store: StoreLimits,
    /// Webhook messages.
    pub webhook: WebhookLimits,
    /// The audit trail.
    pub audit: AuditLimits,
    /// Sign-in of people with an OpenID provider.
    pub oidc: OidcLimits,
    /// Certificates of hosts.
    pub peers: PeerLimits,
}

/// Certificates of the hosts of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerLimits {
    /// How long a certificate is valid, seconds. It is renewed after two thirds of it.
    pub certificate_lifetime_s: u64,
    /// Time between two looks at the certificate, milliseconds.
    pub certificate_look_ms: u64,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self { certificate_lifetime_s: anteroom_cluster::peer::CERTIFICATE_LIFETIME_S, certificate_look_ms: 60_000 }
    }
}

/// Limits of machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachineLimits {
    /// Interval between pings to a machine that sends nothing else, milliseconds.
    pub ping_every_ms: u64,
    /// A machine that sent nothing for this long is not ready until it sends something, milliseconds.
    pub ping_ms_max: u64,
    /// A machine that sent nothing for this long is stopped and replaced, milliseconds; instead of `machines.liveness_timeout_s`.
    pub liveness_timeout_ms: Option<u64>,
    /// Timeout of a call to an agent that sends input to the tool, stops it or starts it, milliseconds.
    pub tool_ms_max: u64,
}

impl Default for MachineLimits {
    fn default() -> Self {
        Self {
            ping_every_ms: anteroom_machine::PING_EVERY_MS,
            ping_ms_max: anteroom_machine::PING_MS_MAX,
            liveness_timeout_ms: None,
            tool_ms_max: anteroom_machine::CallLimits::default().tool_ms_max,
        }
    }
}

/// Limits of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionLimits {
    /// Desktop viewers of one session. A session belongs to one user: a tab on each of the user's devices, and a helper.
    pub viewers_max: u32,
    /// Largest credential file, bytes. Tools write a few kilobytes; Kubernetes limits a `Secret` to 1 MiB.
    pub credential_bytes_max: u64,
    /// Interval of the reconciliation, milliseconds. It finishes what events have missed, so a short interval has no benefit; it
    /// reads some rows and two directories, so a long one saves nothing.
    pub reconcile_every_ms: u64,
    /// Longest delay before a failed delivery is retried, milliseconds. The receiver is this server: it is back soon.
    pub delivery_retry_ms_max: u64,
    /// Timeout of the tool's status command, milliseconds. It may ask its vendor's server, and emulated machines are slow.
    pub status_command_ms_max: u64,
    /// After a rejection was written to the timeline, further ones with the same cause are only counted for this long,
    /// milliseconds. A page that reconnects in a loop cannot fill the timeline.
    pub rejection_log_interval_ms: u64,
    /// Sessions and machines that one reconciliation may end; the others are ended by the next one. A bug or a clock that jumps
    /// cannot end all at once.
    pub reconcile_stops_max: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            viewers_max: 4,
            credential_bytes_max: 512 * 1_024,
            reconcile_every_ms: 5_000,
            delivery_retry_ms_max: 5_000,
            status_command_ms_max: 30_000,
            rejection_log_interval_ms: 60_000,
            reconcile_stops_max: 10,
        }
    }
}

/// Limits of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpLimits {
    /// Largest request body of a delivery, bytes. A credential file of [`SessionLimits::credential_bytes_max`] fits, although base64
    /// encodes three bytes as four; a larger body is rejected without a retry.
    pub delivery_bytes_max: usize,
    /// Bytes of request bodies that are held for all clients without a valid token or cookie together.
    pub stranger_bytes_max: u32,
    /// Bytes of request bodies that are held for one caller.
    pub caller_bytes_max: u32,
    /// Bytes of request bodies that are held for one machine's agent.
    pub agent_bytes_max: u32,
    /// Time for a request body, milliseconds, in addition to what [`Self::body_bytes_per_s_min`] gives.
    pub body_ms_max: u64,
    /// The least rate of a request body, bytes a second.
    pub body_bytes_per_s_min: u64,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            delivery_bytes_max: 1_024 * 1_024,
            stranger_bytes_max: 4 * 1_024 * 1_024,
            caller_bytes_max: 1_024 * 1_024,
            agent_bytes_max: 4 * 1_024 * 1_024,
            body_ms_max: 10_000,
            body_bytes_per_s_min: 8 * 1_024,
        }
    }
}

/// A rate of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests a second, on average.
    pub per_s: u32,
    /// Requests at once, after a time without any.
    pub burst: u32,
}

/// Rates of one caller's requests by class of route, or of one address's where there is no caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// Reads: status, lists, pages.
    pub read: Rate,
    /// Changes that are in no other class.
    pub change: Rate,
    /// Starts of sessions. How many may run or wait is limited elsewhere.
    pub start: Rate,
    /// Leases of credentials.
    pub lease: Rate,
    /// Tickets, and WebSockets.
    pub ticket: Rate,
    /// Event streams that are opened.
    pub stream: Rate,
    /// Logins, and login links that are created.
    pub login: Rate,
    /// Support bundles.
    pub bundle: Rate,
    /// Requests from one address whose token, cookie or ticket is not valid.
    pub failed_identification: Rate,
}

impl Default for RateLimits {
    fn default() -> Self {
        let rate = |per_s, burst| Rate { per_s, burst };
        Self {
            read: rate(200, 1_000),
            change: rate(50, 1_000),
            start: rate(20, 500),
            lease: rate(10, 100),
            ticket: rate(20, 200),
            stream: rate(20, 200),
            login: rate(10, 200),
            bundle: rate(1, 10),
            failed_identification: rate(20, 1_000),
        }
    }
}

/// Limits of connections over TCP. Those of the operator's socket are not counted. A *stranger* is a client none of whose requests on the
/// connection carried a valid token or cookie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionLimits {
    /// Connections of authenticated callers together. Half of the process's open files may make it less.
    pub known_max: usize,
    /// Connections of one caller that count as authenticated; its others are treated as a stranger's.
    pub by_caller_max: usize,
    /// Connections of strangers together.
    pub strangers_max: usize,
    /// Connections of strangers from one address, or one /64 network of IPv6. Trusted proxies are exempt.
    pub strangers_by_address_max: usize,
    /// Time for the head of a request, from its first byte, and for the first byte after the connection was accepted, milliseconds.
    pub head_ms_max: u64,
    /// How long a stranger's connection stays open without a request, milliseconds.
    pub stranger_idle_ms_max: u64,
    /// How long a caller's connection stays open without a request, milliseconds. Reverse proxies keep connections for 60 s.
    pub idle_ms_max: u64,
    /// How long a client may accept no byte of a response, milliseconds.
    pub stall_ms_max: u64,
    /// When there are too many connections: a stranger's that has been busy with a request for this long may be closed for a new one,
    /// milliseconds. One without a request may be closed at once.
    pub stranger_request_ms_min: u64,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            known_max: 4_096,
            by_caller_max: 1_024,
            strangers_max: 512,
            strangers_by_address_max: 128,
            head_ms_max: 10_000,
            stranger_idle_ms_max: 15_000,
            idle_ms_max: 75_000,
            stall_ms_max: 60_000,
            stranger_request_ms_min: 2_000,
        }
    }
}

/// Limits of browsers that are signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrowserLimits {
    /// A browser that was not used for this long is signed out, milliseconds. An open page uses it all the time.
    pub idle_ms_max: u64,
    /// How long after a sign-in a browser may lease credentials and create links and tokens, milliseconds.
    pub confirmation_ms_max: u64,
}

impl Default for BrowserLimits {
    fn default() -> Self {
        Self { idle_ms_max: 2 * 3_600 * 1_000, confirmation_ms_max: 5 * 60 * 1_000 }
    }
}

/// Limits of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreLimits {
    /// How long a call waits for a locked database before it fails, milliseconds. Only this server writes the database; another
    /// program locks it for the moment of a backup.
    pub busy_ms_max: u64,
    /// A write that takes longer is logged and counted, milliseconds. Writes take a few milliseconds on a working disk.
    pub slow_write_ms: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { busy_ms_max: 5_000, slow_write_ms: 1_000 }
    }
}

/// Limits of webhook messages. Operators set how often and how long a message is retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookLimits {
    /// Timeout of one attempt, milliseconds. A receiver stores the message and answers; it works on it later.
    pub timeout_ms_max: u64,
    /// First delay before a message is retried, milliseconds; doubles up to `retry_ms_max`.
    pub retry_ms_min: u64,
    /// Longest delay before a message is retried, milliseconds. A receiver that works again has its messages soon.
    pub retry_ms_max: u64,
}

impl Default for WebhookLimits {
    fn default() -> Self {
        Self { timeout_ms_max: 10_000, retry_ms_min: 1_000, retry_ms_max: 15 * 60 * 1_000 }
    }
}

/// Limits of the audit trail. Operators set how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditLimits {
    /// Size at which a new file is begun, bytes. Files are removed as a whole, and one page of `GET /api/audit` reads one of them.
    pub segment_bytes_max: u64,
    /// After a deed that viewers or strangers can repeat was recorded, further ones are only counted for this long, milliseconds; the
    /// interval doubles while they go on.
    pub repeat_interval_ms: u64,
    /// Interval at which the head is stored in the database, milliseconds. A shorter one writes the database more often; a longer one
    /// leaves more records that an older copy of the trail could lack unnoticed.
    pub head_every_ms: u64,
}

impl Default for AuditLimits {
    fn default() -> Self {
        Self { segment_bytes_max: 8 << 20, repeat_interval_ms: 60_000, head_every_ms: 5_000 }
    }
}

/// Limits of the sign-in of people with an OpenID provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OidcLimits {
    /// A sign-in that was begun must be finished within this time, milliseconds. People may have to find their second factor.
    pub sign_in_ms_max: u64,
    /// Timeout of a request to the provider, milliseconds.
    pub request_ms_max: u64,
    /// Interval at which metadata and keys are read again, milliseconds.
    pub metadata_every_ms: u64,
    /// Least time between two requests for the keys because a token is signed with an unknown one, milliseconds.
    pub keys_ms_min: u64,
    /// Longest delay before failed requests for the metadata are repeated, milliseconds. It starts with one second and doubles.
    pub retry_ms_max: u64,
}

impl Default for OidcLimits {
    fn default() -> Self {
        Self {
            sign_in_ms_max: 10 * 60 * 1_000,
            request_ms_max: 10_000,
            metadata_every_ms: 5 * 60 * 1_000,
            keys_ms_min: 30_000,
            retry_ms_max: 60_000,
        }
    }
}
