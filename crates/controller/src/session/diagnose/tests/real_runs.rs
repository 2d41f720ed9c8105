//! Sessions recorded from real machines: `fixtures/real_runs/CAUSE-N.json`, written by the tests `qemu_real_run…` of the testbed.

use super::*;
use serde::Deserialize;
use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

/// The least number of recorded runs of each cause.
const RUNS_MIN: usize = 3;
/// The causes that must be recorded.
const CAUSES: &[&str] = &[
    "browser_closed",
    "code_expired",
    "declined",
    "guest_disk_full",
    "inspecting_proxy",
    "machine_killed",
    "name_not_granted",
    "name_of_a_page_not_granted",
    "no_network",
    "provider_down",
    "proxy_refuses",
    "session_idle",
    "tool_missing",
    "typo_in_argv",
    "wrong_clock",
    "wrong_password",
];

/// A recorded run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RealRun {
    cause: String,
    /// What was done, for people.
    run: String,
    /// The verdict that is right.
    verdict: Verdict,
    tool: String,
    cli: String,
    #[serde(default)]
    words: RecordedWords,
    status: String,
    /// The code of the end's reason.
    reason: Option<String>,
    generation: u32,
    viewers: u32,
    signing_in: bool,
    timeline: Vec<RecordedEntry>,
}

/// The patterns of the tool's descriptor.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordedWords {
    declined: Vec<String>,
    expired: Vec<String>,
    account_refused: Vec<String>,
}

impl RecordedWords {
    fn of_tool(&self) -> ToolWords<'_> {
        ToolWords {
            declined: self.declined.iter().map(String::as_str).collect(),
            expired: self.expired.iter().map(String::as_str).collect(),
            account_refused: self.account_refused.iter().map(String::as_str).collect(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordedEntry {
    /// Milliseconds since the first entry.
    after_ms: u64,
    kind: TimelineKind,
    sentence: String,
    data: Value,
}

impl RealRun {
    fn timeline(&self) -> Vec<TimelineRow> {
        let rows = self.timeline.iter().enumerate().map(|(index, entry)| TimelineRow {
            number: index as u64 + 1,
            at_ms: STARTED_MS + entry.after_ms,
            kind: entry.kind,
            sentence: entry.sentence.clone(),
            data: entry.data.clone(),
        });
        rows.collect()
    }

    /// The tool's state, from the last entry about it.
    fn cli_state(&self) -> CliState {
        let of_tool = |entry: &&RecordedEntry| matches!(entry.kind, TimelineKind::CliStarted | TimelineKind::CliExited);
        match self.timeline.iter().rfind(of_tool) {
            None => CliState::Waiting,
            Some(entry) if entry.kind == TimelineKind::CliStarted => CliState::Running,
            Some(entry) => CliState::Exited { code: i32::try_from(entry.data["code"].as_i64().unwrap()).unwrap() },
        }
    }

    fn diagnosis(&self) -> Diagnosis {
        let timeline = self.timeline();
        let mut case = Case::requested();
        case.row.generation = self.generation;
        let end_kind = timeline.iter().rfind(|entry| entry.kind.is_session_end());
        case.supervisor = None;
        if let Some(end) = end_kind {
            let outcomes = [
                (TimelineKind::Completed, SessionOutcome::Completed(CredentialId::from_parts(1, [4; 10]))),
                (TimelineKind::Cancelled, SessionOutcome::Cancelled),
                (TimelineKind::Expired, SessionOutcome::Expired),
                (TimelineKind::Failed, SessionOutcome::Failed),
            ];
            let (_, outcome) = outcomes.into_iter().find(|(of, _)| *of == end.kind).unwrap();
            let reason = self.reason.as_ref().unwrap();
            let kind = *EndReason::ALL.iter().find(|kind| kind.code() == reason).unwrap();
            let reason = Reason::new(kind, "");
            case.row.status = RowStatus::Ended(SessionEnd { outcome, reason, at_ms: end.at_ms });
        } else {
            case = case.at(Progress::Open { channels: () });
            let supervisor = case.supervisor.as_mut().unwrap();
            (supervisor.cli, supervisor.signing_in) = (self.cli_state(), self.signing_in);
            supervisor.desktop_viewers = self.viewers;
        }
        evaluate(&DiagnosisInput {
            now_ms: timeline.last().unwrap().at_ms + 500,
            tool: &self.tool,
            cli: &self.cli,
            words: self.words.of_tool(),
            unused_proxy_variable: None,
            row: &case.row,
            supervisor: case.supervisor.clone(),
            timeline: &timeline,
            receipt: None,
            external: None,
        })
    }
}

/// All recorded runs, by file name.
fn runs() -> Vec<RealRun> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/real_runs");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

/// The part of `docs/diagnosis.md` about recorded runs.
pub(super) fn section() -> String {
    let mut causes: BTreeMap<String, Vec<RealRun>> = BTreeMap::new();
    for run in runs() {
        causes.entry(run.cause.clone()).or_default().push(run);
    }
    let mut text = String::from(
        "\n## Recorded real runs\n\nThe same, on sessions that tests recorded in real machines, with the tools of the image \
         (`crates/controller/fixtures/real_runs`). Recorded again with `ANTEROOM_RECORD_RUNS=1`.\n\n\
         | cause | runs | verdict | correct | other verdicts |\n|---|---|---|---|---|\n",
    );
    let (mut all, mut correct_all) = (0, 0);
    for (cause, runs) in &causes {
        let mut others = BTreeMap::<&str, usize>::new();
        for run in runs {
            let given = run.diagnosis().verdict;
            if given != run.verdict {
                *others.entry(given.code()).or_default() += 1;
            }
        }
        let wrong: usize = others.values().sum();
        let others: Vec<_> = others.iter().map(|(given, count)| format!("{count} × `{given}`")).collect();
        let others = if others.is_empty() { "—".to_owned() } else { others.join(", ") };
        let what: Vec<&str> = runs.iter().map(|run| run.run.as_str()).collect();
        let correct = runs.len() - wrong;
        writeln!(
            text,
            "| {cause}: {} | {} | `{}` | {correct} | {others} |",
            what.join("; "),
            runs.len(),
            runs[0].verdict.code()
        )
        .unwrap();
        all += runs.len();
        correct_all += correct;
    }
    writeln!(text, "\n{correct_all} of {all} correct.").unwrap();
    text
}

#[test]
fn every_recorded_run_has_the_verdict_of_its_cause() {
    let mut verdicts: BTreeMap<String, (Verdict, usize)> = BTreeMap::new();
    for run in runs() {
        let found = run.diagnosis();
        assert_eq!(found.verdict, run.verdict, "{} ({}): {}", run.cause, run.run, found.sentence);
        assert!(!found.evidence.is_empty(), "{} ({})", run.cause, run.run);
        let (verdict, count) = verdicts.entry(run.cause).or_insert((run.verdict, 0));
        assert_eq!(*verdict, run.verdict, "a cause has one verdict");
        *count += 1;
        assert!(!run.status.is_empty());
    }
    for cause in CAUSES {
        let count = verdicts.get(*cause).map_or(0, |(_, count)| *count);
        assert!(count >= RUNS_MIN, "{cause} is recorded {count} times");
    }
}
