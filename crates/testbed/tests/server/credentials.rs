//! Stored credentials: asked about, signed out, renewed, deleted, leased; by a person's command and by the server itself.

use crate::{
    Scene,
    command_line::{CLI_MS_MAX, anteroom, cli, signed_in, text, used},
};
use anteroom_testbed::{TestConfig, WAIT_MAX, Script, Step, ScriptedTool, TestServer};
use anteroom_wire::{
    api::{CredentialHealth, CredentialList, CredentialMeta, SessionList, SessionView, StartRequest, Started, Status},
    diagnosis::{Diagnosis, Verdict},
};
use serde_json::json;
use std::{os::unix::fs::PermissionsExt, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::{Instant, sleep, timeout},
};

const CONTENT: &str = "{\"token\": \"first\"}";

/// A tool that says that it is signed in as long as its file is there and the flag `revoked` is not raised, and that signs out unless the
/// flag `stuck` is raised.
fn tool(scene: &Scene) -> ScriptedTool {
    let flag = |name: &str| scene.flag(name).display().to_string();
    let status = format!(
        "test -e {} && exec tail -f /dev/null; test -e {} && kill -9 $$; test -e {} && echo Logged out && exit 1; \
         test -e .scripted/auth.json && echo Logged in",
        flag("hangs"),
        flag("killed"),
        flag("revoked")
    );
    let logout =
        format!("test -e {} && echo The provider does not answer && exit 4; touch {}", flag("stuck"), flag("revoked"));
    let rules = json!({
        "paths": [ScriptedTool::CREDENTIAL], "required": ["/token"], "status_argv": ["sh", "-c", status], "status_matches": "Logged in",
    });
    scene.tool(CONTENT).with("credential", rules).with("logout_argv", json!(["sh", "-c", logout]))
}

async fn world(settings: &str) -> (Scene, TestServer, String) {
    let scene = Scene::new();
    let world = TestServer::start(TestConfig::with_tool(tool(&scene)).with_settings(settings)).await.unwrap();
    let id = signed_in(&scene, &world).await;
    (scene, world, id)
}

async fn meta(world: &TestServer, id: &str) -> CredentialMeta {
    world.backend().unwrap().get(&format!("/api/credentials/{id}")).await.unwrap().read().unwrap()
}

