//! Creates the messages for the webhook's receiver. The caller writes them to the outbox in the transaction of what they
//! report.

use super::receiver::Webhook;
use crate::{random, unix_time};
use anteroom_store::{CredentialRow, DeletionPolicy, NewMessage, Regarding};
use anteroom_wire::{
    CredentialId, MessageId, SessionId,
    webhook::{CREDENTIAL_STORED, SESSION_ENDED},
};
use std::sync::Arc;

/// Creates the messages for the webhook's receiver. Cheap to clone.
#[derive(Clone)]
pub struct WebhookMessages {
    /// The receiver; without one no messages are created.
    pub webhook: Option<Arc<Webhook>>,
    /// Whether credentials that are delivered once are attached to messages.
    pub include_credential: bool,
}

impl WebhookMessages {
    /// The messages about a session that a credential completed, in order; none without a webhook.
    pub fn session_completed_messages(&self, session: &SessionId, credential: &CredentialId) -> Vec<NewMessage> {
        let both = || Regarding::Both(session.clone(), credential.clone());
        self.new_messages(&[(CREDENTIAL_STORED, both()), (SESSION_ENDED, both())])
    }

    /// The message that delivers the new revision of a credential that a use changed, if credentials are delivered once by webhook. `None`
    /// for a credential that its owner fetches.
    pub fn revision_delivery_message(&self, session: &SessionId, credential: &CredentialRow) -> Option<NewMessage> {
        match credential.deletion_policy {
            DeletionPolicy::AfterDelivery { .. } if self.attaches_credentials() => {
                self.new_messages(&[(CREDENTIAL_STORED, Regarding::Both(session.clone(), credential.id.clone()))]).pop()
            }
            DeletionPolicy::AfterDelivery { .. } | DeletionPolicy::ByOwner => None,
        }
    }

    /// Whether credentials that are delivered once are attached to messages.
    pub fn attaches_credentials(&self) -> bool {
        self.webhook.is_some() && self.include_credential
    }

    /// The message about a session's end; `None` without a webhook.
    pub fn session_ended_message(&self, session: &SessionId) -> Option<NewMessage> {
        self.new_messages(&[(SESSION_ENDED, Regarding::Session(session.clone()))]).pop()
    }

    /// New messages in this order, to be written in the transaction that they report; none without a webhook.
    pub fn new_messages(&self, kinds: &[(&str, Regarding)]) -> Vec<NewMessage> {
        if self.webhook.is_none() {
            return Vec::new();
        }
        let now = unix_time::now_unix_ms();
        let mut ids: Vec<MessageId> = kinds.iter().map(|_| random::random_id(MessageId::from_parts)).collect();
        // Ids of the same millisecond are random, so they are sorted.
        ids.sort();
        let message = |(id, (kind, regarding)): (MessageId, &(&str, Regarding))| NewMessage {
            id,
            kind: (*kind).to_owned(),
            regarding: regarding.clone(),
            created_at_ms: now,
            due_at_ms: now,
        };
        ids.into_iter().zip(kinds).map(message).collect()
    }

    /// Wakes the webhook's sender: there is a new message.
    pub fn wake_sender(&self) {
        if let Some(webhook) = &self.webhook {
            webhook.wake();
        }
    }
}
