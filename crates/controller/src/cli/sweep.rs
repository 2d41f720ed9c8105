//! `anteroom sweep [--dry-run]`.

use super::{client::Client, say};
use crate::config::Config;
use anteroom_wire::operations::{ReconcileAction, ReconcileOutcome, ReconcileReport};
use comfy_table::{Table, presets};
use http::Method;
use std::process::ExitCode;

pub(super) async fn run(config: &Config, dry_run: bool, json: bool) -> anyhow::Result<ExitCode> {
    let path = format!("/api/reconcile?dry_run={dry_run}");
    let report: ReconcileReport = Client::new(&config.state_dir).call(Method::POST, &path, None::<&()>).await?;
    if json {
        say(serde_json::to_string_pretty(&report)?);
    } else if report.actions.is_empty() {
        say("There is nothing to do.");
    } else {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header([
            "what",
            "of",
            "because",
            if dry_run { "would be" } else { "is" },
        ]);
        for action in &report.actions {
            table.add_row(row(action, dry_run));
        }
        say(table);
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row(action: &ReconcileAction, dry_run: bool) -> [String; 4] {
    let ReconcileAction { kind, session, machine, file, reason, outcome } = action;
    let ids = [session.as_ref().map(ToString::to_string), machine.as_ref().map(ToString::to_string), file.clone()];
    let of = ids.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let became = match outcome {
        ReconcileOutcome::Planned | ReconcileOutcome::Done => "done",
        ReconcileOutcome::Deferred if dry_run => "left for another sweep",
        ReconcileOutcome::Deferred => "left for the next sweep",
        ReconcileOutcome::Failed => "not done: see the log",
    };
    [kind.as_str().replace('_', " "), of, reason.clone(), became.to_owned()]
}
