//! The use of a stored credential: installed, used by one command, and delivered again when the tool changed it.

use crate::fixture::*;
use anteroom_wire::{
    Base64, Problem,
    agent::{
        AgentEvent, CaptureEvent, CaptureState, ChangeMethod, Claim, CliState, CredentialUseEvent, DeliveredFile,
        ToolEvent, UseCredential, UsePurpose,
    },
    provider::{Provider, SettingsFile, StoragePolicy},
};
use std::{fs, os::unix::fs::PermissionsExt};

const STORED: &str = "{ \"tokens\": { \"access\": \"st0red\" },\n  \"unknown\": [1] }";
const ACCOUNT: &str = "me@a.example";

fn file(path: &str, mode: u32, content: &str) -> DeliveredFile {
    DeliveredFile { path: path.into(), mode, content: Base64::new(content.as_bytes().to_vec()) }
}

fn claim_with_use(purpose: UsePurpose, script: &str) -> Claim {
    let mut tool = provider("touch signed-in-instead; cat");
    tool.credential.companions = vec![".demo/account".into()];
    tool.credential.status_argv = shell("echo asked >> status; exit 5");
    let argv = if purpose == UsePurpose::Check { Vec::new() } else { shell(script) };
    let files = vec![file(".demo/auth.json", 0o640, STORED), file(".demo/account", 0o600, ACCOUNT)];
    Claim { use_credential: Some(UseCredential { purpose, files, argv, attached: false }), ..claim(tool) }
}

fn claim_with_check(status: &str) -> Claim {
    let mut claim_request = claim_with_use(UsePurpose::Check, "");
    claim_request.provider.credential.status_argv = shell(status);
    claim_request.provider.credential.status_matches = Some("logged in".into());
    claim_request
}

fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

async fn send_claim(sender: &mut Sender, claim: &Claim) {
    let (status, body) = post(sender, "/claim", claim).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
}

async fn wait_use_end(fixture: &AgentFixture) -> (i32, bool) {
    fixture
        .wait_event("end of the use", |event| match event {
            AgentEvent::CredentialUse(CredentialUseEvent::Completed { code, changed }) => Some((*code, *changed)),
            _ => None,
        })
        .await
}

fn delivered_files(fixture: &AgentFixture) -> Vec<Vec<(String, String)>> {
    let controller = fixture.controller.lock().unwrap();
    let text = |file: &DeliveredFile| String::from_utf8(file.content.expose().to_vec()).unwrap();
    let files = |files: &[DeliveredFile]| files.iter().map(|file| (file.path.clone(), text(file))).collect();
    controller.deliveries.iter().map(|delivery| files(&delivery.files)).collect()
}

fn delivered_contents(fixture: &AgentFixture) -> Vec<String> {
    delivered_files(fixture).into_iter().map(|mut files| files.swap_remove(0).1).collect()
}

/// The number of events about credential candidates.
fn candidate_events(fixture: &AgentFixture) -> usize {
    let controller = fixture.controller.lock().unwrap();
    let is_candidate = |event: &AgentEvent| {
        matches!(
            event,
            AgentEvent::Capture(CaptureEvent::CandidateRejected { .. })
                | AgentEvent::Capture(CaptureEvent::CandidateAccepted { .. })
        )
    };
    controller.events.iter().filter(|event| is_candidate(&event.event)).count()
}

fn refreshed(access: &str) -> String {
    STORED.replace("st0red", access)
}

