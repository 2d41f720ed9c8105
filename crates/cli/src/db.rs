//! `anteroom db check | export | import`.

use super::{backup, client::ApiClient, one_line, print_line, progress::Wait, table::Table};
use anteroom_controller::{
    backup::{ImportReport, check_database, export_database, import_database},
    config::Config,
};
use anteroom_server::StateDir;
use anteroom_wire::operator_reports::{DatabaseReport, TableDigest};
use clap::Subcommand;
use http::Method;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, Subcommand)]
pub(super) enum DbCommand {
    /// Check the database on a copy, while the server runs or not: pages, references, the MAC of each row, the seal of each credential. Exits
    /// with 1 if anything is wrong.
    Check {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write all rows and the audit trail to one file, for a database of another kind or on another host. No server may use the
    /// database at that time. The file does not contain the key.
    Export {
        /// The file to make; it must not exist. Or a directory: the file gets a name with the time.
        #[arg(value_name = "FILE|DIR")]
        to: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read an export or a backup into the configured database, which has no rows and is used by no server.
    Import {
        /// The export.
        #[arg(value_name = "FILE")]
        from: PathBuf,
        /// Compare the export with the keys in this file: the one from which a service manager makes the server's credential.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(config: &Config, client: &ApiClient, command: DbCommand) -> anyhow::Result<ExitCode> {
    match command {
        DbCommand::Check { json } => check(config, client, json).await,
        DbCommand::Export { to, json } => export(config, &to, json).await,
        DbCommand::Import { from, key_file, json } => {
            let mut config = config.clone();
            config.vault.key_file = key_file.or(config.vault.key_file);
            import(&config, &from, json).await
        }
    }
}

async fn check(config: &Config, client: &ApiClient, json: bool) -> anyhow::Result<ExitCode> {
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

async fn export(config: &Config, to: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let _state = StateDir::lock_existing(&config.state_dir)?;
    let wait = Wait::begin("Exporting the database…");
    let made = backup::unless_stopped(export_database(config, to)).await?;
    drop(wait);
    let (file, bytes, manifest) = match made {
        Ok(made) => made?,
        Err(code) => return Ok(code),
    };
    if json {
        print_line(serde_json::to_string_pretty(&json!({ "file": file, "bytes": bytes, "manifest": manifest }))?);
        return Ok(ExitCode::SUCCESS);
    }
    print_tables(&manifest.tables);
    print_line(format_args!(
        "Wrote {} ({} KiB): {}.",
        backup::shown(&file),
        bytes.div_ceil(1024),
        backup::counts(&manifest)
    ));
    if let Some(fingerprint) = &manifest.key_fingerprint {
        print_line(format_args!(
            "It does not contain the key file: `anteroom db import` needs the keys {fingerprint}."
        ));
    }
    print_line("Start no server with the former database any more: what it changes is not in the file.");
    Ok(ExitCode::SUCCESS)
}

async fn import(config: &Config, from: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let _state = StateDir::lock(&config.state_dir)?;
    let wait = Wait::begin("Importing the database…");
    let imported = backup::unless_stopped(import_database(config, from)).await?;
    drop(wait);
    let ImportReport { manifest, database, tables, has_audit_trail } = match imported {
        Ok(imported) => imported?,
        Err(code) => return Ok(code),
    };
    if json {
        let report = json!({
            "manifest": manifest, "database": database, "tables": tables, "has_audit_trail": has_audit_trail,
        });
        print_line(serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    print_tables(&tables);
    print_line(format_args!(
        "Imported into {database}, as of {}: {}. All rows are the same.",
        manifest.made_at,
        backup::counts(&manifest)
    ));
    if has_audit_trail {
        print_line("The audit trail of the export is in the state directory, which had none.");
    }
    print_line(EFFECTS);
    Ok(ExitCode::SUCCESS)
}

const EFFECTS: &str = "\
Login links, invitations and tickets were removed. Sessions that were active go on: with their machine if it runs on this host, else with \
a new one. Remove the former database and the export when the server works: nothing that is erased from now on leaves them.";

fn print_tables(tables: &[TableDigest]) {
    let mut table = Table::new(["table", "rows"]);
    for found in tables {
        table.add_row([found.name.clone(), found.rows.to_string()]);
    }
    print_line(table);
}

fn print_report(report: &DatabaseReport) {
    if !report.tables.is_empty() {
        print_tables(&report.tables);
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
