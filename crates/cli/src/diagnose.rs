//! `anteroom diagnose SESSION`: explains a session's current state or failure.

use super::{client::ApiClient, one_line, print_line, table::Table, when::when};
use anteroom_wire::{SessionId, diagnosis::Diagnosis};
use serde::Serialize;
use std::process::ExitCode;

pub(super) async fn run(client: &ApiClient, session: &str, json: bool) -> anyhow::Result<ExitCode> {
    let id: SessionId = session.parse()?;
    let diagnosis: Diagnosis = client.get(&format!("/api/auth/session/{id}/diagnosis")).await?;
    if json {
        print_line(serde_json::to_string_pretty(&diagnosis)?);
        return Ok(ExitCode::SUCCESS);
    }
    print_line(one_line(&diagnosis.sentence));
    print_line(format_args!("Verdict: {}. {}", diagnosis.verdict.code(), diagnosis.remedy));
    let mut chain = Table::of_values();
    for link in &diagnosis.chain {
        chain.add_row([wire_name(&link.component), wire_name(&link.state), one_line(&link.detail)]);
    }
    print_line(format_args!("\n{chain}"));
    if !diagnosis.evidence.is_empty() {
        let mut evidence = Table::of_values();
        for entry in &diagnosis.evidence {
            evidence.add_row([
                entry.number.to_string(),
                when(&entry.at),
                entry.kind.to_string(),
                one_line(&entry.sentence),
            ]);
        }
        print_line(format_args!("\nEvidence (timeline entries):\n{evidence}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The JSON name of a unit variant.
fn wire_name(variant: &impl Serialize) -> String {
    serde_json::to_value(variant).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}
