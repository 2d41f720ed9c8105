//! What happened in the machine, on its way to the controller: numbered from the claim on, kept until answered.

use anteroom_wire::agent::{Event, NumberedEvent};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Notify, watch};

pub(crate) use anteroom_screen::bounded;

/// Events kept while the controller is away.
const EVENTS_MAX: usize = 512;
/// Events in one request.
const BATCH_MAX: usize = 64;
#[derive(Default)]
struct Queue {
    /// Whether there is somebody to tell: from the claim on.
    open: bool,
    last: u64,
    waiting: VecDeque<NumberedEvent>,
}

/// The queue. One sender ([`Events::batch`], [`Events::answered`]), many writers.
#[derive(Default)]
pub(crate) struct Events {
    queue: Mutex<Queue>,
    pushed: Notify,
    /// The number of the last that was answered.
    answered: watch::Sender<u64>,
}

impl Events {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on events count. What happened before stands in `GET /hello`.
    pub(crate) fn open(&self) {
        self.queue().open = true;
    }

    /// Adds one. A full queue loses its oldest entry of the kinds that only repeat themselves, else its oldest.
    pub(crate) fn push(&self, event: Event) {
        let mut queue = self.queue();
        if !queue.open {
            return;
        }
        if queue.waiting.len() >= EVENTS_MAX {
            let spare = queue.waiting.iter().position(|kept| repeats_itself(&kept.event)).unwrap_or(0);
            queue.waiting.remove(spare);
        }
        queue.last += 1;
        let number = queue.last;
        queue.waiting.push_back(NumberedEvent { number, at_unix_ms: unix_ms(), event });
        drop(queue);
        self.pushed.notify_one();
    }

    /// The oldest unanswered events; waits until there is one.
    pub(crate) async fn batch(&self) -> Vec<NumberedEvent> {
        loop {
            let pushed = self.pushed.notified();
            let batch: Vec<_> = self.queue().waiting.iter().take(BATCH_MAX).cloned().collect();
            if !batch.is_empty() {
                return batch;
            }
            pushed.await;
        }
    }

    /// Everything up to `number` has arrived.
    pub(crate) fn answered(&self, number: u64) {
        self.queue().waiting.retain(|event| event.number > number);
        self.answered.send_replace(number);
    }

    /// Waits until everything that was told so far has been answered.
    pub(crate) async fn all_answered(&self) {
        let last = self.queue().last;
        // Its sender lives as long as this.
        let _ = self.answered.subscribe().wait_for(|number| *number >= last).await;
    }
}

fn repeats_itself(event: &Event) -> bool {
    matches!(
        event,
        Event::ChildExited { .. } | Event::Stage(_) | Event::DeliveryRetry { .. } | Event::MemoryPressure { .. }
    )
}

/// The guest's clock, milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_screen::TEXT_BYTES_MAX;
    use std::time::Duration;
    use tokio::time::timeout;

    fn child(name: &str) -> Event {
        Event::ChildExited { name: name.into(), code: Some(1), restarts: 0, last_lines: Vec::new() }
    }

    #[tokio::test]
    async fn events_are_numbered_from_the_claim_and_kept_until_answered() {
        let events = Events::default();
        events.push(child("before the claim"));
        events.open();
        events.push(Event::CliStarted);
        events.push(child("b"));
        let batch = events.batch().await;
        assert_eq!(batch.iter().map(|event| event.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(events.batch().await.len(), 2, "not answered: still there");
        events.answered(1);
        assert_eq!(events.batch().await[0].number, 2);
        assert!(timeout(Duration::ZERO, events.all_answered()).await.is_err());
        events.answered(2);
        assert!(timeout(Duration::ZERO, events.all_answered()).await.is_ok());
    }

    #[tokio::test]
    async fn a_full_queue_keeps_what_happened_once() {
        let events = Events::default();
        events.open();
        events.push(Event::CliStarted);
        for _ in 0..EVENTS_MAX * 2 {
            events.push(child("loops"));
        }
        assert_eq!(events.queue().waiting.len(), EVENTS_MAX);
        assert_eq!(events.batch().await[0].event, Event::CliStarted);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(bounded(&"ä".repeat(TEXT_BYTES_MAX)).len(), TEXT_BYTES_MAX);
        assert_eq!(bounded(&format!("x{}", "ä".repeat(TEXT_BYTES_MAX))).len(), TEXT_BYTES_MAX - 1);
    }
}
