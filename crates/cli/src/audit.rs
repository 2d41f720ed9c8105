//! `anteroom audit tail | export | verify`: reads the files of the audit trail, with or without a server; of a server on another host,
//! through the API.

mod remote;

use super::{
    client::{ApiClient, ClientError},
    one_line,
    output::record,
    print_line,
};
use anteroom_audit::{
    Filter, Follower, Order, Record, Verification, csv_header, for_each_record, list_records, verify,
};
use anteroom_controller::{
    audit::{known_heads, mac_keys},
    config::Config,
    keys::key_source,
    unix_time,
};
use anteroom_store::{Store, StoreSettings};
use anteroom_vault::KeyRing;
use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Time between two reads of a followed trail.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Print the newest records.
    Tail {
        #[command(flatten)]
        filter: FilterArguments,
        /// Keep running and print new records as they are written.
        #[arg(long, short)]
        follow: bool,
        /// Records to print.
        #[arg(long, default_value_t = 50, value_name = "NUMBER")]
        lines: usize,
        /// Print the records as JSON lines, also on a terminal.
        #[arg(long)]
        json: bool,
    },
    /// Print all records, the oldest first.
    Export {
        #[command(flatten)]
        filter: FilterArguments,
        /// Form of the output.
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
    },
    /// Check that no record was changed, removed or added, and name the place if one was. Exits with 1 then.
    Verify {
        /// Check the files in this directory, such as a backup's, instead of this server's; then without the database's head.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Which records are printed.
#[derive(Debug, Args)]
pub(super) struct FilterArguments {
    /// Only since this time (2026-01-31T08:00:00Z) or age (90m, 12h, 7d).
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<u64>,
    /// Only those of this caller: its id or its name.
    #[arg(long)]
    actor: Option<String>,
    /// Only this action; with a trailing dot all actions that begin so: `credential.`.
    #[arg(long)]
    action: Option<String>,
    /// Only those about this session.
    #[arg(long)]
    session: Option<String>,
    /// Only those from this address.
    #[arg(long)]
    peer: Option<String>,
}

/// Form of exported records.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    /// One JSON object per line, as in the files.
    Jsonl,
    /// Comma-separated values (RFC 4180) with a header.
    Csv,
}

impl From<FilterArguments> for Filter {
    fn from(arguments: FilterArguments) -> Self {
        let FilterArguments { since: since_ms, actor, action, session, peer } = arguments;
        Self { since_ms, actor, action, session, peer, ..Self::default() }
    }
}

/// Parses a time, or an age before now. Returns milliseconds since 1970.
fn parse_since(text: &str) -> Result<u64, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return u64::try_from(time.as_millisecond()).map_err(|_| format!("{text} is before 1970"));
    }
    let expected =
        || format!("{text:?} is neither a time such as 2026-01-31T08:00:00Z nor an age such as 90m, 12h or 7d");
    let unit = text.chars().last().ok_or_else(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 24 * 3_600,
        _ => return Err(expected()),
    };
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| expected())?;
    Ok(unix_time::now_unix_ms().saturating_sub(number.saturating_mul(seconds).saturating_mul(1_000)))
}

pub(super) async fn run(config: &Config, client: &ApiClient, command: AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Tail { filter, follow, lines, json } if client.is_remote() => {
            remote::tail(client, filter.into(), follow, lines, record_printer(json)).await
        }
        AuditCommand::Tail { filter, follow, lines, json } => {
            tail(&config.audit_dir(), filter.into(), follow, lines, json).await
        }
        AuditCommand::Export { filter, format } if client.is_remote() => {
            let mut exporter = Exporter::begin(format);
            remote::for_each(client, &filter.into(), |record| exporter.print(record)).await?;
            Ok(exporter.finish())
        }
        AuditCommand::Export { filter, format } => export(&config.audit_dir(), &filter.into(), format),
        AuditCommand::Verify { dir: Some(dir), json } => {
            require_trail(&dir)?;
            let keys = mac_keys(&open_key_ring(config)?);
            Ok(report(&verify(&dir, &keys, &[])?, json)?)
        }
        AuditCommand::Verify { dir: None, json } => Ok(report(&verify_own(config, client).await?, json)?),
    }
}

