//! Lengths and ages of what callers choose, lists, messages of machines, and records.

use super::{Row, row};
use crate::{
    auth::browsers::BROWSERS_MAX,
    http::{audit, credentials, invitations, session, session_list, sign_in, tickets},
    listener::{
        REFUSALS_MAX,
        redirect::{REDIRECT_MS_MAX, REDIRECTS_MAX},
    },
};
use anteroom_audit::{DETAIL_CHARS_MAX, JOBS_MAX, KNOWN_MAX, STRANGERS_MAX};
use anteroom_controller::{
    api_tokens, bundle,
    credentials::turns,
    limits::ServerLimits,
    log::line_budget,
    oidc, retention,
    session::{
        active_session::SIGN_IN_CHANGES_MAX,
        agent_events::{self, reported_sign_in},
        rejections::aggregator,
        sign_in_address,
        start::{self, for_use},
        timeline::buffer::BUFFERED_ENTRIES_MAX,
        use_credential::volatile_execs,
    },
    webhook::{self, receiver_settings},
};
use anteroom_tunnel::{
    ENCODINGS_MAX,
    desktop_input::{WAITING_BYTES_MAX, WAITING_MESSAGES_MAX},
};
use anteroom_wire::guest_text;

pub(super) fn callers(limits: &ServerLimits) -> Vec<Row> {
    let malformed = "400 `malformed`";
    let browsers = &limits.browsers;
    vec![
        row("name of a token", "characters", api_tokens::NAME_CHARS_MAX, malformed),
        row("lifetime of a token, and overlap of a rotation", "s", api_tokens::LIFETIME_S_MAX, malformed),
        row("name of a helper", "characters", invitations::NAME_CHARS_MAX, malformed),
        row("name of a person of the OpenID provider", "bytes", oidc::NAME_BYTES_MAX, "it is truncated"),
        row("id of a person at the OpenID provider", "bytes", oidc::SUBJECT_BYTES_MAX, "401 `id_token_invalid`"),
        row("id of a user, idempotency key", "characters", start::TEXT_CHARS_MAX, malformed),
        row("return address", "bytes", start::URL_BYTES_MAX, malformed),
        row("words of a command with a credential", "words", for_use::ARGV_WORDS_MAX, malformed),
        row("bytes of these words", "bytes", for_use::ARGV_BYTES_MAX, malformed),
        row(
            "sessions that wait for their turn with one credential",
            "sessions",
            turns::USES_WAITING_MAX,
            "409 `credential_in_use`",
        ),
        row("wait of a lease for the end of a use", "s", turns::LEASE_WAIT_S_MAX, "409 `credential_in_use`"),
        row("text for the tool", "bytes", sign_in::TEXT_BYTES_MAX, malformed),
        row("address that a viewer opens", "bytes", sign_in::URL_BYTES_MAX, malformed),
        row("lifetime of a ticket", "s", tickets::TICKET_S_MAX, "401 `ticket_used`"),
        row("a browser that is not used", "ms", browsers.idle_ms_max, "it is signed out"),
        row("age of a confirmation", "ms", browsers.confirmation_ms_max, "403 `confirmation_required`"),
    ]
}

pub(super) fn lists() -> Vec<Row> {
    let newest = "the answer has the newest";
    let cursor = "a larger number is lowered; `next_cursor` continues";
    vec![
        row("sessions in one answer", "sessions", session_list::LIMIT_MAX, cursor),
        row("timeline entries in one answer", "entries", session::ENTRIES_MAX, "`after` asks for further ones"),
        row("credentials in one answer", "credentials", credentials::CREDENTIALS_MAX, cursor),
        row("tokens in one answer", "tokens", api_tokens::TOKENS_MAX, cursor),
        row("browsers in one answer", "browsers", BROWSERS_MAX, newest),
        row("records of the audit trail in one answer", "records", audit::LIMIT_MAX, cursor),
    ]
}

