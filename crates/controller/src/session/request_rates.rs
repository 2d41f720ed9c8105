//! The rates of what a session's viewers and its machine may repeat. They belong to the session, so that one session cannot take the
//! time of others.
//!
//! | from | what | a second | at once | over it |
//! |---|---|---|---|---|
//! | viewers | text for the tool and addresses to open | 5 | 20 | `too_many_requests` |
//! | viewers | changes of the sign-in method | 0.5 | 5 | `too_many_requests` |
//! | viewers | tickets | 2 | 30 | `too_many_requests` |
//! | viewers | reads of the terminal's screen | 10 | 40 | `too_many_requests` |
//! | the machine | requests on its channel, outbound connections included | 50 | 250 | wait |
//! | the machine | events | 20 | 512 | wait |

use crate::api_error::ApiError;
use anteroom_wire::{Problem, rate::Rate};
use parking_lot::Mutex;
use tokio::time::Instant;

/// A request of viewers that has a rate for each session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewerRequest {
    /// Pastes or types a text, or opens an address in the machine's browser. Each is an act of a person.
    Input,
    /// Changes the sign-in method, which starts the tool again.
    MethodChange,
    /// Creates a ticket. A page needs one for each connection, and connects again with growing delays.
    Ticket,
    /// Reads the terminal's screen. `anteroom exec` does so four times a second.
    Screen,
}

/// A request of a machine's agent that has a rate for each session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineRequest {
    /// A request on the machine's channel. A browser opens up to a hundred connections for one page.
    Channel,
    /// An event. An agent that was disconnected sends up to 512 at once.
    Event,
}

/// The rates of one session.
#[derive(Debug)]
pub struct RequestRates {
    input: Mutex<Rate>,
    method_changes: Mutex<Rate>,
    tickets: Mutex<Rate>,
    screens: Mutex<Rate>,
    channel: Mutex<Rate>,
    events: Mutex<Rate>,
}

impl Default for RequestRates {
    fn default() -> Self {
        let rate = |per_s, burst| Mutex::new(Rate::new(per_s, burst));
        Self {
            input: rate(5, 20),
            method_changes: Mutex::new(Rate::every_ms(2_000, 5)),
            tickets: rate(2, 30),
            screens: rate(10, 40),
            channel: rate(50, 250),
            events: rate(20, 512),
        }
    }
}

impl RequestRates {
    /// Counts a request of a viewer.
    ///
    /// # Errors
    /// Too many in a short time: it must not be executed.
    pub fn check(&self, request: ViewerRequest) -> Result<(), ApiError> {
        let rate = match request {
            ViewerRequest::Input => &self.input,
            ViewerRequest::MethodChange => &self.method_changes,
            ViewerRequest::Ticket => &self.tickets,
            ViewerRequest::Screen => &self.screens,
        };
        rate.lock().try_take(Instant::now().into_std()).map_err(|wait| {
            let detail = format!("this session accepts the next one in {} ms", wait.as_millis());
            ApiError::new(Problem::TooManyRequests, detail)
        })
    }

    /// Counts requests of the machine and waits until their rate permits them. A machine has few streams, so few requests wait.
    pub async fn wait_permitted(&self, request: MachineRequest, count: usize) {
        let rate = match request {
            MachineRequest::Channel => &self.channel,
            MachineRequest::Event => &self.events,
        };
        let ready_at = {
            let (mut rate, now) = (rate.lock(), Instant::now().into_std());
            let ready_at = rate.ready_at(now);
            rate.take(count, now);
            ready_at
        };
        tokio::time::sleep_until(ready_at.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_not_limited_and_a_loop_is() {
        let rates = RequestRates::default();
        let accepted = (0..1_000).filter(|_| rates.check(ViewerRequest::Input).is_ok()).count();
        assert!((20..40).contains(&accepted), "{accepted}");
        let rejected = rates.check(ViewerRequest::Input).unwrap_err();
        assert_eq!(rejected.problem, Problem::TooManyRequests);
        assert!(rates.check(ViewerRequest::Ticket).is_ok(), "each kind has its own rate");
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_floods_events_waits() {
        let rates = RequestRates::default();
        let start = Instant::now();
        for _ in 0..30 {
            rates.wait_permitted(MachineRequest::Event, 64).await;
        }
        // 29 batches before the last one, of which 512 events were permitted at once.
        let waited = start.elapsed();
        assert!(waited.as_secs() >= 60, "{waited:?}");
    }
}
