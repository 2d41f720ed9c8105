//! The state of the outbox and of the deliveries to the receiver.

use super::Webhook;
use crate::{session::context::SessionContext, unix_time};
use anteroom_store::{AbandonedMessageRow, MessageRow, StoreError};
use anteroom_wire::operator_reports::{AbandonedMessage, PendingMessage, ReceiverReport, WebhookReport};
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
    let receivers = context.webhook_messages.receivers();
    let receivers: Vec<_> = receivers.iter().map(to_receiver_report).collect();
    let count = |of: fn(&ReceiverReport) -> u64| receivers.iter().map(of).sum();
    let messages = list_pending_messages(context, None).await?.into_iter().map(|message| PendingMessage {
        session: message.regarding.session_id().cloned(),
        credential: message.regarding.credential_id().cloned(),
        id: message.id,
        kind: message.kind,
        receiver: message.receiver,
        created_at: unix_time::format_rfc3339(message.created_at_ms),
        due_at: unix_time::format_rfc3339(message.due_at_ms),
        attempts: message.attempts,
        last_error: message.last_error,
    });
    let abandoned = context.store.list_abandoned_messages(ABANDONED_MAX).await?;
    Ok(WebhookReport {
        delivered: count(|receiver| receiver.delivered),
        failed: count(|receiver| receiver.failed),
        abandoned: count(|receiver| receiver.abandoned),
        last_error: receivers.iter().filter_map(|receiver| receiver.last_error.clone()).max_by(|a, b| a.at.cmp(&b.at)),
        receivers,
        pending: messages.collect(),
        abandoned_messages: abandoned.into_iter().map(to_abandoned_message).collect(),
    })
}

fn to_receiver_report(webhook: &Webhook) -> ReceiverReport {
    let count = |number: &AtomicU64| number.load(Relaxed);
    ReceiverReport {
        name: webhook.name().to_owned(),
        url: webhook.display_url(),
        types: webhook.settings.types.clone(),
        include_credential: webhook.settings.include_credential,
        delivered: count(&webhook.counters.messages_delivered),
        failed: count(&webhook.counters.attempts_failed),
        abandoned: count(&webhook.counters.messages_abandoned),
        last_error: webhook.counters.last_error.lock().clone(),
    }
}

fn to_abandoned_message(AbandonedMessageRow { message, abandoned_at_ms }: AbandonedMessageRow) -> AbandonedMessage {
    AbandonedMessage {
        session: message.regarding.session_id().cloned(),
        credential: message.regarding.credential_id().cloned(),
        id: message.id,
        kind: message.kind,
        receiver: message.receiver,
        created_at: unix_time::format_rfc3339(message.created_at_ms),
        abandoned_at: unix_time::format_rfc3339(abandoned_at_ms),
        attempts: message.attempts,
        last_error: message.last_error.unwrap_or_default(),
    }
}

/// All pending messages, the oldest first; with `receiver` only those for it.
pub(super) async fn list_pending_messages(
    context: &SessionContext,
    receiver: Option<&str>,
) -> Result<Vec<MessageRow>, StoreError> {
    let mut pending = context.store.list_due_messages(i64::MAX.unsigned_abs(), receiver, PENDING_MAX).await?;
    pending.sort_by(|a, b| (a.created_at_ms, &a.id).cmp(&(b.created_at_ms, &b.id)));
    Ok(pending)
}
