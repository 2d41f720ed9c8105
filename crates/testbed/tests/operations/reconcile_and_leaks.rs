//! Orphaned machines and overdue sessions: the leak report, a dry run of the reconciliation, and its limited steps.

use crate::{Flags, anteroom, command, start_idle, start_idle_session, start_session, stdout_of, text};
use anteroom_controller::{config::Config, keys};
use anteroom_store::{ExpectedState, NewTimelineEntry, SessionChange, Store, StoreSettings};
use anteroom_testbed::{TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::TimelineKind;
use anteroom_wire::operator_reports::{LeakReport, ReconcileActionKind, ReconcileOutcome, ReconcileReport};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// Sets the deadlines of all active sessions into the past, while no server runs.
async fn pass_deadlines(server: &TestServer) {
    let config = Config { state_dir: server.state_dir().to_owned(), ..Config::default() };
    let store = Store::open(&config.state_dir.join("anteroom.db"), StoreSettings::default()).await.unwrap();
    keys::open_key_ring(&config, &store).await.unwrap();
    for row in store.list_active_sessions().await.unwrap() {
        let change = SessionChange::new().with_deadline(1);
        let entry = NewTimelineEntry::new(1, TimelineKind::MethodChosen, "The deadline was changed.");
        store.transition(&row.id, ExpectedState::Active, change, entry).await.unwrap();
    }
    store.close().await;
}

/// A server that was stopped while three sessions reached their deadlines. Their machines run, and one reconciliation may stop one
/// thing.
async fn server_with_overdue_sessions(flags: &Flags) -> TestServer {
    let settings = "[limits.sessions]\nreconcile_every_ms = 600000\nreconcile_stops_max = 1\n";
    let mut server =
        TestServer::start(TestConfig::with_provider(flags.idle_provider()).with_settings(settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    for _ in 0..3 {
        let id = api.start_session("scripted").await.unwrap().session.id;
        api.wait_entry(&id, TimelineKind::CliStarted).await.unwrap();
    }
    server.stop_server().await.unwrap();
    pass_deadlines(&server).await;
    // Its first reconciliation ends one session.
    server.start_server().await.unwrap();
    server
}

async fn reconcile(server: &TestServer, arguments: &[&str]) -> ReconcileReport {
    let printed = stdout_of(server, &[&["reconcile", "--json"], arguments].concat()).await;
    serde_json::from_str(&printed).expect(&printed)
}

/// Reconciles until there is nothing to do.
async fn reconcile_all(server: &TestServer) {
    let done = async || Ok(reconcile(server, &[]).await.actions.is_empty().then_some(()));
    eventually("reconciliation has nothing to do", WAIT_MAX, done).await.unwrap();
}

fn outcomes(report: &ReconcileReport) -> Vec<(ReconcileActionKind, ReconcileOutcome)> {
    report.actions.iter().map(|action| (action.kind, action.outcome)).collect()
}

async fn active(server: &TestServer) -> usize {
    let list = server.operator_client().unwrap().get("/api/sessions").await.unwrap();
    let list: anteroom_wire::api::SessionList = list.parse().unwrap();
    list.sessions.iter().filter(|session| !session.status.is_ended()).count()
}

#[tokio::test]
async fn dry_run_prints_planned_actions_and_changes_nothing() {
    use ReconcileActionKind::{EndSession, StopMachine};
    let flags = Flags::new();
    let server = server_with_overdue_sessions(&flags).await;
    for _ in 0..2 {
        let report = reconcile(&server, &["--dry-run"]).await;
        assert!(report.dry_run);
        assert_eq!(
            outcomes(&report),
            [
                (EndSession, ReconcileOutcome::Planned),
                (EndSession, ReconcileOutcome::Deferred),
                (StopMachine, ReconcileOutcome::Deferred),
                (StopMachine, ReconcileOutcome::Deferred),
                (StopMachine, ReconcileOutcome::Deferred),
            ]
        );
        assert_eq!(report.deferred, 4);
        assert!(report.actions[0].reason.contains("its deadline was"), "{report:?}");
        assert_eq!((active(&server).await, server.list_machines().len()), (2, 3), "nothing was changed");
    }
    let printed = stdout_of(&server, &["reconcile", "--dry-run"]).await;
    assert!(printed.contains("end session") && printed.contains("deferred to a later reconciliation"), "{printed}");
    reconcile_all(&server).await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn reconciliation_limits_stops_and_logs_each_reason() {
    let flags = Flags::new();
    let server = server_with_overdue_sessions(&flags).await;
    let mut done = Vec::new();
    let deadline = Instant::now() + WAIT_MAX;
    while active(&server).await > 0 || !server.list_machines().is_empty() {
        assert!(Instant::now() < deadline, "{done:?}");
        let report = reconcile(&server, &[]).await;
        let kinds = report.actions.iter().filter(|action| action.outcome == ReconcileOutcome::Done);
        let kinds: Vec<_> = kinds.map(|action| action.kind).collect();
        assert!(kinds.len() <= 1, "{report:?}");
        done.extend(kinds);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stops = done.iter().filter(|kind| **kind == ReconcileActionKind::StopMachine).count();
    assert_eq!((done.iter().filter(|kind| **kind == ReconcileActionKind::EndSession).count(), stops), (2, 3));
    let log = stdout_of(&server, &["logs", "--lines", "100000", "--json"]).await;
    let logged = log.lines().filter(|line| line.contains("reconciliation action") && line.contains("\"Done\""));
    assert!(logged.clone().all(|line| line.contains("\"reason\":")) && logged.count() >= 6, "{log}");
    assert_eq!(reconcile(&server, &[]).await.actions, []);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn reconciliation_requires_an_operator() {
    let (_flags, server) = start_idle("").await;
    for path in ["/api/reconcile", "/api/reconcile?dry_run=true"] {
        let rejected = server.backend_client().unwrap().post(path, json!({})).await.unwrap();
        assert_eq!((rejected.status, rejected.problem().unwrap().code.as_str()), (403, "not_owner"), "{path}");
    }
    assert_eq!(server.backend_client().unwrap().get("/api/leaks").await.unwrap().status, 403);
    server.stop_and_check_leaks().await.unwrap();
}

/// Runs `doctor --leaks`; returns its report and whether it succeeded.
async fn leaks(server: &TestServer) -> (LeakReport, bool) {
    let output = anteroom(server, &["doctor", "--leaks", "--json"]).await;
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    (report, output.status.success())
}

fn orphans(report: &LeakReport, kind: &str) -> usize {
    report.rows.iter().find(|row| row.kind == kind).unwrap_or_else(|| panic!("{report:?}")).orphans.len()
}

#[tokio::test]
async fn orphans_are_counted_and_listed_with_remedies() {
    let flags = Flags::new();
    let server = server_with_overdue_sessions(&flags).await;
    let (report, clean) = leaks(&server).await;
    assert!(!clean && report.by_server, "{report:#?}");
    assert_eq!((orphans(&report, "keepers"), orphans(&report, "run directories")), (3, 3), "{report:#?}");
    assert_eq!(orphans(&report, "active sessions"), 2, "{report:#?}");
    assert!(orphans(&report, "machine processes") >= 3 && orphans(&report, "sockets") >= 9, "{report:#?}");
    assert!(report.orphans().all(|found| !found.why.is_empty() && !found.remedy.is_empty()));
    let output = anteroom(&server, &["doctor", "--leaks"]).await;
    let printed = text(&output.stdout);
    assert!(!output.status.success() && printed.contains("kill ") && printed.contains("run directories"), "{printed}");
    reconcile_all(&server).await;
    let clean = eventually("there are no orphans", WAIT_MAX, async || {
        let (report, clean) = leaks(&server).await;
        Ok(clean.then_some(report))
    });
    assert_eq!(clean.await.unwrap().orphans().count(), 0);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn active_session_has_no_orphans_with_and_without_server() {
    let (_flags, mut server, api, id) = start_session("").await;
    let _viewer = api.connect_desktop(&id).await.unwrap();
    let (report, clean) = leaks(&server).await;
    assert!(clean && report.by_server, "{report:#?}");
    let keepers = report.rows.iter().find(|row| row.kind == "keepers").unwrap();
    assert_eq!((keepers.exists, keepers.expected), (1, 1));
    server.kill_server().await.unwrap();
    let (report, clean) = leaks(&server).await;
    assert!(clean && !report.by_server, "machines of an active session are no orphans: {report:#?}");
    // Without a server, only the database shows that the session is overdue.
    pass_deadlines(&server).await;
    let (report, clean) = leaks(&server).await;
    assert!(!clean, "{report:#?}");
    assert_eq!((orphans(&report, "keepers"), orphans(&report, "active sessions")), (1, 1), "{report:#?}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn closed_output_pipe_is_not_an_error() {
    let (_flags, server, _, id) = start_idle_session("").await;
    for arguments in [vec!["doctor", "--leaks"], vec!["diagnose", id.as_str()], vec!["logs"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(&server, &arguments).stdout(writer).output().await.unwrap();
        let stderr = text(&output.stderr);
        assert!(output.status.success() && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
    server.stop_and_check_leaks().await.unwrap();
}
