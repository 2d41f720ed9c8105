//! The open connections over TCP: how many there may be, and which one is closed when there are too many.

use anteroom_controller::limits::ConnectionLimits;
use anteroom_wire::CallerId;
use parking_lot::{Mutex, MutexGuard};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Files that are not for connections: the database, logs, machines' channels, the operator's socket.
const OTHER_FILES_MIN: usize = 256;

/// How many of so many connections of strangers may be busy with a stranger's request. The others are for clients that are yet to be
/// identified: requests of strangers cannot keep callers from connecting.
fn busy_max(connections_max: usize) -> usize {
    (connections_max - connections_max.div_ceil(4)).max(1)
}

/// The open connections.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: ConnectionLimits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// By number: the oldest first.
    strangers: BTreeMap<u64, Arc<Entry>>,
    known: usize,
    by_caller: HashMap<CallerId, usize>,
    next_number: u64,
}

/// One connection.
#[derive(Debug)]
struct Entry {
    number: u64,
    /// `None`: a trusted proxy's, to which the limit by address does not apply.
    network: Option<IpAddr>,
    activity: Mutex<Activity>,
    closing: CancellationToken,
}

#[derive(Debug)]
struct Activity {
    protocol: Protocol,
    phase: Phase,
    since: Instant,
    /// Whether the request is known to be a stranger's.
    is_strangers: bool,
    /// The caller whose connections it counts among.
    caller: Option<CallerId>,
}

/// Which protocol a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No byte was received yet.
    New,
    /// A request head has begun.
    Head,
    /// So many requests are being answered; more than one only with HTTP/2.
    Requests(usize),
    /// All requests were answered.
    Idle,
    /// It is a WebSocket.
    Upgraded,
}

/// No further connection can be accepted, and none can be closed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooManyConnections {
    #[error("this address has {0} connections without a valid token or cookie")]
    FromAddress(usize),
    #[error("there are {0} connections without a valid token or cookie")]
    FromStrangers(usize),
}

/// A connection, for the handlers of its requests.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    connections: Arc<Connections>,
    entry: Arc<Entry>,
}

/// Counts a connection for as long as it exists.
#[derive(Debug)]
pub(crate) struct ConnectionSlot(Connection);

/// Counts a request for as long as it exists.
#[derive(Debug)]
pub(crate) struct RequestGuard(Connection);

