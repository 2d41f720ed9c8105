//! A stored credential in use: laid down, used by one command, delivered again when the tool changed it.

use crate::fixture::*;
use anteroom_wire::{
    Base64, Problem,
    agent::{CaptureState, Claim, CliState, DeliveredFile, Event, SwitchMethod, Use, UsePurpose},
    provider::{Provider, SettingsFile, StoragePolicy},
};
use std::{fs, os::unix::fs::PermissionsExt};

const STORED: &str = "{ \"tokens\": { \"access\": \"st0red\" },\n  \"unknown\": [1] }";
const ACCOUNT: &str = "me@a.example";

fn file(path: &str, mode: u32, content: &str) -> DeliveredFile {
    DeliveredFile { path: path.into(), mode, content: Base64::new(content.as_bytes().to_vec()) }
}

fn using(purpose: UsePurpose, script: &str) -> Claim {
    let mut tool = provider("touch signed-in-instead; cat");
    tool.credential.beside = vec![".demo/account".into()];
    tool.credential.status_argv = sh("echo asked >> status; exit 5");
    let argv = if purpose == UsePurpose::Check { Vec::new() } else { sh(script) };
    let files = vec![file(".demo/auth.json", 0o640, STORED), file(".demo/account", 0o600, ACCOUNT)];
    Claim { use_credential: Some(Use { purpose, files, argv }), ..claim(tool) }
}

fn checking(status: &str) -> Claim {
    let mut asked = using(UsePurpose::Check, "");
    asked.provider.credential.status_argv = sh(status);
    asked.provider.credential.status_matches = Some("logged in".into());
    asked
}

fn sh(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

async fn claimed(sender: &mut Sender, claim: &Claim) {
    let (status, body) = post(sender, "/claim", claim).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
}

async fn over(world: &World) -> (i32, bool) {
    world
        .event("the use is over", |event| match event {
            Event::UseOver { code, changed } => Some((*code, *changed)),
            _ => None,
        })
        .await
}

fn deliveries(world: &World) -> Vec<Vec<(String, String)>> {
    let heard = world.heard.lock().unwrap();
    let text = |file: &DeliveredFile| String::from_utf8(file.content.expose().to_vec()).unwrap();
    let files = |files: &[DeliveredFile]| files.iter().map(|file| (file.path.clone(), text(file))).collect();
    heard.deliveries.iter().map(|delivery| files(&delivery.files)).collect()
}

fn contents(world: &World) -> Vec<String> {
    deliveries(world).into_iter().map(|mut files| files.swap_remove(0).1).collect()
}

/// The kinds of event that tell of candidates.
fn candidates(world: &World) -> usize {
    let heard = world.heard.lock().unwrap();
    let told = |event: &Event| matches!(event, Event::CandidateRejected { .. } | Event::CandidateAccepted { .. });
    heard.events.iter().filter(|event| told(&event.event)).count()
}

fn refreshed(access: &str) -> String {
    STORED.replace("st0red", access)
}

#[tokio::test]
async fn files_are_installed_before_the_command_which_runs_once() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    // The image left something there, and a link that must not be followed.
    fs::create_dir(world.home(".demo")).unwrap();
    fs::write(world.path("outside"), "theirs").unwrap();
    std::os::unix::fs::symlink(world.path("outside"), world.home(".demo/auth.json")).unwrap();
    let mut asked = using(
        UsePurpose::Exec,
        "cp .demo/auth.json copied; cp .demo/account copied-account; cp settings copied-settings; echo run >> runs; exit 4",
    );
    let settings = |path: &str, content: &str| SettingsFile { path: path.into(), content: content.into() };
    asked.provider.settings_files = vec![settings("settings", "s"), settings(".demo/account", "of the settings")];
    claimed(&mut sender, &asked).await;
    assert_eq!(over(&world).await, (4, false));
    for (name, content) in
        [("copied", STORED), ("copied-account", ACCOUNT), ("copied-settings", "s"), ("runs", "run\n")]
    {
        assert_eq!(fs::read_to_string(world.home(name)).unwrap(), content, "{name}");
    }
    let mode = |name: &str| fs::symlink_metadata(world.home(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(".demo/auth.json"), mode(".demo/account")), (0o640, 0o600));
    assert_eq!(fs::read_to_string(world.path("outside")).unwrap(), "theirs");
    assert!(!world.home("signed-in-instead").exists() && !world.home("status").exists());
    assert_eq!((candidates(&world), deliveries(&world).len()), (0, 0), "nothing has changed");
    assert_eq!(world.sign_in(&mut sender).await.cli, CliState::Exited { code: 4 });
    until("the end on the screen", async || {
        let text = world.seen_at_the_terminal();
        assert!(!text.contains("Press Enter"), "{text}");
        text.contains("The command has ended with 4.").then_some(())
    })
    .await;
    // Enter starts nothing.
    let enter = serde_json::json!({ "text": "", "enter": true });
    assert_eq!(post(&mut sender, "/input", &enter).await.0, 204);
    let heard = format!("{:?}", world.heard.lock().unwrap().events);
    let log = fs::read_to_string(world.path("agent.log")).unwrap();
    assert!(!heard.contains("st0red") && !log.contains("st0red"));
    assert_eq!(fs::read_to_string(world.home("runs")).unwrap(), "run\n");
}

