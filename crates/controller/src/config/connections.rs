//! Ranges of the numbers for connections: HTTP, WebSockets, the database, egress.

use super::Config;

/// Calls `check` with the name, value, minimum and maximum of every number.
pub(super) fn check_ranges(config: &Config, check: &mut impl FnMut(&str, u64, u64, u64)) {
    let h = &config.http;
    check("http.body_bytes_max", h.body_bytes_max as u64, 1024, 64 * 1024 * 1024);
    check("http.delivery_bytes_max", h.delivery_bytes_max as u64, 1024, 64 * 1024 * 1024);
    check("http.drain_ms_max", h.drain_ms_max, 0, 600_000);
    let t = &config.tunnel;
    check("tunnel.ping_every_ms", t.ping_every_ms, 100, 600_000);
    check("tunnel.pong_ms_max", t.pong_ms_max, 100, 600_000);
    check("tunnel.stall_ms_max", t.stall_ms_max, 100, 3_600_000);
    check("tunnel.chunk_bytes", t.chunk_bytes as u64, 512, 1 << 20);
    check("tunnel.message_bytes_max", t.message_bytes_max as u64, 1024, 16 * 1024 * 1024);
    check("tunnel.first_bytes_max", t.first_bytes_max as u64, 64, 16 * 1024 * 1024);
    check("tunnel.connect_ms_max", t.connect_ms_max, 10, 600_000);
    check("tunnel.close_reason_wait_ms", t.close_reason_wait_ms, 0, 60_000);
    check("tunnel.close_ms_max", t.close_ms_max, 10, 600_000);
    check("store.busy_ms_max", config.store.busy_ms_max, 1, 600_000);
    check("store.slow_write_ms", config.store.slow_write_ms, 1, 600_000);
    let e = &config.egress.limits;
    check("egress.limits.resolve_ms_max", e.resolve_ms_max, 10, 120_000);
    check("egress.limits.connect_ms_max", e.connect_ms_max, 10, 120_000);
    check("egress.limits.attempt_ms_max", e.attempt_ms_max, 10, 120_000);
    check("egress.limits.stagger_ms", e.stagger_ms, 1, 60_000);
    check("egress.limits.addresses_max", e.addresses_max as u64, 1, 64);
    check("egress.limits.idle_s_max", e.idle_s_max, 1, 86_400);
    check("egress.limits.total_s_max", e.total_s_max, 1, 7 * 24 * 3600);
    check("egress.limits.connections_max", e.connections_max as u64, 1, 12);
    check("egress.limits.connection_wait_ms_max", e.connection_wait_ms_max, 0, 120_000);
    check("egress.limits.concurrent_lookups_max", e.concurrent_lookups_max as u64, 1, 1_000);
}
