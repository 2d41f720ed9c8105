//! Sessions: how long they last, how often a machine is replaced, and how long everything about them may take.

use serde::{Deserialize, Serialize};

/// Sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sessions {
    /// A session that nobody uses ends after this.
    pub idle_s_max: u64,
    /// A session ends after this whatever happens.
    pub session_s_max: u64,
    /// Machines that may be replaced under one session.
    pub restarts_max: u32,
    /// Sessions waiting for a machine; one more is refused.
    pub queue_max: u32,
    /// Desktop viewers of one session.
    pub viewers_max: u32,
    /// How long a socket waits for the machine to be ready before it is refused.
    pub socket_wait_ms_max: u64,
    /// A ticket's life.
    pub ticket_s_max: u64,
    /// The life of the pass in a printed or returned link.
    pub login_link_s_max: u64,
    /// The life of a signed-in cookie.
    pub cookie_s_max: u64,
    /// A credential file must be unchanged for this long.
    pub capture_stable_ms: u64,
    /// Largest credential file, bytes.
    pub credential_bytes_max: u64,
    /// First wait before a delivery is tried again.
    pub delivery_retry_ms_min: u64,
    /// Longest such wait.
    pub delivery_retry_ms_max: u64,
    /// How long the tool's own status command may take.
    pub status_command_ms_max: u64,
    /// A credential that waits to be delivered holds the session's deadlines back for this long.
    pub delivery_grace_s: u64,
    /// How often the sweep looks for what is overdue.
    pub reconcile_every_ms: u64,
    /// Timeline entries of one session that wait while the database cannot be written; the oldest is dropped for one more.
    pub timeline_buffer_max: usize,
    /// How long refusals for one cause are only counted after the first was put on the timeline.
    pub rejection_log_interval_ms: u64,
    /// What one sweep may end or stop; the rest waits for the next one.
    pub reconcile_stops_max: usize,
    /// A machine that was told to stop, or has died, and is not seen gone for this long is told of on the timeline and let go.
    pub cleanup_timeout_s: u64,
    /// A way to a machine's agent that stays broken for this long is told of on the timeline.
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
