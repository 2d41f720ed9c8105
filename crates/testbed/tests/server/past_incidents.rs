//! Incidents of earlier systems that no other test covers.

use crate::{Flags, start_idle};
use anteroom_testbed::{
    Script, Step, TestConfig, TestServer, WAIT_MAX, measure_recovery::current_machine, plain_process::built_program,
    processes,
};
use anteroom_wire::api::SessionStatus;
use reqwest::{Client, redirect::Policy};
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn pages_behind_a_tls_proxy_contain_no_unencrypted_urls() {
    let (_flags, server) = start_idle("public_url = 'https://desk.example'\n").await;
    let api = server.backend_client().unwrap();
    let started = api.start_session("scripted").await.unwrap();
    assert!(started.viewer_url.starts_with("https://desk.example/"), "{}", started.viewer_url);
    let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(WAIT_MAX).build().unwrap();
    let id = &started.session.id;
    for path in ["/", "/dashboard/remote-cli", "/dashboard/remote-cli/auth", &format!("/api/auth/session/{id}/novnc")] {
        let page = client.get(format!("http://{}{path}", server.address().unwrap()));
        let page = page.header("host", "desk.example").header("x-forwarded-proto", "https").send().await.unwrap();
        let headers = format!("{:?}", page.headers());
        let text = page.text().await.unwrap();
        for unencrypted in ["ws://", "http://"] {
            assert!(!text.contains(unencrypted), "{path} has {unencrypted}: {text}");
            assert!(!headers.contains(unencrypted), "{path} has {unencrypted}: {headers}");
        }
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn frequent_polling_does_not_starve_other_clients() {
    let (_flags, server) = start_idle("").await;
    let (busy, calm) = (server.backend_client().unwrap(), server.other_backend_client().unwrap());
    let mine = busy.start_session("scripted").await.unwrap().session.id;
    let yours = calm.start_session("scripted").await.unwrap().session.id;
    let until = Instant::now() + Duration::from_secs(3);
    let mut asked = 0;
    while Instant::now() < until {
        // Four browser tabs of one client, each polling twenty times a second.
        for answer in futures_util::future::join_all((0..4).map(|_| busy.get_session(&mine))).await {
            answer.unwrap();
            asked += 1;
        }
        calm.get_session(&yours).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    assert!(asked >= 40, "only {asked} requests were sent");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn viewer_input_prevents_idle_expiry() {
    let settings = "[sessions]\nidle_s_max = 3\n[limits.sessions]\nreconcile_every_ms = 50\n";
    let (_flags, server) = start_idle(settings).await;
    let api = server.backend_client().unwrap();
    let used = api.start_session("scripted").await.unwrap().session.id;
    let left = api.start_session("scripted").await.unwrap().session.id;
    let mut viewer = api.connect_desktop(&used).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let began = Instant::now();
    let mut x = 0;
    while api.get_session(&left).await.unwrap().status != SessionStatus::Expired
        || began.elapsed() < Duration::from_secs(7)
    {
        x = (x + 7) % 600;
        viewer.send_pointer_event(x, 100, 0).await.unwrap();
        assert!(began.elapsed() < WAIT_MAX, "the idle session does not expire");
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(api.get_session(&left).await.unwrap().reason.unwrap().code, "idle_expired");
    assert_eq!(
        api.get_session(&used).await.unwrap().status,
        SessionStatus::VmStarted,
        "after more than twice the idle timeout"
    );
    drop(viewer);
    api.wait_status(&used, SessionStatus::Expired).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn killed_machine_does_not_affect_another_session_of_its_owner() {
    let flags = Flags::new();
    let config =
        TestConfig::with_provider(flags.provider("{\"token\": \"x\"}")).with_settings("[sessions]\nrestarts_max = 0\n");
    let server = TestServer::start(config).await.unwrap();
    let api = server.backend_client().unwrap();
    let dies = api.start_session("scripted").await.unwrap().session.id;
    let lives = api.start_session("scripted").await.unwrap().session.id;
    let mut viewer = api.connect_desktop(&lives).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    api.wait_status(&dies, SessionStatus::Authenticating).await.unwrap();
    let machine = current_machine(&api, &dies).await.unwrap();
    processes::kill_process(processes::find_machine_pid(&server.state_dir(), &machine).unwrap()).unwrap();
    assert_eq!(api.wait_status(&dies, SessionStatus::Failed).await.unwrap().reason.unwrap().code, "machine_failed");
    viewer.request_full_frame().await.unwrap();
    flags.set("go");
    let view = api.wait_status(&lives, SessionStatus::Completed).await.unwrap();
    assert_eq!(view.generation, 1);
    server.stop_and_check_leaks().await.unwrap();
}

/// The credential file of each built-in tool: provider, path below the home directory, invented content in the right format.
const CREDENTIAL_FILES: [(&str, &str, &str); 3] = [
    (
        "claude_code",
        ".claude/.credentials.json",
        r#"{"claudeAiOauth": {"accessToken": "a", "refreshToken": "r", "expiresAt": 1, "scopes": ["user:inference"]}}"#,
    ),
    (
        "codex",
        ".codex/auth.json",
        r#"{"OPENAI_API_KEY": null, "tokens": {"id_token": "i", "access_token": "a", "refresh_token": "r"}}"#,
    ),
    (
        "demo",
        ".config/anteroom-demo/credentials.json",
        r#"{"access_token": "a", "refresh_token": "r", "expires_at": 1, "account": "ada"}"#,
    ),
];

#[tokio::test]
async fn built_in_providers_capture_the_files_of_their_tools() {
    let flags = Flags::new();
    let testbed = built_program("anteroom-testbed").unwrap().display().to_string();
    let mut config = TestConfig::with_clis(&["claude", "codex", "anteroom-demo"]);
    for (provider, path, content) in CREDENTIAL_FILES {
        // The built-in provider, except for its programs.
        let argv = |name: &str, steps: Vec<Step>| {
            let script = flags.path(&format!("{provider}-{name}.json"));
            Script::new(steps).save(&script).unwrap();
            format!("['{testbed}', 'tool', '{}']", script.display())
        };
        let sign_in = argv("sign-in", vec![Step::write(path, content), flags.wait_step("never")]);
        let says = r#"{"loggedIn": true} Logged in using ChatGPT; signed in as ada"#.to_owned();
        let status = argv("status", vec![Step::ExpectFile { path: path.into(), output: says }]);
        config = config.with_settings(&format!(
            "[providers.{provider}]\nargv = {sign_in}\n[providers.{provider}.credential]\nstatus_argv = {status}\n"
        ));
    }
    let server = TestServer::start(config).await.unwrap();
    let api = server.backend_client().unwrap();
    for (provider, path, content) in CREDENTIAL_FILES {
        let id = api.start_session(provider).await.unwrap().session.id;
        let kept = api.wait_status(&id, SessionStatus::Completed).await.unwrap().credential.unwrap();
        let lease = api.lease_credential(&kept.id).await.unwrap();
        assert_eq!((lease.files[0].path.as_str(), lease.files[0].content.expose()), (path, content.as_bytes()));
    }
    server.stop_and_check_leaks().await.unwrap();
}
