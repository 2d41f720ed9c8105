//! The egress gate of one session's machines; its decisions are recorded on the session's timeline.

use crate::session::{
    active_session::ActiveSession, browser_hosts, egress_faults::CERTIFICATE, server_context::ServerContext,
    timeline::new_entry,
};
use anteroom_egress::{EgressDecision, MachineEgressGate, ReachedBy, SummaryLine};
use anteroom_store::NewTimelineEntry;
use anteroom_wire::{Problem, TimelineKind, agent::EgressBy};
use serde_json::{Value, json};
use std::sync::{Arc, Weak};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Opens the gate for the session's machines. Dropping the guard closes the gate and every connection through it.
pub(super) fn open_egress_gate(server_context: &ServerContext, session: &Arc<ActiveSession>) -> DropGuard {
    let closed = CancellationToken::new();
    let (weak, shared_context) = (Arc::downgrade(session), server_context.clone());
    let gate = MachineEgressGate::new(
        Arc::clone(&server_context.gate),
        session.provider(),
        server_context.tasks.clone(),
        closed.clone(),
        move |decision| record_decision(&shared_context, &weak, &decision),
    );
    // A session has one supervisor, so this is set once.
    let _ = session.egress_gate.set(gate);
    session.notify_subscribers();
    closed.drop_guard()
}

fn record_decision(server_context: &ServerContext, session: &Weak<ActiveSession>, decision: &EgressDecision) {
    if browser_hosts::is_own_decision(decision) {
        return;
    }
    let Some(session) = session.upgrade() else { return };
    if session.egress_faults.lock().record(decision) {
        session.notify_subscribers();
    }
    let Some(line) = session.egress_summary().record(decision) else { return };
    let (server_context, entry) = (server_context.clone(), timeline_entry(line));
    server_context.clone().tasks.spawn(async move { server_context.timeline.append(&session.id, entry).await });
}

fn timeline_entry(line: SummaryLine) -> NewTimelineEntry {
    match line {
        SummaryLine::FirstAllowed { host, port, asked_by, by, connect_ms } => {
            let (by, address, way) = match by {
                ReachedBy::Address(address) => ("", Some(address), "direct"),
                ReachedBy::Override(address) => {
                    (", answered by this server's configuration", Some(address), "override")
                }
                ReachedBy::Proxy => (" through this server's proxy", None, "proxy"),
            };
            let data = json!({ "host": host, "port": port, "address": address, "way": way, "connect_ms": connect_ms });
            let sentence = format!("The machine reached {host}:{port}{by}.");
            new_entry(TimelineKind::EgressAllowed, sentence).with_data(with_program(data, asked_by))
        }
        SummaryLine::FirstFailed { host, port, asked_by, problem, detail } => {
            let result = if problem == Problem::EgressDenied {
                "was denied"
            } else if CERTIFICATE.contains(&problem) {
                "gave it up"
            } else {
                "did not reach it"
            };
            let sentence = format!("The machine requested {host}:{port} and {result}: {}", problem.sentence());
            let data = json!({ "host": host, "port": port, "reason": problem.code(), "detail": detail });
            new_entry(TimelineKind::EgressDenied, sentence).with_data(with_program(data, asked_by))
        }
        SummaryLine::LimitReached { names_max } => {
            let sentence = format!("The machine requested more than {names_max} names; further ones are only counted.");
            new_entry(TimelineKind::EgressFull, sentence).with_data(json!({ "names_max": names_max }))
        }
    }
}

/// Adds the program that asks, if the machine says which.
fn with_program(mut data: Value, by: Option<EgressBy>) -> Value {
    if let Some(by) = by {
        data["by"] = by.as_str().into();
    }
    data
}
