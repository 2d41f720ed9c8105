//! Sessions: duration, limits and timeouts.

use serde::{Deserialize, Serialize};

/// Sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sessions {
    /// A session without activity for this long ends, seconds.
    pub idle_s_max: u64,
    /// Longest duration of a session, seconds.
    pub session_s_max: u64,
    /// How often the machine of one session may be replaced.
    pub restarts_max: u32,
    /// Sessions that wait for a machine; further ones are rejected.
    pub queue_max: u32,
    /// Desktop viewers of one session.
    pub viewers_max: u32,
    /// How long a viewer's WebSocket waits for the machine to be ready before it is rejected, milliseconds.
    pub socket_wait_ms_max: u64,
    /// Lifetime of a WebSocket ticket, seconds.
    pub ticket_s_max: u64,
    /// Lifetime of a login link, seconds.
    pub login_link_s_max: u64,
    /// Lifetime of a login cookie, seconds.
    pub cookie_s_max: u64,
    /// A credential file must be unchanged for this long before it is delivered, milliseconds.
    pub capture_stable_ms: u64,
    /// Largest credential file, bytes.
    pub credential_bytes_max: u64,
    /// First delay before a failed delivery is retried, milliseconds.
    pub delivery_retry_ms_min: u64,
    /// Longest delay before a failed delivery is retried, milliseconds.
    pub delivery_retry_ms_max: u64,
    /// Timeout of the tool's status command, milliseconds.
    pub status_command_ms_max: u64,
    /// While a credential is being delivered, the end of the session at a deadline is delayed by at most this, seconds.
    pub delivery_grace_s: u64,
    /// Interval of the reconciliation, milliseconds.
    pub reconcile_every_ms: u64,
    /// Timeline entries of one session that are buffered while the database cannot be written; when the buffer is full, the
    /// oldest entry is dropped.
    pub timeline_buffer_max: usize,
    /// After a rejection was written to the timeline, further ones with the same cause are only counted for this long,
    /// milliseconds.
    pub rejection_log_interval_ms: u64,
    /// Sessions and machines that one reconciliation may end; the others are ended by the next one.
    pub reconcile_stops_max: usize,
    /// If an ended machine is not removed after this time, it is logged on the timeline and no longer waited for, seconds.
    pub cleanup_timeout_s: u64,
    /// If the connection to a machine's agent is broken for this long, it is logged on the timeline, milliseconds.
    pub channel_lost_after_ms: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            idle_s_max: 600,
            session_s_max: 3600,
            restarts_max: 2,
            queue_max: 100,
            viewers_max: 4,
            socket_wait_ms_max: 20_000,
            ticket_s_max: 60,
            login_link_s_max: 900,
            cookie_s_max: 12 * 3600,
            capture_stable_ms: 300,
            credential_bytes_max: 512 * 1024,
            delivery_retry_ms_min: 250,
            delivery_retry_ms_max: 5_000,
            status_command_ms_max: 30_000,
            delivery_grace_s: 60,
            reconcile_every_ms: 5_000,
            timeline_buffer_max: 500,
            rejection_log_interval_ms: 60_000,
            reconcile_stops_max: 10,
            cleanup_timeout_s: 30,
            channel_lost_after_ms: 1_000,
        }
    }
}

impl Sessions {
    /// Calls `check` with the name, value, minimum and maximum of every number.
    pub(super) fn check_ranges(&self, check: &mut impl FnMut(&str, u64, u64, u64)) {
        check("sessions.idle_s_max", self.idle_s_max, 1, 86_400);
        check("sessions.session_s_max", self.session_s_max, 1, 86_400);
        check("sessions.restarts_max", self.restarts_max.into(), 0, 100);
        check("sessions.queue_max", self.queue_max.into(), 0, 100_000);
        check("sessions.viewers_max", self.viewers_max.into(), 1, 100);
        check("sessions.socket_wait_ms_max", self.socket_wait_ms_max, 0, 600_000);
        check("sessions.ticket_s_max", self.ticket_s_max, 1, 3_600);
        check("sessions.login_link_s_max", self.login_link_s_max, 1, 86_400);
        check("sessions.cookie_s_max", self.cookie_s_max, 1, 365 * 24 * 3600);
        check("sessions.capture_stable_ms", self.capture_stable_ms, 0, 60_000);
        check("sessions.credential_bytes_max", self.credential_bytes_max, 64, 16 * 1024 * 1024);
        check("sessions.delivery_retry_ms_min", self.delivery_retry_ms_min, 1, 60_000);
        check("sessions.delivery_retry_ms_max", self.delivery_retry_ms_max, self.delivery_retry_ms_min, 600_000);
        check("sessions.status_command_ms_max", self.status_command_ms_max, 100, 600_000);
        check("sessions.delivery_grace_s", self.delivery_grace_s, 0, 3_600);
        check("sessions.reconcile_every_ms", self.reconcile_every_ms, 10, 600_000);
        check("sessions.timeline_buffer_max", self.timeline_buffer_max as u64, 10, 100_000);
        check("sessions.rejection_log_interval_ms", self.rejection_log_interval_ms, 100, 86_400_000);
        check("sessions.reconcile_stops_max", self.reconcile_stops_max as u64, 1, 10_000);
        check("sessions.cleanup_timeout_s", self.cleanup_timeout_s, 1, 3_600);
        check("sessions.channel_lost_after_ms", self.channel_lost_after_ms, 0, 600_000);
    }
}
