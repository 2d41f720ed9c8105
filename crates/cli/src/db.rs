//! `anteroom db check`.

use super::{client::ApiClient, one_line, print_line, progress::Wait, table::Table};
use anteroom_controller::{backup::check_database, config::Config};
use anteroom_wire::operator_reports::DatabaseReport;
use clap::Subcommand;
use http::Method;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum DbCommand {
    /// Check the database on a copy, while the server runs or not: pages, references, the MAC of each row, the seal of each credential. Exits
    /// with 1 if anything is wrong.
    Check {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(config: &Config, client: &ApiClient, command: DbCommand) -> anyhow::Result<ExitCode> {
    let DbCommand::Check { json } = command;
    let wait = Wait::begin("Checking the database…");
    let report: DatabaseReport = match client.is_remote() {
        true => client.call_slow(Method::POST, "/api/database/check").await?,
        false => check_database(config).await?,
    };
    drop(wait);
    if json {
        print_line(serde_json::to_string_pretty(&report)?);
    } else {
        print_report(&report);
    }
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_report(report: &DatabaseReport) {
    if !report.tables.is_empty() {
        let mut table = Table::new(["table", "rows"]);
        for found in &report.tables {
            table.add_row([found.name.clone(), found.rows.to_string()]);
        }
        print_line(table);
    }
    for fault in &report.faults {
        print_line(format_args!("FAULT: {}", one_line(fault)));
    }
    for sentence in &report.not_checked {
        print_line(format_args!("Not checked: {}", one_line(sentence)));
    }
    if report.faults.is_empty() {
        let authentic = report.rows_authentic.map(|rows| format!(", {rows} rows are authentic")).unwrap_or_default();
        print_line(format_args!("Nothing is wrong: schema version {}{authentic}.", report.schema_version));
    }
}
