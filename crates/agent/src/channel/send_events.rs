//! Sends the queued events to the controller.

use super::{controller_client::ControllerClient, event_queue::EventQueue};
use crate::{log, sign_in::active_claim::ClaimSlot};
use anteroom_wire::{
    agent::{EVENTS_PATH, EventBatch},
    backoff::Backoff,
};
use std::time::Duration;

const RETRY_MS_MIN: u64 = 200;
const RETRY_MS_MAX: u64 = 10_000;

/// Sends events from the claim on, forever. Each batch is repeated until the controller has answered it.
pub(crate) async fn send_events(queue: &EventQueue, client: &ControllerClient, claim: &ClaimSlot) {
    let mut backoff = Backoff::new(Duration::from_millis(RETRY_MS_MIN), Duration::from_millis(RETRY_MS_MAX));
    let claim = claim.wait_claimed().await;
    loop {
        let events = queue.next_batch().await;
        let Some(last) = events.last().map(|event| event.number) else { continue };
        client.wait_connected().await;
        let mut connection_changes = client.subscribe_connection();
        connection_changes.mark_unchanged();
        let error = match client.post(EVENTS_PATH, &claim.agent_token, &EventBatch { events }).await {
            Ok((status, _)) if status.is_success() => {
                queue.acknowledge(last);
                backoff.reset();
                continue;
            }
            // The controller cannot read this batch: it would reject it every time and block the events after it.
            Ok((status, _)) if matches!(status.as_u16(), 400 | 413 | 415 | 422) => {
                queue.acknowledge(last);
                log::write_line(&format!("events up to {last} rejected: {status}"));
                continue;
            }
            Ok((status, _)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        log::write_line(&format!("events up to {last} not delivered: {error}"));
        // A new connection is a reason to retry at once.
        let _ = tokio::time::timeout(backoff.next_delay(), connection_changes.changed()).await;
    }
}
