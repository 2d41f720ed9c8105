//! Counts what a machine does to its channels that no agent does, over all its connections. A machine that goes on is stopped: its agent
//! is defective, or another program controls it.

use super::{connection::ConnectionEvent, dial::AgentPort};
use crate::channel::ChannelViolation;
use anteroom_wire::{MachineId, rate::Rate};
use parking_lot::Mutex;
use std::time::Duration;
use tokio::{sync::mpsc, time::Instant};

/// Violations of one machine that only end the connection: one in this many milliseconds, and at once.
pub const VIOLATION_EVERY_MS: u32 = 120_000;
/// See [`VIOLATION_EVERY_MS`].
pub const VIOLATIONS_BURST: u32 = 4;
/// A connection that ends earlier is a short one, milliseconds.
pub const SHORT_CONNECTION_MS: u64 = 10_000;
/// Short connections of one channel: one in this many milliseconds, and at once.
pub const SHORT_CONNECTION_EVERY_MS: u32 = 2_000;
/// See [`SHORT_CONNECTION_EVERY_MS`].
pub const SHORT_CONNECTIONS_BURST: u32 = 30;
/// The pause after a short connection, milliseconds: doubled after each, from the first to the second number.
const PAUSE_MS: (u64, u64) = (10, 1_000);

/// The violations of one machine.
#[derive(Debug)]
pub(super) struct ChannelFaults {
    machine: MachineId,
    violations: Mutex<Rate>,
    events: mpsc::Sender<ConnectionEvent>,
}

impl ChannelFaults {
    pub(super) fn new(machine: MachineId, events: mpsc::Sender<ConnectionEvent>) -> Self {
        Self { machine, violations: Mutex::new(Rate::every_ms(VIOLATION_EVERY_MS, VIOLATIONS_BURST)), events }
    }

    /// Logs a violation. Requests the stop of a machine that has used up those that only end its connection.
    pub(super) fn record(&self, port: AgentPort, violation: &ChannelViolation) {
        let (machine, channel) = (&self.machine, port.channel_name());
        tracing::warn!(target: "security", %machine, outcome = "channel_violation", channel, cause = %violation, "machine violated its channel's protocol");
        let now = Instant::now().into_std();
        if self.violations.lock().try_take(now).is_err() {
            self.stop(port, violation);
        }
    }

    /// Requests the machine's stop.
    fn stop(&self, port: AgentPort, violation: &ChannelViolation) {
        let event = ConnectionEvent::Violation { channel: port.channel_name(), violation: violation.to_string() };
        // A full queue: the next violation requests it again.
        let _ = self.events.try_send(event);
    }
}

/// The short connections of one channel.
#[derive(Debug)]
pub(super) struct ShortConnections {
    rate: Rate,
    pause_ms: u64,
}

impl Default for ShortConnections {
    fn default() -> Self {
        Self { rate: Rate::every_ms(SHORT_CONNECTION_EVERY_MS, SHORT_CONNECTIONS_BURST), pause_ms: 0 }
    }
}

impl ShortConnections {
    /// Counts a connection that ended; returns the pause before the next one.
    pub(super) fn connection_ended(&mut self, faults: &ChannelFaults, port: AgentPort, lasted: Duration) -> Duration {
        if lasted >= Duration::from_millis(SHORT_CONNECTION_MS) {
            self.pause_ms = 0;
            return Duration::ZERO;
        }
        if self.rate.try_take(Instant::now().into_std()).is_err() {
            let violation = ChannelViolation::ShortConnections { count_max: SHORT_CONNECTIONS_BURST };
            faults.stop(port, &violation);
        }
        let pause = Duration::from_millis(self.pause_ms);
        self.pause_ms = (self.pause_ms * 2).clamp(PAUSE_MS.0, PAUSE_MS.1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults() -> (ChannelFaults, mpsc::Receiver<ConnectionEvent>) {
        let (events, received) = mpsc::channel(64);
        (ChannelFaults::new(crate::machine_id::new_machine_id().unwrap(), events), received)
    }

    #[tokio::test(start_paused = true)]
    async fn machine_is_stopped_for_repeated_violations_and_not_for_rare_ones() {
        let (faults, mut events) = faults();
        let violation = ChannelViolation::TooManyFrames;
        for _ in 0..20 {
            faults.record(AgentPort::ControllerServer, &violation);
            tokio::time::advance(Duration::from_millis(VIOLATION_EVERY_MS.into())).await;
        }
        assert!(events.try_recv().is_err());
        for _ in 0..=VIOLATIONS_BURST {
            faults.record(AgentPort::ControllerServer, &violation);
        }
        let ConnectionEvent::Violation { channel, violation: text } = events.try_recv().unwrap() else { panic!() };
        assert_eq!((channel, text), ("anteroom.controller", violation.to_string()));
    }

    #[tokio::test(start_paused = true)]
    async fn short_connections_are_opened_again_with_growing_pauses_until_the_machine_is_stopped() {
        let (faults, mut events) = faults();
        let (mut connections, mut paused) = (ShortConnections::default(), Duration::ZERO);
        let mut count = 0;
        while events.try_recv().is_err() {
            let pause = connections.connection_ended(&faults, AgentPort::AgentServer, Duration::ZERO);
            tokio::time::advance(pause).await;
            (count, paused) = (count + 1, paused + pause);
        }
        assert!((SHORT_CONNECTIONS_BURST..100).contains(&count), "{count}");
        assert!(paused > Duration::from_secs(20), "{paused:?}");
        let long = Duration::from_millis(SHORT_CONNECTION_MS);
        assert_eq!(connections.connection_ended(&faults, AgentPort::AgentServer, long), Duration::ZERO);
    }
}
