//! A running server: parts put together, sessions resumed, two listeners (TCP for people and backends, a Unix socket for
//! this host's command line), a graceful end.

use crate::{
    admission,
    api_error::chain,
    app::{App, ImageFacts, Parts},
    auth, clock,
    config::{Config, SOCKET_NAME},
    credentials::check_job,
    db_metrics::DbMetrics,
    demo::{self, DemoIdp},
    egress::{Gate, HostName, HostOverrides},
    external::ExternalMachines,
    http,
    peer::Peer,
    providers::Providers,
    random,
    session::{
        queue::Queue,
        reconcile::{self, history::ReconcileHistory},
        registry::SessionRegistry,
        rejections::limiter::RejectionLimiter,
        timeline::buffer::TimelineBuffer,
        use_credential::exec_cache::ExecCache,
    },
    tunnel::CloseSignal,
    webhook::{self, Webhook},
};
use anteroom_machine::{Machines, Settings as MachineSettings, SpecSource};
use anteroom_store::{NewCaller, Role, Settings as StoreSettings, Sha256Hex, Store, WriteObserver};
use anteroom_vault::KeyRing;
use anteroom_wire::{CallerId, Problem};
use anyhow::Context;
use std::{
    fs::{self, File},
    net::SocketAddr,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What machines are made of and how they are started.
pub struct MachineEnvironment {
    /// How to start one.
    pub spec_source: Arc<dyn SpecSource>,
    /// What it runs.
    pub image: ImageFacts,
    /// The program that keeps machines: `PROGRAM keeper RUN_DIR`.
    pub keeper_program: PathBuf,
    /// How long a machine may take to become ready, milliseconds.
    pub ready_ms_max: u64,
    /// Who else wants to hear of the database's writes.
    pub write_observer: Option<Arc<dyn WriteObserver>>,
}

/// The state directory, for one server at a time.
pub struct StateDir {
    /// Where it is.
    pub path: PathBuf,
    _lock: File,
}

/// A server that runs. Dropping it does not stop it; see [`Server::stop`].
pub struct Server {
    /// Its parts.
    pub app: App,
    /// Where it listens.
    pub address: SocketAddr,
    serving: TaskTracker,
    demo: CancellationToken,
}

impl StateDir {
    /// Makes the directory (0700) and takes its lock.
    ///
    /// # Errors
    /// It cannot be made, or another server has it.
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("the state directory {} cannot be made", path.display()))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .with_context(|| format!("the state directory {} cannot be written", path.display()))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            anyhow::anyhow!(
                "another server runs with the state directory {}; stop it, or set state_dir",
                path.display()
            )
        })?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }
}

/// Starts everything; returns when requests are answered.
///
/// # Errors
/// What is missing or wrong, and what to do.
pub async fn start(
    config: Config,
    state: &StateDir,
    environment: MachineEnvironment,
    with_demo: bool,
) -> anyhow::Result<Server> {
    let providers =
        Providers::load(&config).map_err(|faults| anyhow::anyhow!("providers:\n  - {}", faults.join("\n  - ")))?;
    let mut overrides = HostOverrides::parse(&config.egress.overrides).map_err(|faults| {
        anyhow::anyhow!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let external =
        ExternalMachines::load(&config.external_machines).map_err(|faults| anyhow::anyhow!("{}", faults.join("\n")))?;
    let store_settings = StoreSettings { busy_ms_max: config.store.busy_ms_max, ..StoreSettings::default() };
    let db_metrics = DbMetrics::new(config.store.slow_write_ms, environment.write_observer.clone());
    let database = state.path.join("anteroom.db");
    let store = Store::open_observed(&database, store_settings, db_metrics.clone()).await.context("the database")?;
    let vault = open_vault(&store, &state.path.join("vault.key")).await?;
    let local_operator = local_operator(&store).await?;
    let webhook = Webhook::open(&config).map_err(anyhow::Error::msg)?;
    let listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!("cannot listen on {}: is another server there? Set `listen` or --listen", config.listen)
    })?;
    let address = listener.local_addr()?;
    let demo = CancellationToken::new();
    let serving = TaskTracker::new();
    if with_demo {
        start_demo(&serving, &demo, &mut overrides).await?;
    }
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let handle = Arc::new(OnceLock::new());
    let machines = Machines::open(
        machine_settings(&config, state, &environment),
        environment.spec_source,
        http::host_service(Arc::clone(&handle)),
        tasks.clone(),
        stop.clone(),
    )
    .await
    .context("machines")?;
    let app = App::new(Parts {
        base_url: config.base_url(address),
        gate: Arc::new(Gate::new(config.egress.limits.clone(), overrides)),
        timeline_buffer: TimelineBuffer::new(config.sessions.timeline_buffer_max),
        rejections: RejectionLimiter::default(),
        reconcile_history: ReconcileHistory::default(),
        exec_cache: ExecCache::default(),
        queue: Queue::new(config.machines.machines_max, config.sessions.queue_max),
        store,
        webhook,
        db_metrics,
        vault,
        providers,
        machines,
        image: environment.image,
        external,
        sessions: SessionRegistry::default(),
        local_operator,
        tasks,
        stop,
        close_signal: CloseSignal::new(),
        config,
    });
    let _ = handle.set(app.downgrade());
    admission::install_check(&app);
    reconcile::once(&app).await.context("resuming sessions")?;
    app.tasks.spawn(reconcile::run(app.clone()));
    app.tasks.spawn(check_job::run(app.clone()));
    app.tasks.spawn(webhook::run(app.clone()));
    serve(&app, &serving, listener, &state.path)?;
    tracing::info!(outcome = "serving", address = %address, image = %app.image.hash, emulated = app.image.emulated, "the server answers");
    Ok(Server { app, address, serving, demo })
}

