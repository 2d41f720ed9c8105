//! The table in `docs/limits.md`: every limit that a client, a viewer, a backend or a machine can reach.

mod channels;
mod database;
mod peers;
mod repeated;
mod texts;

use super::{
    BODY_BYTES_MAX, LOGIN_BYTES_MAX, OIDC_ANSWER_BYTES_MAX,
    event_streams::limits as streams,
    health::PUBLIC_REPORT_MS_MAX,
    rates::{CREDENTIALS_REMEMBERED_MAX, RouteClass},
    request_body::{PIECE_BYTES_MIN, SMALL_PIECES_MAX},
    server_log::LOG_BYTES_MAX,
    session_log::LINES_MAX,
};
use crate::listener;
use anteroom_controller::{
    config::Config,
    egress::EXTRA_CA_BYTES_MAX,
    limits::ServerLimits,
    oidc::{
        AUTHENTICATED_BEFORE_MS_MAX, CLOCK_AHEAD_MS_MAX, CONCURRENT_REQUESTS_MAX, ISSUED_BEFORE_MS_MAX,
        PENDING_BY_NETWORK_MAX, PENDING_MAX, RESPONSE_BYTES_MAX,
    },
    session::{
        accept_delivery::FILES_MAX,
        active_session::{EGRESS_HOSTS_MAX, EXECS_MAX, TERMINALS_MAX},
        grant_host::GRANTS_PER_SESSION_MAX,
    },
};
use anteroom_egress::{
    CHECKED_HOSTS_MAX, CLIENT_HELLO_BYTES_MAX, EgressSettings, NAME_BYTES_MAX, PROXY_HEAD_BYTES_MAX,
};
use anteroom_wire::exec;

/// One row of the table.
struct Row {
    limit: String,
    unit: &'static str,
    default: String,
    effect: &'static str,
}

fn row(limit: &str, unit: &'static str, default: impl ToString, effect: &'static str) -> Row {
    Row { limit: limit.to_owned(), unit, default: default.to_string(), effect }
}

fn connections(limits: &ServerLimits) -> Vec<Row> {
    let connections = &limits.connections;
    let for_strangers = "the one that has waited longest without a request is closed; if all are busy, 503 `too_many_connections` and close";
    vec![
        row(
            "connections of strangers from one address (IPv6: /64), trusted proxies exempt",
            "connections",
            connections.strangers_by_address_max,
            for_strangers,
        ),
        row("connections of strangers together", "connections", connections.strangers_max, for_strangers),
        row(
            "of these, connections that are busy with a stranger's request",
            "connections",
            "three quarters of both",
            "one that has been busy for two seconds is closed, or the request is answered with 503 `too_many_connections`",
        ),
        row("connections of callers together", "connections", connections.known_max, "the next count as a stranger's"),
        row("connections of one caller", "connections", connections.by_caller_max, "the next count as a stranger's"),
        row("connections to the operator's socket", "connections", "none", "they are not counted"),
        row("first byte of a connection; head of a request", "ms", connections.head_ms_max, "the connection is closed"),
        row("head of a request", "bytes", listener::HEAD_BYTES_MAX, "431"),
        row(
            "a stranger's connection without a request",
            "ms",
            connections.stranger_idle_ms_max,
            "the connection is closed",
        ),
        row("a caller's connection without a request", "ms", connections.idle_ms_max, "the connection is closed"),
        row("a client that accepts nothing of a response", "ms", connections.stall_ms_max, "the connection is closed"),
        row(
            "data that the client's host does not acknowledge",
            "ms",
            listener::UNACKNOWLEDGED_MS_MAX,
            "the kernel closes the connection",
        ),
        row("HTTP/2 without TLS", "setting", "off (`http.http2`)", "GOAWAY `HTTP_1_1_REQUIRED`"),
        row("requests at once on one HTTP/2 connection", "requests", listener::HTTP2_STREAMS_MAX, "REFUSED_STREAM"),
    ]
}

