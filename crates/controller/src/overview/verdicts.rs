//! The verdicts of ended sessions. They do not change any more, so each is computed once.

use crate::{
    session::{diagnose, server_context::ServerContext},
    unix_time::now_unix_ms,
};
use anteroom_store::{SessionRow, StoreError};
use anteroom_wire::diagnosis::Verdict;

/// How long after its end a session's timeline can still get the entry that explains it, milliseconds: its machine's removal takes
/// seconds.
const SETTLED_AFTER_MS: u64 = 60_000;

/// Why the session ended; `None`: it is active.
///
/// # Errors
/// The database cannot be read.
pub async fn verdict_of(server_context: &ServerContext, row: &SessionRow) -> Result<Option<Verdict>, StoreError> {
    let Some(end) = row.end() else { return Ok(None) };
    if let Some(known) = server_context.settled_verdicts.get(&row.id) {
        return Ok(Some(known));
    }
    // Another request may have erased the session in between.
    let Some(diagnosis) = diagnose::diagnose(server_context, &row.id).await? else { return Ok(None) };
    if now_unix_ms() > end.at_ms.saturating_add(SETTLED_AFTER_MS) {
        server_context.settled_verdicts.insert(&row.id, diagnosis.verdict);
    }
    Ok(Some(diagnosis.verdict))
}
