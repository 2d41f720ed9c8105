//! The deliveries of a session that are being answered.

use crate::session::lifecycle::DeliveryState;

/// Counts the deliveries that are being answered. After [`Self::stop_counting`] later deliveries are answered too, and not counted:
/// the stop of the machine does not wait for them.
///
/// It belongs to the session, not to the machine: what a machine sent before it exited is still being answered when the machine is
/// lost.
#[derive(Debug, Clone, Default)]
pub struct DeliveriesInFlight {
    in_flight: u32,
    is_stopped: bool,
}

impl DeliveriesInFlight {
    /// Counts a delivery. Returns `false`, and counts nothing, after [`Self::stop_counting`].
    #[must_use]
    pub fn begin(&mut self) -> bool {
        self.in_flight += u32::from(!self.is_stopped);
        !self.is_stopped
    }

    /// A counted delivery is answered.
    pub fn finish(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Counts no further deliveries: the machine is about to stop.
    pub fn stop_counting(&mut self) {
        self.is_stopped = true;
    }

    /// Counts deliveries again: those of the next machine. Deliveries in flight stay counted.
    pub fn resume_counting(&mut self) {
        self.is_stopped = false;
    }

    /// The state of the delivery; `is_pending` is whether the machine's agent has a credential without a final answer.
    pub fn delivery_state(&self, is_pending: bool) -> DeliveryState {
        match (self.in_flight, is_pending) {
            (0, false) => DeliveryState::None,
            (0, true) => DeliveryState::Pending,
            (_, _) => DeliveryState::InFlight,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_delivery_is_counted_until_counting_resumes() {
        let mut deliveries = DeliveriesInFlight::default();
        assert!(deliveries.begin());
        deliveries.stop_counting();
        assert!(!deliveries.begin());
        assert_eq!(deliveries.delivery_state(false), DeliveryState::InFlight, "the first one is still being answered");
        deliveries.finish();
        assert_eq!(
            (deliveries.delivery_state(false), deliveries.delivery_state(true)),
            (DeliveryState::None, DeliveryState::Pending)
        );
        deliveries.resume_counting();
        assert!(deliveries.begin());
        assert_eq!(deliveries.delivery_state(true), DeliveryState::InFlight);
    }

    #[test]
    fn deliveries_in_flight_stay_counted_when_counting_resumes() {
        let mut deliveries = DeliveriesInFlight::default();
        assert!(deliveries.begin());
        deliveries.stop_counting();
        deliveries.resume_counting();
        assert_eq!(deliveries.delivery_state(false), DeliveryState::InFlight);
    }
}
