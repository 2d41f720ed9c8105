//! The webhook: notifies external receivers of sessions and credentials.
//!
//! ```text
//!  event ── one transaction with its message ──▶ outbox ──▶ sender task ── POST, signed ──▶ receiver
//!                                                  ▲            │ 2xx: done; an attached credential is deleted here
//!                                                  └────────────┘ else: retried with growing waits until it is abandoned
//! ```
//!
//! - A credential attached to a message is reserved for it from before it is sent until it certainly was not delivered, or the message
//!   is abandoned.
//! - The body of a message is built when it is sent, from the database; the outbox contains no secrets.
//! - Of one session's messages only the oldest is sent, so that they arrive in order. Sessions and receivers do not wait for each other.
//! - A message may be delivered twice (a lost response, a server that stopped): the receiver recognizes it by its id.

mod attempt_error;
mod body;
mod client;
pub mod create_messages;
mod on_demand;
pub mod receiver;
pub mod receiver_settings;
mod report;
mod sender;
pub mod settings;
mod sign;

pub use crate::https_client::ClientSetupError;
pub use client::RESPONSE_BYTES_MAX;
pub use on_demand::{resend, send_test};
pub use receiver::{OpenError, Receivers, Webhook};
pub use report::webhook_report;
pub use sender::run_webhook_sender;
pub use settings::WebhookSettings;
pub use sign::InvalidKey;

use crate::{
    api_error::chain,
    limits::WebhookLimits,
    random,
    session::{context::SessionContext, timeline::new_entry},
    unix_time,
};
use anteroom_audit::{Action, Entry, OK, Subject};
use anteroom_store::{MessageRow, NewTimelineEntry, StoreError, WebhookDeliveryOutcome};
use anteroom_wire::{
    CredentialId, MessageId, TimelineKind,
    backoff::{Backoff, with_jitter},
    operator_reports::WebhookError,
    time::to_millis,
};
use attempt_error::AttemptError;
use body::{AttachedCredential, BuildError, WebhookMessage};
use bytes::Bytes;
use client::{DeliveryError, WebhookRequest};
use serde_json::json;
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

async fn deliver(context: &SessionContext, webhook: &Webhook, message: &MessageRow) -> Result<(), StoreError> {
    let WebhookMessage { bytes, attached_credential: attached } =
        match body::build_message(context, webhook, message).await? {
            Ok(built) => built,
            Err(BuildError { fault, attached_credential: attached }) => {
                return record_failure(context, webhook, message, attached, fault.into()).await;
            }
        };
    // Reading the database may have taken long. Nothing was sent: the message stays as it is.
    if context.cluster.require_may_act().is_err() {
        return Ok(());
    }
    match post(webhook, &message.id, bytes).await {
        Ok(()) => record_delivery(context, webhook, message, attached).await,
        Err(error) => record_failure(context, webhook, message, attached, error.into()).await,
    }
}

/// Signs a message and posts it once.
async fn post(webhook: &Webhook, id: &MessageId, body: Bytes) -> Result<(), DeliveryError> {
    let (id, timestamp_s) = (id.to_string(), unix_time::now_unix_ms() / 1_000);
    let signature = sign::signature_header(&webhook.keys, &id, timestamp_s, &body);
    webhook.client.post(WebhookRequest { id, timestamp_s, signature, body }).await
}

