//! The connections to PostgreSQL.

use super::{Row, row};
use anteroom_controller::{health::database::WRITE_MS_MAX, limits::ServerLimits};
use anteroom_store::{
    StoreSettings,
    postgres_limits::{ANSWER_MS_MAX, CONNECT_MS_MAX, IDLE_IN_TRANSACTION_MS_MAX, STATEMENT_MS_MAX},
};

pub(super) fn rows() -> Vec<Row> {
    let (settings, limits) = (StoreSettings::default(), ServerLimits::default());
    let waits = "the next statement waits";
    let unavailable = "503 `database_unavailable`";
    vec![
        row("connections of a server that write", "connections", 1, waits),
        row("connections of a server that read", "connections", settings.readers_max, waits),
        row("wait for one of them, and again for another server's write", "ms", limits.store.busy_ms_max, unavailable),
        row("a statement, by the database's clock", "ms", STATEMENT_MS_MAX, unavailable),
        row("answer to a statement", "ms", ANSWER_MS_MAX, "the connection is replaced; 503 `database_unavailable`"),
        row("a new connection to one address", "ms", CONNECT_MS_MAX, "the next address is tried"),
        row(
            "a write transaction of a host of a cluster without a statement",
            "ms",
            IDLE_IN_TRANSACTION_MS_MAX,
            "the database ends the connection",
        ),
        row("wait for the database when the server starts", "ms", settings.connect_ms_max, "the server does not start"),
        row("wait of a health report for a write", "ms", WRITE_MS_MAX, "`/health` says `down`, since when"),
    ]
}
