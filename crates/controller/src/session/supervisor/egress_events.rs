//! The egress gate of one session's machines; its decisions are recorded on the session's timeline.

use crate::{session::active_session::ActiveSession, session::launcher::Launcher};
use anteroom_egress::{EgressDecision, MachineGate, SummaryLine};
use serde_json::json;
use std::sync::{Arc, Weak};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Opens the gate for the session's machines. Dropping the guard closes the gate and every connection through it.
pub(super) fn open(launcher: &Launcher, session: &Arc<ActiveSession>) -> DropGuard {
    let closed = CancellationToken::new();
    let (weak, shared_launcher) = (Arc::downgrade(session), launcher.clone());
    let gate = MachineGate::new(
        Arc::clone(&launcher.gate),
        session.provider(),
        launcher.tasks.clone(),
        closed.clone(),
        move |decision| record_decision(&shared_launcher, &weak, &decision),
    );
    // A session has one supervisor, so this is set once.
    let _ = session.egress_gate.set(gate);
    closed.drop_guard()
}

fn record_decision(launcher: &Launcher, session: &Weak<ActiveSession>, decision: &EgressDecision) {
    let Some(session) = session.upgrade() else { return };
    let Some(line) = session.egress_summary().record(decision) else { return };
    let (kind, sentence, data) = timeline_entry(line);
    let launcher = launcher.clone();
    launcher.clone().tasks.spawn(async move { launcher.timeline.append(&session.id, kind, sentence, data).await });
}

fn timeline_entry(line: SummaryLine) -> (&'static str, String, serde_json::Value) {
    match line {
        SummaryLine::FirstGranted { host, port, address, overridden, connect_ms } => {
            let by = if overridden { ", answered by this server's configuration" } else { "" };
            (
                "egress_allowed",
                format!("The machine reached {host}:{port}{by}."),
                json!({ "host": host, "port": port, "address": address, "overridden": overridden, "connect_ms": connect_ms }),
            )
        }
        SummaryLine::FirstFailed { host, port, problem, detail } => (
            "egress_denied",
            format!("The machine requested {host}:{port} and was denied: {}", problem.sentence()),
            json!({ "host": host, "port": port, "reason": problem.code(), "detail": detail }),
        ),
        SummaryLine::LimitReached { names_max } => (
            "egress_full",
            format!("The machine requested more than {names_max} names; further ones are only counted."),
            json!({ "names_max": names_max }),
        ),
    }
}
