//! Every verdict, from inputs that the server can produce.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod active;
mod confusion_matrix;
mod credential_use;
mod ended;
mod external;
mod last_words;
mod other_moments;
mod real_runs;
mod sign_in;

use super::{
    DeviceCodeState, DiagnosisInput, ExternalMachineConfig, Progress, SupervisorSnapshot, ToolWords, evaluate,
};
use anteroom_machine::{ExitReason, StopReason};
use anteroom_store::{Reason, RowStatus, SessionEnd, SessionOutcome, SessionRow, TimelineRow};
use anteroom_wire::{
    CallerId, CredentialId, EndReason, MachineId, Problem, SessionId, TimelineKind,
    agent::{CaptureState, CliState},
    diagnosis::{Component, ComponentState, Diagnosis, Verdict},
};
use serde_json::{Value, json};

/// The start of every session in these tests: 2026-01-31T12:00:00Z.
const STARTED_MS: u64 = 1_769_860_800_000;

/// A session with its timeline; entries are one second apart.
#[derive(Debug, Clone)]
struct Case {
    row: SessionRow,
    supervisor: Option<SupervisorSnapshot>,
    timeline: Vec<TimelineRow>,
    receipt: Option<ExitReason>,
    external: Option<ExternalMachineConfig>,
}

impl Case {
    /// Accepted and queued.
    fn new() -> Self {
        let row = SessionRow {
            id: SessionId::from_parts(1, [1; 10]),
            owner: CallerId::from_parts(1, [2; 10]),
            owner_name: "owner".to_owned(),
            owner_is_user: false,
            user_id: None,
            provider: "scripted".parse().unwrap(),
            return_url: None,
            status: RowStatus::Active { replacement_reason: None },
            epoch: 0,
            generation: 1,
            machine: None,
            agent_token: None,
            claimed_generation: None,
            cli_started: false,
            created_at_ms: STARTED_MS,
            last_used_at_ms: STARTED_MS,
            idle_deadline_ms: None,
            deadline_ms: STARTED_MS + 3_600_000,
            external_machine: None,
            method: None,
            purpose: anteroom_store::SessionPurpose::default(),
            exit_code: None,
            settings: std::collections::BTreeMap::new(),
            holder: None,
            queued_at_ms: None,
            placement: None,
        };
        let case = Self { row, supervisor: None, timeline: Vec::new(), receipt: None, external: None };
        case.entry(TimelineKind::Accepted, Value::Null).at(Progress::Queued { position: 1 })
    }

    /// Its machine was requested.
    fn requested() -> Self {
        let mut case = Self::new().entry(TimelineKind::MachineRequested, json!({ "generation": 1 }));
        case.row.machine = Some(MachineId::from_parts(1, [3; 10]));
        case.at(Progress::Preparing { stage: anteroom_wire::agent::Stage::Process })
    }

    /// Its machine is ready.
    fn ready() -> Self {
        Self::requested().entry(TimelineKind::MachineReady, json!({})).at(Progress::Open { channels: () })
    }

    /// The tool runs.
    fn running() -> Self {
        let mut case = Self::ready().entry(TimelineKind::CliStarted, Value::Null);
        case.supervisor.as_mut().unwrap().cli = CliState::Running;
        case
    }

    fn entry(mut self, kind: TimelineKind, data: Value) -> Self {
        let number = self.timeline.len() as u64 + 1;
        let sentence = format!("{kind} happened.");
        self.timeline.push(TimelineRow { number, at_ms: STARTED_MS + number * 1_000, kind, sentence, data });
        self
    }

    /// The last entry, and all after it, are this much later.
    fn later(mut self, ms: u64) -> Self {
        let count = self.timeline.len() as u64;
        let last = self.timeline.last_mut().unwrap();
        last.at_ms = STARTED_MS + count * 1_000 + ms;
        self
    }

    fn at(mut self, progress: Progress<()>) -> Self {
        let (cli, capture) = (CliState::Waiting, CaptureState::Waiting);
        self.supervisor = Some(SupervisorSnapshot {
            progress,
            cli,
            capture,
            signing_in: false,
            code: DeviceCodeState::default(),
            desktop_viewers: 0,
            agent_error: None,
        });
        self
    }

    fn capture(mut self, capture: CaptureState) -> Self {
        self.supervisor.as_mut().unwrap().capture = capture;
        self
    }

    /// The last machine exited.
    fn machine_exited(self, why: &ExitReason) -> Self {
        self.entry(TimelineKind::MachineExited, json!({ "why": why }))
    }

    fn stopped(self, reason: StopReason) -> Self {
        self.machine_exited(&ExitReason::Stopped { reason })
    }

    fn exited(self, code: i32, lines: &[&str]) -> Self {
        self.entry(TimelineKind::CliExited, json!({ "code": code, "last_lines": lines }))
    }

    fn egress_failed(self, host: &str, problem: Problem) -> Self {
        self.entry(TimelineKind::EgressDenied, json!({ "host": host, "port": 443, "reason": problem.code() }))
    }

    fn rejected(self, why: &str) -> Self {
        self.entry(TimelineKind::CandidateRejected, json!({ "path": ".scripted/auth.json", "why": why }))
    }