#[tokio::test]
async fn files_are_installed_before_the_command_which_runs_once() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    // The image contains a symbolic link at the path; it must not be followed.
    fs::create_dir(fixture.home(".demo")).unwrap();
    fs::write(fixture.path("outside"), "theirs").unwrap();
    std::os::unix::fs::symlink(fixture.path("outside"), fixture.home(".demo/auth.json")).unwrap();
    let mut claim_request = claim_with_use(
        UsePurpose::Exec,
        "cp .demo/auth.json copied; cp .demo/account copied-account; cp settings copied-settings; echo run >> runs; exit 4",
    );
    let settings = |path: &str, content: &str| SettingsFile { path: path.into(), content: content.into() };
    claim_request.provider.settings_files =
        vec![settings("settings", "s"), settings(".demo/account", "of the settings")];
    send_claim(&mut sender, &claim_request).await;
    assert_eq!(wait_use_end(&fixture).await, (4, false));
    for (name, content) in
        [("copied", STORED), ("copied-account", ACCOUNT), ("copied-settings", "s"), ("runs", "run\n")]
    {
        assert_eq!(fs::read_to_string(fixture.home(name)).unwrap(), content, "{name}");
    }
    let mode = |name: &str| fs::symlink_metadata(fixture.home(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(".demo/auth.json"), mode(".demo/account")), (0o640, 0o600));
    assert_eq!(fs::read_to_string(fixture.path("outside")).unwrap(), "theirs");
    assert!(!fixture.home("signed-in-instead").exists() && !fixture.home("status").exists());
    assert_eq!((candidate_events(&fixture), delivered_files(&fixture).len()), (0, 0), "nothing was delivered");
    assert_eq!(fixture.sign_in(&mut sender).await.cli, CliState::Exited { code: 4 });
    eventually("end message on the screen", async || {
        let text = fixture.terminal_text();
        assert!(!text.contains("Press Enter"), "{text}");
        text.contains("The command has ended with 4.").then_some(())
    })
    .await;
    // Enter does not restart the command.
    let enter = serde_json::json!({ "text": "", "press_enter": true });
    assert_eq!(post(&mut sender, "/input", &enter).await.0, 204);
    let events = format!("{:?}", fixture.controller.lock().unwrap().events);
    let log = fs::read_to_string(fixture.path("agent.log")).unwrap();
    assert!(!events.contains("st0red") && !log.contains("st0red"));
    assert_eq!(fs::read_to_string(fixture.home("runs")).unwrap(), "run\n");
}

#[tokio::test]
async fn refreshes_are_delivered_during_the_command_and_the_last_one_before_its_end_is_reported() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let script = "until test -e go1; do sleep 0.05; done; cp new1 .demo/auth.json; \
                  until test -e go2; do sleep 0.05; done; cp new2 .demo/tmp; mv .demo/tmp .demo/auth.json; \
                  until test -e go3; do sleep 0.05; done; cp new3 .demo/auth.json";
    let (one, two, three) = (refreshed("one"), refreshed("two"), refreshed("three"));
    for (name, content) in [("new1", &one), ("new2", &two), ("new3", &three)] {
        fs::write(fixture.home(name), content).unwrap();
    }
    send_claim(&mut sender, &claim_with_use(UsePurpose::Exec, script)).await;
    fixture.controller.lock().unwrap().delivery_responses.push_back((503, String::new()));
    fs::write(fixture.home("go1"), "").unwrap();
    // Sent again after the 503.
    eventually("first refresh", async || (delivered_contents(&fixture) == [one.clone(), one.clone()]).then_some(()))
        .await;
    fs::write(fixture.home("go2"), "").unwrap();
    eventually("second refresh", async || (delivered_contents(&fixture).last() == Some(&two)).then_some(())).await;
    assert_eq!(fixture.sign_in(&mut sender).await.cli, CliState::Running);
    fs::write(fixture.home("go3"), "").unwrap();
    assert_eq!(wait_use_end(&fixture).await, (0, true));
    assert_eq!(
        delivered_contents(&fixture),
        [one.clone(), one, two, three],
        "each change once, all before the end is reported"
    );
    for files in delivered_files(&fixture) {
        assert_eq!(
            files[1],
            (".demo/account".to_owned(), ACCOUNT.to_owned()),
            "the companion file is delivered unchanged"
        );
    }
    assert!(!fixture.home("status").exists(), "the status command does not run for a refresh");
}

#[tokio::test]
async fn end_of_use_is_reported_after_the_last_delivery_is_accepted() {
    let mut fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let new = refreshed("new");
    fs::write(fixture.home("new"), &new).unwrap();
    send_claim(
        &mut sender,
        &claim_with_use(UsePurpose::Exec, "until test -e go; do sleep 0.05; done; cp new .demo/auth.json; exit 2"),
    )
    .await;
    fixture.wait_event("started", |event| matches!(event, AgentEvent::Tool(ToolEvent::Started)).then_some(())).await;
    fixture.disconnect_controller();
    fs::write(fixture.home("go"), "").unwrap();
    eventually("delivering", async || {
        matches!(fixture.sign_in(&mut sender).await.capture, CaptureState::Delivering { .. }).then_some(())
    })
    .await;
    let ended = |event: &AgentEvent| matches!(event, AgentEvent::CredentialUse(CredentialUseEvent::Completed { .. }));
    assert!(!fixture.controller.lock().unwrap().events.iter().any(|event| ended(&event.event)));
    fixture.controller.lock().unwrap().delivery_responses.push_back((503, String::new()));
    fixture.connect_controller().await;
    assert_eq!(wait_use_end(&fixture).await, (2, true));
    assert_eq!(delivered_contents(&fixture).last(), Some(&new));
    assert_eq!(fixture.sign_in(&mut sender).await.capture, CaptureState::Delivered);
}

