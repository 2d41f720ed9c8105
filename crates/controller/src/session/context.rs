//! What operations on sessions and stored credentials share.

use super::{
    registry::SessionRegistry, settled_verdicts::SettledVerdicts, start_times::StartTimes, timeline::TimelineWriter,
    use_credential::volatile_execs::VolatileExecs,
};
use crate::{
    audit::Audit, cluster::membership::Cluster, config::Config, credentials::turns::CredentialTurns,
    db_metrics::DbMetrics, keys::KeyRotation, limits::ServerLimits, live::Live, providers::Providers,
    start_histograms::StartHistograms, webhook::create_messages::WebhookMessages,
};
use anteroom_store::Store;
use anteroom_vault::KeyRing;
use anteroom_wire::CallerId;
use std::sync::Arc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What operations on sessions and stored credentials share. Cheap to clone.
#[derive(Clone)]
pub struct SessionContext {
    /// The configuration, which can be reloaded.
    pub live_config: Live<Config>,
    /// The limits that are not settings.
    pub limits: Arc<ServerLimits>,
    /// The certificate authorities of `egress.extra_ca_files`, PEM, for the claims of machines.
    pub extra_ca_pem: Arc<str>,
    /// The database.
    pub store: Store,
    /// Until when this host may act for its sessions.
    pub cluster: Arc<Cluster>,
    /// Database write metrics.
    pub db_metrics: Arc<DbMetrics>,
    /// The encryption keys of stored credentials.
    pub vault: KeyRing,
    /// Rotates and retires these keys.
    pub key_rotation: Arc<KeyRotation>,
    /// The audit trail.
    pub audit: Arc<Audit>,
    /// The providers and their tools, which can be reloaded.
    pub live_providers: Live<Providers>,
    /// The sessions that run on this server.
    pub sessions: Arc<SessionRegistry>,
    /// The turns of the uses of a credential.
    pub credential_turns: Arc<CredentialTurns>,
    /// In-memory data of credential uses.
    pub volatile_execs: Arc<VolatileExecs>,
    /// How long tools take to start.
    pub start_times: Arc<StartTimes>,
    /// How long the machine's browser takes to show the page that a tool opens.
    pub page_times: Arc<StartTimes>,
    /// The verdicts of sessions that ended some time ago.
    pub settled_verdicts: Arc<SettledVerdicts>,
    /// Durations of starts since the server started.
    pub start_histograms: StartHistograms,
    /// The timelines of sessions.
    pub timeline: TimelineWriter,
    /// Creates the messages for the webhook.
    pub webhook_messages: WebhookMessages,
    /// The operator at this host's command line.
    pub local_operator: CallerId,
    /// Tracks every task, so that a stop can wait for them.
    pub tasks: TaskTracker,
    /// Cancelled when the server stops.
    pub stop: CancellationToken,
}

impl SessionContext {
    /// The current configuration. What was copied from it when the server started stays as it was; see
    /// [`Reload`](crate::config::reload::Reload).
    pub fn config(&self) -> Arc<Config> {
        self.live_config.get()
    }

    /// The current providers.
    pub fn providers(&self) -> Arc<Providers> {
        self.live_providers.get()
    }
}