impl Connections {
    /// `open_files_max`: how many files this process may open. A connection may need two: a viewer's has one to a machine.
    pub(crate) fn new(limits: &ConnectionLimits, open_files_max: usize) -> Arc<Self> {
        let most = open_files_max.saturating_sub(OTHER_FILES_MIN) / 2;
        let strangers_max = limits.strangers_max.min(most / 2).max(1);
        let limits = ConnectionLimits {
            known_max: limits.known_max.min(most.saturating_sub(strangers_max)).max(1),
            strangers_max,
            ..limits.clone()
        };
        Arc::new(Self { limits, open: Mutex::default() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }

    /// Counts a new connection from this network. If there are too many of strangers, the one that has waited longest is closed for it:
    /// of the same network, or else of the network that has most.
    ///
    /// # Errors
    /// All of them are busy with requests.
    pub(crate) fn admit(self: &Arc<Self>, network: Option<IpAddr>) -> Result<ConnectionSlot, TooManyConnections> {
        let now = Instant::now();
        let mut open = self.open();
        if network.is_some() {
            let same = || open.strangers.values().filter(|entry| entry.network == network);
            let count = same().count();
            if count >= self.limits.strangers_by_address_max {
                let closed = self.longest_waiting(same(), now).ok_or(TooManyConnections::FromAddress(count))?;
                open.close(&closed);
            }
        }
        let count = open.strangers.len();
        if count >= self.limits.strangers_max {
            let closed = self.longest_waiting_of_largest(open.strangers.values(), now);
            let closed = closed.ok_or(TooManyConnections::FromStrangers(count))?;
            open.close(&closed);
        }
        let number = open.next_number;
        open.next_number += 1;
        let activity = Mutex::new(Activity {
            protocol: Protocol::Http1,
            phase: Phase::New,
            since: now,
            is_strangers: false,
            caller: None,
        });
        let entry = Arc::new(Entry { number, network, activity, closing: CancellationToken::new() });
        open.strangers.insert(number, Arc::clone(&entry));
        Ok(ConnectionSlot(Connection { connections: Arc::clone(self), entry }))
    }

    /// The connection to close: one without a request, else one whose request has taken too long; of these the one that has waited longest.
    fn longest_waiting<'a>(&self, entries: impl Iterator<Item = &'a Arc<Entry>>, now: Instant) -> Option<Arc<Entry>> {
        let busy_min = Duration::from_millis(self.limits.stranger_request_ms_min);
        let closable = entries.filter_map(|entry| {
            let activity = entry.activity.lock();
            let is_busy = match activity.phase {
                Phase::New | Phase::Head | Phase::Idle => false,
                Phase::Requests(_) | Phase::Upgraded => true,
            };
            let waited = now.saturating_duration_since(activity.since);
            (!is_busy || waited >= busy_min).then_some(((is_busy, Reverse(waited)), entry))
        });
        closable.min_by_key(|(rank, _)| *rank).map(|(_, entry)| Arc::clone(entry))
    }

    /// The connection to close, of the network that has most.
    fn longest_waiting_of_largest<'a>(
        &self,
        entries: impl Iterator<Item = &'a Arc<Entry>>,
        now: Instant,
    ) -> Option<Arc<Entry>> {
        let mut by_network: HashMap<Option<IpAddr>, Vec<&Arc<Entry>>> = HashMap::new();
        for entry in entries {
            by_network.entry(entry.network).or_default().push(entry);
        }
        let mut networks: Vec<_> = by_network.into_values().collect();
        networks.sort_by_key(|entries| Reverse(entries.len()));
        networks.into_iter().find_map(|entries| self.longest_waiting(entries.into_iter(), now))
    }
}

impl Open {
    /// The connections that are busy with a stranger's request, other than this one.
    fn busy_strangers(&self, except: &Entry) -> impl Iterator<Item = &Arc<Entry>> {
        let others = self.strangers.values().filter(|entry| entry.number != except.number);
        others.filter(|entry| entry.activity.lock().is_strangers)
    }

    /// Closes a stranger's connection. It no longer counts, although its task has yet to notice.
    fn close(&mut self, entry: &Entry) {
        self.strangers.remove(&entry.number);
        entry.closing.cancel();
    }
}

impl Connection {
    /// Counts a request until the result is dropped.
    pub(crate) fn begin_request(&self) -> RequestGuard {
        self.update(|phase| match phase {
            Phase::Requests(count) => Phase::Requests(count + 1),
            Phase::New | Phase::Head | Phase::Idle | Phase::Upgraded => Phase::Requests(1),
        });
        RequestGuard(self.clone())
    }

    /// The connection's request is a stranger's. If too many are, the connection whose request has taken longest is closed for it.
    ///
    /// # Errors
    /// None of them has taken long.
    pub(crate) fn begin_strangers_request(&self) -> Result<(), TooManyConnections> {
        let (connections, entry, now) = (&self.connections, &self.entry, Instant::now());
        let mut open = connections.open();
        let network = entry.network;
        if network.is_some() {
            let same = || open.busy_strangers(entry).filter(|entry| entry.network == network);
            let count = same().count();
            if count >= busy_max(connections.limits.strangers_by_address_max) {
                let closed = connections.longest_waiting(same(), now);
                let closed = closed.ok_or(TooManyConnections::FromAddress(count))?;
                open.close(&closed);
            }
        }
        let count = open.busy_strangers(entry).count();
        if count >= busy_max(connections.limits.strangers_max) {
            let closed = connections.longest_waiting_of_largest(open.busy_strangers(entry), now);
            let closed = closed.ok_or(TooManyConnections::FromStrangers(count))?;
            open.close(&closed);
        }
        entry.activity.lock().is_strangers = true;
        Ok(())
    }

