//! The state in which a supervisor begins.

/// Where a supervisor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InitialState {
    /// In the queue, for its first machine or a further one.
    Queued,
    /// With a running machine.
    Adopted,
    /// With a machine that was requested and does not run.
    Lost,
    /// At an external desktop.
    Attached,
}

/// Where the supervisor of an active session begins after a restart of the server.
pub fn initial_state(external: bool, machine_requested: bool, machine_runs: bool) -> InitialState {
    match (external, machine_requested, machine_runs) {
        (true, _, _) => InitialState::Attached,
        (false, true, true) => InitialState::Adopted,
        (false, true, false) => InitialState::Lost,
        (false, false, _) => InitialState::Queued,
    }
}
