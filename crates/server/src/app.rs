//! The assembled server. Handlers and jobs receive the part that they need ([`FromRef`]).

use crate::{
    auth::Auth,
    http::{
        event_streams::{EventStreams, FileStreams, SessionListStreams},
        health::PublicHealth,
        http_metrics::HttpMetrics,
        maintenance::Maintenance,
        rates::Rates,
        request_body::BodyBudgets,
    },
    peer::TrustedProxies,
    peers::Peers,
};
use anteroom_controller::{
    config::ConfigSources,
    session::{context::SessionContext, server_context::ServerContext},
};
use axum::{Router, extract::FromRef};
use std::{
    ops::Deref,
    sync::{Arc, OnceLock, Weak},
};

/// The assembled server. Cheap to clone; dereferences to its parts.
#[derive(Clone)]
pub struct App(Arc<AppParts>);

/// The parts of the server. Dereferences to [`ServerContext`].
pub struct AppParts {
    /// Starts and supervises sessions.
    pub server_context: ServerContext,
    /// Authenticates callers.
    pub auth: Auth,
    /// The reverse proxies whose forwarding headers are read.
    pub trusted_proxies: TrustedProxies,
    /// The bytes of request bodies that are held.
    pub body_budgets: BodyBudgets,
    /// The open event streams.
    pub event_streams: EventStreams,
    /// The open event streams of all sessions.
    pub session_list_streams: SessionListStreams,
    /// The open event streams of the log and the audit trail.
    pub file_streams: FileStreams,
    /// The place for a backup or a check of the database.
    pub maintenance: Maintenance,
    /// From where the configuration was read; not set: from nowhere.
    pub config_sources: OnceLock<ConfigSources>,
    /// The health report of clients without a caller.
    pub public_health: PublicHealth,
    /// How long requests take.
    pub http_metrics: HttpMetrics,
    /// The rates of requests.
    pub rates: Rates,
    /// The channel to the other hosts of the cluster; empty: this host is alone, or has no certificate yet.
    pub(crate) peers: OnceLock<Arc<Peers>>,
    /// The pages of the demo's identity provider; `None`: this server runs without it.
    pub demo_pages: Option<Router>,
}

impl App {
    /// A server with no request yet.
    pub fn new(auth: Auth, server_context: ServerContext, demo_pages: Option<Router>) -> Self {
        Self(Arc::new(AppParts {
            auth,
            trusted_proxies: TrustedProxies::new(&server_context.config().trusted_proxies),
            body_budgets: BodyBudgets::default(),
            event_streams: EventStreams::default(),
            session_list_streams: SessionListStreams::default(),
            file_streams: FileStreams::default(),
            maintenance: Maintenance::default(),
            config_sources: OnceLock::new(),
            public_health: PublicHealth::default(),
            http_metrics: HttpMetrics::default(),
            rates: Rates::new(server_context.limits.rates.clone()),
            server_context,
            peers: OnceLock::new(),
            demo_pages,
        }))
    }

    /// A weak reference, for values that the app owns.
    pub fn downgrade(&self) -> Weak<AppParts> {
        Arc::downgrade(&self.0)
    }

    /// The app of a weak reference, while it exists.
    pub fn upgrade(weak: &Weak<AppParts>) -> Option<Self> {
        weak.upgrade().map(Self)
    }
}

impl Deref for App {
    type Target = AppParts;
    fn deref(&self) -> &AppParts {
        &self.0
    }
}

impl Deref for AppParts {
    type Target = ServerContext;
    fn deref(&self) -> &ServerContext {
        &self.server_context
    }
}

impl FromRef<App> for ServerContext {
    fn from_ref(app: &App) -> Self {
        app.server_context.clone()
    }
}

impl FromRef<App> for SessionContext {
    fn from_ref(app: &App) -> Self {
        app.context.clone()
    }
}

impl FromRef<App> for EventStreams {
    fn from_ref(app: &App) -> Self {
        app.event_streams.clone()
    }
}

impl FromRef<App> for SessionListStreams {
    fn from_ref(app: &App) -> Self {
        app.session_list_streams.clone()
    }
}

impl FromRef<App> for Auth {
    fn from_ref(app: &App) -> Self {
        app.auth.clone()
    }
}

impl FromRef<App> for HttpMetrics {
    fn from_ref(app: &App) -> Self {
        app.http_metrics.clone()
    }
}

impl FromRef<App> for FileStreams {
    fn from_ref(app: &App) -> Self {
        app.file_streams.clone()
    }
}

impl FromRef<App> for Maintenance {
    fn from_ref(app: &App) -> Self {
        app.maintenance.clone()
    }
}
