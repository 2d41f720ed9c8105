//! What follows when a row of the database was changed outside of this server.

use super::{context::SessionContext, end};
use crate::{api_error::chain, keys::record_tampered_row};
use anteroom_store::TamperedRow;
use anteroom_wire::{SessionId, backoff::Backoff};
use std::time::Duration;

const RETRY_MS_MIN: u64 = 100;
const RETRY_MS_MAX: u64 = 5_000;

/// Records such rows in the audit trail when they are found, and ends sessions whose row is one. Runs until the server stops.
pub async fn run_row_alarms(context: SessionContext) {
    loop {
        let found = tokio::select! {
            found = context.store.take_tampered_rows() => found,
            () = context.stop.cancelled() => return,
        };
        for tampered in found {
            record_tampered_row(&context.audit, &tampered).await;
            if let Some(session) = session_of(&tampered) {
                end_with_retries(&context, &session).await;
            }
        }
    }
}

/// The session, if the row is one.
fn session_of(TamperedRow { table, row }: &TamperedRow) -> Option<SessionId> {
    (*table == "sessions").then(|| row.parse().ok()).flatten()
}

async fn end_with_retries(context: &SessionContext, session: &SessionId) {
    let mut backoff = Backoff::new(Duration::from_millis(RETRY_MS_MIN), Duration::from_millis(RETRY_MS_MAX));
    while let Err(error) = end::end_tampered_session(context, session).await {
        tracing::error!(outcome = "end_not_written", %session, error = %chain(&error), "session end not written; retrying");
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = context.stop.cancelled() => return,
        }
    }
}