async fn tail(dir: &Path, mut filter: Filter, follow: bool, lines: usize, json: bool) -> anyhow::Result<ExitCode> {
    require_trail(dir)?;
    let mut print_record = record_printer(json);
    let mut print = |entry: &Record| record(print_record(entry));
    // A record that is written while these are read is found by the follower.
    let newest = list_records(dir, &Filter::default(), Order::Newest, 1)?.first().map_or(0, |record| record.seq);
    filter.before = Some(newest.saturating_add(1));
    let mut records = list_records(dir, &filter, Order::Newest, lines)?;
    records.reverse();
    let mut is_open = records.iter().all(&mut print);
    let mut follower = Follower::new(dir, Filter { after: newest, before: None, ..filter });
    while follow && is_open {
        is_open = follower.read_new(|record| print(&record))?;
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints records, each as JSON or as a line for people.
fn record_printer(json: bool) -> impl FnMut(&Record) -> std::io::Result<()> {
    let as_json = json || !std::io::stdout().is_terminal();
    let mut out = std::io::stdout().lock();
    move |record| {
        let line = if as_json { serde_json::to_string(record).unwrap_or_default() } else { as_text(record) };
        writeln!(out, "{line}")
    }
}

/// Prints all records in one form.
struct Exporter {
    out: std::io::BufWriter<std::io::StdoutLock<'static>>,
    format: Format,
}

impl Exporter {
    fn begin(format: Format) -> Self {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        if matches!(format, Format::Csv) {
            record(writeln!(out, "{}", csv_header()));
        }
        Self { out, format }
    }

    /// Returns whether it was written.
    fn print(&mut self, entry: &Record) -> bool {
        let line = match self.format {
            Format::Csv => entry.to_csv(),
            Format::Jsonl => serde_json::to_string(entry).unwrap_or_default(),
        };
        record(writeln!(self.out, "{line}"))
    }

    fn finish(mut self) -> ExitCode {
        record(self.out.flush());
        ExitCode::SUCCESS
    }
}

fn export(dir: &Path, filter: &Filter, format: Format) -> anyhow::Result<ExitCode> {
    require_trail(dir)?;
    let mut exporter = Exporter::begin(format);
    for_each_record(dir, filter, |entry| exporter.print(&entry))?;
    Ok(exporter.finish())
}

fn require_trail(dir: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        dir.is_dir(),
        "there is no audit trail in {}; a server writes it when it starts: anteroom serve",
        dir.display()
    );
    Ok(())
}

/// Verifies this server's trail: by the server if it runs, because it knows its newest record; else from the files.
async fn verify_own(config: &Config, client: &ApiClient) -> anyhow::Result<Verification> {
    match client.get::<Verification>("/api/audit/verification").await {
        Err(ClientError::NoServer { .. }) => {}
        other => return Ok(other?),
    }
    require_trail(&config.audit_dir())?;
    let keys = mac_keys(&open_key_ring(config)?);
    let store = Store::open(&config.database_address()?, StoreSettings::default()).await?;
    let known = known_heads(config, &store, &keys).await;
    store.close().await;
    Ok(verify(&config.audit_dir(), &keys, &known?)?)
}

fn open_key_ring(config: &Config) -> anyhow::Result<KeyRing> {
    KeyRing::open(key_source(config)).context("the keys, which authenticate the records")
}

/// Prints the result. Returns the exit code.
fn report(verification: &Verification, json: bool) -> serde_json::Result<ExitCode> {
    if json {
        print_line(serde_json::to_string_pretty(verification)?);
    } else {
        let Verification { records, files, first_seq, last_seq, last_hash, .. } = verification;
        print_line(format_args!(
            "{records} records ({first_seq} to {last_seq}) in {files} files; the last hash is {last_hash}."
        ));
        for finding in &verification.findings {
            print_line(format_args!("{}: {}", finding.kind, one_line(&finding.text)));
        }
        print_line(if verification.intact { "Nothing was changed." } else { "The audit trail was changed." });
    }
    Ok(if verification.intact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A record as one line for people, without control characters.
fn as_text(record: &Record) -> String {
    let Record { seq, at_ms, action, outcome, actor, peer, subject, count, details, .. } = record;
    let name = [&actor.name, &actor.id].into_iter().flatten().next().unwrap_or(&actor.kind);
    let mut line = format!("{} {seq} {action} {outcome} by {name}", unix_time::format_rfc3339(*at_ms));
    let named = [
        ("from", peer),
        ("session", &subject.session),
        ("credential", &subject.credential),
        ("caller", &subject.caller),
        ("user", &subject.user),
    ];
    for (key, value) in named.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
        let _ = write!(line, " {key}={value}");
    }
    if *count > 1 {
        let _ = write!(line, " count={count}");
    }
    for (key, value) in details {
        let _ = write!(line, " {key}={value}");
    }
    one_line(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_an_age() {
        assert_eq!(parse_since("1970-01-01T00:00:01Z"), Ok(1_000));
        let before = unix_time::now_unix_ms();
        let since = parse_since("2h").unwrap();
        assert!((before..=unix_time::now_unix_ms()).contains(&(since + 7_200_000)), "{since}");
        for wrong in ["", "h", "2", "2w", "-1d", "yesterday"] {
            assert!(parse_since(wrong).is_err(), "{wrong}");
        }
    }
}
