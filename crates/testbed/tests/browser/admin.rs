//! The operators' pages: questions that are answered in at most three clicks.

use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{Overview, SessionStatus, StartStage},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Stdio,
};
use tokio::{process::Command, time::timeout};

/// Clicks and choices that an answer may take.
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
    /// The live sessions in the list before and after one was stopped there.
    before: BTreeSet<SessionId>,
    after: BTreeSet<SessionId>,
    /// The heading that a person gets who is no operator.
    for_person: String,
    page_errors: Vec<String>,
}

impl Observed {
    fn of(&self, question: &str) -> &Value {
        &self.answers[question].answer
    }

    fn ids(&self, question: &str) -> BTreeSet<SessionId> {
        serde_json::from_value(self.of(question).clone()).unwrap()
    }
}

/// Sessions that have ended without egress, live ones, and the server.
struct Sessions {
    _dir: tempfile::TempDir,
    server: TestServer,
    without_egress: BTreeSet<SessionId>,
    live: Vec<SessionId>,
    person_link: String,
}

async fn start_sessions() -> Sessions {
    let dir = tempfile::tempdir().unwrap();
    let wait = Step::WaitForFile { path: dir.path().join("never"), ms_max: 300_000 };
    let connect = |authority: &str| Step::ProxyConnect { authority: authority.to_owned() };
    let blocked = Script::new([connect("login.example:443"), Step::Exit { code: 1 }]);
    let providers = [
        ScriptedProvider::new("idle", Script::new([connect("tracker.example:443"), wait])),
        ScriptedProvider::new("blocked", blocked).with_egress("login.example", 443),
    ];
    // A port without a listener: it was free a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = "[sessions]\nidle_s_max = 5\n[limits.sessions]\nreconcile_every_ms = 50\n";
    let config =
        TestConfig::with_providers(providers).with_settings(settings).with_host_override("login.example:443", closed);
    let mut server = TestServer::start(config).await.unwrap();
    let api = server.backend_client().unwrap();
    let mut without_egress = BTreeSet::new();
    for _ in 0..3 {
        without_egress.insert(api.start_session("blocked").await.unwrap().session.id);
    }
    for id in &without_egress {
        api.wait_status(id, SessionStatus::Expired).await.unwrap();
    }
    server.stop_server().await.unwrap();
    let config = server.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(config, text.replace("idle_s_max = 5", "idle_s_max = 600")).unwrap();
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    let (mut live, mut person_link) = (Vec::new(), String::new());
    for _ in 0..2 {
        let started = api.start_session("idle").await.unwrap();
        api.wait_entry(&started.session.id, TimelineKind::CliStarted).await.unwrap();
        live.push(started.session.id);
        person_link = started.viewer_url;
    }
    let mut viewer = api.connect_view_only_desktop(&live[0]).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    Sessions { _dir: dir, server, without_egress, live, person_link }
}

async fn run_script(sessions: &Sessions) -> Observed {
    let operator = sessions.server.operator_client().unwrap();
    let link: Value = operator.post("/api/links", json!({})).await.unwrap().parse().unwrap();
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let mut script = Command::new("node");
    script.arg("e2e/real/admin.mjs").current_dir(web).env("ANTEROOM_E2E_LINK", link["url"].as_str().unwrap());
    script.env("ANTEROOM_E2E_SESSION", sessions.live[0].as_str()).env("ANTEROOM_E2E_PERSON", &sessions.person_link);
    let script = script.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(3 * WAIT_MAX, script).await.expect("the script ends in time").unwrap();
    assert!(output.status.success(), "the script failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn operators_questions_are_answered_in_three_clicks() {
    let sessions = start_sessions().await;
    let operator = sessions.server.operator_client().unwrap();
    let overview: Overview = operator.get("/api/overview").await.unwrap().parse().unwrap();
    let observed = run_script(&sessions).await;
    for (question, Answer { steps, .. }) in &observed.answers {
        assert!(*steps <= STEPS_MAX, "{question} took {steps} clicks");
    }
    let live: BTreeSet<_> = sessions.live.iter().cloned().collect();
    assert_eq!(observed.ids("failed_for_want_of_egress"), sessions.without_egress);
    assert_eq!(observed.ids("what_is_live"), live);
    assert_eq!(observed.of("host_capacity"), &json!(format!("2 of {} machines", overview.host.machines_max)));
    assert_eq!(observed.of("audit_intact"), "true");
    let total = overview.starts.iter().find(|found| found.stage == StartStage::Total).unwrap();
    let p95 = observed.of("start_p95_today").as_str().unwrap();
    assert_eq!(p95, format_duration(total.p95_ms));
    let owner = operator.get_session(&sessions.live[0]).await.unwrap().owner_name;
    assert_eq!(observed.of("who_looked"), &json!([owner]));
    let callers = observed.of("callers").as_array().unwrap();
    let is_used_backend = |caller: &Value| caller[0] == owner && caller[1] == "backend" && caller[2] != "never";
    assert!(callers.iter().any(is_used_backend), "{callers:?}");
    let change = observed.of("refused_host").as_str().unwrap();
    assert!(change.contains("[providers.idle]") && change.contains("tracker.example"), "{change}");
    let why = observed.of("why_it_failed").as_str().unwrap();
    assert!(why.contains("login.example:443"), "{why}");
    assert_eq!((observed.before, observed.after), (live, BTreeSet::from([sessions.live[1].clone()])));
    assert_eq!(observed.for_person, "These pages are for operators");
    assert_eq!(observed.page_errors, Vec::<String>::new());
    sessions.server.stop_and_check_leaks().await.unwrap();
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
