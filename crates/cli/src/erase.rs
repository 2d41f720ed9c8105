//! `anteroom erase --user ID`.

use super::{client::ApiClient, print_line};
use anteroom_controller::config::Config;
use anteroom_wire::{
    CallerId,
    operator_reports::{EraseReport, EraseRequest},
};
use clap::Args;
use comfy_table::{Table, presets};
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
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: &Config, arguments: EraseArguments) -> anyhow::Result<ExitCode> {
    let request = EraseRequest { user_id: arguments.user_id, caller: arguments.caller };
    let report: EraseReport =
        ApiClient::new(&config.state_dir).call(Method::POST, "/api/erase", Some(&request)).await?;
    if arguments.json {
        print_line(serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["deleted", "number"]);
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
