//! The deliveries of a session that are being answered.

use crate::session::lifecycle::DeliveryState;

/// Counts the deliveries that are being answered. Once it is closed, later deliveries are answered too, and not counted: the stop
/// of the machine does not wait for them.
///
/// It belongs to the session, not to the machine: what a machine sent before it exited is still being answered when the machine is
/// lost.
#[derive(Debug, Clone, Default)]
pub struct DeliveryGate {
    in_flight: u32,
    is_closed: bool,
}

impl DeliveryGate {
    /// Counts a delivery. Returns `false`, and counts nothing, if the gate is closed.
    #[must_use]
    pub fn begin(&mut self) -> bool {
        self.in_flight += u32::from(!self.is_closed);
        !self.is_closed
    }

    /// A counted delivery is answered.
    pub fn finish(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Counts no further deliveries: the machine is about to stop.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Counts deliveries again: those of the next machine. Deliveries in flight stay counted.
    pub fn reopen(&mut self) {
        self.is_closed = false;
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
    fn closed_gate_counts_no_delivery_until_it_is_reopened() {
        let mut gate = DeliveryGate::default();
        assert!(gate.begin());
        gate.close();
        assert!(!gate.begin());
        assert_eq!(gate.delivery_state(false), DeliveryState::InFlight, "the first one is still being answered");
        gate.finish();
        assert_eq!(
            (gate.delivery_state(false), gate.delivery_state(true)),
            (DeliveryState::None, DeliveryState::Pending)
        );
        gate.reopen();
        assert!(gate.begin());
        assert_eq!(gate.delivery_state(true), DeliveryState::InFlight);
    }

    #[test]
    fn reopened_gate_still_counts_the_deliveries_in_flight() {
        let mut gate = DeliveryGate::default();
        assert!(gate.begin());
        gate.close();
        gate.reopen();
        assert_eq!(gate.delivery_state(false), DeliveryState::InFlight);
    }
}
