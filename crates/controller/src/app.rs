//! What every part of the server shares. Cheap to clone.

use crate::{
    config::Config,
    db_metrics::DbMetrics,
    egress::Gate,
    external::ExternalMachines,
    providers::Providers,
    session::{
        queue::Queue, reconcile::history::ReconcileHistory, registry::SessionRegistry,
        rejections::limiter::RejectionLimiter, timeline::buffer::TimelineBuffer, use_credential::exec_cache::ExecCache,
    },
    tunnel::CloseSignal,
    webhook::receiver::Webhook,
};
use anteroom_machine::Machines;
use anteroom_store::Store;
use anteroom_vault::KeyRing;
use anteroom_wire::CallerId;
use std::{collections::BTreeMap, ops::Deref, sync::Arc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The server's parts.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// See [`App`].
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// The address people use, without a slash at its end.
    pub base_url: String,
    /// The database.
    pub store: Store,
    /// Who outside is told of what happens.
    pub webhook: Option<Webhook>,
    /// How its writes fare.
    pub db_metrics: Arc<DbMetrics>,
    /// The keys.
    pub vault: KeyRing,
    /// The tools.
    pub providers: Providers,
    /// The machines of this host.
    pub machines: Machines,
    /// What machines run.
    pub image: ImageFacts,
    /// Desktops that exist already.
    pub external: ExternalMachines,
    /// The way out of machines.
    pub gate: Arc<Gate>,
    /// The sessions that live here.
    pub sessions: SessionRegistry,
    /// Timeline entries that wait for the database.
    pub timeline_buffer: TimelineBuffer,
    /// Who was turned away how often.
    pub rejections: RejectionLimiter,
    /// Who gets the next machine.
    pub queue: Queue,
    /// What is kept of uses of credentials in memory alone.
    pub exec_cache: ExecCache,
    /// What sweeps did.
    pub reconcile_history: ReconcileHistory,
    /// The operator at this host's command line.
    pub local_operator: CallerId,
    /// Owns every task.
    pub tasks: TaskTracker,
    /// Fires when the server stops.
    pub stop: CancellationToken,
    /// Ends every socket when the server stops.
    pub close_signal: CloseSignal,
}

/// What machines run, and on what.
#[derive(Debug, Clone, Default)]
pub struct ImageFacts {
    /// The image's content hash.
    pub hash: String,
    /// Tool → version.
    pub clis: BTreeMap<String, String>,
    /// What accelerates machines, one sentence.
    pub accelerator: String,
    /// Whether that is emulation: not a security boundary.
    pub emulated: bool,
}

impl ImageFacts {
    /// Whether the image contains the tool.
    pub fn has_cli(&self, name: &str) -> bool {
        self.clis.contains_key(name)
    }
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// For those that the app owns: they must not keep it alive.
    pub fn downgrade(&self) -> std::sync::Weak<Parts> {
        Arc::downgrade(&self.0)
    }

    /// Back from [`App::downgrade`].
    pub fn upgrade(weak: &std::sync::Weak<Parts>) -> Option<Self> {
        weak.upgrade().map(Self)
    }
}

impl Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
