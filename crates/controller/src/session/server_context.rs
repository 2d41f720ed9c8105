//! What all use cases of a server share: the session context, and what runs its machines.

use super::{context::SessionContext, queue::MachineQueue, reconcile::history::ReconcileHistory};
use crate::{
    external::ExternalMachines, image::ImageInfo, oidc::Oidc, tls::TlsCertificate, warm_machines::WarmMachines,
};
use anteroom_egress::EgressGate;
use anteroom_machine::Machines;
use anteroom_tunnel::CloseSignal;
use std::{ops::Deref, sync::Arc};

/// The session context, and what is needed to start and supervise machines. Cheap to clone; dereferences to [`SessionContext`], which is
/// enough for use cases that need no machine.
#[derive(Clone)]
pub struct ServerContext {
    /// What all operations on sessions and stored credentials share.
    pub context: SessionContext,
    /// The machines of this host.
    pub machines: Machines,
    /// Its machines that wait for a session.
    pub warm_machines: WarmMachines,
    /// The queue for machines.
    pub queue: MachineQueue,
    /// The image that machines run.
    pub image: Arc<ImageInfo>,
    /// External machines with a desktop.
    pub external: Arc<ExternalMachines>,
    /// The OpenID provider with which people sign in; `None`: none is configured.
    pub oidc: Option<Arc<Oidc>>,
    /// The certificate with which `listen` speaks TLS; `None`: plain HTTP.
    pub tls: Option<Arc<TlsCertificate>>,
    /// The egress gate of machines.
    pub gate: Arc<EgressGate>,
    /// The history of reconciliations.
    pub reconcile_history: Arc<ReconcileHistory>,
    /// Closes every socket when the server stops.
    pub close_signal: CloseSignal,
}

impl Deref for ServerContext {
    type Target = SessionContext;
    fn deref(&self) -> &SessionContext {
        &self.context
    }
}
