//! The shared parts of the server. Cheap to clone.

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

/// The server's shared parts.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// See [`App`].
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// The public base URL, without a trailing slash.
    pub base_url: String,
    /// The database.
    pub store: Store,
    /// The receiver of webhook messages, if one is configured.
    pub webhook: Option<Webhook>,
    /// Database write metrics.
    pub db_metrics: Arc<DbMetrics>,
    /// The encryption keys of stored credentials.
    pub vault: KeyRing,
    /// The providers and their tools.
    pub providers: Providers,
    /// The machines of this host.
    pub machines: Machines,
    /// The image that machines run.
    pub image: ImageFacts,
    /// External machines with a desktop.
    pub external: ExternalMachines,
    /// The egress gate of machines.
    pub gate: Arc<Gate>,
    /// The sessions that run on this server.
    pub sessions: SessionRegistry,
    /// Timeline entries that wait for the database.
    pub timeline_buffer: TimelineBuffer,
    /// Limits how often rejected requests are recorded.
    pub rejections: RejectionLimiter,
    /// The queue for machines.
    pub queue: Queue,
    /// In-memory data of credential uses.
    pub exec_cache: ExecCache,
    /// The history of reconciliations.
    pub reconcile_history: ReconcileHistory,
    /// The operator at this host's command line.
    pub local_operator: CallerId,
    /// Tracks every task, so that a stop can wait for them.
    pub tasks: TaskTracker,
    /// Cancelled when the server stops.
    pub stop: CancellationToken,
    /// Closes every socket when the server stops.
    pub close_signal: CloseSignal,
}

/// The image of machines and their accelerator.
#[derive(Debug, Clone, Default)]
pub struct ImageFacts {
    /// The image's content hash.
    pub hash: String,
    /// Tool → version.
    pub clis: BTreeMap<String, String>,
    /// The accelerator, one sentence.
    pub accelerator: String,
    /// Whether machines are emulated, which is not a security boundary.
    pub emulated: bool,
}

impl ImageFacts {
    /// Whether the image contains the tool.
    pub fn has_cli(&self, name: &str) -> bool {
        self.clis.contains_key(name)
    }
}

impl App {
    /// Shares the parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// A weak reference, for values that the app owns.
    pub fn downgrade(&self) -> std::sync::Weak<Parts> {
        Arc::downgrade(&self.0)
    }

    /// The app of a weak reference, while it exists.
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
