//! The task that sends the messages of the outbox.

use super::{
    deliver,
    receiver::{Receivers, Webhook},
    report,
};
use crate::{api_error::chain, session::context::SessionContext, unix_time};
use anteroom_store::{MessageRow, StoreError};
use futures_util::future::join_all;
use std::{collections::HashSet, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often the outbox is polled for messages without a wake-up, for example those of an earlier server.
const POLL_INTERVAL_MS: u64 = 5_000;
/// How often delivered and abandoned messages are deleted.
const DELETE_INTERVAL_MS: u64 = 3_600_000;
/// How long delivered and abandoned messages are kept, so that a delivery of the last days can be looked up: one week.
const DONE_RETENTION_MS: u64 = 7 * 24 * 3_600 * 1_000;

/// Sends messages to every receiver until the server stops. Receivers do not wait for each other.
pub async fn run_webhook_sender(context: SessionContext) {
    while !context.stop.is_cancelled() {
        let receivers = context.webhook_messages.receivers();
        if let Err(error) = abandon_unknown(&context, &receivers).await {
            tracing::warn!(outcome = "webhook_delayed", error = %chain(&error), "outbox not accessible; retrying");
        }
        let send = async {
            join_all(receivers.iter().map(|webhook| send_to(&context, webhook, &receivers.replaced))).await;
            receivers.replaced.cancelled().await;
        };
        tokio::select! {
            () = send => {}
            () = delete_done_messages(&context) => {}
            () = context.stop.cancelled() => {}
        }
    }
}

/// Abandons the messages for receivers that are no longer configured. Without any receiver they wait.
async fn abandon_unknown(context: &SessionContext, receivers: &Receivers) -> Result<(), StoreError> {
    if receivers.is_empty() {
        return Ok(());
    }
    for message in report::list_pending_messages(context, None).await? {
        if receivers.get(&message.receiver).is_none() {
            let why = format!("the receiver {} is no longer configured", message.receiver);
            tracing::warn!(outcome = "webhook_abandoned", message_id = %message.id, kind = message.kind, error = why, "webhook message not delivered");
            context.store.record_message_abandoned(&message.id, &why, unix_time::now_unix_ms()).await?;
        }
    }
    Ok(())
}

/// Sends messages to one receiver until it is replaced or the server stops.
async fn send_to(context: &SessionContext, webhook: &Webhook, replaced: &CancellationToken) {
    while !replaced.is_cancelled() && !context.stop.is_cancelled() {
        let wait_ms = match deliver_due(context, webhook, replaced).await {
            Ok(wait_ms) => wait_ms,
            Err(error) => {
                tracing::warn!(outcome = "webhook_delayed", error = %chain(&error), "outbox not accessible; retrying");
                POLL_INTERVAL_MS
            }
        };
        tokio::select! {
            () = webhook.wake_signal.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = replaced.cancelled() => {}
            () = context.stop.cancelled() => {}
        }
    }
}

/// Deletes old messages again and again; never returns.
async fn delete_done_messages(context: &SessionContext) {
    loop {
        let before = unix_time::now_unix_ms().saturating_sub(DONE_RETENTION_MS);
        if let Err(error) = context.store.delete_messages_before(before).await {
            tracing::warn!(outcome = "messages_not_deleted", error = %chain(&error), "finished messages not deleted");
        }
        tokio::time::sleep(Duration::from_millis(DELETE_INTERVAL_MS)).await;
    }
}

/// Delivers due messages until none is due. Returns how long to wait for the next one, milliseconds.
async fn deliver_due(
    context: &SessionContext,
    webhook: &Webhook,
    replaced: &CancellationToken,
) -> Result<u64, StoreError> {
    // Each message is sent by one host of a cluster.
    if !context.store.is_first_host().await? {
        return Ok(POLL_INTERVAL_MS);
    }
    loop {
        let pending = report::list_pending_messages(context, Some(webhook.name())).await?;
        let next = next_per_session(&pending);
        let now = unix_time::now_unix_ms();
        let due: Vec<_> = next.iter().filter(|message| message.due_at_ms <= now).collect();
        if due.is_empty() {
            let next_due = next.iter().map(|message| message.due_at_ms.saturating_sub(now)).min();
            return Ok(next_due.unwrap_or(POLL_INTERVAL_MS).clamp(1, POLL_INTERVAL_MS));
        }
        for message in due {
            if !context.cluster.may_act() {
                return Ok(POLL_INTERVAL_MS);
            }
            // An attempt that has begun is finished before another receiver replaces this one.
            if replaced.is_cancelled() {
                return Ok(POLL_INTERVAL_MS);
            }
            tokio::select! {
                result = deliver(context, webhook, message) => result?,
                // The message may have been delivered: the next server sends it again with the same id.
                () = context.stop.cancelled() => return Ok(POLL_INTERVAL_MS),
            }
        }
    }
}

/// The oldest message of each session. Messages without a session are ordered by credential.
pub(super) fn next_per_session(pending: &[MessageRow]) -> Vec<&MessageRow> {
    let mut keys = HashSet::new();
    let order_key = |message: &MessageRow| {
        let credential = message.regarding.credential_id().map(ToString::to_string);
        message.regarding.session_id().map(ToString::to_string).or(credential)
    };
    pending.iter().filter(|message| keys.insert(order_key(message))).collect()
}
