//! The server is killed before and after each database write of a session; the next server must recover.
//!
//! A flow runs once to record its writes, and then twice for each write, with a crash before and after it. After the crash the
//! client repeats its request.

use crate::document;
use anteroom_testbed::{
    ApiClient, Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX,
    measure_recovery::current_machine,
    processes,
    serve::crash_point::{CrashPoint, CrashTiming},
};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{SessionStatus, SessionView, StartRequest},
};
use std::{collections::BTreeSet, fmt::Write as _, fs, time::Duration};
use tokio::time::{Instant, sleep};

/// A sequence of events in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    SignIn,
    Cancellation,
    Restart,
    Adoption,
    Expiry,
    Failure,
}

impl Flow {
    fn title(self) -> &'static str {
        match self {
            Self::SignIn => "a sign-in with a viewer",
            Self::Cancellation => "a cancellation",
            Self::Restart => "a machine restart and a sign-in",
            Self::Adoption => "an adoption by the next server and a sign-in",
            Self::Expiry => "an expiry",
            Self::Failure => "a failure: the machine exits without restarts left",
        }
    }

    fn expected_status(self) -> SessionStatus {
        match self {
            Self::SignIn | Self::Restart | Self::Adoption => SessionStatus::Completed,
            Self::Cancellation => SessionStatus::Cancelled,
            Self::Expiry => SessionStatus::Expired,
            Self::Failure => SessionStatus::Failed,
        }
    }

    fn settings(self) -> &'static str {
        match self {
            Self::SignIn | Self::Cancellation | Self::Restart | Self::Adoption => "",
            Self::Expiry => "idle_s_max = 1\n",
            Self::Failure => "restarts_max = 0\n",
        }
    }
}

async fn start_server(flow: Flow) -> TestServer {
    let wait = |flag: &str| Step::WaitForFile { path: flag.into(), ms_max: 600_000 };
    let url = "https://id.example/authorize?state=1".to_owned();
    let steps = [
        wait("url"),
        Step::OpenUrlWithBrowser { url },
        wait("go"),
        Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"x\"}"),
        wait("never"),
    ];
    let settings = format!(
        "[log]\nlevel = 'info'\n[limits.store]\nbusy_ms_max = 20000\n[limits.sessions]\ndelivery_retry_ms_max = 500\nreconcile_every_ms = 100\n[sessions]\n{}",
        flow.settings()
    );
    TestServer::start(
        TestConfig::with_provider(ScriptedProvider::new("scripted", Script::new(steps))).with_settings(&settings),
    )
    .await
    .unwrap()
}

/// One run of a flow on a server that may crash at any time.
struct FlowRun<'a> {
    server: &'a mut TestServer,
    flow: Flow,
    key: String,
    crashes: u32,
    /// The viewer, and the number of crashes before it was connected.
    viewer: Option<(u32, anteroom_rfb::client::RfbClient<anteroom_rfb::client::ViewerSocket>)>,
    adopted: bool,
}

