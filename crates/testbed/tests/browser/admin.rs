//! The operators' pages: questions about 200 sessions that are answered in at most three clicks.

mod mix;
mod receiver;

use anteroom_testbed::WAIT_MAX;
use anteroom_wire::{
    SessionId,
    api::{Overview, RefusedHostList, StartStage},
};
use mix::Mix;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Stdio,
};
use tokio::{
    process::Command,
    time::{Instant, timeout},
};

/// Clicks, choices and texts that an answer may take.
const STEPS_MAX: u32 = 3;

#[derive(Debug, Deserialize)]
struct Answer {
    steps: u32,
    answer: Value,
}

/// What `web/e2e/real/admin.mjs` prints.
#[derive(Debug, Deserialize)]
struct Observed {
    answers: BTreeMap<String, Answer>,
    offline: Offline,
    /// The heading that a person gets who is no operator.
    for_person: String,
    page_errors: Vec<String>,
}

/// The live list before a session was stopped while its page was offline, and after the page was online again.
#[derive(Debug, Deserialize)]
struct Offline {
    before: BTreeSet<SessionId>,
    after: BTreeSet<SessionId>,
    is_same_document: bool,
    resumed_after: Option<String>,
}

impl Observed {
    fn of(&self, question: &str) -> &Value {
        &self.answers[question].answer
    }

    fn text(&self, question: &str, index: usize) -> &str {
        self.of(question)[index].as_str().unwrap()
    }

    fn strings(&self, question: &str) -> BTreeSet<String> {
        strings(self.of(question))
    }
}

fn strings(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

fn texts<'a>(ids: impl IntoIterator<Item = &'a SessionId>) -> BTreeSet<String> {
    ids.into_iter().map(ToString::to_string).collect()
}

async fn run_script(mix: &Mix) -> Observed {
    let operator = mix.server.operator_client().unwrap();
    let link: Value = operator.post("/api/links", json!({})).await.unwrap().parse().unwrap();
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let sessions = json!({ "live": mix.live[0], "failed": mix.killed.first(), "cancelled": mix.ended_by_operator });
    let mut script = Command::new("node");
    script.arg("e2e/real/admin.mjs").current_dir(web).env("ANTEROOM_E2E_LINK", link["url"].as_str().unwrap());
    script.env("ANTEROOM_E2E_SESSIONS", sessions.to_string()).env("ANTEROOM_E2E_TOKEN", mix.token);
    script.env("ANTEROOM_E2E_PERSON", &mix.person_link);
    let script = script.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(4 * WAIT_MAX, script).await.expect("the script ends in time").unwrap();
    assert!(output.status.success(), "the script failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_questions_are_answered_in_three_clicks() {
    let mix = Mix::start().await;
    let operator = mix.server.operator_client().unwrap();
    let overview: Overview = operator.get("/api/overview").await.unwrap().parse().unwrap();
    let queued_since = Instant::now();
    let observed = run_script(&mix).await;
    for (question, Answer { steps, .. }) in &observed.answers {
        assert!(*steps <= STEPS_MAX, "{question} took {steps} clicks");
    }
    let queued_s = overview.live.queue_wait_ms_max.unwrap() / 1_000 + queued_since.elapsed().as_secs();
    check_sums(&overview, &observed);
    check_sessions(&mix, &observed).await;
    check_hosts(&mix, &observed).await;
    check_queue(&mix, &observed, queued_s);
    check_credentials_and_messages(&mix, &observed).await;
    check_callers(&mix, &observed).await;
    check_live(&mix, &observed);
    assert_eq!(observed.for_person, "These pages are for operators");
    assert_eq!(observed.page_errors, Vec::<String>::new());
    mix.server.stop_and_check_leaks().await.unwrap();
}

fn check_sums(overview: &Overview, observed: &Observed) {
    assert!(!overview.is_partial);
    let total = overview.starts.iter().find(|found| found.stage == StartStage::Total).unwrap();
    assert_eq!(observed.of("start_p95_today").as_str().unwrap(), format_duration(total.p95_ms));
    let figures = observed.of("outcomes");
    let live = mix::LIVE + mix::QUEUED;
    let expired = mix::BLOCKED + mix::DECLINED + mix::TOOL_MISSING + mix::IDLE;
    let completed = mix::COMPLETED + mix::EXPIRING + mix::COMPLETED_DENIED;
    assert_eq!(figures["Now"][0], format!("{live} live"));
    assert_eq!(figures["Today"][0], format!("{completed} completed"));
    let others = format!("{} failed · {} cancelled · {expired} expired", mix::KILLED, mix::CANCELLED);
    assert_eq!(figures["Today"][1], others);
    assert_eq!(figures["Host"][0], format!("{0} of {0} machines", mix::LIVE));
    assert_eq!(observed.of("audit_intact"), "true");
}

async fn check_sessions(mix: &Mix, observed: &Observed) {
    let operator = mix.server.operator_client().unwrap();
    assert_eq!(observed.strings("failed_for_want_of_egress"), texts(&mix.without_egress));
    let live = texts(mix.live.iter().chain(&mix.queued));
    assert_eq!(observed.strings("what_is_live"), live);
    let names: BTreeSet<_> = [mix.backend_name().await, mix.operator_name().await].into();
    assert_eq!(observed.strings("who_looked"), names);
    let machine = mix::machine_of(&operator, &mix.live[0]).await;
    let expected = json!([[machine], format!("{0} of {0}, {1} queued", mix::LIVE, mix::QUEUED)]);
    let found = observed.of("which_machine_and_how_full");
    assert_eq!(found[0], expected[0]);
    assert!(found[1].as_str().unwrap().starts_with(expected[1].as_str().unwrap()), "{found}");
    let diagnosis = operator.get_diagnosis(mix.killed.first().unwrap()).await.unwrap();
    assert_eq!(diagnosis.verdict, anteroom_wire::diagnosis::Verdict::MachineKilled);
    assert_eq!(observed.text("why_it_failed", 0), format!("Machine killed. {}", diagnosis.sentence));
    assert_eq!(observed.text("why_it_failed", 1), diagnosis.remedy);
    assert_eq!(observed.strings("who_ended_it"), [mix.operator_name().await].into());
}

async fn check_hosts(mix: &Mix, observed: &Observed) {
    let hosts: RefusedHostList =
        mix.server.operator_client().unwrap().get("/api/egress/refused").await.unwrap().parse().unwrap();
    let found = observed.of("refused_hosts");
    assert_eq!(found[0], json!(["tracker.example", "ads.example", "login.example"]), "the most frequent first");
    let sessions: Vec<_> = hosts.hosts.iter().map(|host| host.sessions).collect();
    assert!(sessions.is_sorted_by(|more, fewer| more >= fewer), "{sessions:?}");
    assert_eq!((sessions[0], sessions[2]), (mix::COMPLETED_DENIED as u64, mix::BLOCKED as u64));
    let change: toml::Table = found[1].as_str().unwrap().parse().unwrap();
    let rule = change["providers"]["curious"]["egress"].as_array().unwrap().last().unwrap();
    assert_eq!((rule["host"].as_str(), rule["ports"][0].as_integer()), (Some("tracker.example"), Some(8443)));
}

/// `6 queued, for up to 34 s · 0 viewers`
fn check_queue(mix: &Mix, observed: &Observed, queued_s_max: u64) {
    let found = observed.of("who_waits_how_long");
    assert_eq!(strings(&found[0]), texts(&mix.queued));
    let text = found[1].as_str().unwrap();
    let wait = text.strip_prefix(&format!("{} queued, for up to ", mix::QUEUED)).unwrap_or_else(|| panic!("{text}"));
    let (number, unit) = wait.split(" · ").next().unwrap().split_once(' ').unwrap();
    let unit_s = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "min" => 60.0,
        other => panic!("{other} in {text}"),
    };
    let wait_s = number.parse::<f64>().unwrap() * unit_s;
    // Minutes are rounded.
    assert!(wait_s > 0.0 && wait_s <= queued_s_max as f64 + unit_s / 2.0, "{text}, at most {queued_s_max} s");
}

