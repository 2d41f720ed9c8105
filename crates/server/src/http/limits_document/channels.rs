//! The channels between the server and a machine's agent.

use super::{Row, row};
use anteroom_controller::config::Config;
use anteroom_machine::{
    BROKEN_STREAMS_MAX, BYTES_BEFORE_ECHO_MAX, CallLimits, FRAMES_BURST, FRAMES_PER_S, RESET_STREAMS_MAX,
    SHORT_CONNECTION_EVERY_MS, SHORT_CONNECTION_MS, SHORT_CONNECTIONS_BURST, VIOLATION_EVERY_MS, VIOLATIONS_BURST,
};
use anteroom_wire::{
    agent::SCREEN_LINES_MAX,
    channel::{
        CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, HEADER_LIST_BYTES_MAX, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
        STREAMS_MAX,
    },
};

/// An exceeded limit that ends the connection and counts as a violation.
const VIOLATION: &str = "the connection is closed: a violation";
const STOPPED: &str = "the machine is stopped with `channel_violation`";

fn connections() -> Vec<Row> {
    let liveness_s = Config::default().machines.liveness_timeout_s;
    let every = |every_ms: u32, burst: u32| format!("1 in {every_ms} ms, {burst} at once");
    vec![
        row("violations of one machine", "violations", every(VIOLATION_EVERY_MS, VIOLATIONS_BURST), STOPPED),
        row(
            &format!("connections of one channel that end within {SHORT_CONNECTION_MS} ms"),
            "connections",
            every(SHORT_CONNECTION_EVERY_MS, SHORT_CONNECTIONS_BURST),
            STOPPED,
        ),
        row("bytes before the echo of a nonce", "bytes", BYTES_BEFORE_ECHO_MAX, VIOLATION),
        row("HTTP/2 preface of a machine (`machines.liveness_timeout_s`)", "s", liveness_s, VIOLATION),
        row("a machine that reads nothing (`machines.liveness_timeout_s`)", "s", liveness_s, VIOLATION),
    ]
}

fn http2() -> Vec<Row> {
    let waits = "the sender waits";
    vec![
        row("HTTP/2 frames without data", "frames/s", format!("{FRAMES_PER_S}, {FRAMES_BURST} at once"), VIOLATION),
        row("HTTP/2 frame", "bytes", FRAME_BYTES_MAX, VIOLATION),
        row("list of headers of one message", "bytes", HEADER_LIST_BYTES_MAX, "431, or the stream is reset"),
        row("streams at once of one machine", "streams", STREAMS_MAX, "REFUSED_STREAM"),
        row("streams that were reset before they were accepted", "streams", RESET_STREAMS_MAX, VIOLATION),
        row("streams that broke the protocol", "streams", BROKEN_STREAMS_MAX, VIOLATION),
        row("unread bytes of one stream", "bytes", STREAM_WINDOW_BYTES, waits),
        row("unread bytes of one connection", "bytes", CONNECTION_WINDOW_BYTES, waits),
        row("bytes of one stream that the machine has not read", "bytes", SEND_BUFFER_BYTES, waits),
    ]
}

fn answers() -> Vec<Row> {
    let calls = CallLimits::default();
    let failed = "the call fails with `agent_unreachable`";
    vec![
        row("answer of an agent", "bytes", calls.response_bytes_max, failed),
        row("terminal's screen with its scrollback", "bytes", calls.screen_bytes_max, failed),
        row("lines of it", "lines", SCREEN_LINES_MAX, failed),
        row("time for an answer", "ms", calls.call_ms_max, failed),
        row("time for an answer to input for the tool", "ms", calls.tool_ms_max, failed),
        row(
            "time for the claim of a machine",
            "ms",
            calls.claim_ms_max,
            "the machine is replaced, or the session ends with `claim_failed`",
        ),
    ]
}

pub(super) fn rows() -> Vec<Row> {
    [connections(), http2(), answers()].into_iter().flatten().collect()
}
