//! The egress gate as one session's machine sees it; its decisions go on the session's timeline.

use crate::{
    app::App,
    egress::{EgressDecision, LedgerLine, MachineGate},
    session::{live::Live, note::note},
};
use serde_json::json;
use std::sync::{Arc, Weak};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Opens the gate for the session's machines; dropping the answer closes it and every connection through it.
pub(super) fn open(app: &App, live: &Arc<Live>) -> DropGuard {
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

fn hear(app: &App, live: &Weak<Live>, decision: &EgressDecision) {
    let Some(live) = live.upgrade() else { return };
    let Some(line) = live.ledger().record(decision) else { return };
    let (kind, sentence, data) = words(line);
    let app = app.clone();
    app.clone().tasks.spawn(async move { note(&app, &live.id, kind, sentence, data).await });
}

fn words(line: LedgerLine) -> (&'static str, String, serde_json::Value) {
    match line {
        LedgerLine::FirstGranted { host, port, address, stand_in, connect_ms } => {
            let by = if stand_in { ", answered by this server's configuration" } else { "" };
            (
                "egress_granted",
                format!("The machine reached {host}:{port}{by}."),
                json!({ "host": host, "port": port, "address": address, "stand_in": stand_in, "connect_ms": connect_ms }),
            )
        }
        LedgerLine::FirstRefused { host, port, problem, detail } => (
            "egress_refused",
            format!("The machine asked for {host}:{port} and was refused: {}", problem.sentence()),
            json!({ "host": host, "port": port, "reason": problem.code(), "detail": detail }),
        ),
        LedgerLine::Full { names_max } => (
            "egress_full",
            format!("The machine asked for more than {names_max} names; further ones are only counted."),
            json!({ "names_max": names_max }),
        ),
    }
}
