//! The egress gate as one session's machine sees it; its decisions go on the session's timeline.

use crate::{
    app::App,
    egress::{EgressDecision, MachineGate, SummaryLine},
    session::{active_session::ActiveSession, timeline},
};
use serde_json::json;
use std::sync::{Arc, Weak};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Opens the gate for the session's machines; dropping the answer closes it and every connection through it.
pub(super) fn open(app: &App, live: &Arc<ActiveSession>) -> DropGuard {
    let ending = CancellationToken::new();
    let (ear, told) = (Arc::downgrade(live), app.clone());
    let gate =
        MachineGate::new(Arc::clone(&app.gate), live.provider(), app.tasks.clone(), ending.clone(), move |decision| {
            hear(&told, &ear, &decision)
        });
    // A session has one owner, so this is the first and only time.
    let _ = live.gate.set(gate);
    ending.drop_guard()
}

fn hear(app: &App, live: &Weak<ActiveSession>, decision: &EgressDecision) {
    let Some(live) = live.upgrade() else { return };
    let Some(line) = live.egress_summary().record(decision) else { return };
    let (kind, sentence, data) = words(line);
    let app = app.clone();
    app.clone().tasks.spawn(async move { timeline::append(&app, &live.id, kind, sentence, data).await });
}

fn words(line: SummaryLine) -> (&'static str, String, serde_json::Value) {
    match line {
        SummaryLine::FirstGranted { host, port, address, overridden, connect_ms } => {
            let by = if overridden { ", answered by this server's configuration" } else { "" };
            (
                "egress_allowed",
                format!("The machine reached {host}:{port}{by}."),
                json!({ "host": host, "port": port, "address": address, "overridden": overridden, "connect_ms": connect_ms }),
            )
        }
        SummaryLine::FirstRefused { host, port, problem, detail } => (
            "egress_denied",
            format!("The machine asked for {host}:{port} and was refused: {}", problem.sentence()),
            json!({ "host": host, "port": port, "reason": problem.code(), "detail": detail }),
        ),
        SummaryLine::LimitReached { names_max } => (
            "egress_full",
            format!("The machine asked for more than {names_max} names; further ones are only counted."),
            json!({ "names_max": names_max }),
        ),
    }
}
