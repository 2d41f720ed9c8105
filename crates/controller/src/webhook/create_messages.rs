//! Creates the messages for the webhook's receivers. The caller writes them to the outbox in the transaction of what they
//! report.

use super::receiver::Receivers;
use crate::{live::Live, random, unix_time};
use anteroom_store::{CredentialRow, DeletionPolicy, NewMessage, Regarding};
use anteroom_wire::{CredentialId, MessageId, SessionId, webhook::EventType};
use std::sync::Arc;

/// Creates the messages for the webhook's receivers. Cheap to clone.
#[derive(Clone)]
pub struct WebhookMessages {
    live_receivers: Live<Receivers>,
}

impl WebhookMessages {
    /// Messages for these receivers; without one none are created.
    pub fn new(receivers: Receivers) -> Self {
        Self { live_receivers: Live::new(receivers) }
    }

    /// The current receivers.
    pub fn receivers(&self) -> Arc<Receivers> {
        self.live_receivers.get()
    }

    /// Sends messages to these receivers from now on.
    pub fn replace(&self, mut receivers: Receivers) {
        let before = self.receivers();
        receivers.adopt_counters(&before);
        self.live_receivers.set(receivers);
        before.replaced.cancel();
    }

    /// The messages about a session that a credential completed, in order.
    pub fn session_completed_messages(&self, session: &SessionId, credential: &CredentialId) -> Vec<NewMessage> {
        let both = || Regarding::Both(session.clone(), credential.clone());
        self.new_messages(&[(EventType::CredentialStored, both()), (EventType::SessionEnded, both())])
    }

    /// The message that delivers the new revision of a credential that a use changed, if credentials are delivered once by webhook. `None`
    /// for a credential that its owner fetches.
    pub fn revision_delivery_message(&self, session: &SessionId, credential: &CredentialRow) -> Option<NewMessage> {
        let DeletionPolicy::AfterDelivery { .. } = credential.deletion_policy else { return None };
        let receivers = self.receivers();
        let receiver = receivers.iter().find(|webhook| webhook.attaches_credentials())?;
        let regarding = Regarding::Both(session.clone(), credential.id.clone());
        let messages = self.new_messages(&[(EventType::CredentialStored, regarding)]);
        messages.into_iter().find(|message| message.receiver == receiver.name())
    }

    /// Whether credentials that are delivered once are attached to messages of a receiver.
    pub fn attaches_credentials(&self) -> bool {
        self.receivers().iter().any(|webhook| webhook.attaches_credentials())
    }

    /// The messages about a session's end.
    pub fn session_ended_messages(&self, session: &SessionId) -> Vec<NewMessage> {
        self.new_messages(&[(EventType::SessionEnded, Regarding::Session(session.clone()))])
    }

    /// New messages in this order, one for each receiver that takes the type, to be written in the transaction that they report.
    pub fn new_messages(&self, kinds: &[(EventType, Regarding)]) -> Vec<NewMessage> {
        let (receivers, now) = (self.receivers(), unix_time::now_unix_ms());
        let wanted = kinds.iter().flat_map(|(kind, regarding)| {
            let takers = receivers.iter().filter(move |webhook| webhook.settings.takes(*kind));
            takers.map(move |webhook| (*kind, webhook.name().to_owned(), regarding.clone()))
        });
        let wanted: Vec<_> = wanted.collect();
        let mut ids: Vec<MessageId> = wanted.iter().map(|_| random::random_id(MessageId::from_parts)).collect();
        // Ids of the same millisecond are random, so they are sorted.
        ids.sort();
        let message = |(id, (kind, receiver, regarding)): (MessageId, (EventType, String, Regarding))| NewMessage {
            id,
            kind: kind.as_str().to_owned(),
            receiver,
            regarding,
            created_at_ms: now,
            due_at_ms: now,
        };
        ids.into_iter().zip(wanted).map(message).collect()
    }

    /// Wakes the senders: there are new messages.
    pub fn wake_sender(&self) {
        self.receivers().wake();
    }
}