fn requests(limits: &ServerLimits) -> Vec<Row> {
    let http = &limits.http;
    vec![
        row("body of a request", "bytes", BODY_BYTES_MAX, "413 `too_large`"),
        row("body of a login", "bytes", LOGIN_BYTES_MAX, "413 `too_large`"),
        row("answer of the identity provider", "bytes", OIDC_ANSWER_BYTES_MAX, "413 `too_large`"),
        row("body of a delivery, and of an agent's events", "bytes", http.delivery_bytes_max, "413 `too_large`"),
        row("time for a body, in addition to the least rate", "ms", http.body_ms_max, "408 `request_timeout`"),
        row(
            "pieces (chunks) of a body",
            "pieces",
            format!("{SMALL_PIECES_MAX}, and one for each {PIECE_BYTES_MIN} bytes"),
            "400 `malformed`",
        ),
        row("least rate of a body", "bytes/s", http.body_bytes_per_s_min, "408 `request_timeout`"),
        row("bytes of bodies held for all strangers", "bytes", http.stranger_bytes_max, "503 `too_many_connections`"),
        row("bytes of bodies held for one caller", "bytes", http.caller_bytes_max, "503 `too_many_connections`"),
        row(
            "bytes of bodies held for one machine's agent",
            "bytes",
            http.agent_bytes_max,
            "503 `too_many_connections`; the agent tries again",
        ),
    ]
}

fn rates(limits: &ServerLimits) -> Vec<Row> {
    let rate = |rate: anteroom_controller::limits::Rate| format!("{}, {} at once", rate.per_s, rate.burst);
    let classes = RouteClass::ALL.into_iter().map(|class| {
        let limit =
            format!("requests of the class `{}`, of one caller, or of one address without a caller", class.as_str());
        row(
            &limit,
            "requests/s",
            rate(class.rate(&limits.rates)),
            "429 `too_many_requests` with Retry-After; other classes are not affected",
        )
    });
    let failed = row(
        "requests of one address with a token, cookie or ticket that is not valid",
        "requests/s",
        rate(limits.rates.failed_identification),
        "429 `too_many_requests`, except for credentials that were valid before",
    );
    let health = row("age of the health report that strangers share", "ms", PUBLIC_REPORT_MS_MAX, "a new one is made");
    let remembered = row(
        "credentials that are remembered as valid",
        "credentials",
        CREDENTIALS_REMEMBERED_MAX,
        "the oldest is forgotten",
    );
    classes.chain([failed, remembered, health]).collect()
}

fn oidc(limits: &ServerLimits) -> Vec<Row> {
    let limits = &limits.oidc;
    vec![
        row("a sign-in that was begun", "ms", limits.sign_in_ms_max, "401 `sign_in_expired`"),
        row("sign-ins that were begun, of all clients", "sign-ins", PENDING_MAX, "the oldest is dropped"),
        row("sign-ins that were begun, of one address", "sign-ins", PENDING_BY_NETWORK_MAX, "its oldest is dropped"),
        row("ID token issued before its sign-in was begun", "ms", ISSUED_BEFORE_MS_MAX, "401 `id_token_invalid`"),
        row("ID token issued in the future", "ms", CLOCK_AHEAD_MS_MAX, "401 `id_token_invalid`"),
        row(
            "authentication before its confirmation was begun",
            "ms",
            AUTHENTICATED_BEFORE_MS_MAX,
            "403 `confirmation_not_fresh`",
        ),
        row("time for a request to the provider", "ms", limits.request_ms_max, "503 `issuer_unavailable`"),
        row("answer of the provider", "bytes", RESPONSE_BYTES_MAX, "503 `issuer_unavailable`"),
        row("requests to the provider at once", "requests", CONCURRENT_REQUESTS_MAX, "the next one waits"),
        row(
            "time between two requests for keys that are not known",
            "ms",
            limits.keys_ms_min,
            "401 `id_token_invalid`",
        ),
        row(
            "delay after a failed request for the metadata",
            "ms",
            limits.retry_ms_max,
            "503 `issuer_unavailable` until it is over",
        ),
    ]
}

