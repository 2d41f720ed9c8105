//! The server is killed before and after each write of its database that happens in a session's life; the next server has to
//! make the best of what it finds.
//!
//! A story is lived once to learn which writes it makes, and then once for each of them and each side of it. The person goes
//! on with the story after the crash, as people do: by asking for the same thing again.

use crate::{document, states::machines_gone};
use anteroom_testbed::{
    ApiClient, TestConfig, WAIT_MAX, Script, Step, ScriptedTool, TestServer,
    measure_recovery::current_machine,
    processes,
    serve::crash_point::{CrashPoint, CrashTiming},
};
use anteroom_wire::{
    SessionId,
    api::{SessionView, StartRequest, Status},
};
use std::{collections::BTreeSet, fmt::Write as _, fs, time::Duration};
use tokio::time::{Instant, sleep};

/// What happens in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    SigningIn,
    Cancelling,
    Restarting,
    TakingOver,
    Expiring,
    Failing,
}

impl Story {
    fn title(self) -> &'static str {
        match self {
            Self::SigningIn => "signing in under a viewer",
            Self::Cancelling => "cancelling",
            Self::Restarting => "asking for another machine, and signing in",
            Self::TakingOver => "a server that takes a running machine over, and signing in",
            Self::Expiring => "expiring",
            Self::Failing => "failing: the machine dies and there is no other",
        }
    }

    fn end(self) -> Status {
        match self {
            Self::SigningIn | Self::Restarting | Self::TakingOver => Status::Completed,
            Self::Cancelling => Status::Cancelled,
            Self::Expiring => Status::Expired,
            Self::Failing => Status::Failed,
        }
    }

    fn settings(self) -> &'static str {
        match self {
            Self::SigningIn | Self::Cancelling | Self::Restarting | Self::TakingOver => "",
            Self::Expiring => "idle_s_max = 1\n",
            Self::Failing => "restarts_max = 0\n",
        }
    }
}

async fn world(story: Story) -> TestServer {
    let wait = |flag: &str| Step::WaitFor { path: flag.into(), ms_max: 600_000 };
    let url = "https://id.example/authorize?state=1".to_owned();
    let steps = [
        wait("url"),
        Step::Browser { url },
        wait("go"),
        Step::write(ScriptedTool::CREDENTIAL, "{\"token\": \"x\"}"),
        wait("never"),
    ];
    let settings = format!(
        "[log]\nlevel = 'info'\n[store]\nbusy_ms_max = 20000\n[sessions]\nsweep_every_ms = 100\ndelivery_retry_ms_max = 500\n{}",
        story.settings()
    );
    TestServer::start(TestConfig::with_tool(ScriptedTool::new("scripted", Script::new(steps))).with_settings(&settings)).await.unwrap()
}

/// One session's life in a world whose server may die at any moment.
struct Life<'a> {
    world: &'a mut TestServer,
    story: Story,
    key: String,
    crashes: u32,
    /// The viewer's socket, and for which server it was opened.
    viewer: Option<(u32, anteroom_controller::rfb::RfbClient<anteroom_controller::rfb::ViewerSocket>)>,
    taken_over: bool,
}