#[tokio::test]
async fn partial_or_deleted_credential_ends_the_use_without_a_delivery() {
    for (script, code) in
        [("printf '{\"tokens\":' > .demo/auth.json; exit 1", 1), ("rm .demo/auth.json .demo/account", 0)]
    {
        let fixture = AgentFixture::start().await;
        let mut sender = fixture.connect().await;
        send_claim(&mut sender, &claim_with_use(UsePurpose::Exec, script)).await;
        assert_eq!(wait_use_end(&fixture).await, (code, false), "{script}");
        assert!(delivered_files(&fixture).is_empty());
    }
}

#[tokio::test]
async fn rejected_refresh_still_ends_the_use() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let rejection = serde_json::to_string(&Problem::InvalidCredentialFormat.with_detail("")).unwrap();
    fixture.controller.lock().unwrap().delivery_responses.push_back((422, rejection));
    fs::write(fixture.home("new"), refreshed("new")).unwrap();
    send_claim(&mut sender, &claim_with_use(UsePurpose::Exec, "cp new .demo/auth.json")).await;
    assert_eq!(wait_use_end(&fixture).await, (0, true));
    assert_eq!(
        fixture.sign_in(&mut sender).await.capture,
        CaptureState::DeliveryRejected { code: "invalid_credential_format".into() }
    );
    assert_eq!(delivered_files(&fixture).len(), 1);
}

#[tokio::test]
async fn missing_command_ends_the_use_with_127() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let mut claim_request = claim_with_use(UsePurpose::Exec, "");
    claim_request.use_credential.as_mut().unwrap().argv = vec!["no-such-tool".into()];
    send_claim(&mut sender, &claim_request).await;
    assert_eq!(wait_use_end(&fixture).await, (127, false));
}

