//! Telling somebody outside what became of sessions and credentials.
//!
//! ```text
//!  what happens ── one transaction with its message ──▶ outbox ──▶ one task ── POST, signed ──▶ receiver
//!                                                          ▲           │ 2xx: done; a credential that was in it is deleted here
//!                                                          └───────────┘ else: again, after growing waits, until given up
//! ```
//!
//! - A credential that is in a message is nobody else's from before it is sent until it certainly was not taken, or is given up.
//! - A message says how things are when it is sent; what it is about lies in the database, and no secret lies in the outbox.
//! - Of one session's messages only the oldest is tried: they come in order. Other sessions' do not wait for them.
//! - A message may come twice (an answer that was lost, a server that ended): the receiver knows it by its id.

mod body;
mod post;
pub mod receiver;
mod report;
pub mod settings;
mod sign;

pub use receiver::Webhook;
pub use report::report;
pub use settings::WebhookSettings;

use crate::{api_error::chain, app::App, clock, random, session::timeline};
use anteroom_store::{CredentialDelivery, MessageRow, StoreError};
use anteroom_wire::operations::WebhookError;
use body::{Along, Made, Unmade};
use post::{NotTaken, Outgoing};
use report::waiting;
use serde_json::json;
use std::{
    collections::HashSet,
    sync::{PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

/// Messages that nobody rang for (of a former server, of another part) are found within this.
const LOOK_EVERY_MS: u64 = 5_000;
/// Between two sweeps of messages that are done.
const FORGET_EVERY_MS: u64 = 3_600_000;

/// Sends until the server stops.
pub async fn run(app: App) {
    let Some(webhook) = &app.webhook else { return };
    let mut forgotten_at = 0;
    loop {
        let wait_ms = match round(&app, webhook).await {
            Ok(wait_ms) => wait_ms,
            Err(error) => {
                tracing::warn!(outcome = "webhook_delayed", error = %chain(&error), "the messages that wait cannot be read or written");
                LOOK_EVERY_MS
            }
        };
        if clock::now().saturating_sub(forgotten_at) >= FORGET_EVERY_MS {
            forgotten_at = clock::now();
            let before = forgotten_at.saturating_sub(app.config.webhook.done_retention_s * 1_000);
            if let Err(error) = app.store.delete_messages_before(before).await {
                tracing::warn!(outcome = "webhook_not_tidied", error = %chain(&error), "messages that are done could not be removed");
            }
        }
        tokio::select! {
            () = webhook.bell.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = app.stop.cancelled() => return,
        }
    }
}

/// Tries what is due, again as long as something is; how long to wait then, milliseconds.
async fn round(app: &App, webhook: &Webhook) -> Result<u64, StoreError> {
    loop {
        let waiting = waiting(app).await?;
        let heads = heads(&waiting);
        let now = clock::now();
        let due: Vec<_> = heads.iter().filter(|message| message.due_at_ms <= now).collect();
        if due.is_empty() {
            let next = heads.iter().map(|message| message.due_at_ms.saturating_sub(now)).min();
            return Ok(next.unwrap_or(LOOK_EVERY_MS).clamp(1, LOOK_EVERY_MS));
        }
        for message in due {
            tokio::select! {
                tried = attempt(app, webhook, message) => tried?,
                // What is on its way may have been taken: the next server says it again, under the same id.
                () = app.stop.cancelled() => return Ok(LOOK_EVERY_MS),
            }
        }
    }
}

/// Of each session the oldest message. What is about no session is in order with what is about the same credential.
fn heads(waiting: &[MessageRow]) -> Vec<&MessageRow> {
    let mut seen = HashSet::new();
    let line = |message: &MessageRow| {
        let credential = message.subject.credential().map(ToString::to_string);
        message.subject.session().map(ToString::to_string).or(credential)
    };
    waiting.iter().filter(|message| seen.insert(line(message))).collect()
}

async fn attempt(app: &App, webhook: &Webhook, message: &MessageRow) -> Result<(), StoreError> {
    let Made { bytes, along } = match body::make(app, message).await? {
        Ok(made) => made,
        Err(Unmade { why, along }) => return not_taken(app, webhook, message, along, NotTaken::now(why)).await,
    };
    let (id, timestamp_s) = (message.id.to_string(), clock::now() / 1_000);
    let signature = sign::header(&webhook.keys, &id, timestamp_s, &bytes);
    match webhook.way.post(Outgoing { id, timestamp_s, signature, body: bytes }).await {
        Ok(()) => taken(app, webhook, message, along).await,
        Err(not) => not_taken(app, webhook, message, along, not).await,
    }
}

/// What was handed out with it is deleted in the write that says that it was taken.
async fn taken(app: &App, webhook: &Webhook, message: &MessageRow, along: Option<Along>) -> Result<(), StoreError> {
    let sentence = match &along {
        None => {
            app.store.message_delivered(&message.id, clock::now()).await?;
            None
        }
        Some(_) => {
            match app.store.message_delivered_credential(&message.id, &app.local_operator, clock::now()).await? {
                CredentialDelivery::Deleted => Some("The webhook took the credential; it was deleted here."),
                CredentialDelivery::AlreadyDeleted => {
                    Some("The webhook took the credential, which was deleted here while it was on its way.")
                }
                CredentialDelivery::Replaced => Some(
                    "The webhook took the credential; other bytes took its place here meanwhile, and are told by themselves.",
                ),
                CredentialDelivery::NotClaimed => None,
            }
        }
    };
    webhook.delivered.fetch_add(1, Relaxed);
    tracing::info!(outcome = "webhook_delivered", message = %message.id, kind = message.kind, attempts = message.attempts + 1, "a message was taken");
    if let Some(session) = message.subject.session() {
        let sentence = sentence.map_or_else(|| format!("The webhook was told: {}.", message.kind), str::to_owned);
        let leased = along.map(|along| along.credential);
        let data = json!({ "message": message.id, "kind": message.kind, "credential": leased });
        timeline::append_in_background(app, session, "webhook_delivered", sentence, data);
    }
    Ok(())
}

async fn not_taken(
    app: &App,
    webhook: &Webhook,
    message: &MessageRow,
    along: Option<Along>,
    not: NotTaken,
) -> Result<(), StoreError> {
    let settings = &app.config.webhook;
    let (now, tries) = (clock::now(), message.attempts + 1);
    let too_old = now.saturating_sub(message.created_at_ms) >= settings.give_up_s_max * 1_000;
    let abandoned = not.for_good || tries >= settings.attempts_max || too_old;
    webhook.failed.fetch_add(1, Relaxed);
    let error = WebhookError { at: clock::rfc3339(now), message: message.id.clone(), why: not.why.clone() };
    *webhook.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    let due_at_ms = now + wait_ms(settings, message.attempts, not.after_s);
    // What may have been taken goes by no other way, however often it is not taken after that.
    let is_free = along.as_ref().is_some_and(|along| along.anew) && !not.may_be_there;
    if abandoned {
        app.store.message_abandoned(&message.id, &not.why, now).await?;
        webhook.abandoned.fetch_add(1, Relaxed);
    } else if is_free {
        app.store.message_rejected(&message.id, &not.why, due_at_ms).await?;
    } else {
        app.store.message_failed(&message.id, &not.why, due_at_ms).await?;
    }
    tracing::warn!(outcome = if abandoned { "webhook_abandoned" } else { "webhook_failed" }, message = %message.id, kind = message.kind, attempts = tries, why = not.why, "a message was not taken");
    // The first failure and the last one; those between are in the log and in the report.
    if let Some(session) = message.subject.session()
        && (abandoned || message.attempts == 0)
    {
        let (kind, sentence) = not_taken_words(message, abandoned, along.as_ref(), &not.why);
        let data = json!({ "message": message.id, "kind": message.kind, "attempts": tries, "why": not.why });
        timeline::append_in_background(app, session, kind, sentence, data);
    }
    Ok(())
}

/// Kind and sentence for the timeline.
fn not_taken_words(message: &MessageRow, abandoned: bool, along: Option<&Along>, why: &str) -> (&'static str, String) {
    let (kind, what) = match abandoned {
        true => ("webhook_abandoned", "is not told any more of"),
        false => ("webhook_failed", "did not take, and will be told again of,"),
    };
    let until = along.filter(|_| abandoned).and_then(|along| along.until_ms);
    let then = until.map_or_else(String::new, |until_ms| {
        format!(" The credential that went with it can be fetched here until {}.", clock::rfc3339(until_ms))
    });
    (kind, format!("The webhook {what} {}: {why}.{then}", message.kind))
}

/// Doubles with each try; half of it is chance, so that many messages do not come at once.
fn wait_ms(settings: &WebhookSettings, tried: u64, after_s: Option<u64>) -> u64 {
    let doubled = settings.retry_ms_min.saturating_mul(1 << tried.min(30)).min(settings.retry_ms_max);
    let chance = u64::from(u16::from_le_bytes(random::bytes()));
    let spread = doubled / 2 + (doubled / 2).saturating_mul(chance) / u64::from(u16::MAX);
    spread.max(after_s.unwrap_or(0).saturating_mul(1_000).min(settings.retry_ms_max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_store::MessageSubject;
    use anteroom_wire::{CredentialId, MessageId, SessionId, webhook::SESSION_ENDED};

    fn message(at: u64, subject: MessageSubject) -> MessageRow {
        let id = MessageId::from_parts(at, [0; 10]);
        let kind = SESSION_ENDED.to_owned();
        MessageRow { id, kind, subject, created_at_ms: at, due_at_ms: at, attempts: 0, last_error: None }
    }

    #[test]
    fn of_each_session_only_the_oldest_message_is_tried() {
        let session = |n| SessionId::from_parts(n, [0; 10]);
        let credential = CredentialId::from_parts(9, [0; 10]);
        let waiting = [
            message(1, MessageSubject::Both(session(1), credential.clone())),
            message(2, MessageSubject::Session(session(1))),
            message(3, MessageSubject::Session(session(2))),
            message(4, MessageSubject::Credential(credential.clone())),
            message(5, MessageSubject::Credential(credential)),
        ];
        let at: Vec<u64> = heads(&waiting).iter().map(|message| message.created_at_ms).collect();
        assert_eq!(at, [1, 3, 4]);
    }

    #[test]
    fn waits_grow_to_their_limit_and_a_receiver_may_ask_for_more() {
        let settings = WebhookSettings { retry_ms_min: 100, retry_ms_max: 10_000, ..WebhookSettings::default() };
        for (tried, most) in [(0, 100), (1, 200), (5, 3_200), (7, 10_000), (60, 10_000)] {
            let wait = wait_ms(&settings, tried, None);
            assert!((most / 2..=most).contains(&wait), "{tried}: {wait}");
        }
        assert_eq!(wait_ms(&settings, 0, Some(7)), 7_000);
        assert_eq!(wait_ms(&settings, 0, Some(3_600)), 10_000, "no longer than the limit");
    }
}