impl Life<'_> {
    /// Lives it to its end and until no machine is left; `expect_crash`: and until the server was killed once.
    async fn live(&mut self, expect_crash: bool) -> SessionView {
        let until = Instant::now() + WAIT_MAX;
        loop {
            self.one_machine_at_most();
            if self.server_is_dead() {
                self.crashes += 1;
                self.viewer = None;
                self.world.kill_server().await.unwrap();
                self.start_server().await;
            }
            let step = self.step().await;
            if let Ok(Some(view)) = &step
                && self.world.machines().is_empty()
                && (self.crashes > 0 || !expect_crash)
                && !self.server_is_dead()
            {
                return view.clone();
            }
            if Instant::now() >= until {
                let log = self.world.log();
                panic!("{:?}: it does not end: {step:?}, {} crash(es)\n{log}", self.key, self.crashes);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A server that is killed while it starts is started again.
    async fn start_server(&mut self) {
        for _ in 0..3 {
            match self.world.start_server().await {
                Ok(()) => return,
                Err(_) => self.crashes += 1,
            }
        }
        self.world.start_server().await.unwrap();
    }

    fn server_is_dead(&self) -> bool {
        let Ok(pid) = self.world.server_pid() else { return true };
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        // `pid (name) state …`; a zombie is dead.
        state.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
    }

    fn one_machine_at_most(&self) {
        let machines = self.world.machines();
        let state = self.world.state_dir();
        let alive: Vec<_> = machines.iter().filter(|id| processes::machine_pid(&state, id).is_some()).collect();
        assert!(alive.len() <= 1, "{:?}: two machines live: {alive:?}", self.story);
    }

    /// What the person, or fate, does next; the view when the session has ended. An error is the server's death, mostly.
    async fn step(&mut self) -> anyhow::Result<Option<SessionView>> {
        let api = self.world.backend()?;
        // The same request again and again is one session.
        let request = StartRequest {
            provider: "scripted".to_owned(),
            user_id: None,
            return_url: None,
            machine: None,
            method: None,
            renews: None,
            idempotency_key: Some(self.key.clone()),
        };
        let id = api.start_with(&request).await?.session.id;
        let view = api.session(&id).await?;
        if view.status.is_terminal() {
            return Ok(Some(view));
        }
        let timeline = api.timeline(&id).await?;
        let of_machine = timeline.iter().rev().take_while(|entry| entry.kind != "machine_requested");
        // The machine's tool has been seen to start, so that the story makes the same writes every time.
        let open = matches!(view.status, Status::VmStarted | Status::Authenticating)
            && of_machine.into_iter().any(|entry| entry.kind == "cli_started");
        match self.story {
            Story::SigningIn if open => {
                if self.viewer.as_ref().is_none_or(|(server, _)| *server != self.crashes) {
                    let mut viewer = api.desktop(&id).await?;
                    viewer.whole_frame().await?;
                    self.viewer = Some((self.crashes, viewer));
                    // The use is written at the next look.
                    sleep(Duration::from_millis(250)).await;
                }
                self.sign_in(&api, &id).await?;
            }
            Story::TakingOver if open && self.taken_over => self.sign_in(&api, &id).await?,
            Story::TakingOver if open => {
                self.taken_over = true;
                self.world.kill_server().await?;
                self.start_server().await;
            }
            Story::Restarting if open && view.generation > 1 => self.sign_in(&api, &id).await?,
            Story::Restarting if open => {
                api.post(&format!("/api/auth/session/{id}/restart"), serde_json::json!({})).await?;
            }
            Story::Cancelling if open => drop(api.cancel(&id).await?),
            Story::Failing if open => {
                let machine = current_machine(&api, &id).await?;
                if let Some(pid) = processes::machine_pid(&self.world.state_dir(), &machine) {
                    processes::kill(pid)?;
                }
            }
            Story::SigningIn
            | Story::TakingOver
            | Story::Restarting
            | Story::Cancelling
            | Story::Failing
            | Story::Expiring => {}
        }
        Ok(None)
    }

    async fn sign_in(&self, api: &ApiClient, id: &SessionId) -> anyhow::Result<()> {
        let home = self.world.home(&current_machine(api, id).await?);
        for flag in ["url", "go"] {
            // The machine may just be going.
            let _ = fs::write(home.join(flag), "");
        }
        Ok(())
    }
}

/// Lives the story once more.
async fn live(world: &mut TestServer, story: Story, key: &str, expect_crash: bool) -> SessionView {
    let key = format!("{story:?} {key}");
    Life { world, story, key, crashes: 0, viewer: None, taken_over: false }.live(expect_crash).await
}

/// One end, and one credential or none.
async fn ended_once(api: &ApiClient, view: &SessionView, story: Story) -> Result<(), String> {
    let timeline = api.timeline(&view.id).await.unwrap();
    let ends =
        timeline.iter().filter(|entry| matches!(entry.kind.as_str(), "completed" | "failed" | "cancelled" | "expired"));
    let kept = api.credentials().await.unwrap().credentials;
    let kept = kept.iter().filter(|credential| credential.session == view.id).count();
    let is = (view.status, ends.count(), kept);
    let shall = (story.end(), 1, usize::from(story.end() == Status::Completed));
    if is == shall { Ok(()) } else { Err(format!("(status, ends, credentials) {is:?}, expected {shall:?}")) }
}

/// Every write of the story, and a crash on either side of each.
async fn before_and_after_each_write(story: Story) {
    let mut world = world(story).await;
    let began = world.committed_writes().len();
    let view = live(&mut world, story, "untouched", false).await;
    ended_once(&world.backend().unwrap(), &view, story).await.unwrap();
    let api = world.backend().unwrap();
    // The last of the story's writes.
    api.wait_entry(&view.id, "machine_exited").await.unwrap();
    match story {
        Story::SigningIn => drop(api.wait_entry(&view.id, "viewer_left").await.unwrap()),
        // A machine that goes before its session's end is told of twice: when it is dead, and when it is cleared away.
        Story::Restarting | Story::Failing => drop(api.wait_entry(&view.id, "machine_removed").await.unwrap()),
        Story::Cancelling | Story::TakingOver | Story::Expiring => {}
    }
    // A channel that broke is told of only if it stays so: whether it does is a matter of how busy the host is.
    let chance = "append_event channel_lost";
    let writes: BTreeSet<String> = world.committed_writes().into_iter().skip(began).filter(|write| write != chance).collect();
    let mut wrong = Vec::new();
    let mut rows = String::from("| the write | killed before it | killed after it |\n|---|---|---|\n");
    for write in &writes {
        write!(rows, "| `{write}` ").unwrap();
        for moment in [CrashTiming::Before, CrashTiming::After] {
            let crash = CrashPoint { moment, write: write.clone(), nth: 1 };
            world.crash_at(&crash).unwrap();
            let view = live(&mut world, story, &format!("{moment:?} {write}"), true).await;
            if let Err(why) = ended_once(&world.backend().unwrap(), &view, story).await {
                wrong.push(format!("{moment:?} {write}: {why}"));
            }
            let credentials = usize::from(view.status == Status::Completed);
            let status = serde_json::to_string(&view.status).unwrap();
            write!(rows, "| `{}` once, {credentials} credential(s) ", status.trim_matches('"')).unwrap();
        }
        rows.push_str("|\n");
    }
    machines_gone(&world).await;
    world.finish().await.unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    document::section(&format!("crashes: {}", story.title()), &format!("### In {}\n\n{rows}", story.title()));
}

#[tokio::test]
async fn crash_at_any_write_of_a_sign_in_loses_and_duplicates_nothing() {
    before_and_after_each_write(Story::SigningIn).await;
}

#[tokio::test]
async fn crash_at_any_write_of_a_cancellation_cancels_the_session_once() {
    before_and_after_each_write(Story::Cancelling).await;
}

#[tokio::test]
async fn crash_at_any_write_of_a_machine_restart_leaves_one_machine() {
    before_and_after_each_write(Story::Restarting).await;
}

#[tokio::test]
async fn crash_at_any_write_of_an_adoption_leaves_the_machine_to_the_next_server() {
    before_and_after_each_write(Story::TakingOver).await;
}

#[tokio::test]
async fn crash_at_any_write_of_an_expiry_expires_the_session_once() {
    before_and_after_each_write(Story::Expiring).await;
}

#[tokio::test]
async fn crash_at_any_write_of_a_failure_fails_the_session_once() {
    before_and_after_each_write(Story::Failing).await;
}
