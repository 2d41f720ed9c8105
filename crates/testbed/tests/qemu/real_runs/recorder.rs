//! Writes a session of a real machine as a fixture of the diagnosis, without ids and times.

use super::World;
use anteroom_controller::session::diagnose::ToolWords;
use anteroom_wire::{
    SessionId,
    api::{SessionView, TimelineEntry},
    diagnosis::Verdict,
    provider::Provider,
};
use regex_lite::Regex;
use serde_json::{Value, json};
use std::{fs, path::Path};

/// If it is not empty, the fixtures are written.
const RECORD_VARIABLE: &str = "ANTEROOM_RECORD_RUNS";
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../controller/fixtures/real_runs");
const DAY_MS: u64 = 24 * 3_600_000;

/// One run of a cause.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// The cause, a part of the file's name.
    pub(crate) cause: &'static str,
    /// 1 to 3, the other part.
    pub(crate) number: u32,
    /// What was done, for people.
    pub(crate) what: &'static str,
    /// The verdict that is right.
    pub(crate) verdict: Verdict,
}

/// Whether fixtures are written.
pub(crate) fn is_recording() -> bool {
    std::env::var_os(RECORD_VARIABLE).is_some_and(|value| !value.is_empty())
}

impl Run {
    /// Waits for the right verdict on the session, and writes the fixture. Returns the verdict's sentence.
    pub(crate) async fn check(self, world: &World, provider: &str, id: &SessionId) -> String {
        let api = world.server.operator_client().unwrap();
        let found = api.wait_verdict(id, self.verdict).await;
        let timeline = api.get_timeline(id).await.unwrap();
        let found = found.unwrap_or_else(|error| panic!("{} {}: {error}\n{timeline:#?}", self.cause, self.number));
        eprintln!("{} {}: {}", self.cause, self.number, found.sentence);
        if is_recording() {
            let view = api.get_session(id).await.unwrap();
            let text = serde_json::to_string_pretty(&self.fixture(world.provider(provider), &view, &timeline)).unwrap();
            fs::create_dir_all(FIXTURES).unwrap();
            let path = Path::new(FIXTURES).join(format!("{}-{}.json", self.cause, self.number));
            fs::write(path, without_ids(&text) + "\n").unwrap();
        }
        found.sentence
    }

    fn fixture(self, provider: &Provider, view: &SessionView, timeline: &[TimelineEntry]) -> Value {
        let start = day_ms(&timeline[0].at);
        let entry = |entry: &TimelineEntry| {
            json!({
                "after_ms": (day_ms(&entry.at) + DAY_MS - start) % DAY_MS,
                "kind": entry.kind,
                "sentence": entry.sentence,
                "data": entry.data,
            })
        };
        let words = ToolWords::of(provider);
        let shown = [&view.sign_in.url, &view.sign_in.browser_url, &view.sign_in.device_code];
        json!({
            "cause": self.cause,
            "run": self.what,
            "verdict": self.verdict,
            "tool": provider.name,
            "cli": provider.cli,
            "words": {
                "declined": words.declined,
                "expired": words.expired,
                "account_refused": words.account_refused,
            },
            "status": view.status,
            "reason": view.reason.as_ref().map(|reason| &reason.code),
            "generation": view.generation,
            "viewers": view.viewers,
            "signing_in": shown.iter().any(|part| part.is_some()),
            "timeline": timeline.iter().map(entry).collect::<Vec<_>>(),
        })
    }
}

/// The time of day in `YYYY-MM-DDTHH:MM:SS.mmmZ`, milliseconds.
fn day_ms(at: &str) -> u64 {
    let number = |from: usize, to: usize| at[from..to].parse::<u64>().unwrap();
    ((number(11, 13) * 60 + number(14, 16)) * 60 + number(17, 19)) * 1_000 + number(20, 23)
}

/// The text with `ses_000…` for each id, and without times, and without the ports and secrets of this run.
fn without_ids(text: &str) -> String {
    let zeros = "0".repeat(26);
    let text = Regex::new(r"\b([a-z]+)_[0-9a-hjkmnp-tv-z]{26}\b").unwrap().replace_all(text, format!("${{1}}_{zeros}"));
    let text =
        Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z").unwrap().replace_all(&text, "2026-01-31T12:00:00Z");
    let text = Regex::new(r#""/[^" ]*/state/"#).unwrap().replace_all(&text, "\"/var/lib/anteroom/");
    let text = Regex::new(r"\b(127\.0\.0\.1|localhost):\d+").unwrap().replace_all(&text, "${1}:1455");
    Regex::new(r"\b(state|code_challenge|code)=[A-Za-z0-9_.~-]+").unwrap().replace_all(&text, "${1}=x").into_owned()
}