pub(super) fn machines() -> Vec<Row> {
    let truncated = "it is truncated";
    vec![
        row("events in one request", "events", agent_events::EVENTS_MAX, "the agent sends the others again"),
        row("text of an event", "bytes", guest_text::GUEST_TEXT_BYTES_MAX, truncated),
        row("lines of a text", "lines", guest_text::GUEST_LINES_MAX, "further ones are dropped"),
        row("line of a terminal's screen", "bytes", guest_text::GUEST_SCREEN_LINE_BYTES_MAX, truncated),
        row("sign-in address", "bytes", sign_in_address::ADDRESS_BYTES_MAX, "it is not shown"),
        row("device code", "characters", reported_sign_in::CODE_CHARS_MAX, "it is not shown"),
        row("new sign-in addresses and codes of one session", "changes/min", SIGN_IN_CHANGES_MAX, "they are not shown"),
        row(
            "last screens of commands that are kept",
            "screens",
            volatile_execs::SCREENS_MAX,
            "the oldest is discarded",
        ),
        row("last screen of a command", "bytes", volatile_execs::SCREEN_BYTES_MAX, "its end is kept"),
        row("messages that wait for a desktop", "messages", WAITING_MESSAGES_MAX, "the viewer is not read"),
        row("bytes that wait for a desktop", "bytes", WAITING_BYTES_MAX, "the viewer is not read"),
        row("encodings that a view-only viewer names", "encodings", ENCODINGS_MAX, "the WebSocket is closed"),
    ]
}

pub(super) fn records(limits: &ServerLimits) -> Vec<Row> {
    vec![
        row("name, id or address in the audit trail", "characters", anteroom_audit::TEXT_CHARS_MAX, "it is truncated"),
        row("detail in the audit trail", "characters", DETAIL_CHARS_MAX, "it is truncated"),
        row("records that wait to be written", "records", JOBS_MAX, "503; what reveals a secret is refused"),
        row(
            "first interval in which repeated deeds are only counted",
            "ms",
            limits.audit.repeat_interval_ms,
            "one record reports the count; the interval doubles",
        ),
        row(
            "addresses and routes of strangers that are counted apart",
            "counts",
            STRANGERS_MAX,
            "others are counted together",
        ),
        row("deeds of callers that are counted apart", "counts", KNOWN_MAX, "others are counted together"),
        row("refused requests that are counted apart", "counts", aggregator::WINDOWS_MAX, "others are only logged"),
        row(
            "places and sessions whose log lines are counted",
            "counts",
            line_budget::WINDOWS_MAX,
            "idle ones are forgotten",
        ),
        row(
            "refused connections that are answered at once",
            "connections",
            REFUSALS_MAX,
            "others are closed without an answer",
        ),
        row(
            "connections of plain HTTP that are redirected at once",
            "connections",
            REDIRECTS_MAX,
            "others are closed without an answer",
        ),
        row("time of such a connection", "ms", REDIRECT_MS_MAX, "it is closed"),
        row(
            "timeline entries that wait while the database cannot be written",
            "entries",
            BUFFERED_ENTRIES_MAX,
            "further ones are dropped and counted",
        ),
        row(
            "receivers of webhook messages",
            "receivers",
            receiver_settings::RECEIVERS_MAX,
            "the configuration is refused",
        ),
        row("name of such a receiver", "characters", receiver_settings::NAME_CHARS_MAX, "the configuration is refused"),
        row("answer of the webhook's receiver", "bytes", webhook::RESPONSE_BYTES_MAX, "the rest is not read"),
        row("support bundles that are kept", "bundles", retention::BUNDLES_MAX, "the oldest is deleted"),
        row("file in a support bundle", "bytes", bundle::FILE_BYTES_MAX, "its end is included"),
        row("timeline entries in a support bundle", "entries", bundle::ENTRIES_MAX, "further ones are left out"),
    ]
}
