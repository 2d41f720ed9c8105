//! The running server: opens its parts, resumes sessions, listens on TCP (pages and API) and on a Unix socket (command line), and
//! stops gracefully.

mod egress_gate;
mod in_cluster;

use crate::{
    addresses::{Addresses, open_local_name},
    app::App,
    auth::{Auth, RecordedUses, login_links},
    database::open_store,
    demo,
    free_memory::release_free_memory,
    http,
    listener::{Listeners, TcpServer, serve_redirects},
    peer::{OperatorSocket, Peer},
    peer_server,
    reload::reload_on_signal,
    service_manager,
    state_dir::StateDir,
};
use anteroom_audit::{Action, Entry};
use anteroom_controller::{
    admission,
    audit::{self, Audit},
    caller::{COMMAND_LINE_NAME, Caller, command_line_id},
    cluster::Cluster,
    config::{Config, ConfigSources, LOCAL_API_SOCKET_NAME},
    credentials::{check_job, turns::CredentialTurns},
    db_metrics::DbMetrics,
    egress, erasure,
    external::ExternalMachines,
    image::ImageInfo,
    keep_warm,
    keys::{self, KeyRotation},
    limits::ServerLimits,
    live::Live,
    log,
    oidc::{self, Oidc},
    providers::Providers,
    random,
    session::{
        context::SessionContext,
        queue::{MachineQueue, QueueLimits},
        reconcile,
        server_context::ServerContext,
        tampered_rows,
        timeline::{
            TimelineWriter,
            buffer::{BUFFERED_ENTRIES_MAX, TimelineBuffer},
        },
        waiting_sessions,
    },
    unix_time,
    warm_machines::WarmMachines,
    webhook::create_messages::WebhookMessages,
    webhook::{self, Receivers},
};
use anteroom_machine::{CallLimits, Machines, MachinesSettings as MachineSettings, SpecSource};
use anteroom_store::{CallerKind, NewCaller, Role, Store, WriteObserver};
use anteroom_tunnel::{CloseCause, CloseSignal};
use anteroom_vault::KeyRing;
use anteroom_wire::CallerId;
use anyhow::Context;
use egress_gate::open_egress_gate;
use in_cluster::{act_in_cluster, join_cluster};
use std::{
    fs::{self, File},
    net::SocketAddr,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{net::UnixListener, signal::unix::Signal};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

/// The environment that machines are started in.
pub struct MachineEnvironment {
    /// Provides the specification of each machine.
    pub spec_source: Arc<dyn SpecSource>,
    /// The image that machines run.
    pub image: ImageInfo,
    /// The keeper program, called as `PROGRAM keeper RUN_DIR`.
    pub keeper_program: PathBuf,
    /// The boot timeout of a machine, milliseconds.
    pub ready_ms_max: u64,
    /// An additional observer of database writes.
    pub write_observer: Option<Arc<dyn WriteObserver>>,
}

/// A server that runs. Dropping it does not stop it; see [`Server::stop`].
pub struct Server {
    /// The shared parts.
    pub app: App,
    /// The TCP address it listens on.
    pub address: SocketAddr,
    serving: TaskTracker,
    demo: CancellationToken,
    /// They go on until the tasks have ended, so that the machines live until the next server has started.
    heartbeats: AbortOnDropHandle<()>,
}

/// Starts the server. Returns when it answers requests. `limits` are the default ones, except in tests.
///
/// # Errors
/// The missing or invalid part, and what to do.
pub async fn start_server(
    config: Config,
    limits: ServerLimits,
    state: &StateDir,
    environment: MachineEnvironment,
    with_demo: bool,
) -> anyhow::Result<Server> {
    let mut providers = Providers::load(&config).map_err(invalid_providers)?;
    let mut overrides = egress::load_overrides(&config)?;
    let external =
        ExternalMachines::load(&config.external_machines).map_err(|errors| anyhow::anyhow!("{}", errors.join("\n")))?;
    let database = open_database(&config, &limits, state, &environment, &providers).await?;
    let receivers = Receivers::open(&config, &limits.webhook)?;
    let listeners = Listeners::open(&config).await?;
    let address = listeners.main.local_addr()?;
    let addresses = Addresses::new(config.public_url.as_deref(), address, &open_local_name(&state.path)?)?;
    let oidc = Oidc::open(&config, &limits.oidc, addresses.base_url())?;
    let (demo, serving) = (CancellationToken::new(), TaskTracker::new());
    let demo_pages = match with_demo {
        true => Some(demo::start(&serving, &demo, &mut overrides, &mut providers, addresses.base_url()).await?),
        false => None,
    };
    let (tasks, stop, handle) = (TaskTracker::new(), CancellationToken::new(), Arc::new(OnceLock::new()));
    let machines = Machines::open(
        machine_settings(&config, &limits, state, &environment, &database.cluster),
        environment.spec_source,
        http::controller_service(Arc::clone(&handle)),
        tasks.clone(),
        stop.clone(),
    )
    .await
    .context("machines")?;
    let (config, limits) = (Arc::new(config), Arc::new(limits));
    let auth = auth(&config, &limits, &database, addresses, oidc.as_ref().map(|oidc| oidc.issuer().into()), &tasks);
    let gate = open_egress_gate(&config, overrides, &database.cluster)?;
    let context = session_context(&config, limits, database, providers, receivers, tasks, stop)?;
    let server_context = ServerContext {
        warm_machines: WarmMachines::open(&config, &environment.image.hash, &machines).context("the warm machines")?,
        gate: Arc::new(gate),
        queue: MachineQueue::new(config.machines.machines_max, QueueLimits::new(&config.machines, &config.sessions)),
        image: Arc::new(environment.image),
        external: Arc::new(external),
        oidc: oidc.map(Arc::new),
        tls: listeners.certificate.clone(),
        reconcile_history: Arc::default(),
        close_signal: CloseSignal::new(),
        machines,
        context,
    };
    let app = App::new(auth, server_context, demo_pages);
    let _ = handle.set(app.downgrade());
    let heartbeats = act_in_cluster(&app).await?;
    start_jobs(&app).await?;
    serve(&app, &serving, listeners, &state.path).await?;
    service_manager::report_ready(&app);
    tracing::info!(outcome = "serving", address = %address, image = %app.image.hash, emulated = app.image.is_emulated(), "server started");
    Ok(Server { app, address, serving, demo, heartbeats })
}

fn invalid_providers(errors: Vec<String>) -> anyhow::Error {
    anyhow::anyhow!("providers:\n  - {}", errors.join("\n  - "))
}

impl Server {
    /// Reads the configuration again for each of these signals, until the server stops.
    pub fn reload_on(&self, hangup: Signal, sources: ConfigSources) {
        let _ = self.app.config_sources.set(sources.clone());
        self.app.tasks.spawn(reload_on_signal(self.app.clone(), sources, hangup));
    }

    /// Stops gracefully: closes sockets with a reason and waits for tasks within the limit. Machines keep running and sessions stay
    /// active for the next server.
    pub async fn stop(self) {
        service_manager::report_stop();
        self.app.warm_machines.close(&self.app.machines).await;
        self.app.stop.cancel();
        self.app.close_signal.close(CloseCause::ServerStopping);
        self.demo.cancel();
        self.app.tasks.close();
        self.serving.close();
        let drained = async {
            self.app.tasks.wait().await;
            self.serving.wait().await;
        };
        let limit = Duration::from_millis(self.app.config().http.drain_ms_max);
        if tokio::time::timeout(limit, drained).await.is_err() {
            tracing::warn!(
                outcome = "drain_timed_out",
                remaining = self.app.tasks.len(),
                "tasks did not finish in time"
            );
        }
        drop(self.heartbeats);
        let lost = self.app.timeline.buffer.close();
        if lost > 0 {
            tracing::error!(
                outcome = "timeline_lost",
                lost,
                "server stopped before these timeline entries were written"
            );
        }
        self.app.audit.close().await;
        self.app.store.close().await;
        tracing::info!(outcome = "stopped", "server stopped; machines keep running");
    }
}

/// The open database, and what is opened with it.
struct Database {
    store: Store,
    metrics: Arc<DbMetrics>,
    vault: KeyRing,
    cluster: Arc<Cluster>,
    audit: Arc<Audit>,
    local_operator: CallerId,
}

async fn open_database(
    config: &Config,
    limits: &ServerLimits,
    state: &StateDir,
    environment: &MachineEnvironment,
    providers: &Providers,
) -> anyhow::Result<Database> {
    let metrics = DbMetrics::new(limits.store.slow_write_ms, environment.write_observer.clone());
    let store = open_store(config, limits, metrics.clone()).await?;
    let vault = keys::open_key_ring(config, &store).await.context("the keys")?;
    store.note_restored_dump(unix_time::now_unix_ms()).await.context("the database")?;
    // Before anything is written: each write is that of a host.
    let cluster = join_cluster(config, &store, state, environment, providers).await?;
    let local_operator = local_operator(&store).await?;
    let audit = open_audit(config, limits, &store, &vault).await?;
    Ok(Database { store, metrics, vault, cluster, audit, local_operator })
}

fn auth(
    config: &Config,
    limits: &ServerLimits,
    database: &Database,
    addresses: Addresses,
    issuer: Option<Arc<str>>,
    tasks: &TaskTracker,
) -> Auth {
    Auth {
        store: database.store.clone(),
        addresses,
        live_callers: Arc::default(),
        issuer,
        recorded_uses: RecordedUses::default(),
        tasks: tasks.clone(),
        login_link_lifetime_ms: config.sessions.login_link_s_max * 1_000,
        cookie_lifetime_s: config.sessions.cookie_s_max,
        frames_permitted: !config.http.frame_ancestors.is_empty(),
        browser_idle_ms_max: limits.browsers.idle_ms_max,
        confirmation_ms_max: limits.browsers.confirmation_ms_max,
    }
}

fn session_context(
    config: &Arc<Config>,
    limits: Arc<ServerLimits>,
    database: Database,
    providers: Providers,
    receivers: Receivers,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> anyhow::Result<SessionContext> {
    let timeline = timeline(&limits, &database.store, &tasks, &stop);
    let store = database.store;
    Ok(SessionContext {
        live_config: Live::new(Arc::clone(config)),
        limits,
        extra_ca_pem: egress::extra_ca_pem(config)?.into(),
        store: store.clone(),
        cluster: database.cluster,
        db_metrics: database.metrics,
        key_rotation: KeyRotation::new(store.clone(), database.vault.clone()),
        vault: database.vault,
        audit: database.audit,
        live_providers: Live::new(providers),
        sessions: Arc::clone(&timeline.sessions),
        settled_verdicts: Arc::default(),
        start_histograms: Default::default(),
        volatile_execs: Arc::default(),
        credential_turns: Arc::new(CredentialTurns::new(&store, &tasks, &stop)),
        start_times: Arc::default(),
        page_times: Arc::default(),
        timeline,
        webhook_messages: WebhookMessages::new(receivers),
        local_operator: database.local_operator,
        tasks,
        stop,
    })
}

/// Opens the audit trail and records the start with the settings that changed since the last one.
async fn open_audit(
    config: &Config,
    limits: &ServerLimits,
    store: &Store,
    vault: &KeyRing,
) -> anyhow::Result<Arc<Audit>> {
    let audit = Audit::open(config, &limits.audit, store, vault).await.context("the audit trail")?;
    let changed = audit::changed_settings(config, &audit.dir().join("settings.json")).context("the audit trail")?;
    let entry = Entry::new(Action::ServerStart)
        .with_detail("version", env!("CARGO_PKG_VERSION"))
        .with_detail("settings_changed", changed.join(", "));
    audit.record(entry).await;
    if let Some(rows) = store.take_accepted_rows().await.context("the database")? {
        audit.record(Entry::new(Action::RowsAccept).with_detail("rows", rows)).await;
    }
    audit::record_restore(&audit, store).await.context("the database")?;
    Ok(Arc::new(audit))
}

/// Resumes sessions and starts the periodic jobs.
async fn start_jobs(app: &App) -> anyhow::Result<()> {
    admission::install_admission_check(app);
    reconcile::run_once(app).await.context("resuming sessions")?;
    app.credential_turns.release_those_of_earlier_processes().await.context("the turns of credentials")?;
    app.tasks.spawn(reconcile::run_periodically(app.server_context.clone()));
    let live_callers = Arc::clone(&app.auth.live_callers);
    app.tasks.spawn(live_callers.run_checks(app.store.clone(), app.stop.clone()));
    app.tasks.spawn(log::report_dropped_lines(app.stop.clone()));
    app.tasks.spawn(service_manager::keep_informed(app.clone()));
    app.tasks.spawn(release_free_memory(app.stop.clone()));
    app.tasks.spawn(check_job::run_check_job(app.server_context.clone()));
    app.tasks.spawn(erasure::run_retention_job(app.server_context.clone()));
    app.tasks.spawn(keys::run_rewrap_job(Arc::clone(&app.key_rotation), app.stop.clone()));
    app.tasks.spawn(tampered_rows::run_row_alarms(app.context.clone()));
    app.tasks.spawn(webhook::run_webhook_sender(app.context.clone()));
    app.tasks.spawn(waiting_sessions::run_pulls(app.server_context.clone()));
    app.tasks.spawn(waiting_sessions::run_refusals(app.server_context.clone()));
    app.tasks.spawn(keep_warm::run_warm_machines(app.server_context.clone()));
    if let Some(oidc) = &app.oidc {
        app.tasks.spawn(oidc::keep_current(Arc::clone(oidc), app.stop.clone()));
    }
    app.tasks.spawn(audit::run_audit_task(Arc::clone(&app.audit), app.stop.clone()));
    Ok(())
}

fn timeline(limits: &ServerLimits, store: &Store, tasks: &TaskTracker, stop: &CancellationToken) -> TimelineWriter {
    TimelineWriter {
        store: store.clone(),
        buffer: Arc::new(TimelineBuffer::new(BUFFERED_ENTRIES_MAX)),
        rejections: Arc::default(),
        sessions: Arc::default(),
        wait_limit: Duration::from_millis(limits.store.busy_ms_max),
        rejection_interval: Duration::from_millis(limits.sessions.rejection_log_interval_ms),
        tasks: tasks.clone(),
        stop: stop.clone(),
    }
}

async fn serve(app: &App, serving: &TaskTracker, listeners: Listeners, state_dir: &Path) -> anyhow::Result<()> {
    let Listeners { main: tcp, redirect, certificate } = listeners;
    let unix = OperatorSocket { listener: listen_locally(state_dir)?, machines: app.machines.clone() };
    let router = http::router(app);
    peer_server::start(app, router.clone(), serving, state_dir).await?;
    serving.spawn(TcpServer::new(app, router.clone(), serving.clone())?.serve(tcp));
    if let Some(listener) = redirect {
        let base_url = app.auth.addresses.base_url().into();
        serving.spawn(serve_redirects(listener, base_url, serving.clone(), app.stop.clone()));
    }
    if let Some(certificate) = certificate {
        serving.spawn(certificate.run(app.stop.clone()));
    }
    let stop = app.stop.clone();
    let make = router.into_make_service_with_connect_info::<Peer>();
    serving.spawn(async move {
        let served = axum::serve(unix, make).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(outcome = "listener_failed", %error, "Unix socket listener failed");
        }
    });
    Ok(())
}

/// The command line's socket. An existing socket file is stale, because this server holds the lock.
fn listen_locally(state_dir: &Path) -> anyhow::Result<UnixListener> {
    let dir = File::open(state_dir)?;
    // Through the descriptor, because the path of a Unix socket is limited to 107 bytes.
    let path = format!("/proc/self/fd/{}/{LOCAL_API_SOCKET_NAME}", dir.as_raw_fd());
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).context("the command line's socket cannot be created")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn machine_settings(
    config: &Config,
    limits: &ServerLimits,
    state: &StateDir,
    environment: &MachineEnvironment,
    cluster: &Cluster,
) -> MachineSettings {
    MachineSettings {
        ready_ms_max: environment.ready_ms_max,
        // The controller enforces the session limit; the keeper's deadline applies while no controller runs.
        lifetime_s_max: config.sessions.session_s_max + 60,
        // The queue enforces the limit; this is a safety margin that includes machines that are ending.
        machines_max: config.machines.machines_max.saturating_mul(2),
        ping_every_ms: limits.machines.ping_every_ms,
        ping_ms_max: limits.machines.ping_ms_max,
        liveness_timeout_ms: limits
            .machines
            .liveness_timeout_ms
            .unwrap_or(config.machines.liveness_timeout_s.saturating_mul(1_000)),
        call_limits: CallLimits { tool_ms_max: limits.machines.tool_ms_max, ..CallLimits::default() },
        receipts_max: config.retention.receipts_max,
        renew_deadline_file: cluster.deadline_file().map(Path::to_owned),
        ..MachineSettings::in_state_dir(&state.path, environment.keeper_program.clone())
    }
}

/// The caller for this host's command line. Its token is random and not stored, so it cannot be used over TCP.
async fn local_operator(store: &Store) -> anyhow::Result<CallerId> {
    let id = command_line_id();
    if store.get_caller(&id).await.context("the database")?.is_none() {
        let (secret, now) = (random::random_token(""), unix_time::now_unix_ms());
        let token = NewCaller::api_token(id.clone(), Role::Operator, COMMAND_LINE_NAME, &secret, now);
        let caller = NewCaller { kind: CallerKind::LocalSocket, ..token };
        store.create_caller(&caller).await.context("the database")?;
    }
    Ok(id)
}

/// Creates an operator's login link.
///
/// # Errors
/// The database cannot be written.
pub async fn create_operator_login_link(server: &Server) -> anyhow::Result<String> {
    Ok(login_links::create_operator_login_link(&server.app.auth, &Caller::command_line()).await?)
}
