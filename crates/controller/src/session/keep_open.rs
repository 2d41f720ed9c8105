//! Keeps a session open: its idle time starts again. Its total time does not.

use super::{channels::require_active, context::SessionContext};
use crate::{api_error::ApiError, unix_time::now_unix_ms};
use anteroom_store::SessionRow;
use anteroom_wire::SessionId;

/// A use is written again after this long, milliseconds: each visible page reports itself every few seconds.
const WRITTEN_MS_MIN: u64 = 1_000;

/// Records a use of the session; the row that is returned has the new idle deadline.
///
/// # Errors
/// There is no such session, it has ended, or the database cannot be used.
pub async fn keep_open(context: &SessionContext, id: &SessionId) -> Result<SessionRow, ApiError> {
    let (row, session) = require_active(context, id).await?;
    session.activity.record();
    let now = now_unix_ms();
    if row.last_used_at_ms.saturating_add(WRITTEN_MS_MIN) > now {
        return Ok(row);
    }
    let idle_deadline = now + context.config().sessions.idle_s_max * 1_000;
    context.store.record_session_use(id, now, Some(idle_deadline)).await?;
    session.notify_subscribers();
    Ok(require_active(context, id).await?.0)
}