/// Code, what is said on standard output, what on standard error.
async fn run(world: &TestServer, arguments: &[&str]) -> (Option<i32>, String, String) {
    let done = anteroom(world, arguments).await;
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

#[tokio::test]
async fn credential_check_runs_the_status_command_and_sets_the_health() {
    let (scene, world, id) = world("").await;
    let before = meta(&world, &id).await;
    let (code, said, _) = run(&world, &["credentials", "check", &id]).await;
    assert_eq!((code, said.starts_with("valid: The tool agreed")), (Some(0), true), "{said}");
    let checked = meta(&world, &id).await;
    assert_eq!((checked.health, checked.stored_at == before.stored_at), (CredentialHealth::Valid, true));
    assert!(checked.checked_at > before.checked_at, "{checked:?}");
    scene.raise("revoked");
    let (code, said, _) = run(&world, &["credentials", "check", &id, "--json"]).await;
    let found: CredentialMeta = serde_json::from_str(&said).unwrap();
    assert_eq!((code, found.health), (Some(1), CredentialHealth::NeedsAuth), "{said}");
    assert!(found.health_detail.contains("did not agree"), "{}", found.health_detail);
    // What a check changed stays so.
    assert_eq!(meta(&world, &id).await.health, CredentialHealth::NeedsAuth);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn credential_check_is_a_session_without_a_terminal_tool() {
    let (_scene, world, id) = world("").await;
    let api = world.backend().unwrap();
    let session = used(&api, &id, json!({ "purpose": "check" })).await;
    let entry = api.wait_entry(&session.id, "credential_checked").await.unwrap();
    assert_eq!(entry.data["agrees"], true);
    let view = api.wait_status(&session.id, Status::Completed).await.unwrap();
    assert_eq!(view.uses.unwrap().exit_code, Some(0));
    assert!(api.timeline(&session.id).await.unwrap().iter().all(|entry| entry.kind != "cli_started"));
    let path = format!("/api/auth/session/{}/diagnosis", session.id);
    let found: Diagnosis = api.get(&path).await.unwrap().read().unwrap();
    assert_eq!(found.verdict, Verdict::Completed, "{}", found.sentence);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn check_that_did_not_run_leaves_the_health_unchanged() {
    let (_scene, world, id) = world("").await;
    let none = "crd_00000000000000000000000000";
    let (code, _, said) = run(&world, &["credentials", "check", none]).await;
    assert_eq!((code, said.contains("could not be asked")), (Some(2), true), "{said}");
    // Somebody ends the session before the tool was asked.
    let api = world.backend().unwrap();
    let session = used(&api, &id, json!({ "purpose": "check" })).await;
    api.cancel(&session.id).await.unwrap();
    assert_eq!(meta(&world, &id).await.health, CredentialHealth::Valid);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn status_command_failure_leaves_the_health_unchanged() {
    let (scene, world, id) = world("[sessions]\nstatus_command_ms_max = 2000\n").await;
    for (flag, expected) in [("hangs", "did not end within 2000 ms"), ("killed", "ended with 137")] {
        scene.raise(flag);
        let before = meta(&world, &id).await;
        let (code, _, said) = run(&world, &["credentials", "check", &id]).await;
        assert_eq!((code, said.contains("could not be asked") && said.contains(expected)), (Some(2), true), "{said}");
        let after = meta(&world, &id).await;
        assert_eq!((after.health, after.checked_at), (CredentialHealth::Valid, before.checked_at), "{flag}");
        std::fs::remove_file(scene.flag(flag)).unwrap();
    }
    world.finish().await.unwrap();
}

#[tokio::test]
async fn embedded_expiry_sets_the_health_and_is_logged_once() {
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for (ends_s, expected) in [
        (now_s + 24 * 3_600, CredentialHealth::Valid),
        (now_s + 3_600, CredentialHealth::Expiring),
        (now_s - 60, CredentialHealth::NeedsAuth),
    ] {
        let scene = Scene::new();
        let rules = json!({
            "paths": [ScriptedTool::CREDENTIAL], "required": ["/token"], "ends_at": { "pointer": "/ends", "unit": "unix_s" },
        });
        let content = format!("{{\"token\": \"first\", \"ends\": {ends_s}}}");
        let plan = TestConfig::with_tool(scene.tool(&content).with("credential", rules));
        let world = TestServer::start(plan.with_settings("[credentials]\nexpiring_s = 7200\n")).await.unwrap();
        let id = signed_in(&scene, &world).await;
        let found = meta(&world, &id).await;
        assert_eq!((found.health, found.ends_at.is_some()), (expected, true), "{found:?}");
        let (code, said, _) = run(&world, &["credentials", "show", &id]).await;
        assert_eq!((code, said.contains(&format!("{}: ", expected.as_str()))), (Some(0), true), "{said}");
        for _ in 0..2 {
            assert_eq!(run(&world, &["sweep"]).await.0, Some(0));
        }
        let told = world.log().matches("\"credential_ends\"").count();
        assert_eq!(told, usize::from(expected != CredentialHealth::Valid), "{}", world.log());
        world.finish().await.unwrap();
    }
}

#[tokio::test]
async fn logout_runs_at_the_provider_and_marks_the_credential_needs_auth() {
    let (scene, world, id) = world("").await;
    let (code, said, _) = run(&world, &["credentials", "logout", &id]).await;
    assert_eq!((code, said.contains("Signed out at the provider")), (Some(0), true), "{said}");
    assert!(scene.flag("revoked").exists(), "the provider was told");
    let found = meta(&world, &id).await;
    assert_eq!(found.health, CredentialHealth::NeedsAuth);
    assert!(found.health_detail.contains("signed out"), "{}", found.health_detail);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn failed_logout_keeps_the_credential_unless_forced() {
    let (scene, world, id) = world("").await;
    scene.raise("stuck");
    let (code, _, said) = run(&world, &["credentials", "delete", &id, "--logout"]).await;
    assert_eq!((code, said.contains("ended with 4") && said.contains("was kept")), (Some(1), true), "{said}");
    assert_eq!(meta(&world, &id).await.health, CredentialHealth::Valid);
    let (code, said, _) = run(&world, &["credentials", "delete", &id, "--logout", "--force"]).await;
    assert_eq!((code, said.contains("Not signed out") && said.contains("was deleted")), (Some(0), true), "{said}");
    let list: CredentialList = world.backend().unwrap().credentials().await.unwrap();
    assert_eq!(list.credentials, []);
    assert!(!scene.flag("revoked").exists());
    world.finish().await.unwrap();
}

#[tokio::test]
async fn delete_with_logout_signs_out_before_deleting() {
    let (scene, world, id) = world("").await;
    let (code, said, wrong) = run(&world, &["credentials", "delete", &id, "--logout"]).await;
    assert_eq!((code, said.contains("was deleted")), (Some(0), true), "{said}{wrong}");
    assert!(scene.flag("revoked").exists());
    let (code, _, said) = run(&world, &["credentials", "show", &id]).await;
    assert_eq!((code, said.contains("no such credential")), (Some(1), true), "{said}");
    world.finish().await.unwrap();
}

#[tokio::test]
async fn credentials_are_listed_shown_and_leased_as_text_and_as_json() {
    let (_scene, world, id) = world("").await;
    let (code, said, _) = run(&world, &["credentials", "list"]).await;
    assert_eq!((code, said.contains(&id) && said.contains("valid")), (Some(0), true), "{said}");
    let (_, said, _) = run(&world, &["credentials", "list", "--json"]).await;
    assert_eq!(serde_json::from_str::<CredentialList>(&said).unwrap().credentials[0].id.as_str(), id);
    let (_, said, _) = run(&world, &["credentials", "show", &id]).await;
    assert!(said.contains(ScriptedTool::CREDENTIAL) && said.contains("sealed and stored") && !said.contains("first"), "{said}");
    let (file, dir) = (world.path().join("auth.json"), world.path().join("home"));
    std::fs::create_dir(&dir).unwrap();
    for (out, written) in [(&file, file.clone()), (&dir, dir.join(ScriptedTool::CREDENTIAL))] {
        let (code, _, wrong) = run(&world, &["credentials", "lease", &id, "--out", out.to_str().unwrap()]).await;
        assert_eq!(code, Some(0), "{wrong}");
        assert_eq!(std::fs::read_to_string(&written).unwrap(), CONTENT);
        std::fs::remove_file(written).unwrap();
    }
    world.finish().await.unwrap();
}

#[tokio::test]
async fn deliver_once_credential_is_not_leased_when_the_output_file_is_not_writable() {
    let scene = Scene::new();
    let tool = tool(&scene).with("policy", json!("deliver_once"));
    let world = TestServer::start(TestConfig::with_tool(tool)).await.unwrap();
    let id = signed_in(&scene, &world).await;
    let (file, dir) = (world.path().join("auth.json"), world.path().join("home"));
    std::fs::write(&file, "mine").unwrap();
    std::fs::create_dir_all(dir.join(ScriptedTool::CREDENTIAL)).unwrap();
    let none = world.path().join("none/auth.json");
    for (out, why) in
        [(&file, "exists; --overwrite"), (&dir, "exists; --overwrite"), (&none, "there is no such directory")]
    {
        let (code, _, said) = run(&world, &["credentials", "lease", &id, "--out", out.to_str().unwrap()]).await;
        assert_eq!((code, said.contains(why) && said.contains(&id)), (Some(1), true), "{said}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    let (code, _, wrong) =
        run(&world, &["credentials", "lease", &id, "--overwrite", "--out", file.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "it was still there: {wrong}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), CONTENT);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let (code, _, said) =
        run(&world, &["credentials", "lease", &id, "--overwrite", "--out", file.to_str().unwrap()]).await;
    assert_eq!((code, said.contains("handed out")), (Some(1), true), "{said}");
    world.finish().await.unwrap();
}

#[tokio::test]
async fn login_starts_no_session_when_the_output_file_is_not_writable() {
    let scene = Scene::new();
    let tool = tool(&scene).with("policy", json!("keep_in_machine"));
    let world = TestServer::start(TestConfig::with_tool(tool)).await.unwrap();
    let (file, free) = (world.path().join("auth.json"), world.path().join("free.json"));
    std::fs::write(&file, "mine").unwrap();
    for (out, why) in [(&file, "exists; --overwrite"), (&free, "stays in this machine")] {
        let out = out.to_str().unwrap();
        let (code, _, said) = run(&world, &["login", "scripted", "--no-open", "--out", out]).await;
        assert_eq!((code, said.contains(why)), (Some(1), true), "{said}");
    }
    let list: SessionList = world.operator().unwrap().get("/api/sessions").await.unwrap().read().unwrap();
    assert_eq!(list.sessions, []);
    drop(scene);
    world.finish().await.unwrap();
}

/// The session that the command line has started.
async fn renewing(world: &TestServer) -> SessionView {
    let until = Instant::now() + WAIT_MAX;
    loop {
        let list: SessionList = world.operator().unwrap().get("/api/sessions").await.unwrap().read().unwrap();
        if let Some(session) = list.sessions.into_iter().find(|session| session.renews.is_some()) {
            return session;
        }
        assert!(Instant::now() < until, "nothing was started");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn renewal_keeps_the_credential_id_and_restores_the_health() {
    let (scene, world, id) = world("").await;
    let api = world.backend().unwrap();
    scene.raise("revoked");
    let (code, ..) = run(&world, &["credentials", "check", &id]).await;
    assert_eq!(code, Some(1));
    std::fs::remove_file(scene.flag("revoked")).unwrap();
    let mut command = cli(&world, &["credentials", "renew", &id, "--no-open"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = String::new();
    let told = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            said.push_str(&line);
            said.push('\n');
        }
    };
    timeout(Duration::from_millis(CLI_MS_MAX), told).await.unwrap();
    assert!(child.wait().await.unwrap().success(), "{said}");
    assert!(said.contains("/dashboard/remote-cli/auth?session=") && said.contains(&format!("still {id}")), "{said}");
    let session = renewing(&world).await;
    assert_eq!(session.renews.as_ref().map(ToString::to_string), Some(id.clone()));
    assert_eq!(api.session(&session.id).await.unwrap().status, Status::Completed, "it is the credential's owner's");
    let renewed = meta(&world, &id).await;
    assert_eq!((renewed.health, renewed.session), (CredentialHealth::Valid, session.id));
    assert_eq!(api.credentials().await.unwrap().credentials.len(), 1);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn renewal_requires_the_owner_and_the_same_provider() {
    let (scene, world, id) = world("").await;
    let api = world.backend().unwrap();
    let request = |provider: &str, renews: &str| StartRequest {
        provider: provider.into(),
        user_id: None,
        return_url: None,
        idempotency_key: None,
        machine: None,
        method: None,
        renews: Some(renews.into()),
    };
    for (api, provider, renews, expected) in [
        (world.other_backend().unwrap(), "scripted", id.as_str(), (403, "not_owner")),
        (api.clone(), "scripted", "crd_00000000000000000000000000", (404, "unknown_credential")),
        (api.clone(), "scripted", "all", (400, "malformed")),
    ] {
        let body = serde_json::to_value(request(provider, renews)).unwrap();
        let answer = api.post("/api/auth/start", body).await.unwrap();
        assert_eq!((answer.status, answer.problem().unwrap().code.as_str()), expected, "{renews}");
    }
    // An operator may, and the session is the owner's.
    let body = serde_json::to_value(request("scripted", &id)).unwrap();
    let started: Started = world.operator().unwrap().post("/api/auth/start", body).await.unwrap().read().unwrap();
    assert_eq!(api.session(&started.session.id).await.unwrap().renews.unwrap().as_str(), id);
    drop(scene);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn due_credentials_are_checked_in_the_background() {
    let settings = "[credentials]\ncheck_every_s = 2\n[machines]\nmachines_max = 2\n";
    let (scene, world, id) = world(settings).await;
    let (api, operator) = (world.backend().unwrap(), world.operator().unwrap());
    scene.raise("revoked");
    let until = Instant::now() + WAIT_MAX;
    while meta(&world, &id).await.health != CredentialHealth::NeedsAuth {
        assert!(Instant::now() < until, "nobody checked it");
        sleep(Duration::from_millis(50)).await;
    }
    let list: SessionList = api.get("/api/sessions").await.unwrap().read().unwrap();
    let check = list.sessions.iter().find(|session| session.uses.is_some()).expect("it is the owner's to see");
    let accepted = api.wait_entry(&check.id, "accepted").await.unwrap();
    assert_eq!(accepted.data["purpose"], "check");
    let figures = operator.get("/metrics").await.unwrap().text;
    assert!(figures.contains("anteroom_credentials{health=\"needs_auth\"} 1"), "{figures}");
    assert!(world.log().contains("check_started"));
    // Signed in again at the provider: the next check finds that out, too.
    std::fs::remove_file(scene.flag("revoked")).unwrap();
    let until = Instant::now() + WAIT_MAX;
    while meta(&world, &id).await.health != CredentialHealth::Valid {
        assert!(Instant::now() < until, "nobody checked it again");
        sleep(Duration::from_millis(50)).await;
    }
    world.finish().await.unwrap();
}

#[tokio::test]
async fn background_check_does_not_use_a_machine_slot_that_a_user_needs() {
    let settings = "[credentials]\ncheck_every_s = 1\n[machines]\nmachines_max = 1\n";
    let scene = Scene::new();
    let idle = ScriptedTool::new("idle", Script::new([Step::print_line("Nothing to do"), scene.wait("never")]));
    let plan = TestConfig { tools: vec![tool(&scene), idle], ..TestConfig::default() };
    let world = TestServer::start(plan.with_settings(settings)).await.unwrap();
    let id = signed_in(&scene, &world).await;
    let api = world.backend().unwrap();
    let person = api.start("idle").await.unwrap().session.id;
    api.wait_status(&person, Status::VmStarted).await.unwrap();
    let since = meta(&world, &id).await.checked_at;
    // Several times the time after which it is due.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(meta(&world, &id).await.checked_at, since, "a person has the only room");
    api.cancel(&person).await.unwrap();
    let until = Instant::now() + WAIT_MAX;
    while meta(&world, &id).await.checked_at == since {
        assert!(Instant::now() < until, "the room is free, and nothing is checked");
        sleep(Duration::from_millis(50)).await;
    }
    world.finish().await.unwrap();
}