#[tokio::test]
async fn refreshes_are_delivered_during_the_command_and_the_last_one_before_its_end_is_reported() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let script = "until test -e go1; do sleep 0.05; done; cp new1 .demo/auth.json; \
                  until test -e go2; do sleep 0.05; done; cp new2 .demo/tmp; mv .demo/tmp .demo/auth.json; \
                  until test -e go3; do sleep 0.05; done; cp new3 .demo/auth.json";
    let (one, two, three) = (refreshed("one"), refreshed("two"), refreshed("three"));
    for (name, content) in [("new1", &one), ("new2", &two), ("new3", &three)] {
        fs::write(world.home(name), content).unwrap();
    }
    claimed(&mut sender, &using(UsePurpose::Exec, script)).await;
    world.heard.lock().unwrap().answers.push_back((503, String::new()));
    fs::write(world.home("go1"), "").unwrap();
    // Once more after the 503.
    until("the first", async || (contents(&world) == [one.clone(), one.clone()]).then_some(())).await;
    fs::write(world.home("go2"), "").unwrap();
    until("the second", async || (contents(&world).last() == Some(&two)).then_some(())).await;
    assert_eq!(world.sign_in(&mut sender).await.cli, CliState::Running);
    fs::write(world.home("go3"), "").unwrap();
    assert_eq!(over(&world).await, (0, true));
    assert_eq!(contents(&world), [one.clone(), one, two, three], "each change once, all before the end is told");
    for files in deliveries(&world) {
        assert_eq!(
            files[1],
            (".demo/account".to_owned(), ACCOUNT.to_owned()),
            "what belongs to it goes along unchanged"
        );
    }
    assert!(!world.home("status").exists(), "no status command is asked about a refresh");
}

#[tokio::test]
async fn end_of_use_is_reported_after_the_last_delivery_is_accepted() {
    let mut world = World::start().await;
    let mut sender = world.connect().await;
    let new = refreshed("new");
    fs::write(world.home("new"), &new).unwrap();
    claimed(
        &mut sender,
        &using(UsePurpose::Exec, "until test -e go; do sleep 0.05; done; cp new .demo/auth.json; exit 2"),
    )
    .await;
    world.event("started", |event| matches!(event, Event::CliStarted).then_some(())).await;
    world.disconnect_host();
    fs::write(world.home("go"), "").unwrap();
    until("on its way", async || {
        matches!(world.sign_in(&mut sender).await.capture, CaptureState::Delivering { .. }).then_some(())
    })
    .await;
    let ended = |event: &Event| matches!(event, Event::UseOver { .. });
    assert!(!world.heard.lock().unwrap().events.iter().any(|event| ended(&event.event)));
    world.heard.lock().unwrap().answers.push_back((503, String::new()));
    world.connect_host().await;
    assert_eq!(over(&world).await, (2, true));
    assert_eq!(contents(&world).last(), Some(&new));
    assert_eq!(world.sign_in(&mut sender).await.capture, CaptureState::Delivered);
}

#[tokio::test]
async fn partial_or_deleted_credential_ends_the_use_without_a_delivery() {
    for (script, code) in
        [("printf '{\"tokens\":' > .demo/auth.json; exit 1", 1), ("rm .demo/auth.json .demo/account", 0)]
    {
        let world = World::start().await;
        let mut sender = world.connect().await;
        claimed(&mut sender, &using(UsePurpose::Exec, script)).await;
        assert_eq!(over(&world).await, (code, false), "{script}");
        assert!(deliveries(&world).is_empty());
    }
}

#[tokio::test]
async fn rejected_refresh_still_ends_the_use() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let refusal = serde_json::to_string(&Problem::InvalidCredentialFormat.with("")).unwrap();
    world.heard.lock().unwrap().answers.push_back((422, refusal));
    fs::write(world.home("new"), refreshed("new")).unwrap();
    claimed(&mut sender, &using(UsePurpose::Exec, "cp new .demo/auth.json")).await;
    assert_eq!(over(&world).await, (0, true));
    assert_eq!(world.sign_in(&mut sender).await.capture, CaptureState::Refused { code: "invalid_credential_format".into() });
    assert_eq!(deliveries(&world).len(), 1);
}

#[tokio::test]
async fn missing_command_ends_the_use_with_127() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let mut asked = using(UsePurpose::Exec, "");
    asked.use_credential.as_mut().unwrap().argv = vec!["no-such-tool".into()];
    claimed(&mut sender, &asked).await;
    assert_eq!(over(&world).await, (127, false));
}

