//! Secrets are planted and then looked for everywhere they must not be.

use crate::{
    Scene,
    command_line::{anteroom, signed_in, text},
};
use anteroom_testbed::{TestConfig, Step, ScriptedTool, TestServer, leaks::needles};
use anteroom_wire::api::Status;
use serde_json::json;

fn canary(kind: &str) -> String {
    let mut chance = [0; 16];
    getrandom::fill(&mut chance).unwrap();
    format!("{kind}{}", chance.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

#[tokio::test]
async fn planted_secret_appears_only_in_the_owners_lease() {
    let scene = Scene::new();
    let pasted = canary("code");
    let state = canary("state");
    let tool = scene.tool_that([
        Step::Browser { url: format!("https://id.example/authorize?state={state}") },
        Step::Print { text: "Paste the code: ".into() },
        Step::Read,
        Step::write(ScriptedTool::CREDENTIAL, "{\"token\": \"{line}\"}"),
        Step::print_line("Login successful"),
    ]);
    let errors = scene.flag("errors.jsonl");
    let settings = format!("[log]\nlevel = 'trace'\nerror_file = '{}'\n", errors.display());
    let world = TestServer::start(TestConfig::with_tool(tool).with_settings(&settings)).await.unwrap();
    let (api, operator) = (world.backend().unwrap(), world.operator().unwrap());
    let id = api.start("scripted").await.unwrap().session.id;
    let mut viewer = api.desktop(&id).await.unwrap();
    viewer.whole_frame().await.unwrap();
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let code = json!({ "code": pasted });
    assert_eq!(api.post(&format!("/api/auth/session/{id}/code"), code).await.unwrap().status, 204);
    let credential = api.wait_status(&id, Status::Completed).await.unwrap().credential.unwrap();
    let lease = api.lease(&credential.id).await.unwrap();
    assert!(String::from_utf8_lossy(lease.files[0].content.expose()).contains(&pasted), "the owner gets it");
    api.timeline(&id).await.unwrap();
    api.credentials().await.unwrap();
    for path in [
        "/health".to_owned(),
        "/api/sessions".to_owned(),
        format!("/api/auth/session/{id}/events"),
        format!("/api/auth/session/{id}/credentials"),
    ] {
        operator.get(&path).await.unwrap();
    }
    while !world.machines().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The database, its log, the keys, the receipts, the server's log at its most talkative.
    assert_eq!(world.leaks().files_with(&pasted), Vec::<std::path::PathBuf>::new());
    let hears = |secret: &str| {
        let needles = needles(secret);
        let bodies = api.responses().into_iter().chain(operator.responses()).chain([world.log()]);
        bodies
            .filter(|body| needles.iter().any(|needle| body.contains(&*String::from_utf8_lossy(needle))))
            .collect::<Vec<_>>()
    };
    assert_eq!(hears(&pasted), Vec::<String>::new());
    // The address is shown to the person, and to nobody who reads logs: standard error, the server's file, the error file.
    let file = std::fs::read_to_string(world.state_dir().join("log/anteroom.jsonl")).unwrap();
    assert!(file.contains(id.as_str()), "the server's file is written");
    for log in [world.log(), file, std::fs::read_to_string(&errors).unwrap()] {
        assert!(!log.contains(&state) && !log.contains(&pasted), "a log has the address whole, or the code");
    }
    world.finish().await.unwrap();
}

/// A tool's own command may print its token, whatever it looks like; so may the command line have one.
#[tokio::test]
async fn exec_arguments_and_output_are_not_stored_or_logged() {
    let scene = Scene::new();
    // Of letters alone: nothing that is masked by its looks.
    let letters = |text: String| {
        text.chars().map(|c| c.to_digit(10).map_or(c, |n| char::from(b'g' + n as u8))).collect::<String>()
    };
    let (printed, told) = (letters(canary("token")), letters(canary("argument")));
    let errors = scene.flag("errors.jsonl");
    let settings = format!("[log]\nlevel = 'trace'\nerror_file = '{}'\n", errors.display());
    let world =
        TestServer::start(TestConfig::with_tool(scene.tool(&format!("{{\"token\": \"{printed}\"}}"))).with_settings(&settings)).await.unwrap();
    let id = signed_in(&scene, &world).await;
    let script = format!("cat {}; echo; echo {told} | wc -c; exit 3", ScriptedTool::CREDENTIAL);
    let done = anteroom(&world, &["exec", "--credential", &id, "--", "sh", "-c", &script]).await;
    assert_eq!((done.status.code(), text(&done.stdout).contains(&printed)), (Some(3), true), "{}", text(&done.stdout));
    while !world.machines().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let file = std::fs::read_to_string(world.state_dir().join("log/anteroom.jsonl")).unwrap();
    assert!(file.contains(&id), "the server's file is written");
    for secret in [&printed, &told] {
        let mut files = world.leaks().files_with(secret);
        // What the tool is told to write lies there from the beginning.
        files.retain(|path| !path.starts_with(world.path().join("scripts")));
        assert_eq!(files, Vec::<std::path::PathBuf>::new(), "{secret}");
        for log in [world.log(), file.clone(), std::fs::read_to_string(&errors).unwrap()] {
            assert!(!log.contains(secret.as_str()), "{secret} is in a log");
        }
    }
    world.finish().await.unwrap();
}
