//! What the viewers and the machine of a session may repeat, and what stays of it in records.

use super::{Row, row};
use anteroom_controller::{
    log::line_budget::{
        LIBRARY_LINES_PER_MINUTE_MAX, SECURITY_LINES_PER_DAY_MAX, SECURITY_LINES_PER_MINUTE_MAX,
        SESSION_LINES_PER_MINUTE_MAX,
    },
    session::{
        request_rates::{MachineRequest, SessionRate, ViewerRequest},
        timeline::{BYTES_BY_KIND_MAX, ENTRIES_BY_KIND_MAX},
    },
};
use anteroom_store::StoreSettings;
use anteroom_tunnel::{
    desktop_input::{CLIPBOARD_PER_S, FORMATS_PER_S, KEYS_PER_S, POINTER_PER_S, SIZES_PER_S, UPDATES_PER_S},
    viewer_rate::{BYTES_BURST, BYTES_PER_S, MESSAGES_BURST, MESSAGES_PER_S},
};

fn text(SessionRate { every_ms, burst }: SessionRate) -> String {
    format!("1 in {every_ms} ms, {burst} at once")
}

pub(super) fn viewers() -> Vec<Row> {
    let rejected = "429 `too_many_requests` with the time to wait";
    let request = |limit, request: ViewerRequest| row(limit, "requests", text(request.rate()), rejected);
    let message = |limit, per_s: u32, effect| row(limit, "messages/s", per_s, effect);
    let newest = "the newest of consecutive ones is kept";
    let at_once = |per_s: u32, burst: u32| format!("{per_s}, {burst} at once");
    vec![
        request("texts for the tool, and addresses to open, in one session", ViewerRequest::Input),
        request("changes of the sign-in method of one session", ViewerRequest::MethodChange),
        request("tickets for one session", ViewerRequest::Ticket),
        request("reads of the terminal's screen of one session", ViewerRequest::Screen),
        row("bytes of one viewer", "bytes/s", at_once(BYTES_PER_S, BYTES_BURST), "the viewer is not read"),
        row("messages of one viewer", "messages/s", at_once(MESSAGES_PER_S, MESSAGES_BURST), "the viewer is not read"),
        message("pointer moves to a desktop", POINTER_PER_S, newest),
        message("keys and buttons to a desktop", KEYS_PER_S, "they wait; none is lost"),
        message("requests for updates of a desktop", UPDATES_PER_S, "consecutive ones become one for both areas"),
        message("clipboard texts to a desktop", CLIPBOARD_PER_S, newest),
        message("sizes of a desktop", SIZES_PER_S, newest),
        message("pixel formats and encodings of a desktop", FORMATS_PER_S, newest),
    ]
}

pub(super) fn machines() -> Vec<Row> {
    let request =
        |limit, request: MachineRequest| row(limit, "requests", text(request.rate()), "they wait in the machine");
    let store = StoreSettings::default();
    vec![
        request("requests of one machine's agent, outbound connections included", MachineRequest::Channel),
        request("events of one machine's agent", MachineRequest::Event),
        row(
            "entries of one kind on a session's timeline",
            "entries",
            ENTRIES_BY_KIND_MAX,
            "further ones are counted; one entry reports the count",
        ),
        row("bytes of these entries", "bytes", BYTES_BY_KIND_MAX, "the same"),
        row(
            "entries of a session's timeline",
            "entries",
            store.timeline_entries_max,
            "only changes of its state are added",
        ),
        row("sentence of an entry", "bytes", store.sentence_bytes_max, "it is truncated"),
        row("details of an entry", "bytes", store.event_data_bytes_max, "they are replaced by their size"),
        row(
            "log lines of one session or machine from one place in the source",
            "lines/min",
            SESSION_LINES_PER_MINUTE_MAX,
            "further ones are counted; one line reports the count",
        ),
        row(
            "log lines of a library from one place in its source",
            "lines/min",
            LIBRARY_LINES_PER_MINUTE_MAX,
            "the same",
        ),
        row(
            "log lines about refused requests from one place in the source",
            "lines/min",
            format!("{SECURITY_LINES_PER_MINUTE_MAX}, {SECURITY_LINES_PER_DAY_MAX} in a day"),
            "the same",
        ),
    ]
}
