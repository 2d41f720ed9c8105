//! `anteroom doctor --leaks`: lists orphaned processes, files and sessions, with or without a running server.

use super::super::{
    client::{ApiClient, ClientError},
    machine_environment::images_dir,
    one_line, print_line,
};
use crate::table::Table;
use anteroom_controller::{config::Config, leaks};
use anteroom_machine::image::Image;
use anteroom_wire::operator_reports::LeakReport;
use std::process::ExitCode;

pub(crate) async fn run(config: &Config, client: &ApiClient, json: bool) -> anyhow::Result<ExitCode> {
    let report = match client.get::<LeakReport>("/api/leaks").await {
        Ok(report) => report,
        Err(ClientError::NoServer { .. }) => {
            let image = Image::open_current(&images_dir(config)).ok().map(|image| image.manifest.hash);
            leaks::report_without_server(config, image).await?
        }
        Err(error) => return Err(error.into()),
    };
    let orphans = report.orphans().count();
    if json {
        print_line(serde_json::to_string_pretty(&report)?);
    } else {
        print_report(&report, orphans);
    }
    Ok(if orphans == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_report(report: &LeakReport, orphans: usize) {
    print_line(if report.by_server {
        "Compared with the running server:"
    } else {
        "No server is running; compared with the database:"
    });
    let mut table = Table::new(["kind", "exist", "expected", "orphans"]);
    for row in &report.rows {
        table.add_row([
            row.kind.clone(),
            row.exists.to_string(),
            row.expected.to_string(),
            row.orphans.len().to_string(),
        ]);
    }
    print_line(table);
    if orphans == 0 {
        print_line("\nNo orphans.");
        return;
    }
    print_line(format_args!("\n{orphans} orphans:"));
    for orphan in report.orphans() {
        let (name, why, remedy) = (one_line(&orphan.name), one_line(&orphan.why), one_line(&orphan.remedy));
        print_line(format_args!("  {name}: {why}\n    {remedy}"));
    }
}