async fn check_credentials_and_messages(mix: &Mix, observed: &Observed) {
    let expiring: BTreeSet<_> = (0..mix::EXPIRING).map(|number| format!("expiring-{number}")).collect();
    let found = observed.of("expiring_credentials").as_array().unwrap();
    assert!(found.iter().all(|row| row[0] == "expiring"), "{found:?}");
    assert_eq!(found.iter().map(|row| row[1].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(), expiring);
    assert_eq!(found.len(), mix::EXPIRING);
    let messages = observed.of("failed_deliveries");
    assert_eq!(strings(&messages[0]), texts(&mix.declined), "they are tried again");
    assert_eq!(strings(&messages[1]), texts(&mix.killed), "they were given up");
}

async fn check_callers(mix: &Mix, observed: &Observed) {
    let records: Vec<(String, String)> =
        serde_json::from_value(observed.of("who_created_and_used_the_token").clone()).unwrap();
    let operator = mix.operator_name().await;
    let count = |action: &str, actor: &str| records.iter().filter(|(did, who)| did == action && who == actor).count();
    assert_eq!(count("token.create", &operator), 1, "{records:?}");
    assert_eq!((count("session.start", mix.token), count("session.cancel", mix.token)), (2, 2), "{records:?}");
    assert_eq!(records.len(), 5, "nothing else: {records:?}");
}

fn check_live(mix: &Mix, observed: &Observed) {
    let live = |stopped: usize| mix.live.iter().skip(stopped).chain(&mix.queued).cloned().collect::<BTreeSet<_>>();
    let offline = &observed.offline;
    assert_eq!((&offline.before, &offline.after), (&live(0), &live(1)));
    assert!(offline.is_same_document, "the page was not loaded again");
    assert!(offline.resumed_after.is_some(), "Last-Event-ID is sent");
}

/// A duration as the pages show it.
fn format_duration(duration_ms: u64) -> String {
    let seconds = f64::from(u32::try_from(duration_ms).unwrap()) / 1_000.0;
    match duration_ms {
        0..1_000 => format!("{duration_ms} ms"),
        1_000..10_000 => format!("{seconds:.2} s"),
        10_000.. => format!("{seconds:.0} s"),
    }
}
