//! A command with a stored credential, in a fresh machine: through the API, and from a terminal of the person's.

use crate::{
    Scene,
    command_line::{CLI_MS_MAX, anteroom, cli, signed_in, text, used},
};
use anteroom_testbed::{TestConfig, WAIT_MAX, ScriptedTool, TestServer};
use anteroom_wire::{
    agent::UsePurpose,
    api::{SessionList, Status, UseView},
    diagnosis::{Diagnosis, Verdict},
};
use reqwest::Method;
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use serde_json::json;
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

const CONTENT: &str = "{\"token\": \"first\"}";

/// A world with one stored credential.
async fn world() -> (Scene, TestServer, String) {
    let scene = Scene::new();
    let world = TestServer::start(TestConfig::with_tool(scene.tool(CONTENT))).await.unwrap();
    let id = signed_in(&scene, &world).await;
    (scene, world, id)
}

#[tokio::test]
async fn exec_installs_the_credential_and_returns_the_exit_code() {
    let (_scene, world, id) = world().await;
    let api = world.backend().unwrap();
    let argv = json!(["sh", "-c", "grep -q first .scripted/auth.json && exit 7"]);
    let session = used(&api, &id, json!({ "purpose": "exec", "argv": argv })).await;
    assert_eq!((session.lanes.len(), session.renews.as_ref()), (1, None));
    let view = api.wait_status(&session.id, Status::Completed).await.unwrap();
    let credential = id.parse().unwrap();
    assert_eq!(view.uses, Some(UseView { purpose: UsePurpose::Exec, credential, exit_code: Some(7) }));
    assert_eq!(view.reason.unwrap().code, "use_completed");
    assert_eq!(view.next_action, "The command with the stored credential ended with exit code 7.");
    let path = format!("/api/auth/session/{}/diagnosis", session.id);
    let found: Diagnosis = api.get(&path).await.unwrap().read().unwrap();
    assert_eq!(found.verdict, Verdict::Completed);
    assert!(found.sentence.contains("exit code 7"), "{}", found.sentence);
    let opened = api.wait_entry(&session.id, "credential_unsealed").await.unwrap();
    assert_eq!(opened.data["revision"], 1);
    assert_eq!(api.credentials().await.unwrap().credentials.len(), 1, "nothing new is stored");
    world.finish().await.unwrap();
}

#[tokio::test]
async fn running_exec_is_not_waiting_for_a_user() {
    let (scene, world, id) = world().await;
    let api = world.backend().unwrap();
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", scene.flag("enough").display());
    let session = used(&api, &id, json!({ "purpose": "exec", "argv": ["sh", "-c", wait] })).await;
    api.wait_entry(&session.id, "cli_started").await.unwrap();
    let view = api.session(&session.id).await.unwrap();
    assert_eq!((view.status, view.next_action.as_str()), (Status::VmStarted, "The command runs in the terminal."));
    let path = format!("/api/auth/session/{}/diagnosis", session.id);
    let found: Diagnosis = api.get(&path).await.unwrap().read().unwrap();
    assert_eq!(found.verdict, Verdict::CommandRunning, "{}", found.sentence);
    scene.raise("enough");
    api.wait_status(&session.id, Status::Completed).await.unwrap();
    world.finish().await.unwrap();
}