/// Records a delivered message. An attached credential is deleted in the same write.
async fn record_delivery(
    context: &SessionContext,
    webhook: &Webhook,
    message: &MessageRow,
    attached: Option<AttachedCredential>,
) -> Result<(), StoreError> {
    let sentence = match &attached {
        None => {
            context.store.record_message_delivered(&message.id, unix_time::now_unix_ms()).await?;
            None
        }
        Some(_) => {
            match context
                .store
                .record_credential_delivered(&message.id, &context.local_operator, unix_time::now_unix_ms())
                .await?
            {
                WebhookDeliveryOutcome::Deleted => Some("The webhook accepted the credential; it was deleted here."),
                WebhookDeliveryOutcome::AlreadyDeleted => {
                    Some("The webhook accepted the credential, which was deleted here during the delivery.")
                }
                WebhookDeliveryOutcome::Replaced => Some(
                    "The webhook accepted the credential, which was replaced here during the delivery; the new revision has a separate message.",
                ),
                WebhookDeliveryOutcome::NotClaimed => None,
            }
        }
    };
    if let Some(attached) = &attached {
        record_attached(context, message, attached, OK).await;
    }
    webhook.counters.messages_delivered.fetch_add(1, Relaxed);
    tracing::info!(outcome = "webhook_delivered", message_id = %message.id, kind = message.kind, attempts = message.attempts + 1, "webhook message delivered");
    if let Some(session) = message.regarding.session_id() {
        let sentence =
            sentence.map_or_else(|| format!("The webhook accepted the message {}.", message.kind), str::to_owned);
        let leased = attached.map(|attached| attached.credential);
        let data = json!({ "message": message.id, "kind": message.kind, "credential": leased });
        let entry = new_entry(TimelineKind::WebhookDelivered, sentence).with_data(data);
        context.timeline.append_in_background(session, entry);
    }
    Ok(())
}

/// Records in the audit trail what became of a credential that a message carried.
async fn record_attached(context: &SessionContext, message: &MessageRow, attached: &AttachedCredential, outcome: &str) {
    let entry = Entry::new(Action::CredentialWebhook).with_detail("message", &message.id);
    let subject = audit_subject(message, &attached.credential);
    context.audit.record(Entry { outcome: outcome.to_owned(), subject, ..entry }).await;
}

fn audit_subject(message: &MessageRow, credential: &CredentialId) -> Subject {
    let session = message.regarding.session_id().map(ToString::to_string);
    Subject { session, credential: Some(credential.to_string()), ..Subject::default() }
}

async fn record_failure(
    context: &SessionContext,
    webhook: &Webhook,
    message: &MessageRow,
    attached: Option<AttachedCredential>,
    error: AttemptError,
) -> Result<(), StoreError> {
    let settings = &webhook.settings;
    let (now, tries) = (unix_time::now_unix_ms(), message.attempts + 1);
    let too_old = now.saturating_sub(message.created_at_ms) >= settings.give_up_s_max * 1_000;
    let abandoned = error.is_permanent() || tries >= settings.attempts_max || too_old;
    if let Some(attached) = &attached {
        let outcome = if error.may_be_delivered() { "perhaps_delivered" } else { "not_delivered" };
        record_attached(context, message, attached, outcome).await;
    }
    webhook.counters.attempts_failed.fetch_add(1, Relaxed);
    let why = error.reason();
    let last_error = WebhookError { at: unix_time::format_rfc3339(now), message: message.id.clone(), why: why.clone() };
    *webhook.counters.last_error.lock() = Some(last_error);
    let due_at_ms = now + wait_ms(&context.limits.webhook, message.attempts, error.retry_after_s());
    // A credential that may have been delivered stays reserved for this message.
    let is_released = attached.as_ref().is_some_and(|attached| attached.is_first_delivery) && !error.may_be_delivered();
    if abandoned {
        context.store.record_message_abandoned(&message.id, &why, now).await?;
        webhook.counters.messages_abandoned.fetch_add(1, Relaxed);
    } else if is_released {
        context.store.record_message_rejected(&message.id, &why, due_at_ms).await?;
    } else {
        context.store.record_message_failed(&message.id, &why, due_at_ms).await?;
    }
    tracing::warn!(outcome = if abandoned { "webhook_abandoned" } else { "webhook_failed" }, message_id = %message.id, kind = message.kind, attempts = tries, error = %chain(&error), "webhook message not delivered");
    // Only the first and the last failure are recorded; the others are in the log and in the report.
    if let Some(session) = message.regarding.session_id()
        && (abandoned || message.attempts == 0)
    {
        let entry = failure_entry(message, abandoned, attached.as_ref(), &why);
        let data = json!({ "message": message.id, "kind": message.kind, "attempts": tries, "why": why });
        context.timeline.append_in_background(session, entry.with_data(data));
    }
    Ok(())
}

