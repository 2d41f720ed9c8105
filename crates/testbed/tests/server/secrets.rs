//! Planted secrets must appear nowhere except in the lease of their owner.

use crate::{
    Flags,
    command_line::{run_cli, sign_in, text},
};
use anteroom_testbed::{ScriptedProvider, Step, TestConfig, TestServer, leaks::encoded_forms};
use anteroom_wire::api::SessionStatus;
use serde_json::json;

fn canary(kind: &str) -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    format!("{kind}{}", hex::encode(bytes))
}

#[tokio::test]
async fn planted_secret_appears_only_in_the_owners_lease() {
    let flags = Flags::new();
    let pasted = canary("code");
    let state = canary("state");
    let provider = flags.provider_with_steps([
        Step::OpenUrlWithBrowser { url: format!("https://id.example/authorize?state={state}") },
        Step::Print { text: "Paste the code: ".into() },
        Step::ReadLine,
        Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"{line}\"}"),
        Step::print_line("Login successful"),
    ]);
    let errors = flags.path("errors.jsonl");
    let settings = format!("[log]\nlevel = 'trace'\nerror_file = '{}'\n", errors.display());
    let server = TestServer::start(TestConfig::with_provider(provider).with_settings(&settings)).await.unwrap();
    let (api, operator) = (server.backend_client().unwrap(), server.operator_client().unwrap());
    let id = api.start_session("scripted").await.unwrap().session.id;
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let code = json!({ "code": pasted });
    assert_eq!(api.post(&format!("/api/auth/session/{id}/code"), code).await.unwrap().status, 204);
    let credential = api.wait_status(&id, SessionStatus::Completed).await.unwrap().credential.unwrap();
    let lease = api.lease_credential(&credential.id).await.unwrap();
    assert!(String::from_utf8_lossy(lease.files[0].content.expose()).contains(&pasted), "the lease contains it");
    api.get_timeline(&id).await.unwrap();
    api.list_credentials().await.unwrap();
    for path in [
        "/health".to_owned(),
        "/api/sessions".to_owned(),
        format!("/api/auth/session/{id}/events"),
        format!("/api/auth/session/{id}/credentials"),
    ] {
        operator.get(&path).await.unwrap();
    }
    while !server.list_machines().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The database, its log, the keys, the receipts, and the server's log at level trace.
    assert_eq!(server.leak_scan().find_files_containing(&pasted), Vec::<std::path::PathBuf>::new());
    let bodies_with = |secret: &str| {
        let needles = encoded_forms(secret);
        let bodies =
            api.recorded_responses().into_iter().chain(operator.recorded_responses()).chain([server.read_log()]);
        bodies
            .filter(|body| needles.iter().any(|needle| body.contains(&*String::from_utf8_lossy(needle))))
            .collect::<Vec<_>>()
    };
    assert_eq!(bodies_with(&pasted), Vec::<String>::new());
    // The sign-in URL is shown to the user and appears in no log: standard error, the server's log file, the error file.
    let file = std::fs::read_to_string(server.state_dir().join("log/anteroom.jsonl")).unwrap();
    assert!(file.contains(id.as_str()), "the log file is written");
    for log in [server.read_log(), file, std::fs::read_to_string(&errors).unwrap()] {
        assert!(!log.contains(&state) && !log.contains(&pasted), "a log contains the complete URL or the code");
    }
    server.stop_and_check_leaks().await.unwrap();
}

/// A command may print or take a token of any format, which no pattern can mask.
#[tokio::test]
async fn exec_arguments_and_output_are_not_stored_or_logged() {
    let flags = Flags::new();
    // Only letters, so that no masking pattern matches.
    let letters = |text: String| {
        text.chars().map(|c| c.to_digit(10).map_or(c, |n| char::from(b'g' + n as u8))).collect::<String>()
    };
    let (printed, argument) = (letters(canary("token")), letters(canary("argument")));
    let errors = flags.path("errors.jsonl");
    let settings = format!("[log]\nlevel = 'trace'\nerror_file = '{}'\n", errors.display());
    let server = TestServer::start(
        TestConfig::with_provider(flags.provider(&format!("{{\"token\": \"{printed}\"}}"))).with_settings(&settings),
    )
    .await
    .unwrap();
    let id = sign_in(&flags, &server).await;
    let script = format!("cat {}; echo; echo {argument} | wc -c; exit 3", ScriptedProvider::CREDENTIAL_PATH);
    let done = run_cli(&server, &["exec", "--credential", &id, "--", "sh", "-c", &script]).await;
    assert_eq!((done.status.code(), text(&done.stdout).contains(&printed)), (Some(3), true), "{}", text(&done.stdout));
    while !server.list_machines().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let file = std::fs::read_to_string(server.state_dir().join("log/anteroom.jsonl")).unwrap();
    assert!(file.contains(&id), "the log file is written");
    for secret in [&printed, &argument] {
        let mut files = server.leak_scan().find_files_containing(secret);
        // The script of the tool contains the secret from the start.
        files.retain(|path| !path.starts_with(server.path().join("scripts")));
        assert_eq!(files, Vec::<std::path::PathBuf>::new(), "{secret}");
        for log in [server.read_log(), file.clone(), std::fs::read_to_string(&errors).unwrap()] {
            assert!(!log.contains(secret.as_str()), "{secret} is in a log");
        }
    }
    server.stop_and_check_leaks().await.unwrap();
}
