//! `anteroom erase --user ID`.

use super::{client::ApiClient, confirm, print_line, table::Table};
use anteroom_wire::{
    CallerId,
    operator_reports::{EraseReport, EraseRequest},
};
use clap::Args;
use http::Method;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(super) struct EraseArguments {
    /// The backends' id for the user.
    #[arg(long = "user", value_name = "ID")]
    user_id: String,
    /// Only what belongs to this backend, by the id that `anteroom token list` prints. Default: of all backends.
    #[arg(long, value_name = "ID")]
    caller: Option<CallerId>,
    /// Do not ask. Without a terminal to ask at it is required.
    #[arg(long, short)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(client: &ApiClient, arguments: EraseArguments) -> anyhow::Result<ExitCode> {
    confirm::require(&format!("Delete everything of the user {} for good?", arguments.user_id), arguments.yes).await?;
    let request = EraseRequest { user_id: arguments.user_id, caller: arguments.caller };
    let report: EraseReport = client.call(Method::POST, "/api/erase", Some(&request)).await?;
    if arguments.json {
        print_line(serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["deleted", "number"]);
    for (what, number) in [
        ("sessions", report.sessions),
        ("timeline entries", report.timeline_entries),
        ("credentials", report.credentials),
        ("leases", report.leases),
        ("tickets and login tokens", report.tickets),
        ("viewers", report.viewers),
        ("webhook messages", report.messages),
        ("receipts", report.receipts),
        ("bundles", report.bundles),
    ] {
        table.add_row([what.to_owned(), number.to_string()]);
    }
    print_line(table);
    print_line("\nNot deleted:");
    for sentence in &report.stays {
        print_line(format_args!("- {}", super::one_line(sentence)));
    }
    Ok(ExitCode::SUCCESS)
}