impl Server {
    /// Stops gracefully: sockets are told, tasks end within the limit, machines and sessions live on for the next server.
    pub async fn stop(self) {
        self.app.stop.cancel();
        self.app.close_signal.close(Problem::ShuttingDown);
        self.demo.cancel();
        self.app.tasks.close();
        self.serving.close();
        let drained = async {
            self.app.tasks.wait().await;
            self.serving.wait().await;
        };
        let limit = Duration::from_millis(self.app.config.http.drain_ms_max);
        if tokio::time::timeout(limit, drained).await.is_err() {
            tracing::warn!(outcome = "drain_cut", left = self.app.tasks.len(), "some tasks did not end in time");
        }
        let left = self.app.timeline_buffer.close();
        if left > 0 {
            tracing::error!(
                outcome = "timeline_lost",
                left,
                "the server stops before the database took these timeline entries"
            );
        }
        self.app.store.close().await;
        tracing::info!(outcome = "stopped", "the server has stopped; machines live on");
    }
}

fn serve(app: &App, serving: &TaskTracker, tcp: TcpListener, state_dir: &Path) -> anyhow::Result<()> {
    let unix = listen_locally(state_dir)?;
    let router = http::router(app);
    let stop = app.stop.clone();
    let make = router.clone().into_make_service_with_connect_info::<Peer>();
    serving.spawn(async move {
        let served = axum::serve(tcp, make).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(outcome = "listener_failed", %error, "the TCP listener failed");
        }
    });
    let stop = app.stop.clone();
    let make = router.into_make_service_with_connect_info::<Peer>();
    serving.spawn(async move {
        let served = axum::serve(unix, make).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(outcome = "listener_failed", %error, "the Unix socket failed");
        }
    });
    Ok(())
}

/// The command line's socket. The lock of the state directory says that one which lies there is stale.
fn listen_locally(state_dir: &Path) -> anyhow::Result<UnixListener> {
    let dir = File::open(state_dir)?;
    // Through the descriptor: a Unix socket's path may have 107 bytes only.
    let path = format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd());
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).context("the command line's socket cannot be made")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn machine_settings(config: &Config, state: &StateDir, environment: &MachineEnvironment) -> MachineSettings {
    MachineSettings {
        ready_ms_max: environment.ready_ms_max,
        // The controller ends a session at its cap; the keeper's deadline holds when there is no controller.
        lifetime_s_max: config.sessions.session_s_max + 60,
        // The queue admits; this is only a backstop, with room for those that are just ending.
        machines_max: config.machines.machines_max.saturating_mul(2),
        console_bytes_max: config.machines.console_bytes_max,
        ping_every_ms: config.machines.ping_every_ms,
        ping_ms_max: config.machines.ping_ms_max,
        liveness_timeout_ms: config.machines.liveness_timeout_s.saturating_mul(1_000),
        receipts_max: config.retention.receipts_max,
        ..MachineSettings::under(&state.path, environment.keeper_program.clone())
    }
}

/// Opens the keys: made at the first start, refused when the database was sealed with others.
async fn open_vault(store: &Store, path: &Path) -> anyhow::Result<KeyRing> {
    let known = store.key_fingerprint().await.context("the database")?;
    let ring = if store.has_sealed_credentials().await.context("the database")? || known.is_some() {
        KeyRing::open(path)
    } else {
        KeyRing::open_or_create(path)
    }
    .context("the key file")?;
    if let Some(known) = &known {
        ring.check_fingerprint(known).context("the key file")?;
    }
    store.set_key_fingerprint(&ring.fingerprint()).await.context("the database")?;
    Ok(ring)
}

/// The operator at this host's command line owns what it starts; it has no token that anybody knows.
async fn local_operator(store: &Store) -> anyhow::Result<CallerId> {
    let id = CallerId::from_parts(0, [0; 10]);
    if store.caller(&id).await.context("the database")?.is_none() {
        let caller = NewCaller {
            id: id.clone(),
            role: Role::Operator,
            name: "this host's command line".into(),
            token: Sha256Hex::of_secret(&random::token("")),
            created_at_ms: clock::now(),
            expires_at_ms: None,
        };
        store.create_caller(&caller).await.context("the database")?;
    }
    Ok(id)
}

async fn start_demo(
    serving: &TaskTracker,
    stop: &CancellationToken,
    overrides: &mut HostOverrides,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("the demo's identity provider")?;
    let address = listener.local_addr()?;
    let host = HostName::parse(demo::DEMO_HOST).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    overrides.insert(host, demo::DEMO_PORT, address);
    let stop = stop.clone();
    serving.spawn(async move {
        if let Err(error) = DemoIdp::default().serve(listener, stop).await {
            tracing::error!(outcome = "demo_failed", error = %chain(&error), "the demo's identity provider failed");
        }
    });
    Ok(())
}

/// The link that lets an operator in.
///
/// # Errors
/// The database cannot be written.
pub async fn enter_link(server: &Server) -> anyhow::Result<String> {
    Ok(auth::login_links::enter_link(&server.app).await?)
}
