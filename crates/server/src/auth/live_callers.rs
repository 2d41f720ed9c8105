//! Open connections by caller: they are closed when their caller is revoked or expires.

use anteroom_controller::{api_error::chain, unix_time};
use anteroom_store::{CallerEnd, Store};
use anteroom_tunnel::{CloseCause, CloseSignal};
use anteroom_wire::CallerId;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

/// How often the callers of open connections are read. A revocation by another process is noticed after this time.
const CHECK_EVERY: Duration = Duration::from_millis(300);

/// The callers that have open connections.
#[derive(Debug, Default)]
pub struct LiveCallers {
    open: Mutex<HashMap<CallerId, Open>>,
    revoked: Notify,
}

#[derive(Debug)]
struct Open {
    signal: CloseSignal,
    connections: usize,
}

/// An open connection of a caller. It counts until this is dropped.
#[derive(Debug)]
pub struct LiveCaller {
    callers: Arc<LiveCallers>,
    id: CallerId,
    signal: CloseSignal,
}

impl LiveCallers {
    /// Counts a connection of the caller.
    pub fn connect(self: &Arc<Self>, id: &CallerId) -> LiveCaller {
        let mut open = self.open.lock();
        let entry = open.entry(id.clone()).or_insert_with(|| Open { signal: CloseSignal::new(), connections: 0 });
        entry.connections += 1;
        LiveCaller { callers: Arc::clone(self), id: id.clone(), signal: entry.signal.clone() }
    }

    /// Checks the callers of open connections now.
    pub fn check_soon(&self) {
        self.revoked.notify_one();
    }

    /// Closes the connections of callers that are revoked or have expired, until the server stops.
    pub async fn run_checks(self: Arc<Self>, store: Store, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.revoked.notified() => {}
                () = sleep(CHECK_EVERY) => {}
            }
            let ids: Vec<_> = self.open.lock().keys().cloned().collect();
            match store.find_ended_callers(&ids, unix_time::now_unix_ms()).await {
                Ok(ended) => self.close(&ended),
                // Nothing was learned about the callers; the next check follows.
                Err(error) => {
                    tracing::warn!(outcome = "callers_not_checked", error = %chain(&error), "callers of open connections not read");
                }
            }
        }
    }

    fn close(&self, ended: &[(CallerId, CallerEnd)]) {
        let open = self.open.lock();
        for (id, end) in ended {
            let Some(entry) = open.get(id) else { continue };
            let cause = match end {
                CallerEnd::Revoked => CloseCause::CallerRevoked,
                CallerEnd::HelperRevoked => CloseCause::HelperEnded,
                CallerEnd::Expired => CloseCause::CallerExpired,
            };
            if entry.signal.close(cause) {
                let connections = entry.connections;
                tracing::info!(outcome = "caller_ended", caller = %id, ?end, connections, "connections of a caller closed");
            }
        }
    }
}

impl LiveCaller {
    /// The caller.
    pub fn id(&self) -> &CallerId {
        &self.id
    }

    /// Closes when the caller is revoked or expires.
    pub fn signal(&self) -> &CloseSignal {
        &self.signal
    }
}

impl Drop for LiveCaller {
    fn drop(&mut self) {
        let mut open = self.callers.open.lock();
        if let Some(entry) = open.get_mut(&self.id) {
            entry.connections -= 1;
            if entry.connections == 0 {
                open.remove(&self.id);
            }
        }
    }
}
