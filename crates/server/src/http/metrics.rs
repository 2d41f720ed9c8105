//! `GET /metrics`: metrics in the OpenMetrics text format for Prometheus. All values are collected at the time of the request.

use super::{error_response::ErrorResponse, http_metrics::HttpMetrics};
use anteroom_controller::{
    admission,
    api_error::ApiError,
    session::server_context::ServerContext,
    session::{status, view},
    unix_time,
};
use anteroom_machine::State as MachineState;
use anteroom_store::{StoreError, WriteKind, WriteOutcome};
use anteroom_wire::{ProblemBody, api::SessionStatus};
use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use std::sync::atomic::Ordering::Relaxed;

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge>;
type Counters = Family<Labels, Counter>;

/// Maximum number of pending webhook messages that are counted.
const MESSAGES_MAX: u32 = 1_000;

/// The media type of OpenMetrics text.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Returns metrics for Prometheus. Operators and auditors only: `anteroom token create NAME --role auditor --scope metrics` creates a token for the scraper.
#[utoipa::path(get, operation_id = "get_metrics", path = "/metrics", responses(
    (status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text"),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
))]
pub(super) async fn get_metrics(
    State(server_context): State<ServerContext>,
    State(http_metrics): State<HttpMetrics>,
) -> Result<Response, ErrorResponse> {
    let mut registry = Registry::with_prefix("anteroom");
    sessions(&server_context, &mut registry).await?;
    credentials(&server_context, &mut registry).await?;
    machines(&server_context, &mut registry);
    starts(&server_context, &mut registry);
    store(&server_context, &mut registry);
    reconciliations(&server_context, &mut registry);
    webhook(&server_context, &mut registry).await?;
    host(&server_context, &mut registry);
    audit(&server_context, &mut registry);
    http_metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).map_err(ApiError::internal)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], text).into_response())
}