impl FlowRun<'_> {
    /// Runs the flow until the session has ended and no machine is left, with `expect_crash` also until the server has crashed once.
    async fn run(&mut self, expect_crash: bool) -> SessionView {
        let until = Instant::now() + WAIT_MAX;
        loop {
            self.assert_one_machine_at_most();
            if self.server_has_exited() {
                self.crashes += 1;
                self.viewer = None;
                self.server.kill_server().await.unwrap();
                self.start_server().await;
            }
            let step = self.step().await;
            if let Ok(Some(view)) = &step
                && self.server.list_machines().is_empty()
                && (self.crashes > 0 || !expect_crash)
                && !self.server_has_exited()
            {
                return view.clone();
            }
            if Instant::now() >= until {
                let log = self.server.read_log();
                panic!("{:?}: the flow does not end: {step:?}, {} crash(es)\n{log}", self.key, self.crashes);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts the server, again if it crashes during its start.
    async fn start_server(&mut self) {
        for _ in 0..3 {
            match self.server.start_server().await {
                Ok(()) => return,
                Err(_) => self.crashes += 1,
            }
        }
        self.server.start_server().await.unwrap();
    }

    fn server_has_exited(&self) -> bool {
        let Ok(pid) = self.server.server_pid() else { return true };
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        // `pid (name) state …`; a zombie has exited.
        state.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
    }

    fn assert_one_machine_at_most(&self) {
        let machines = self.server.list_machines();
        let state = self.server.state_dir();
        let alive: Vec<_> = machines.iter().filter(|id| processes::find_machine_pid(&state, id).is_some()).collect();
        assert!(alive.len() <= 1, "{:?}: two machines are running: {alive:?}", self.flow);
    }

    /// Does the next step of the flow; returns the view when the session has ended. Usually an error means that the server has crashed.
    async fn step(&mut self) -> anyhow::Result<Option<SessionView>> {
        let api = self.server.backend_client()?;
        // The idempotency key makes repeated requests return the same session.
        let request = StartRequest { idempotency_key: Some(self.key.clone()), ..StartRequest::new("scripted") };
        let id = api.start_session_with(&request).await?.session.id;
        let view = api.get_session(&id).await?;
        if view.status.is_ended() {
            return Ok(Some(view));
        }
        let timeline = api.get_timeline(&id).await?;
        let of_machine = timeline.iter().rev().take_while(|entry| entry.kind != TimelineKind::MachineRequested);
        // Wait for the start of the tool, so that the flow makes the same writes every time.
        let open = matches!(view.status, SessionStatus::VmStarted | SessionStatus::Authenticating)
            && of_machine.into_iter().any(|entry| entry.kind == TimelineKind::CliStarted);
        match self.flow {
            Flow::SignIn if open => {
                if self.viewer.as_ref().is_none_or(|(crashes, _)| *crashes != self.crashes) {
                    let mut viewer = api.connect_desktop(&id).await?;
                    viewer.request_full_frame().await?;
                    self.viewer = Some((self.crashes, viewer));
                    // The use of the session is written at the next interval.
                    sleep(Duration::from_millis(250)).await;
                }
                self.sign_in(&api, &id).await?;
            }
            Flow::Adoption if open && self.adopted => self.sign_in(&api, &id).await?,
            Flow::Adoption if open => {
                self.adopted = true;
                self.server.kill_server().await?;
                self.start_server().await;
            }
            Flow::Restart if open && view.generation > 1 => self.sign_in(&api, &id).await?,
            Flow::Restart if open => {
                api.post(&format!("/api/auth/session/{id}/restart"), serde_json::json!({})).await?;
            }
            Flow::Cancellation if open => drop(api.cancel_session(&id).await?),
            Flow::Failure if open => {
                let machine = current_machine(&api, &id).await?;
                if let Some(pid) = processes::find_machine_pid(&self.server.state_dir(), &machine) {
                    processes::kill_process(pid)?;
                }
            }
            Flow::SignIn | Flow::Adoption | Flow::Restart | Flow::Cancellation | Flow::Failure | Flow::Expiry => {}
        }
        Ok(None)
    }

    async fn sign_in(&self, api: &ApiClient, id: &SessionId) -> anyhow::Result<()> {
        let home = self.server.tool_home(&current_machine(api, id).await?);
        for flag in ["url", "go"] {
            // The machine may be ending.
            let _ = fs::write(home.join(flag), "");
        }
        Ok(())
    }
}

/// Runs the flow once.
async fn run_flow(server: &mut TestServer, flow: Flow, key: &str, expect_crash: bool) -> SessionView {
    let key = format!("{flow:?} {key}");
    FlowRun { server, flow, key, crashes: 0, viewer: None, adopted: false }.run(expect_crash).await
}

/// Checks that the session has one final entry, and one credential if it completed.
async fn check_ended_once(api: &ApiClient, view: &SessionView, flow: Flow) -> Result<(), String> {
    let timeline = api.get_timeline(&view.id).await.unwrap();
    let ends = timeline.iter().filter(|entry| entry.kind.is_session_end());
    let kept = api.list_credentials().await.unwrap().credentials;
    let kept = kept.iter().filter(|credential| credential.session == view.id).count();
    let is = (view.status, ends.count(), kept);
    let expected = (flow.expected_status(), 1, usize::from(flow.expected_status() == SessionStatus::Completed));
    if is == expected { Ok(()) } else { Err(format!("(status, ends, credentials) {is:?}, expected {expected:?}")) }
}

/// Runs the flow with a crash before and after each of its writes.
async fn crash_at_each_write(flow: Flow) {
    let mut server = start_server(flow).await;
    let began = server.committed_writes().len();
    let view = run_flow(&mut server, flow, "untouched", false).await;
    check_ended_once(&server.backend_client().unwrap(), &view, flow).await.unwrap();
    let api = server.backend_client().unwrap();
    // Wait for the last writes of the flow.
    api.wait_entry(&view.id, TimelineKind::MachineExited).await.unwrap();
    match flow {
        Flow::SignIn => drop(api.wait_entry(&view.id, TimelineKind::ViewerDisconnected).await.unwrap()),
        // A machine that exits before its session has two entries: at its exit and after the cleanup.
        Flow::Restart | Flow::Failure => drop(api.wait_entry(&view.id, TimelineKind::MachineRemoved).await.unwrap()),
        Flow::Cancellation | Flow::Adoption | Flow::Expiry => {}
    }
    // A lost channel is recorded only if it stays lost, and the head of the audit trail is stored at an interval: both depend on the load of
    // the host. The use of a token is recorded once a minute.
    let unpredictable = ["append_event channel_lost", "audit_head", "record_caller_use"];
    let writes: BTreeSet<String> = server
        .committed_writes()
        .into_iter()
        .skip(began)
        .filter(|write| !unpredictable.contains(&write.as_str()))
        .collect();
    let mut wrong = Vec::new();
    let mut rows = String::from("| write | killed before it | killed after it |\n|---|---|---|\n");
    for write in &writes {
        write!(rows, "| `{write}` ").unwrap();
        for timing in [CrashTiming::Before, CrashTiming::After] {
            let crash = CrashPoint { timing, write_kind: write.clone(), nth: 1 };
            server.crash_at(&crash).unwrap();
            let view = run_flow(&mut server, flow, &format!("{timing:?} {write}"), true).await;
            if let Err(why) = check_ended_once(&server.backend_client().unwrap(), &view, flow).await {
                wrong.push(format!("{timing:?} {write}: {why}"));
            }
            let credentials = usize::from(view.status == SessionStatus::Completed);
            let status = serde_json::to_string(&view.status).unwrap();
            write!(rows, "| `{}` once, {credentials} credential(s) ", status.trim_matches('"')).unwrap();
        }
        rows.push_str("|\n");
    }
    server.wait_machines_removed().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    document::compare_section(&format!("crashes: {}", flow.title()), &format!("### During {}\n\n{rows}", flow.title()));
}

#[tokio::test]
async fn crash_at_any_write_of_a_sign_in_loses_and_duplicates_nothing() {
    crash_at_each_write(Flow::SignIn).await;
}

#[tokio::test]
async fn crash_at_any_write_of_a_cancellation_cancels_the_session_once() {
    crash_at_each_write(Flow::Cancellation).await;
}

#[tokio::test]
async fn crash_at_any_write_of_a_machine_restart_leaves_one_machine() {
    crash_at_each_write(Flow::Restart).await;
}

#[tokio::test]
async fn crash_at_any_write_of_an_adoption_leaves_the_machine_to_the_next_server() {
    crash_at_each_write(Flow::Adoption).await;
}

#[tokio::test]
async fn crash_at_any_write_of_an_expiry_expires_the_session_once() {
    crash_at_each_write(Flow::Expiry).await;
}

#[tokio::test]
async fn crash_at_any_write_of_a_failure_fails_the_session_once() {
    crash_at_each_write(Flow::Failure).await;
}