fn event_streams() -> Vec<Row> {
    let effect = "429 `too_many_streams`";
    vec![
        row("event streams of one session", "streams", streams::STREAMS_BY_SESSION_MAX, effect),
        row("event streams of one session's viewers", "streams", streams::STREAMS_OF_VIEWERS_MAX, effect),
        row("event streams of one caller for one session", "streams", streams::STREAMS_BY_CALLER_MAX, effect),
        row("event streams of one caller", "streams", streams::STREAMS_OF_CALLER_MAX, effect),
        row("event streams of all sessions, of one caller", "streams", streams::LIST_STREAMS_OF_CALLER_MAX, effect),
        row("event streams of all sessions, of all callers", "streams", streams::LIST_STREAMS_MAX, effect),
        row("those that are left to operators", "streams", streams::LIST_STREAMS_OF_OPERATORS_MIN, effect),
        row(
            "two reads of sessions that change all the time, for a stream of all sessions",
            "ms",
            streams::LIST_READ_MS_MIN,
            "the second one waits",
        ),
        row(
            "sessions whose last change is kept for streams of all sessions",
            "sessions",
            anteroom_controller::session::changes::SESSIONS_MAX,
            "a stream that is further behind gets `reset` and reads the list again",
        ),
        row(
            "time between two reads for all event streams of a session",
            "ms",
            streams::READ_MS_MIN,
            "changes in between are sent together",
        ),
    ]
}

fn operators_on_other_hosts() -> Vec<Row> {
    let effect = "429 `too_many_streams`";
    vec![
        row("event streams of the log and the audit trail", "streams", streams::FILE_STREAMS_MAX, effect),
        row(
            "lines that wait for one of these streams",
            "bytes",
            streams::FILE_STREAM_BYTES_MAX,
            "further lines are read later; what was rotated away is missing",
        ),
        row("log lines of one answer", "bytes", LOG_BYTES_MAX, "the oldest are left out"),
        row("log lines of one answer", "lines", LINES_MAX, "the oldest are left out"),
        row(
            "time until the next 64 KiB of a backup are read",
            "ms",
            super::maintenance::READ_MS_MAX,
            "the connection is closed",
        ),
        row("backups and checks of the database at once, through the API", "requests", 1, "429 `too_many_requests`"),
    ]
}

fn sessions_and_sockets(limits: &ServerLimits) -> Vec<Row> {
    let (config, tunnel) = (Config::default(), &limits.tunnel);
    vec![
        row(
            "machines at once (`machines.machines_max`)",
            "machines",
            config.machines.machines_max,
            "further sessions wait",
        ),
        row(
            "sessions that wait for a machine (`sessions.queue_max`)",
            "sessions",
            config.sessions.queue_max,
            "503 `no_capacity`",
        ),
        row("a session without activity (`sessions.idle_s_max`)", "s", config.sessions.idle_s_max, "the session ends"),
        row("duration of a session (`sessions.session_s_max`)", "s", config.sessions.session_s_max, "the session ends"),
        row(
            "desktop viewers of one session",
            "viewers",
            limits.sessions.viewers_max,
            "a view-only one gets 429 `too_many_viewers`, close code 4429; one that can act replaces the oldest of its caller, else the \
             oldest view-only one, else the oldest, which is closed with 4429 `viewer_replaced`",
        ),
        row(
            "helpers and open invitations of one session",
            "helpers",
            anteroom_controller::session::helpers::HELPERS_MAX,
            "429 `too_many_helpers`",
        ),
        row("commands of one session with their own streams", "commands", EXECS_MAX, "429 `too_many_viewers`"),
        row("message of a command with its own streams", "bytes", exec::PAYLOAD_BYTES_MAX, "close code 4413"),
        row("first message of it", "bytes", exec::START_BYTES_MAX, "the connection is closed"),
        row(
            "input of a command that it has not read",
            "bytes",
            exec::STDIN_WINDOW_BYTES,
            "the command is ended: clients wait until it is granted",
        ),
        row("terminals of one session", "terminals", TERMINALS_MAX, "429 `too_many_viewers`, close code 4429"),
        row("files of a credential", "files", FILES_MAX, "the delivery is rejected"),
        row("credential file", "bytes", limits.sessions.credential_bytes_max, "the delivery is rejected"),
        row("message of a viewer", "bytes", tunnel.message_bytes_max, "the WebSocket is closed"),
        row(
            "bytes of a viewer before its machine is connected",
            "bytes",
            tunnel.early_bytes_max,
            "the WebSocket is closed",
        ),
        row("a viewer that answers no ping", "ms", tunnel.pong_ms_max, "the WebSocket is closed"),
        row("a viewer that accepts no data", "ms", tunnel.stall_ms_max, "the WebSocket is closed"),
    ]
}

