//! `anteroom reconcile [--dry-run]`.

use super::{client::ApiClient, print_line, table::Table};
use anteroom_wire::operator_reports::{ReconcileAction, ReconcileOutcome, ReconcileReport};
use http::Method;
use std::process::ExitCode;

pub(super) async fn run(client: &ApiClient, dry_run: bool, json: bool) -> anyhow::Result<ExitCode> {
    let path = format!("/api/reconcile?dry_run={dry_run}");
    let report: ReconcileReport = client.call(Method::POST, &path, None::<&()>).await?;
    if json {
        print_line(serde_json::to_string_pretty(&report)?);
    } else if report.actions.is_empty() {
        print_line("Nothing to do.");
    } else {
        let mut table = Table::new(["action", "object", "reason", if dry_run { "plan" } else { "result" }]);
        for action in &report.actions {
            table.add_row(row(action, dry_run));
        }
        print_line(table);
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row(action: &ReconcileAction, dry_run: bool) -> [String; 4] {
    let ReconcileAction { kind, session, machine, file, reason, outcome } = action;
    let ids = [session.as_ref().map(ToString::to_string), machine.as_ref().map(ToString::to_string), file.clone()];
    let object = ids.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let outcome = match outcome {
        ReconcileOutcome::Planned | ReconcileOutcome::Done => "done",
        ReconcileOutcome::Deferred if dry_run => "deferred to a later reconciliation",
        ReconcileOutcome::Deferred => "deferred to the next reconciliation",
        ReconcileOutcome::Failed => "failed: see the log",
    };
    [kind.as_str().replace('_', " "), object, reason.clone(), outcome.to_owned()]
}
