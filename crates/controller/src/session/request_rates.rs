//! The rates of what a session's viewers and its machine may repeat. They belong to the session, so that one session cannot take the
//! time of others.

use crate::api_error::ApiError;
use anteroom_wire::{Problem, rate::Rate};
use parking_lot::Mutex;
use tokio::time::Instant;

/// What one session may repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRate {
    /// Time for one, milliseconds.
    pub every_ms: u32,
    /// How many are permitted at once after a pause.
    pub burst: u32,
}

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

impl ViewerRequest {
    /// How often it is permitted; above that it is rejected.
    pub const fn rate(self) -> SessionRate {
        match self {
            Self::Input => SessionRate { every_ms: 200, burst: 20 },
            Self::MethodChange => SessionRate { every_ms: 2_000, burst: 5 },
            Self::Ticket => SessionRate { every_ms: 500, burst: 30 },
            Self::Screen => SessionRate { every_ms: 100, burst: 40 },
        }
    }
}

/// A request of a machine's agent that has a rate for each session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineRequest {
    /// A request on the machine's channel. A browser opens up to a hundred connections for one page.
    Channel,
    /// An event. An agent that was disconnected sends up to 512 at once.
    Event,
}

impl MachineRequest {
    /// How often it is permitted; above that it waits.
    pub const fn rate(self) -> SessionRate {
        match self {
            Self::Channel => SessionRate { every_ms: 20, burst: 250 },
            Self::Event => SessionRate { every_ms: 50, burst: 512 },
        }
    }
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
        let rate = |SessionRate { every_ms, burst }| Mutex::new(Rate::every_ms(every_ms, burst));
        Self {
            input: rate(ViewerRequest::Input.rate()),
            method_changes: rate(ViewerRequest::MethodChange.rate()),
            tickets: rate(ViewerRequest::Ticket.rate()),
            screens: rate(ViewerRequest::Screen.rate()),
            channel: rate(MachineRequest::Channel.rate()),
            events: rate(MachineRequest::Event.rate()),
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