#[tokio::test]
async fn lost_terminal_ends_the_use_without_rerunning_the_command() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    send_claim(&mut sender, &claim_with_use(UsePurpose::Exec, "echo run >> runs; exec tail -f /dev/null")).await;
    eventually("command started", async || fixture.home("runs").exists().then_some(())).await;
    fixture.wait_event("started", |event| matches!(event, AgentEvent::Tool(ToolEvent::Started)).then_some(())).await;
    let pane = fixture.descendants().into_iter().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.split('\0').nth(1) == Some("pane"))
    });
    let pid = rustix::process::Pid::from_raw(i32::try_from(pane.unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(wait_use_end(&fixture).await, (129, false));
    eventually("next pane", async || fixture.terminal_text().contains("The command has ended.").then_some(())).await;
    assert_eq!(fs::read_to_string(fixture.home("runs")).unwrap(), "run\n");
}

#[tokio::test]
async fn check_reports_the_status_output_and_delivers_a_refresh() {
    let cases = [
        ("echo logged in as me; cp new .demo/auth.json", (true, "logged in as me"), (0, true)),
        ("echo logged in; exit 6", (false, "ended with 6: logged in"), (6, false)),
        (
            "echo token sk-ant-0123456789abcdefghij revoked",
            (false, "does not report that it is signed in: token ••• revoked"),
            (0, false),
        ),
        (
            "test -t 0 && echo logged in; cat .demo/auth.json > seen",
            (false, "does not report that it is signed in"),
            (0, false),
        ),
    ];
    for (status, (agrees, detail), ended) in cases {
        let fixture = AgentFixture::start().await;
        let mut sender = fixture.connect().await;
        fs::write(fixture.home("new"), refreshed("new")).unwrap();
        send_claim(&mut sender, &claim_with_check(status)).await;
        let checked = fixture.wait_event("checked", |event| match event {
            AgentEvent::CredentialUse(CredentialUseEvent::Checked { signed_in, detail, conclusive: true }) => {
                Some((*signed_in, detail.clone()))
            }
            _ => None,
        });
        let (reported, why) = checked.await;
        assert!(reported == agrees && why.ends_with(detail), "{status}: {reported} {why}");
        assert_eq!(wait_use_end(&fixture).await, ended, "{status}");
        assert_eq!(delivered_contents(&fixture).len(), usize::from(ended.1));
        assert!(!fixture.home("signed-in-instead").exists());
        let events = format!("{:?}", fixture.controller.lock().unwrap().events);
        assert!(!events.contains("CliStarted"), "no tool runs in the terminal");
    }
}

#[tokio::test]
async fn hanging_status_command_is_killed_at_its_limit_without_a_result() {
    let cases = [
        ("exec tail -f /dev/null", "did not end within 300 ms", 137),
        ("kill -9 $$", "ended with 137", 137),
        ("exec no-such-program", "ended with 127", 127),
    ];
    for (status, expected, code) in cases {
        let fixture = AgentFixture::start().await;
        let mut sender = fixture.connect().await;
        let mut claim_request = claim_with_check(status);
        claim_request.capture_limits.status_ms_max = if status.contains("tail") { 300 } else { 20_000 };
        send_claim(&mut sender, &claim_request).await;
        let why = fixture.wait_event("checked", |event| match event {
            AgentEvent::CredentialUse(CredentialUseEvent::Checked { signed_in: false, conclusive: false, detail }) => {
                Some(detail.clone())
            }
            _ => None,
        });
        let why = why.await;
        assert!(why.contains(expected), "{status}: {why}");
        assert_eq!(wait_use_end(&fixture).await, (code, false), "{status}");
    }
}

#[tokio::test]
async fn logout_runs_with_the_credential_and_delivers_nothing() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fs::write(fixture.home("new"), refreshed("new")).unwrap();
    let script = "cp .demo/auth.json seen; cp new .demo/auth.json; sleep 0.5; rm .demo/auth.json; echo Signed out";
    send_claim(&mut sender, &claim_with_use(UsePurpose::Logout, script)).await;
    assert_eq!(wait_use_end(&fixture).await, (0, false));
    assert_eq!(fs::read_to_string(fixture.home("seen")).unwrap(), STORED);
    assert_eq!((candidate_events(&fixture), delivered_files(&fixture).len()), (0, 0));
}

#[tokio::test]
async fn invalid_credential_use_is_rejected_with_all_its_errors() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let mut claim_request = claim_with_use(UsePurpose::Check, "");
    claim_request.provider = Provider { storage_policy: StoragePolicy::KeepInMachine, ..claim_request.provider };
    claim_request.provider.credential.status_argv = Vec::new();
    let used = claim_request.use_credential.as_mut().unwrap();
    used.argv = shell("true");
    let large = "x".repeat(70_000);
    used.files =
        vec![file("elsewhere", 0o600, "x"), file(".demo/account", 0o600, &large), file(".demo/account", 0o600, "")];
    let (status, body) = post(&mut sender, "/claim", &claim_request).await;
    assert_eq!(status, 400);
    let detail = problem(&body).detail.unwrap();
    for cause in [
        "policy is not to store",
        "none of them is at one of the credential's paths",
        "files[0] \"elsewhere\": not one of",
        "files[1] \".demo/account\": larger than",
        "files[2] \".demo/account\": is there twice",
        "argv: a check has none",
        "has no status command",
    ] {
        assert!(detail.contains(cause), "{cause} is not in {detail}");
    }
    assert!(!fixture.home("elsewhere").exists());
}

#[tokio::test]
async fn method_change_is_rejected_during_a_credential_use() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let claim_request = claim_with_use(UsePurpose::Exec, "echo run >> runs; exec tail -f /dev/null");
    send_claim(&mut sender, &claim_request).await;
    eventually("command started", async || fixture.home("runs").exists().then_some(())).await;
    let (status, body) =
        post(&mut sender, "/method", &ChangeMethod { provider: claim_request.provider.clone(), restart: false }).await;
    assert_eq!((status.as_u16(), problem(&body).code.as_str()), (400, "malformed"));
    assert_eq!(fs::read_to_string(fixture.home("runs")).unwrap(), "run\n");
}
