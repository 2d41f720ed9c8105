//! The events of the machine that wait for the controller: numbered from the claim on, kept until acknowledged.

use anteroom_wire::{
    agent::{AgentEvent, CaptureEvent, MachineEvent, NumberedEvent},
    time::to_unix_ms,
};
use parking_lot::Mutex;
use std::{collections::VecDeque, time::SystemTime};
use tokio::sync::{Notify, watch};

/// Events kept while the controller is not connected.
const EVENTS_MAX: usize = 512;
/// Events in one request.
const BATCH_MAX: usize = 64;

#[derive(Default)]
struct Queue {
    /// Whether events are recorded: from the claim on.
    open: bool,
    last_number: u64,
    pending: VecDeque<NumberedEvent>,
}

/// The queue. Many tasks push; one sends ([`EventQueue::next_batch`], [`EventQueue::acknowledge`]).
#[derive(Default)]
pub(crate) struct EventQueue {
    queue: Mutex<Queue>,
    pushed: Notify,
    /// The number of the last acknowledged event.
    acknowledged: watch::Sender<u64>,
}

impl EventQueue {
    /// Events are recorded from now on. `GET /hello` reports what happened before.
    pub(crate) fn start_recording(&self) {
        self.queue.lock().open = true;
    }

    /// Adds an event. A full queue first drops its oldest event of a repetitive kind, or else its oldest event.
    pub(crate) fn push(&self, event: impl Into<AgentEvent>) {
        let mut queue = self.queue.lock();
        if !queue.open {
            return;
        }
        if queue.pending.len() >= EVENTS_MAX {
            let dropped = queue.pending.iter().position(|kept| is_repetitive(&kept.event)).unwrap_or(0);
            queue.pending.remove(dropped);
        }
        queue.last_number += 1;
        let number = queue.last_number;
        queue.pending.push_back(NumberedEvent {
            number,
            at_unix_ms: to_unix_ms(SystemTime::now()),
            event: event.into(),
        });
        drop(queue);
        self.pushed.notify_one();
    }

    /// The oldest events that are not acknowledged; waits until there is one.
    pub(crate) async fn next_batch(&self) -> Vec<NumberedEvent> {
        loop {
            let pushed = self.pushed.notified();
            let batch: Vec<_> = self.queue.lock().pending.iter().take(BATCH_MAX).cloned().collect();
            if !batch.is_empty() {
                return batch;
            }
            pushed.await;
        }
    }

    /// The controller has received everything up to `number`.
    pub(crate) fn acknowledge(&self, number: u64) {
        self.queue.lock().pending.retain(|event| event.number > number);
        self.acknowledged.send_replace(number);
    }

    /// Waits until every event pushed so far is acknowledged.
    pub(crate) async fn wait_all_acknowledged(&self) {
        let last = self.queue.lock().last_number;
        // Cannot fail: the sender lives as long as the queue.
        let _ = self.acknowledged.subscribe().wait_for(|number| *number >= last).await;
    }
}

fn is_repetitive(event: &AgentEvent) -> bool {
    matches!(
        event,
        AgentEvent::Machine(
            MachineEvent::ChildExited { .. } | MachineEvent::Stage(_) | MachineEvent::MemoryPressure { .. }
        ) | AgentEvent::Capture(CaptureEvent::DeliveryRetry { .. })
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_wire::{GuestLines, agent::ToolEvent};
    use std::time::Duration;
    use tokio::time::timeout;

    fn child(name: &str) -> MachineEvent {
        MachineEvent::ChildExited { name: name.into(), code: Some(1), restarts: 0, last_lines: GuestLines::default() }
    }

    #[tokio::test]
    async fn events_are_numbered_from_the_claim_and_kept_until_acknowledged() {
        let events = EventQueue::default();
        events.push(child("before the claim"));
        events.start_recording();
        events.push(ToolEvent::Started);
        events.push(child("b"));
        let batch = events.next_batch().await;
        assert_eq!(batch.iter().map(|event| event.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(events.next_batch().await.len(), 2, "not acknowledged: still there");
        events.acknowledge(1);
        assert_eq!(events.next_batch().await[0].number, 2);
        assert!(timeout(Duration::ZERO, events.wait_all_acknowledged()).await.is_err());
        events.acknowledge(2);
        assert!(timeout(Duration::ZERO, events.wait_all_acknowledged()).await.is_ok());
    }

    #[tokio::test]
    async fn full_queue_drops_repetitive_events_first() {
        let events = EventQueue::default();
        events.start_recording();
        events.push(ToolEvent::Started);
        for _ in 0..EVENTS_MAX * 2 {
            events.push(child("loops"));
        }
        assert_eq!(events.queue.lock().pending.len(), EVENTS_MAX);
        assert_eq!(events.next_batch().await[0].event, AgentEvent::Tool(ToolEvent::Started));
    }
}
