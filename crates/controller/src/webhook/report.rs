//! The state of the outbox and of the deliveries to the receiver.

use super::Webhook;
use crate::{app::App, clock};
use anteroom_store::{MessageRow, StoreError};
use anteroom_wire::operations::{PendingMessage, WebhookReport};
use std::sync::{
    PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Messages that are looked at together.
const WAITING_MAX: u32 = 1_000;

/// How it fares.
///
/// # Errors
/// The database cannot be read.
pub async fn report(app: &App) -> Result<WebhookReport, StoreError> {
    let webhook = app.webhook.as_ref();
    let count = |of: fn(&Webhook) -> &AtomicU64| webhook.map_or(0, |webhook| of(webhook).load(Relaxed));
    let pending = waiting(app).await?.into_iter().map(|message| PendingMessage {
        session: message.subject.session().cloned(),
        credential: message.subject.credential().cloned(),
        id: message.id,
        kind: message.kind,
        created_at: clock::rfc3339(message.created_at_ms),
        due_at: clock::rfc3339(message.due_at_ms),
        attempts: message.attempts,
        last_error: message.last_error,
    });
    Ok(WebhookReport {
        url: webhook.map(|webhook| webhook.way.shown()),
        include_credential: app.config.webhook.include_credential,
        delivered: count(|webhook| &webhook.delivered),
        failed: count(|webhook| &webhook.failed),
        abandoned: count(|webhook| &webhook.abandoned),
        last_error: webhook.and_then(|it| it.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        pending: pending.collect(),
    })
}

/// Everything that waits, the oldest first.
pub(super) async fn waiting(app: &App) -> Result<Vec<MessageRow>, StoreError> {
    let mut waiting = app.store.due_messages(i64::MAX.unsigned_abs(), WAITING_MAX).await?;
    waiting.sort_by(|a, b| (a.created_at_ms, &a.id).cmp(&(b.created_at_ms, &b.id)));
    Ok(waiting)
}
