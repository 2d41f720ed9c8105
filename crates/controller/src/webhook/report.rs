//! The state of the outbox and of the deliveries to the receiver.

use super::Webhook;
use crate::{session::context::SessionContext, unix_time};
use anteroom_store::{AbandonedMessageRow, MessageRow, StoreError};
use anteroom_wire::operator_reports::{AbandonedMessage, PendingMessage, WebhookReport};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Maximum number of pending messages that are read at once.
const PENDING_MAX: u32 = 1_000;
/// Abandoned messages of a report.
const ABANDONED_MAX: u32 = 100;

/// The state of the webhook, for operators.
///
/// # Errors
/// The database cannot be read.
pub async fn webhook_report(context: &SessionContext) -> Result<WebhookReport, StoreError> {
    let webhook = context.webhook_messages.webhook.as_deref();
    let count = |of: fn(&Webhook) -> &AtomicU64| webhook.map_or(0, |webhook| of(webhook).load(Relaxed));
    let messages = list_pending_messages(context).await?.into_iter().map(|message| PendingMessage {
        session: message.regarding.session_id().cloned(),
        credential: message.regarding.credential_id().cloned(),
        id: message.id,
        kind: message.kind,
        created_at: unix_time::format_rfc3339(message.created_at_ms),
        due_at: unix_time::format_rfc3339(message.due_at_ms),
        attempts: message.attempts,
        last_error: message.last_error,
    });
    let abandoned = context.store.list_abandoned_messages(ABANDONED_MAX).await?;
    Ok(WebhookReport {
        url: webhook.map(|webhook| webhook.client.display_url()),
        include_credential: context.config().webhook.include_credential,
        delivered: count(|webhook| &webhook.messages_delivered),
        failed: count(|webhook| &webhook.attempts_failed),
        abandoned: count(|webhook| &webhook.messages_abandoned),
        last_error: webhook.and_then(|it| it.last_error.lock().clone()),
        pending: messages.collect(),
        abandoned_messages: abandoned.into_iter().map(to_abandoned_message).collect(),
    })
}

fn to_abandoned_message(AbandonedMessageRow { message, abandoned_at_ms }: AbandonedMessageRow) -> AbandonedMessage {
    AbandonedMessage {
        session: message.regarding.session_id().cloned(),
        credential: message.regarding.credential_id().cloned(),
        id: message.id,
        kind: message.kind,
        created_at: unix_time::format_rfc3339(message.created_at_ms),
        abandoned_at: unix_time::format_rfc3339(abandoned_at_ms),
        attempts: message.attempts,
        last_error: message.last_error.unwrap_or_default(),
    }
}

/// All pending messages, the oldest first.
pub(super) async fn list_pending_messages(context: &SessionContext) -> Result<Vec<MessageRow>, StoreError> {
    let mut pending = context.store.list_due_messages(i64::MAX.unsigned_abs(), PENDING_MAX).await?;
    pending.sort_by(|a, b| (a.created_at_ms, &a.id).cmp(&(b.created_at_ms, &b.id)));
    Ok(pending)
}
