//! What is known about one component of a session.

use anteroom_wire::diagnosis::ComponentState;

/// A component's state and a sentence about it.
pub(super) type Observation = (ComponentState, String);

pub(super) fn new_observation(state: ComponentState, sentence: impl Into<String>) -> Observation {
    (state, sentence.into())
}
