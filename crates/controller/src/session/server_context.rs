//! What is needed to start and supervise sessions, in addition to the session context.

use super::{context::SessionContext, queue::MachineQueue, reconcile::history::ReconcileHistory};
use crate::{external::ExternalMachines, image::ImageInfo};
use anteroom_egress::EgressGate;
use anteroom_machine::Machines;
use anteroom_tunnel::CloseSignal;
use std::{ops::Deref, sync::Arc};

/// Starts and supervises sessions. Cheap to clone; dereferences to the session context.
#[derive(Clone)]
pub struct ServerContext {
    /// What operations on sessions share.
    pub context: SessionContext,
    /// The machines of this host.
    pub machines: Machines,
    /// The queue for machines.
    pub queue: MachineQueue,
    /// The image that machines run.
    pub image: Arc<ImageInfo>,
    /// External machines with a desktop.
    pub external: Arc<ExternalMachines>,
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
