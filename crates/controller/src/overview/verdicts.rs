//! The verdicts of ended sessions. They do not change any more, so each is computed once.

use crate::session::{diagnose, server_context::ServerContext};
use anteroom_store::{SessionRow, StoreError};
use anteroom_wire::diagnosis::Verdict;

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
    server_context.settled_verdicts.insert_settled(&row.id, diagnosis.verdict, end.at_ms);
    Ok(Some(diagnosis.verdict))
}
