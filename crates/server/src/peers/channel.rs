//! What the controller asks other hosts, over this server's channel.

use super::Peers;
use anteroom_controller::cluster::{HostChannel, TakeResponse};
use anteroom_wire::{
    HostId, SessionId,
    api::SessionView,
    hosts::{EraseOnHost, ErasedFiles},
};
use futures_util::future::BoxFuture;
use std::sync::{Arc, Weak};

/// The channel, which ends with the server.
pub(crate) struct OpenChannel(Weak<Peers>);

impl OpenChannel {
    /// Over these connections.
    pub(crate) fn new(peers: &Arc<Peers>) -> Self {
        Self(Arc::downgrade(peers))
    }
}

impl HostChannel for OpenChannel {
    fn offer(&self, host: HostId, session: SessionId) -> BoxFuture<'static, Option<TakeResponse>> {
        let peers = self.0.upgrade();
        Box::pin(async move { peers?.offer(&host, session).await })
    }

    fn read_views(&self, host: HostId, sessions: Vec<SessionId>) -> BoxFuture<'static, Option<Vec<SessionView>>> {
        let peers = self.0.upgrade();
        Box::pin(async move { peers?.read_views(&host, sessions).await })
    }

    fn erase(&self, host: HostId, question: EraseOnHost) -> BoxFuture<'static, Option<ErasedFiles>> {
        let peers = self.0.upgrade();
        Box::pin(async move { peers?.erase(&host, &question).await })
    }
}