fn egress() -> Vec<Row> {
    let (egress, config) = (EgressSettings::default(), Config::default().egress);
    let used = "`egress_limit`; open connections are closed";
    vec![
        row(
            "bytes that one session sends (`egress.session_upload_mib_max`)",
            "MiB",
            config.session_upload_mib_max,
            used,
        ),
        row(
            "bytes that one session receives (`egress.session_download_mib_max`)",
            "MiB",
            config.session_download_mib_max,
            used,
        ),
        row(
            "rate of one session in each direction, over all its connections (`egress.session_kib_per_s_max`)",
            "KiB/s",
            config.session_kib_per_s_max,
            "its connections wait",
        ),
        row(
            "outbound connections of one machine",
            "connections",
            egress.connections_per_machine_max,
            "the next one waits, then it is refused",
        ),
        row("outbound connection without traffic", "s", egress.connection_idle_s_max, "the connection is closed"),
        row("duration of an outbound connection", "s", egress.connection_lifetime_s_max, "the connection is closed"),
        row(
            "first message of a connection to port 443 (TLS ClientHello)",
            "bytes",
            CLIENT_HELLO_BYTES_MAX,
            "`egress_denied`",
        ),
        row("host name", "bytes", NAME_BYTES_MAX, "`egress_denied`"),
        row("head of an answer of the proxy (`egress.proxy`)", "bytes", PROXY_HEAD_BYTES_MAX, "`egress_proxy`"),
        row(
            "certificates of `egress.extra_ca_files` together, as PEM",
            "bytes",
            EXTRA_CA_BYTES_MAX,
            "the server does not start",
        ),
        row(
            "hosts that a session's summary of its traffic counts apart",
            "hosts",
            EGRESS_HOSTS_MAX,
            "the traffic of further ones is counted together",
        ),
        row(
            "hosts of one session whose certificate the gate looks at, after the machine gave up its TLS handshake",
            "hosts",
            CHECKED_HOSTS_MAX,
            "further ones are not looked at",
        ),
        row("hosts that operators allow one session", "hosts", GRANTS_PER_SESSION_MAX, "400 `malformed`"),
        row("names that are resolved at once", "names", egress.concurrent_lookups_max, "the next one waits"),
    ]
}

fn document() -> String {
    let limits = ServerLimits::default();
    let sections = [
        ("Connections over TCP", connections(&limits)),
        ("Request bodies", requests(&limits)),
        ("Rates", rates(&limits)),
        ("Sign-in with an OpenID provider", oidc(&limits)),
        ("Callers, names and texts", texts::callers(&limits)),
        ("Lists", texts::lists()),
        ("Event streams", event_streams()),
        ("For operators on other hosts", operators_on_other_hosts()),
        ("Sessions and WebSockets", sessions_and_sockets(&limits)),
        ("What viewers may repeat", repeated::viewers()),
        ("What machines and strangers may repeat, and what stays of it", repeated::machines()),
        ("Messages of machines", texts::machines()),
        ("Channels of machines", channels::rows()),
        ("Outbound connections of machines", egress()),
        ("PostgreSQL", database::rows()),
        ("Hosts of a cluster", peers::peers()),
        ("Records", texts::records(&limits)),
    ];
    let mut text = String::from(
        "# Limits\n\n\
         What a client, a viewer, a backend or a machine may use, and what happens at each limit. A *stranger* is a client none of whose\n\
         requests on its connection carried a valid token or cookie. A limit with a setting names it; the others are constants.\n\
         Half of the process's open files may lower the numbers of connections; the server raises `nofile` to its hard limit at its start.\n\n\
         Behind a reverse proxy, set `trusted_proxies`: limits by address then apply to the client that the proxy reports, not to the proxy.\n\n\
         This file is generated from `crates/server/src/http/limits_document.rs`; `ANTEROOM_WRITE_DOCS=1` rewrites it when its test runs.\n",
    );
    for (title, rows) in sections {
        text += &format!("\n## {title}\n\n| limit | unit | default | at the limit |\n|---|---|--:|---|\n");
        for Row { limit, unit, default, effect } in rows {
            text += &format!("| {limit} | {unit} | {default} | {effect} |\n");
        }
    }
    text
}

/// `ANTEROOM_WRITE_DOCS=1` rewrites the document.
#[test]
fn docs_limits_matches_the_limits() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/limits.md");
    let wanted = document();
    if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == wanted, "docs/limits.md differs from the limits; ANTEROOM_WRITE_DOCS=1 writes it");
}
