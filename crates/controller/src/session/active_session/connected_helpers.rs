//! The helpers of a session that are connected now, and a count of changes, so that event streams read the list of helpers only if it changed.

use super::ActiveSession;
use anteroom_wire::CallerId;
use std::{collections::HashMap, sync::Arc};

/// The helpers that are connected.
#[derive(Debug, Clone, Default)]
pub struct ConnectedHelpers {
    connections: HashMap<CallerId, u32>,
    changes: u64,
}

impl ConnectedHelpers {
    /// Whether the helper has a connection.
    pub fn is_connected(&self, helper: &CallerId) -> bool {
        self.connections.contains_key(helper)
    }

    /// Grows with each change of the helpers or their invitations.
    pub fn changes(&self) -> u64 {
        self.changes
    }
}

/// A connection of a helper; dropping it ends it.
#[derive(Debug)]
pub struct HelperConnection {
    session: Arc<ActiveSession>,
    helper: CallerId,
}

impl ActiveSession {
    /// Counts a connection of a helper until the guard is dropped.
    pub fn connect_helper(self: &Arc<Self>, helper: &CallerId) -> HelperConnection {
        self.update_state(|state| {
            let helpers = &mut state.helpers;
            *helpers.connections.entry(helper.clone()).or_default() += 1;
            helpers.changes += 1;
        });
        HelperConnection { session: Arc::clone(self), helper: helper.clone() }
    }

    /// Notifies subscribers that a helper was invited, has come or was ended.
    pub fn notify_helpers_changed(&self) {
        self.update_state(|state| state.helpers.changes += 1);
    }
}

impl Drop for HelperConnection {
    fn drop(&mut self) {
        self.session.update_state(|state| {
            let helpers = &mut state.helpers;
            helpers.changes += 1;
            if let Some(connections) = helpers.connections.get_mut(&self.helper) {
                *connections -= 1;
                if *connections == 0 {
                    helpers.connections.remove(&self.helper);
                }
            }
        });
    }
}
