//! What operators do with messages: a test of a receiver, and another delivery of one that is done.

use super::{post, receiver::Webhook};
use crate::{
    api_error::{ApiError, chain},
    random,
    session::context::SessionContext,
    unix_time,
};
use anteroom_store::Resend;
use anteroom_wire::{
    MessageId, Problem,
    operator_reports::WebhookTestResult,
    webhook::{EventType, NotificationData, WebhookNotification},
};
use std::sync::atomic::Ordering::Relaxed;

/// Sends a message of the type `webhook.test` once to the receivers, or to the one of this name, whatever types they take.
///
/// # Errors
/// There is no such receiver, or none at all.
pub async fn send_test(context: &SessionContext, receiver: Option<&str>) -> Result<Vec<WebhookTestResult>, ApiError> {
    let receivers = context.webhook_messages.receivers();
    let chosen: Vec<_> =
        receivers.iter().filter(|webhook| receiver.is_none_or(|name| webhook.name() == name)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = receivers.iter().map(Webhook::name).collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(ApiError::new(Problem::Malformed, format!("there is no such receiver; configured: {known}")));
    }
    let mut results = Vec::with_capacity(chosen.len());
    for webhook in chosen {
        results.push(test(webhook).await?);
    }
    Ok(results)
}

async fn test(webhook: &Webhook) -> Result<WebhookTestResult, ApiError> {
    let id = random::random_id(MessageId::from_parts);
    let notification = WebhookNotification {
        kind: EventType::WebhookTest,
        timestamp: unix_time::format_rfc3339(unix_time::now_unix_ms()),
        data: NotificationData::default(),
    };
    let body = serde_json::to_vec(&notification).map_err(ApiError::internal)?;
    let error = post(webhook, &id, body.into()).await.err().map(|error| chain(&error));
    let counter =
        if error.is_none() { &webhook.counters.messages_delivered } else { &webhook.counters.attempts_failed };
    counter.fetch_add(1, Relaxed);
    tracing::info!(outcome = "webhook_tested", message_id = %id, receiver = webhook.name(), error, "webhook receiver tested");
    Ok(WebhookTestResult { id, receiver: webhook.name().to_owned(), url: webhook.display_url(), error })
}

/// Sends a message that was delivered or abandoned again, with the same id.
///
/// # Errors
/// There is no such message, or it is pending.
pub async fn resend(context: &SessionContext, id: &MessageId) -> Result<(), ApiError> {
    match context.store.resend_message(id, unix_time::now_unix_ms()).await? {
        Resend::Done => context.webhook_messages.wake_sender(),
        Resend::Pending => return Err(Problem::MessagePending.into()),
        Resend::Unknown => return Err(Problem::UnknownMessage.into()),
    }
    Ok(())
}
