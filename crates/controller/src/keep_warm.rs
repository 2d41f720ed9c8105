//! Starts warm machines while the host has nothing else to do, and stops those that are not wanted any more.

use crate::{
    admission,
    api_error::chain,
    random,
    session::server_context::ServerContext,
    unix_time::now_unix_ms,
    warm_machines::{WarmMachines, is_alive},
};
use anteroom_machine::{State, StopReason};
use anteroom_wire::{MachineId, backoff::Backoff};
use std::time::Duration;
use tokio::time::Instant;

/// A warm machine that waited for this long is replaced, seconds: its clock and its caches age, and its keeper ends it some hours later.
pub(crate) const WARM_S_MAX: u64 = 1_800;
/// How often the machines are counted, at the latest: nothing signals that memory became free.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// The shortest and the longest pause after a machine that exited while it waited.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Keeps `machines.warm_target` machines until the server stops.
pub async fn run_warm_machines(server_context: ServerContext) {
    let mut changes = server_context.queue.subscribe();
    let mut pause = Backoff::new(PAUSE_MIN, PAUSE_MAX);
    let mut not_before = Instant::now();
    loop {
        if drop_ended(&server_context) {
            not_before = Instant::now() + pause.next_delay();
        }
        stop_unwanted(&server_context);
        if is_one_ready(&server_context) {
            pause.reset();
        }
        if Instant::now() >= not_before && wants_another(&server_context) {
            match start(&server_context) {
                Ok(()) => {}
                Err(error) => {
                    not_before = Instant::now() + pause.next_delay();
                    tracing::warn!(outcome = "warm_machine_not_started", error = %chain(&*error), "warm machine not started; retrying");
                }
            }
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(CHECK_EVERY) => {}
            () = server_context.stop.cancelled() => break,
        }
    }
}

/// Removes machines that have exited. Returns whether there were any.
fn drop_ended(server_context: &ServerContext) -> bool {
    let (warm, machines) = (&server_context.warm_machines, &server_context.machines);
    let ended =
        warm.waiting().into_iter().filter(|id| machines.watch(id).is_none_or(|state| !is_alive(&state.borrow())));
    ended.filter(|id| warm.remove_waiting(id)).map(|id| {
        tracing::warn!(outcome = "warm_machine_ended", machine = %id, "a warm machine ended before a session took it; its receipt says why");
    }).count() > 0
}

fn is_one_ready(server_context: &ServerContext) -> bool {
    let state = |id: &MachineId| server_context.machines.watch(id);
    server_context
        .warm_machines
        .waiting()
        .iter()
        .filter_map(state)
        .any(|state| matches!(*state.borrow(), State::Ready { .. }))
}

/// Stops machines that waited for too long, and those above the target.
fn stop_unwanted(server_context: &ServerContext) {
    let (warm, target) = (&server_context.warm_machines, target(server_context));
    let waiting = warm.waiting();
    let above = waiting.len().saturating_sub(target);
    for (number, id) in waiting.iter().enumerate() {
        let age_ms = now_unix_ms().saturating_sub(id.unix_ms());
        if (number < above || age_ms > WARM_S_MAX * 1_000) && warm.remove_waiting(id) {
            server_context.machines.stop(id, StopReason::Operator);
        }
    }
}

fn target(server_context: &ServerContext) -> usize {
    server_context.config().machines.warm_target as usize
}

/// Whether another machine may be started before it is asked for: the host acts, takes sessions, starts no machine, and has room for one more.
fn wants_another(server_context: &ServerContext) -> bool {
    let ServerContext { machines, queue, image, warm_machines, .. } = server_context;
    let config = server_context.config();
    let is_starting =
        |(_, state): &(MachineId, State)| matches!(state, State::Requested | State::Cloning | State::Waiting { .. });
    warm_machines.count() < target(server_context)
        && !warm_machines.is_closed()
        && server_context.cluster.may_act()
        && !server_context.cluster.is_draining()
        && queue.waiting_count() == 0
        && (machines.count() as u64) < u64::from(config.machines.machines_max)
        && !machines.list().iter().any(is_starting)
        && admission::check_capacity_of_another(&config, image, machines, queue.permits_in_use()).is_ok()
}

fn start(server_context: &ServerContext) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (warm, id): (&WarmMachines, MachineId) =
        (&server_context.warm_machines, random::random_id(MachineId::from_parts));
    warm.enter(&id)?;
    if let Err(error) = server_context.machines.start(id.clone()) {
        warm.remove_waiting(&id);
        return Err(error.into());
    }
    tracing::info!(outcome = "warm_machine_started", machine = %id, "warm machine started");
    Ok(())
}