    fn accepted(self) -> Self {
        self.entry(TimelineKind::CandidateAccepted, json!({ "path": ".scripted/auth.json", "bytes": 20 }))
    }

    fn delivery_rejected(self, by: &str, problem: Problem) -> Self {
        self.entry(
            TimelineKind::DeliveryRejected,
            json!({ "by": by, "reason": problem.code(), "detail": "missing /token" }),
        )
    }

    fn viewer(self, kind: TimelineKind, problem: Option<Problem>) -> Self {
        self.entry(kind, json!({ "reason": problem.map(Problem::code), "bytes_down": 4_000 }))
    }

    /// The session ended.
    fn ended(mut self, kind: TimelineKind, reason: EndReason, detail: &str) -> Self {
        self = self.entry(kind, json!({ "reason": reason.code() }));
        let outcomes = [
            (TimelineKind::Completed, SessionOutcome::Completed(CredentialId::from_parts(1, [4; 10]))),
            (TimelineKind::Cancelled, SessionOutcome::Cancelled),
            (TimelineKind::Expired, SessionOutcome::Expired),
            (TimelineKind::Failed, SessionOutcome::Failed),
        ];
        let (_, outcome) = outcomes.into_iter().find(|(of, _)| *of == kind).expect("the kind ends a session");
        let at_ms = self.timeline.last().unwrap().at_ms;
        self.row.status = RowStatus::Ended(SessionEnd { outcome, reason: Reason::new(reason, detail), at_ms });
        self.supervisor = None;
        self
    }

    fn failed(self, reason: EndReason) -> Self {
        self.ended(TimelineKind::Failed, reason, "")
    }

    fn diagnosis(&self) -> Diagnosis {
        self.diagnosis_with(ToolWords {
            declined: vec!["the sign-in was denied"],
            expired: vec!["failed with status 400"],
            account_refused: vec!["not (eligible|entitled)"],
        })
    }

    fn diagnosis_with(&self, words: ToolWords<'_>) -> Diagnosis {
        evaluate(&self.input(words))
    }

    fn input<'a>(&'a self, words: ToolWords<'a>) -> DiagnosisInput<'a> {
        DiagnosisInput {
            now_ms: self.timeline.last().unwrap().at_ms + 500,
            tool: "Scripted tool",
            cli: "scripted",
            words,
            unused_proxy_variable: None,
            row: &self.row,
            supervisor: self.supervisor.clone(),
            timeline: &self.timeline,
            receipt: self.receipt.clone(),
            external: self.external.clone(),
        }
    }
}

/// A description, the injected case, and the expected verdict.
type Row = (&'static str, Case, Verdict);

/// All injected causes.
fn table() -> Vec<Row> {
    [
        active::rows(),
        external::rows(),
        sign_in::rows(),
        last_words::rows(),
        ended::rows(),
        other_moments::rows(),
        credential_use::rows(),
    ]
    .concat()
}

#[test]
fn every_cause_has_its_own_verdict() {
    for (what, case, verdict) in table() {
        let found = case.diagnosis();
        assert_eq!(found.verdict, verdict, "{what}: {}", found.sentence);
        assert_eq!(found.remedy, verdict.remedy().replace("PROVIDER", "scripted"), "{what}");
    }
}

#[test]
fn every_verdict_has_a_cause() {
    let table = table();
    for verdict in Verdict::ALL {
        let count = table.iter().filter(|(.., expected)| expected == verdict).count();
        assert!(count >= 1, "{verdict:?} has no test");
    }
    let unknown = table.iter().filter(|(.., verdict)| *verdict == Verdict::Unknown).count();
    assert_eq!(unknown, 1, "only a reason that the server never writes is unknown");
}

#[test]
fn every_diagnosis_has_a_bounded_sentence_ordered_evidence_and_all_components() {
    for (what, case, _) in table() {
        let found = case.diagnosis();
        assert!(found.sentence.ends_with('.'), "{what}: {}", found.sentence);
        assert!(found.sentence.len() < 2_000, "{what}: {}", found.sentence);
        assert!(!found.sentence.chars().any(char::is_control), "{what}: {:?}", found.sentence);
        assert!(!found.sentence.contains("..") && !found.sentence.contains(" ;"), "{what}: {}", found.sentence);
        assert!(!found.evidence.is_empty(), "{what} has no evidence: {}", found.sentence);
        assert!(found.evidence.is_sorted_by(|one, two| one.number < two.number), "{what}: {:?}", found.evidence);
        let components: Vec<Component> = found.chain.iter().map(|status| status.component).collect();
        let all = [
            Component::Session,
            Component::Machine,
            Component::Channel,
            Component::Agent,
            Component::Display,
            Component::Tunnel,
            Component::Cli,
            Component::Egress,
            Component::Credential,
        ];
        assert_eq!(components, all, "{what}");
        for status in &found.chain {
            assert!(status.detail.ends_with('.'), "{what}: {status:?}");
        }
    }
}

/// The state of one component.
fn state_of(found: &Diagnosis, component: Component) -> ComponentState {
    found.chain.iter().find(|status| status.component == component).unwrap().state
}

/// The time of entry `number`, as in a sentence.
fn at(number: u64) -> String {
    crate::unix_time::format_rfc3339(STARTED_MS + number * 1_000)
}