fn to_i64(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

fn register_gauge(registry: &mut Registry, name: &str, help: &str, value: impl TryInto<i64>) {
    let gauge: Gauge = Gauge::default();
    gauge.set(to_i64(value));
    registry.register(name, help, gauge);
}

fn register_counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

/// Active sessions by status, and ended sessions by final status.
async fn sessions(server_context: &ServerContext, registry: &mut Registry) -> Result<(), StoreError> {
    let by_status = Gauges::default();
    let gauge = |status: &str| by_status.get_or_create_owned(&vec![("status", status.to_owned())]);
    for status in SessionStatus::ALL.iter().filter(|status| !status.is_ended()) {
        gauge(status.as_str()).set(0);
    }
    for (state, count) in server_context.store.count_sessions_by_status().await? {
        if state != "active" {
            gauge(state).set(to_i64(count));
        }
    }
    let mut viewers = 0;
    for row in server_context.store.list_held_sessions().await? {
        let view = view::to_session_view(server_context, &row).await?;
        gauge(view.status.as_str()).inc();
        viewers += view.viewers;
    }
    registry.register("sessions", "Sessions by status, including ended ones that are still stored", by_status);
    register_gauge(registry, "viewers", "Desktop viewers connected", viewers);
    register_gauge(
        registry,
        "supervisor_tasks",
        "Sessions that a task of this server supervises",
        server_context.sessions.len(),
    );
    register_gauge(registry, "queue_waiting", "Sessions queued for a machine", server_context.queue.waiting_count());
    let is_blocked = server_context.queue.admission_shortage().is_some();
    register_gauge(
        registry,
        "queue_blocked",
        "1 while no session is admitted because this host lacks capacity",
        i64::from(is_blocked),
    );
    Ok(())
}

fn audit(server_context: &ServerContext, registry: &mut Registry) {
    let counters = server_context.audit.counters();
    register_counter(registry, "audit_records", "Records written to the audit trail", counters.records);
    register_counter(registry, "audit_write_failures", "Records that could not be written", counters.failures);
}

async fn credentials(server_context: &ServerContext, registry: &mut Registry) -> Result<(), StoreError> {
    let by_health = Gauges::default();
    for (health, count) in server_context.store.count_credentials_by_health(unix_time::now_unix_ms()).await? {
        by_health.get_or_create_owned(&vec![("health", health.as_str().to_owned())]).set(to_i64(count));
    }
    registry.register("credentials", "Stored credentials by health", by_health);
    Ok(())
}

fn machines(server_context: &ServerContext, registry: &mut Registry) {
    let by_state = Gauges::default();
    for (_, state) in server_context.machines.list() {
        let stage = match &state {
            MachineState::Requested | MachineState::Cloning | MachineState::Waiting { .. } => {
                format!("{:?}", status::pending_stage_of(&state)).to_lowercase()
            }
            MachineState::Ready { .. }
            | MachineState::Stopping { .. }
            | MachineState::Exited { .. }
            | MachineState::Removed { .. } => String::new(),
        };
        by_state.get_or_create_owned(&vec![("state", state.name().to_owned()), ("stage", stage)]).inc();
    }
    registry.register("machines", "Machines that are not removed, by state and awaited stage", by_state);
    register_gauge(
        registry,
        "machines_max",
        "Machines allowed at the same time",
        server_context.config().machines.machines_max,
    );
}

fn starts(server_context: &ServerContext, registry: &mut Registry) {
    let by_stage = server_context.start_histograms.by_stage();
    registry.register_with_unit(
        "start_duration",
        "Durations of starts since the server started, by stage",
        Unit::Seconds,
        by_stage,
    );
}

fn store(server_context: &ServerContext, registry: &mut Registry) {
    let writes = Counters::default();
    for kind in WriteKind::ALL {
        for outcome in WriteOutcome::ALL {
            let labels = vec![("kind", kind.as_str().to_owned()), ("outcome", outcome.as_str().to_owned())];
            writes.get_or_create_owned(&labels).inc_by(server_context.db_metrics.write_count(*kind, *outcome));
        }
    }
    registry.register("store_writes", "Database writes by outcome", writes);
    register_counter(
        registry,
        "store_slow_writes",
        "Database writes that took longer than one second",
        server_context.db_metrics.slow_write_count(),
    );
}

fn reconciliations(server_context: &ServerContext, registry: &mut Registry) {
    // Before the first finished reconciliation the time is 0.
    let last = server_context.reconcile_history.last_run();
    let finished_s = last.map_or(0, |last| last.at_ms / 1_000);
    let finished: Gauge = Gauge::default();
    finished.set(to_i64(finished_s));
    registry.register_with_unit(
        "reconcile_last_success_timestamp",
        "Time at which the last reconciliation finished",
        Unit::Seconds,
        finished,
    );
    register_gauge(
        registry,
        "reconcile_last_actions",
        "Actions of the last reconciliation",
        last.map_or(0, |last| last.actions_done),
    );
    register_gauge(
        registry,
        "reconcile_last_deferred",
        "Actions that it deferred to the next",
        last.map_or(0, |last| last.deferred),
    );
    let kinds = Counters::default();
    for (kind, count) in server_context.reconcile_history.action_counts() {
        kinds.get_or_create_owned(&vec![("kind", kind.as_str().to_owned())]).inc_by(count);
    }
    registry.register("reconcile_actions", "Reconciliation actions by kind", kinds);
    register_counter(
        registry,
        "reconcile_failures",
        "Reconciliations that failed",
        server_context.reconcile_history.failure_count(),
    );
}

/// Webhook messages by outcome; none if no webhook is configured.
async fn webhook(server_context: &ServerContext, registry: &mut Registry) -> Result<(), StoreError> {
    let receivers = server_context.webhook_messages.receivers();
    if receivers.is_empty() {
        return Ok(());
    }
    let waiting = server_context.store.list_due_messages(i64::MAX.unsigned_abs(), None, MESSAGES_MAX).await?.len();
    register_gauge(registry, "webhook_waiting", "Messages not delivered yet, at most 1000", waiting);
    let outcomes = Counters::default();
    for counters in receivers.iter().map(|webhook| &webhook.counters) {
        for (outcome, count) in [
            ("delivered", &counters.messages_delivered),
            ("failed", &counters.attempts_failed),
            ("abandoned", &counters.messages_abandoned),
        ] {
            outcomes.get_or_create_owned(&vec![("outcome", outcome.to_owned())]).inc_by(count.load(Relaxed));
        }
    }
    registry.register("webhook_messages", "Messages delivered or abandoned, and attempts that failed", outcomes);
    Ok(())
}

fn host(server_context: &ServerContext, registry: &mut Registry) {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    if let Some(mib) = admission::parse_available_mib(&meminfo) {
        register_gauge(registry, "host_memory_available_mebibytes", "Memory available according to the kernel", mib);
    }
    if let Ok(mib) = admission::read_disk_free_mib(&server_context.config().state_dir) {
        register_gauge(registry, "state_disk_free_mebibytes", "Free space of the state directory's file system", mib);
    }
    let build = Gauges::default();
    let labels = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("image", server_context.image.hash.clone()),
        ("emulated", server_context.image.is_emulated().to_string()),
    ];
    build.get_or_create_owned(&labels).set(1);
    registry.register("build", "This server", build);
}