/// The timeline entry about a failed attempt, without its data.
fn failure_entry(
    message: &MessageRow,
    abandoned: bool,
    attached: Option<&AttachedCredential>,
    why: &str,
) -> NewTimelineEntry {
    let (kind, outcome) = match abandoned {
        true => (TimelineKind::WebhookAbandoned, "delivery was abandoned"),
        false => (TimelineKind::WebhookFailed, "delivery failed and will be retried"),
    };
    let until = attached.filter(|_| abandoned).and_then(|attached| attached.deliver_until_ms);
    let fallback = until.map_or_else(String::new, |until_ms| {
        format!(" The attached credential can be fetched here until {}.", unix_time::format_rfc3339(until_ms))
    });
    new_entry(kind, format!("The webhook {outcome} for {}: {why}.{fallback}", message.kind))
}

/// The wait before the next attempt, milliseconds: doubles with each attempt; half of it is random, so that retries spread out.
fn wait_ms(limits: &WebhookLimits, attempts: u64, retry_after_s: Option<u64>) -> u64 {
    let backoff = Backoff::new(Duration::from_millis(limits.retry_ms_min), Duration::from_millis(limits.retry_ms_max));
    let delay = backoff.delay_of_retry(u32::try_from(attempts).unwrap_or(u32::MAX));
    let spread_ms = to_millis(with_jitter(delay, u16::from_le_bytes(random::random_bytes())));
    spread_ms.max(retry_after_s.unwrap_or(0).saturating_mul(1_000).min(limits.retry_ms_max))
}

#[cfg(test)]
mod tests {
    use super::{sender::next_per_session, *};
    use anteroom_store::Regarding;
    use anteroom_wire::{SessionId, webhook::EventType};

    fn message(at: u64, regarding: Regarding) -> MessageRow {
        let id = MessageId::from_parts(at, [0; 10]);
        let (kind, receiver) = (EventType::SessionEnded.as_str().to_owned(), "default".to_owned());
        MessageRow { id, kind, receiver, regarding, created_at_ms: at, due_at_ms: at, attempts: 0, last_error: None }
    }

    #[test]
    fn only_the_oldest_message_of_each_session_is_sent() {
        let session = |n| SessionId::from_parts(n, [0; 10]);
        let credential = CredentialId::from_parts(9, [0; 10]);
        let pending = [
            message(1, Regarding::Both(session(1), credential.clone())),
            message(2, Regarding::Session(session(1))),
            message(3, Regarding::Session(session(2))),
            message(4, Regarding::Credential(credential.clone())),
            message(5, Regarding::Credential(credential)),
        ];
        let at: Vec<u64> = next_per_session(&pending).iter().map(|message| message.created_at_ms).collect();
        assert_eq!(at, [1, 3, 4]);
    }

    #[test]
    fn waits_grow_to_their_limit_and_a_receiver_may_request_a_longer_one() {
        let limits = WebhookLimits { retry_ms_min: 100, retry_ms_max: 10_000, ..WebhookLimits::default() };
        for (attempts, limit_ms) in [(0, 100), (1, 200), (5, 3_200), (7, 10_000), (60, 10_000)] {
            let wait = wait_ms(&limits, attempts, None);
            assert!((limit_ms / 2..=limit_ms).contains(&wait), "{attempts}: {wait}");
        }
        assert_eq!(wait_ms(&limits, 0, Some(7)), 7_000);
        assert_eq!(wait_ms(&limits, 0, Some(3_600)), 10_000, "no longer than the limit");
    }
}
