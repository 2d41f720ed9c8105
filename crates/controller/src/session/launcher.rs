//! What is needed to start and supervise sessions, in addition to the session context.

use super::{context::SessionContext, queue::Queue, reconcile::history::ReconcileHistory};
use crate::{external::ExternalMachines, image::ImageFacts};
use anteroom_egress::Gate;
use anteroom_machine::Machines;
use anteroom_tunnel::CloseSignal;
use std::{ops::Deref, sync::Arc};

/// Starts and supervises sessions. Cheap to clone; dereferences to the session context.
#[derive(Clone)]
pub struct Launcher {
    /// What operations on sessions share.
    pub context: SessionContext,
    /// The machines of this host.
    pub machines: Machines,
    /// The queue for machines.
    pub queue: Queue,
    /// The image that machines run.
    pub image: Arc<ImageFacts>,
    /// External machines with a desktop.
    pub external: Arc<ExternalMachines>,
    /// The egress gate of machines.
    pub gate: Arc<Gate>,
    /// The history of reconciliations.
    pub reconcile_history: Arc<ReconcileHistory>,
    /// Closes every socket when the server stops.
    pub close_signal: CloseSignal,
}

impl Deref for Launcher {
    type Target = SessionContext;
    fn deref(&self) -> &SessionContext {
        &self.context
    }
}
