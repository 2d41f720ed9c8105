//! What this host asks the others. The channel to them is the server's; until it is open, none answers.

use super::Cluster;
use anteroom_cluster::Room;
use anteroom_store::Holder;
use anteroom_wire::{
    HostId, SessionId,
    api::SessionView,
    hosts::{EraseOnHost, ErasedFiles, TakeAnswer},
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::OnceLock};
use tokio::sync::{Mutex, MutexGuard};

/// What a host answers that was offered a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeResponse {
    /// Whether it has taken it.
    pub answer: TakeAnswer,
    /// The room that it has after that; `None`: it is in no cluster.
    pub room: Option<Room>,
}

/// The channel to the other hosts. Each answer is `None` if the host does not answer in time.
pub trait HostChannel: Send + Sync {
    /// Asks a host to take a session that waits.
    fn offer(&self, host: HostId, session: SessionId) -> BoxFuture<'static, Option<TakeResponse>>;

    /// Asks a host for the present views of sessions that it holds.
    fn read_views(&self, host: HostId, sessions: Vec<SessionId>) -> BoxFuture<'static, Option<Vec<SessionView>>>;

    /// Asks a host to end sessions of a user who is erased, and to remove files.
    fn erase(&self, host: HostId, question: EraseOnHost) -> BoxFuture<'static, Option<ErasedFiles>>;
}

/// Asks the other hosts, and takes sessions that they offer one at a time.
#[derive(Default)]
pub(crate) struct OtherHosts {
    channel: OnceLock<Box<dyn HostChannel>>,
    /// Held from the look at the room until the session has its place in the queue, so that the next look counts it.
    taking: Mutex<()>,
}

impl fmt::Debug for OtherHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtherHosts").field("is_open", &self.channel.get().is_some()).finish_non_exhaustive()
    }
}

impl OtherHosts {
    /// The channel; `None`: it is not open.
    pub(crate) fn channel(&self) -> Option<&dyn HostChannel> {
        self.channel.get().map(|channel| &**channel)
    }

    /// Waits until no other session is being taken.
    pub(crate) async fn lock_taking(&self) -> MutexGuard<'_, ()> {
        self.taking.lock().await
    }
}

impl Cluster {
    /// Opens the channel to the other hosts. Only the first call has an effect.
    pub fn open_channel(&self, channel: impl HostChannel + 'static) {
        let _ = self.other_hosts.channel.set(Box::new(channel));
    }

    /// The other hosts.
    pub(crate) fn other_hosts(&self) -> &OtherHosts {
        &self.other_hosts
    }

    /// The name of a host of the cluster; `None`: this server is alone, or the host is not known.
    pub fn host_name(&self, holder: Option<&Holder>) -> Option<String> {
        let (member, host) = (self.membership.as_ref()?, &holder?.host);
        if member.profile.host == *host {
            return Some(member.name.clone());
        }
        self.hosts().iter().find(|observed| observed.row.id == *host).map(|observed| observed.row.name.clone())
    }
}