#[tokio::test]
async fn replacement_machine_receives_the_credential_and_reruns_the_command() {
    let (scene, world, id) = world().await;
    let api = world.backend().unwrap();
    let script = format!(
        "grep -q first .scripted/auth.json || exit 9; while [ ! -e {} ]; do sleep 0.05; done; exit 3",
        scene.flag("enough").display()
    );
    let session = used(&api, &id, json!({ "purpose": "exec", "argv": ["sh", "-c", script] })).await;
    api.wait_entry(&session.id, "cli_started").await.unwrap();
    let machine = world.machines().pop().unwrap();
    world.kill_machine(&machine).unwrap();
    api.wait_until(&session.id, "replaced", |view| view.generation == 2 && view.status == Status::VmStarted).await.unwrap();
    scene.raise("enough");
    let view = api.wait_status(&session.id, Status::Completed).await.unwrap();
    assert_eq!(view.uses.unwrap().exit_code, Some(3));
    let opened = api.timeline(&session.id).await.unwrap();
    assert_eq!(opened.iter().filter(|entry| entry.kind == "credential_unsealed").count(), 2);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn exec_requires_the_owner_and_a_valid_command() {
    let (scene, world, id) = world().await;
    let api = world.backend().unwrap();
    let path = format!("/api/credentials/{id}/use");
    let exec = json!({ "purpose": "exec", "argv": ["true"] });
    let refused = |api: anteroom_testbed::ApiClient, path: String, body: serde_json::Value| async move {
        let answer = api.post(&path, body).await.unwrap();
        (answer.status, answer.problem().unwrap().code)
    };
    for (who, api, expected) in [
        ("a stranger", world.other_backend().unwrap(), (403, "not_owner")),
        ("nobody", world.anonymous().unwrap(), (401, "unauthenticated")),
    ] {
        let (status, code) = refused(api, path.clone(), exec.clone()).await;
        assert_eq!((status, code.as_str()), expected, "{who}");
    }
    let long: Vec<String> = (0..300).map(|_| "x".to_owned()).collect();
    for (body, expected) in [
        (json!({ "purpose": "exec" }), (400, "malformed")),
        (json!({ "purpose": "exec", "argv": [""] }), (400, "malformed")),
        (json!({ "purpose": "exec", "argv": ["a\u{0}b"] }), (400, "malformed")),
        (json!({ "purpose": "exec", "argv": long }), (400, "malformed")),
        (json!({ "purpose": "check", "argv": ["true"] }), (400, "malformed")),
        (json!({ "purpose": "check" }), (409, "no_such_command")),
        (json!({ "purpose": "logout" }), (409, "no_such_command")),
        (json!({ "purpose": "dance" }), (400, "malformed")),
    ] {
        let (status, code) = refused(api.clone(), path.clone(), body.clone()).await;
        assert_eq!((status, code.as_str()), expected, "{body}");
    }
    let none = "/api/credentials/crd_00000000000000000000000000/use".to_owned();
    assert_eq!(refused(api.clone(), none, exec.clone()).await, (404, "unknown_credential".to_owned()));
    assert_eq!(api.call(Method::DELETE, &format!("/api/credentials/{id}"), None).await.unwrap().status, 204);
    assert_eq!(refused(api.clone(), path, exec).await, (404, "unknown_credential".to_owned()));
    let sessions: SessionList = api.get("/api/sessions").await.unwrap().read().unwrap();
    assert_eq!(sessions.sessions.len(), 1, "nothing was started");
    drop(scene);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn deliver_once_credential_cannot_be_used_by_exec() {
    let scene = Scene::new();
    let tool = scene.tool(CONTENT).with("policy", json!("deliver_once"));
    let world = TestServer::start(TestConfig::with_tool(tool)).await.unwrap();
    let id = signed_in(&scene, &world).await;
    let api = world.backend().unwrap();
    let path = format!("/api/credentials/{id}/use");
    let answer = api.post(&path, json!({ "purpose": "exec", "argv": ["true"] })).await.unwrap();
    assert_eq!((answer.status, answer.problem().unwrap().code.as_str()), (403, "forbidden_by_policy"));
    assert_eq!(api.lease(&id.parse().unwrap()).await.unwrap().files[0].content.expose(), CONTENT.as_bytes());
    world.finish().await.unwrap();
}

#[tokio::test]
async fn exec_without_a_terminal_prints_every_line_once_and_returns_the_exit_code() {
    let (_scene, world, id) = world().await;
    let script = "cat .scripted/auth.json; echo; for i in $(seq 1 120); do echo line $i of many; done; exit 7";
    let done = anteroom(&world, &["exec", "--credential", &id, "--", "sh", "-c", script]).await;
    assert_eq!(done.status.code(), Some(7), "{}", text(&done.stderr));
    let expected: String = (1..=120).map(|i| format!("line {i} of many\n")).collect();
    assert_eq!(text(&done.stdout), format!("{CONTENT}\n{expected}"), "{}", text(&done.stderr));
    // The world's own log level is not a person's.
    let said: Vec<_> = text(&done.stderr).lines().filter(|line| !line.starts_with('{')).map(str::to_owned).collect();
    assert_eq!(said, Vec::<String>::new(), "it has nothing to add");
    world.finish().await.unwrap();
}

#[tokio::test]
async fn exec_forwards_piped_input_and_streams_output() {
    let (_scene, world, id) = world().await;
    let script = "echo who; read name; echo hello $name; read more || echo no more";
    let mut command = cli(&world, &["exec", "--credential", &id, "--", "sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"ada\n").await.unwrap();
    drop(input);
    let done = timeout(Duration::from_millis(CLI_MS_MAX), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let out = text(&done.stdout);
    assert!(out.contains("who\n") && out.contains("hello ada\n") && out.contains("no more"), "{out}");
    world.finish().await.unwrap();
}

#[tokio::test]
async fn exec_forwards_end_of_input_within_a_line() {
    let (_scene, world, id) = world().await;
    let mut command =
        cli(&world, &["exec", "--credential", &id, "--", "sh", "-c", "cat > got; cat got; echo; wc -c < got"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"one\nand a half").await.unwrap();
    drop(input);
    let done = timeout(Duration::from_millis(CLI_MS_MAX), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("and a half\n14\n"), "{}", text(&done.stdout));
    world.finish().await.unwrap();
}

#[tokio::test]
async fn exec_forwards_terminal_resizes() {
    let (_scene, world, id) = world().await;
    let script = "while [ \"$(stty size)\" != '29 91' ]; do sleep 0.05; done; echo first; \
                  while [ \"$(stty size)\" != '37 113' ]; do sleep 0.05; done; echo second";
    let (mut person, far) = Person::sit_down(91, 29);
    let mut command = cli(&world, &["exec", "--credential", &id, "--", "sh", "-c", script]);
    let stream = || Stdio::from(far.try_clone().unwrap());
    command.stdin(stream()).stdout(stream()).stderr(stream());
    let mut child = command.spawn().unwrap();
    person.sees("first").await;
    tcsetwinsize(&person.keys, Winsize { ws_row: 37, ws_col: 113, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    // A terminal tells its foreground's processes; this one is nobody's controlling terminal.
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
    person.sees("second").await;
    let done = timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap();
    assert_eq!(done.code(), Some(0));
    world.finish().await.unwrap();
}

#[tokio::test]
async fn credential_changed_by_a_command_is_stored_under_the_same_id() {
    let (_scene, world, id) = world().await;
    let api = world.backend().unwrap();
    let script = "printf '{\"token\": \"second\"}' > .scripted/new && mv .scripted/new .scripted/auth.json";
    let done = anteroom(&world, &["exec", "--credential", &id, "--", "sh", "-c", script]).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains(&format!("sealed and stored ({id})")), "{}", text(&done.stderr));
    let lease = api.lease(&id.parse().unwrap()).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), b"{\"token\": \"second\"}");
    assert_eq!(api.credentials().await.unwrap().credentials.len(), 1);
    // The next machine gets what the last one left.
    let done = anteroom(&world, &["exec", "--credential", &id, "--", "cat", ScriptedTool::CREDENTIAL]).await;
    assert_eq!(text(&done.stdout), "{\"token\": \"second\"}\n", "{}", text(&done.stderr));
    world.finish().await.unwrap();
}

#[tokio::test]
async fn exec_exit_codes_distinguish_not_started_from_failed() {
    let (_scene, world, id) = world().await;
    let done = anteroom(&world, &["exec", "--credential", &id, "--", "no-such-program"]).await;
    assert_eq!(done.status.code(), Some(127), "as a shell says: {}", text(&done.stderr));
    assert!(text(&done.stdout).contains("no-such-program"), "{}{}", text(&done.stdout), text(&done.stderr));
    let none = "crd_00000000000000000000000000";
    let done = anteroom(&world, &["exec", "--credential", none, "--", "true"]).await;
    assert_eq!(done.status.code(), Some(125), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("no such credential"), "{}", text(&done.stderr));
    for wrong in
        [&["exec", "--credential", "mine", "--", "true"][..], &["exec", "--credential", &id], &["exec", "--", "true"]]
    {
        let done = anteroom(&world, wrong).await;
        assert_eq!(done.status.code(), Some(125), "{wrong:?}: {}", text(&done.stderr));
    }
    let done = anteroom(&world, &["exec", "--help"]).await;
    assert!(done.status.success() && text(&done.stdout).contains("--credential"), "{}", text(&done.stdout));
    world.finish().await.unwrap();
}

/// A terminal of the person's.
pub(crate) struct Person {
    keys: File,
    shown: mpsc::UnboundedReceiver<Vec<u8>>,
    pub(crate) seen: String,
}

impl Person {
    /// The near side, and the far side for a program's three streams.
    pub(crate) fn sit_down(cols: u16, rows: u16) -> (Self, OwnedFd) {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        tcsetwinsize(&near, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let far = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
        let (sender, shown) = mpsc::unbounded_channel();
        let mut screen = File::from(near.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count) = screen.read(&mut part) {
                if count == 0 || sender.send(part[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        (Self { keys: File::from(near), shown, seen: String::new() }, far)
    }

    /// Waits until this was shown.
    pub(crate) async fn sees(&mut self, what: &str) {
        let until = Instant::now() + WAIT_MAX;
        while !self.seen.contains(what) {
            let left = until.saturating_duration_since(Instant::now());
            let part =
                timeout(left, self.shown.recv()).await.unwrap_or_else(|_| panic!("no {what:?}: {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&part.expect("the terminal stays")));
        }
    }

    pub(crate) fn presses(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
    }
}

#[tokio::test]
async fn exec_restores_the_terminal_after_the_command() {
    let (_scene, world, id) = world().await;
    let script = "trap 'echo got it; exit 5' INT; echo size $(stty size); echo ready; while :; do sleep 0.1; done";
    let (mut person, far) = Person::sit_down(97, 31);
    let before = tcgetattr(&far).unwrap();
    let mut command = cli(&world, &["exec", "--credential", &id, "--", "sh", "-c", script]);
    let stream = || Stdio::from(far.try_clone().unwrap());
    command.stdin(stream()).stdout(stream()).stderr(stream());
    let mut child = command.spawn().unwrap();
    person.sees("ready").await;
    let during = tcgetattr(&far).unwrap();
    assert!(!during.local_modes.contains(LocalModes::ICANON) && !during.local_modes.contains(LocalModes::ISIG));
    person.seen.clear();
    person.presses(b"\x03");
    person.sees("got it").await;
    let done = timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap();
    assert_eq!(done.code(), Some(5));
    // The other screen was left, and what stood on it is here.
    person.sees("\u{1b}[?1049l").await;
    let (_, after) = person.seen.rsplit_once("\u{1b}[?1049l").unwrap();
    person.seen = after.to_owned();
    person.sees("got it").await;
    assert!(person.seen.contains("ready\r\n"), "{:?}", person.seen);
    let modes = tcgetattr(&far).unwrap();
    assert_eq!((modes.local_modes, modes.input_modes), (before.local_modes, before.input_modes));
    world.finish().await.unwrap();
}

#[tokio::test]
async fn terminated_exec_cancels_the_session_and_restores_the_terminal() {
    let (_scene, world, id) = world().await;
    let api = world.backend().unwrap();
    let (mut person, far) = Person::sit_down(80, 24);
    let before = tcgetattr(&far).unwrap();
    let script = "echo ready; while :; do sleep 0.1; done";
    let mut command = cli(&world, &["exec", "--credential", &id, "--", "sh", "-c", script]);
    let stream = || Stdio::from(far.try_clone().unwrap());
    command.stdin(stream()).stdout(stream()).stderr(stream());
    let mut child = command.spawn().unwrap();
    person.sees("ready").await;
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let done = timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap();
    assert_eq!(done.code(), Some(143));
    assert_eq!(tcgetattr(&far).unwrap().local_modes, before.local_modes);
    let until = Instant::now() + WAIT_MAX;
    loop {
        let list: SessionList = api.get("/api/sessions").await.unwrap().read().unwrap();
        if list.sessions.iter().any(|session| session.uses.is_some() && session.status == Status::Cancelled) {
            break;
        }
        assert!(Instant::now() < until, "{list:#?}");
        sleep(Duration::from_millis(20)).await;
    }
    world.finish().await.unwrap();
}