#[tokio::test]
async fn lost_terminal_ends_the_use_without_rerunning_the_command() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    claimed(&mut sender, &using(UsePurpose::Exec, "echo run >> runs; exec tail -f /dev/null")).await;
    until("the command", async || world.home("runs").exists().then_some(())).await;
    world.event("started", |event| matches!(event, Event::CliStarted).then_some(())).await;
    let pane = world.descendants().into_iter().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.split('\0').nth(1) == Some("pane"))
    });
    let pid = rustix::process::Pid::from_raw(i32::try_from(pane.unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(over(&world).await, (129, false));
    until("the next pane", async || world.seen_at_the_terminal().contains("The command has ended.").then_some(()))
        .await;
    assert_eq!(fs::read_to_string(world.home("runs")).unwrap(), "run\n");
}

#[tokio::test]
async fn check_reports_the_status_output_and_delivers_a_refresh() {
    let cases = [
        ("echo logged in as me; cp new .demo/auth.json", (true, "logged in as me"), (0, true)),
        ("echo logged in; exit 6", (false, "ended with 6: logged in"), (6, false)),
        (
            "echo token sk-ant-0123456789abcdefghij revoked",
            (false, "does not say that it is signed in: token ••• revoked"),
            (0, false),
        ),
        (
            "test -t 0 && echo logged in; cat .demo/auth.json > seen",
            (false, "does not say that it is signed in"),
            (0, false),
        ),
    ];
    for (status, (agrees, detail), ended) in cases {
        let world = World::start().await;
        let mut sender = world.connect().await;
        fs::write(world.home("new"), refreshed("new")).unwrap();
        claimed(&mut sender, &checking(status)).await;
        let checked = world.event("checked", |event| match event {
            Event::Checked { agrees, detail, answered: true } => Some((*agrees, detail.clone())),
            _ => None,
        });
        let (says, why) = checked.await;
        assert!(says == agrees && why.ends_with(detail), "{status}: {says} {why}");
        assert_eq!(over(&world).await, ended, "{status}");
        assert_eq!(contents(&world).len(), usize::from(ended.1));
        assert!(!world.home("signed-in-instead").exists());
        let heard = format!("{:?}", world.heard.lock().unwrap().events);
        assert!(!heard.contains("CliStarted"), "nothing runs in the terminal");
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
        let world = World::start().await;
        let mut sender = world.connect().await;
        let mut asked = checking(status);
        asked.capture.status_ms_max = if status.contains("tail") { 300 } else { 20_000 };
        claimed(&mut sender, &asked).await;
        let why = world.event("checked", |event| match event {
            Event::Checked { agrees: false, answered: false, detail } => Some(detail.clone()),
            _ => None,
        });
        let why = why.await;
        assert!(why.contains(expected), "{status}: {why}");
        assert_eq!(over(&world).await, (code, false), "{status}");
    }
}

#[tokio::test]
async fn logout_runs_with_the_credential_and_delivers_nothing() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    fs::write(world.home("new"), refreshed("new")).unwrap();
    let script = "cp .demo/auth.json seen; cp new .demo/auth.json; sleep 0.5; rm .demo/auth.json; echo Signed out";
    claimed(&mut sender, &using(UsePurpose::Logout, script)).await;
    assert_eq!(over(&world).await, (0, false));
    assert_eq!(fs::read_to_string(world.home("seen")).unwrap(), STORED);
    assert_eq!((candidates(&world), deliveries(&world).len()), (0, 0));
}

#[tokio::test]
async fn invalid_use_is_rejected_with_all_its_errors() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let mut asked = using(UsePurpose::Check, "");
    asked.provider = Provider { policy: StoragePolicy::KeepInMachine, ..asked.provider };
    asked.provider.credential.status_argv = Vec::new();
    let used = asked.use_credential.as_mut().unwrap();
    used.argv = sh("true");
    let large = "x".repeat(70_000);
    used.files =
        vec![file("elsewhere", 0o600, "x"), file(".demo/account", 0o600, &large), file(".demo/account", 0o600, "")];
    let (status, body) = post(&mut sender, "/claim", &asked).await;
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
    assert!(!world.home("elsewhere").exists());
}

#[tokio::test]
async fn method_change_is_rejected_during_a_credential_use() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let asked = using(UsePurpose::Exec, "echo run >> runs; exec tail -f /dev/null");
    claimed(&mut sender, &asked).await;
    until("the command", async || world.home("runs").exists().then_some(())).await;
    let (status, body) = post(&mut sender, "/method", &SwitchMethod { provider: asked.provider.clone() }).await;
    assert_eq!((status.as_u16(), problem(&body).code.as_str()), (400, "malformed"));
    assert_eq!(fs::read_to_string(world.home("runs")).unwrap(), "run\n");
}
