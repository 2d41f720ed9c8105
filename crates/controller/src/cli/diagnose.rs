//! `anteroom why SESSION`: what is so with a session, and why.

use super::{client::Client, say};
use crate::config::Config;
use anteroom_wire::{SessionId, diagnosis::Diagnosis};
use comfy_table::{Table, presets};
use serde::Serialize;
use std::process::ExitCode;

pub(super) async fn run(config: &Config, session: &str, json: bool) -> anyhow::Result<ExitCode> {
    let id: SessionId = session.parse()?;
    let found: Diagnosis = Client::new(&config.state_dir).get(&format!("/api/auth/session/{id}/diagnosis")).await?;
    if json {
        say(serde_json::to_string_pretty(&found)?);
        return Ok(ExitCode::SUCCESS);
    }
    say(plain(&found.sentence));
    say(format_args!("Verdict: {}. {}", found.verdict.code(), found.remedy));
    let mut chain = Table::new();
    chain.load_style(presets::NOTHING);
    for link in &found.chain {
        chain.add_row([word(&link.component), word(&link.state), plain(&link.detail)]);
    }
    say(format_args!("\n{chain}"));
    if !found.evidence.is_empty() {
        let mut evidence = Table::new();
        evidence.load_style(presets::NOTHING);
        for entry in &found.evidence {
            evidence.add_row([entry.number.to_string(), entry.at.clone(), entry.kind.clone(), plain(&entry.sentence)]);
        }
        say(format_args!("\nEvidence, by number on the timeline:\n{evidence}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A unit's name as it stands in JSON.
fn word(unit: &impl Serialize) -> String {
    serde_json::to_value(unit).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Parts of a sentence come from machines: nothing in it may steer a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
