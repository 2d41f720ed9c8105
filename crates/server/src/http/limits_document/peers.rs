//! The limits between the hosts of a cluster.

use super::{Row, row};
use crate::{
    peer_server::limits::{CONNECTIONS_MAX, HANDSHAKE_MS_MAX, HANDSHAKES_MAX, REQUEST_BYTES_MAX},
    peers::limits::{ANSWER_MS_MAX, ERASE_MS_MAX, OWNERS_MAX, SILENT_MS_MAX},
};
use anteroom_cluster::peer::{CERTIFICATE_LIFETIME_S, INVITATION_S_MAX};
use anteroom_controller::session::{placement, views_of_hosts};

pub(super) fn peers() -> Vec<Row> {
    vec![
        row("handshakes of other hosts at once", "connections", HANDSHAKES_MAX, "the connection is closed"),
        row("a handshake of another host", "ms", HANDSHAKE_MS_MAX, "the connection is closed"),
        row(
            "connections of other hosts; each viewer through another host has one",
            "connections",
            CONNECTIONS_MAX,
            "the connection is closed",
        ),
        row("a host that answers nothing", "ms", SILENT_MS_MAX, "503 `host_unreachable`, sockets close with 4511"),
        row("answer of a host to an operator's list", "ms", ANSWER_MS_MAX, "it is shown as `silent`"),
        row(
            "hosts that are offered a session that waits",
            "hosts",
            placement::ASKED_MAX,
            "it waits for a host with room",
        ),
        row("answer of a host to such an offer", "ms", placement::ANSWER_MS_MAX, "the next host is asked"),
        row(
            "sessions in one question for their views",
            "sessions",
            views_of_hosts::ASKED_MAX,
            "the rest is another question",
        ),
        row("a host's part of an erasure", "ms", ERASE_MS_MAX, "503 `not_ready`, or the report names the host"),
        row("sessions whose host is remembered", "sessions", OWNERS_MAX, "the database is asked for each request"),
        row("request of a machine that joins", "bytes", REQUEST_BYTES_MAX, "the connection is closed"),
        row("an invitation of a host; it is used once", "s", INVITATION_S_MAX, "the machine that joins is refused"),
        row("a host's certificate", "s", CERTIFICATE_LIFETIME_S, "other hosts refuse it; the server renews it before"),
    ]
}