    /// The connection speaks HTTP/2: data between requests, such as a ping, is not the head of a request.
    pub(super) fn use_http2(&self) {
        self.entry.activity.lock().protocol = Protocol::Http2;
    }

    /// The connection has become a WebSocket.
    pub(crate) fn upgrade(&self) {
        self.update(|_| Phase::Upgraded);
    }

    /// Data was received.
    pub(super) fn receive(&self) {
        if self.entry.activity.lock().protocol == Protocol::Http2 {
            return;
        }
        self.update(|phase| match phase {
            Phase::New | Phase::Idle => Phase::Head,
            Phase::Head | Phase::Requests(_) | Phase::Upgraded => phase,
        });
    }

    /// A request of this caller was authenticated: the connection no longer counts as a stranger's, unless there are too many of the caller
    /// or of all callers.
    pub(crate) fn authenticate(&self, caller: &CallerId) {
        let limits = &self.connections.limits;
        let mut open = self.connections.open();
        let mut activity = self.entry.activity.lock();
        let of_caller = open.by_caller.get(caller).copied().unwrap_or(0);
        let is_full = open.known >= limits.known_max || of_caller >= limits.by_caller_max;
        // A connection that is being closed is not in the table.
        if activity.caller.is_some() || is_full || open.strangers.remove(&self.entry.number).is_none() {
            return;
        }
        open.known += 1;
        *open.by_caller.entry(caller.clone()).or_default() += 1;
        activity.caller = Some(caller.clone());
        activity.is_strangers = false;
    }

    /// When the connection must be closed if nothing else is received; `None`: not for that reason.
    pub(super) fn receive_deadline(&self) -> Option<Instant> {
        let limits = &self.connections.limits;
        let activity = self.entry.activity.lock();
        let limit_ms = match (activity.phase, &activity.caller) {
            (Phase::New | Phase::Head, _) => limits.head_ms_max,
            (Phase::Idle, None) => limits.stranger_idle_ms_max,
            (Phase::Idle, Some(_)) => limits.idle_ms_max,
            (Phase::Requests(_) | Phase::Upgraded, _) => return None,
        };
        Some(activity.since + Duration::from_millis(limit_ms))
    }

    pub(super) fn limits(&self) -> &ConnectionLimits {
        &self.connections.limits
    }

    /// Cancelled when the connection must be closed for another one.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.entry.closing
    }

    /// `since` is the time of the last change of the phase; of several requests at once, the first one's.
    fn update(&self, change: impl FnOnce(Phase) -> Phase) {
        let mut activity = self.entry.activity.lock();
        let phase = change(activity.phase);
        let is_counted = matches!((activity.phase, phase), (Phase::Requests(_), Phase::Requests(_)));
        if phase != activity.phase && !is_counted {
            activity.since = Instant::now();
        }
        activity.phase = phase;
        activity.is_strangers &= phase != Phase::Idle;
    }
}

impl ConnectionSlot {
    pub(crate) fn connection(&self) -> &Connection {
        &self.0
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.update(|phase| match phase {
            Phase::Requests(count) if count > 1 => Phase::Requests(count - 1),
            Phase::Requests(_) => Phase::Idle,
            Phase::New | Phase::Head | Phase::Idle | Phase::Upgraded => phase,
        });
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let Connection { connections, entry } = &self.0;
        let mut open = connections.open();
        open.strangers.remove(&entry.number);
        let Some(caller) = entry.activity.lock().caller.take() else { return };
        open.known -= 1;
        if let Some(count) = open.by_caller.get_mut(&caller) {
            *count -= 1;
            if *count == 0 {
                open.by_caller.remove(&caller);
            }
        }
    }
}

#[cfg(test)]
mod tests;
