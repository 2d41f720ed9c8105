//! Sessions on real QEMU machines, through the API. Needs the image in `ANTEROOM_TEST_IMAGE` (`./test` sets it).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod demo_methods;
mod doctor;
mod end_reasons;
mod exec;
mod hardening;
mod need_kvm;
mod own_tool;
mod package;
mod real_runs;
mod recovery;
mod supply_chain;

use anteroom_testbed::{
    QEMU_WAIT_TIMEOUT, Qemu, TestConfig, TestServer,
    test_server::qemu::{quick_provider, shell_provider},
};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use axum::{Router, extract::Query, routing::get};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};

/// Types a command into the machine's shell; returns the terminal output up to `end`.
async fn run_in_shell(server: &TestServer<Qemu>, id: &SessionId, command: &str, end: &str) -> String {
    let api = server.operator_client().unwrap();
    let mut terminal = api.open_terminal_socket(id).await.unwrap();
    terminal.send_text("{\"type\":\"resize\",\"cols\":200,\"rows\":50}").await.unwrap();
    let typed = serde_json::json!({ "text": command, "enter": true });
    assert_eq!(api.post(&format!("/api/auth/session/{id}/type"), typed).await.unwrap().status, 204);
    let mut screen = Vec::new();
    let shown = async {
        while !String::from_utf8_lossy(&screen).contains(end) {
            assert!(terminal.read_buf(&mut screen).await.unwrap() > 0, "the terminal ended");
        }
    };
    timeout(QEMU_WAIT_TIMEOUT, shown).await.unwrap_or_else(|_| panic!("{end:?} was not shown"));
    String::from_utf8_lossy(&screen).into_owned()
}

/// Starts a server with the provider `shell` and these settings.
async fn start_server(settings: &str) -> TestServer<Qemu> {
    TestServer::start(TestConfig::qemu(settings).with_settings(&shell_provider())).await.unwrap()
}

async fn open_shell(server: &TestServer<Qemu>) -> SessionId {
    let api = server.operator_client().unwrap();
    let id = api.start_session("shell").await.unwrap().session.id;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    id
}

#[tokio::test]
async fn qemu_machine_has_only_loopback_and_the_agents_interface() {
    let server = start_server("").await;
    let id = open_shell(&server).await;
    let screen = run_in_shell(
        &server,
        &id,
        "echo \"[$(echo $(ls /sys/class/net))]\"; readlink /sys/class/net/eth0; echo DO\"\"NE",
        "DONE",
    )
    .await;
    assert!(screen.contains("[eth0 lo]"), "{screen}");
    assert!(screen.contains("/devices/virtual/net/eth0"), "eth0 is not a hardware device: {screen}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn qemu_connection_to_a_host_outside_the_allowlist_fails_and_is_on_the_timeline() {
    let server = start_server("").await;
    let id = open_shell(&server).await;
    // The response of the proxy, requested with shell built-ins only.
    let request = "exec 3<>/dev/tcp/127.0.0.1/3128; printf 'CONNECT not-allowed.example.test:443 HTTP/1.1\\r\\n\\r\\n' >&3; head -n1 <&3; echo DO\"\"NE";
    let screen = run_in_shell(&server, &id, &format!("bash -c {}", shell_quote(request)), "DONE").await;
    assert!(screen.contains("HTTP/1.1 403"), "{screen}");
    let entry = server.operator_client().unwrap().wait_entry(&id, TimelineKind::EgressDenied).await.unwrap();
    assert_eq!(entry.data["host"], "not-allowed.example.test");
    assert_eq!(entry.data["reason"], "egress_denied");
    server.stop_and_check_leaks().await.unwrap();
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Starts a server whose page reports `navigator.onLine`; returns its address and the reported query parameters.
async fn start_page() -> (SocketAddr, Arc<Mutex<HashMap<String, String>>>) {
    const PAGE: &str =
        "<!doctype html><title>t</title><body>page<script>fetch('/reported?online='+navigator.onLine)</script>";
    let reported: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    let received = Arc::clone(&reported);
    let router = Router::new().route("/", get(|| async { axum::response::Html(PAGE) })).route(
        "/reported",
        get(move |Query(query): Query<HashMap<String, String>>| async move { received.lock().unwrap().extend(query) }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, reported)
}

#[tokio::test]
async fn qemu_browser_reports_that_it_is_online_and_calls_no_host_by_itself() {
    let (address, reported) = start_page().await;
    let egress = r#"egress = [{ host = "page.example.test", ports = [80] }]"#;
    let config = TestConfig::qemu(&shell_provider().replace("egress = []", egress));
    let config = config.with_host_override("page.example.test:80", address);
    let server = TestServer::start(config).await.unwrap();
    let id = open_shell(&server).await;
    let open = serde_json::json!({ "url": "http://page.example.test/" });
    let answer =
        server.operator_client().unwrap().post(&format!("/api/auth/session/{id}/open-url"), open).await.unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text);
    let until = tokio::time::Instant::now() + QEMU_WAIT_TIMEOUT;
    while reported.lock().unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < until, "the page was not shown");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(reported.lock().unwrap().get("online").map(String::as_str), Some("true"));
    let timeline = server.operator_client().unwrap().get_timeline(&id).await.unwrap();
    let denied: Vec<_> = timeline.iter().filter(|entry| entry.kind == TimelineKind::EgressDenied).collect();
    assert!(denied.is_empty(), "{denied:?}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn qemu_ten_concurrent_sessions_complete_and_clean_up() {
    let server = start_server("").await;
    let sessions = futures_util::future::join_all((0..10).map(|_| open_shell(&server))).await;
    assert_eq!(server.list_machines().len(), 10);
    let views = sessions.iter().map(|id| async {
        let mut desktop = server.operator_client().unwrap().connect_desktop(id).await.unwrap();
        let frame = desktop.request_full_frame().await.unwrap();
        assert!(frame.count_colours(2) > 1, "a picture");
    });
    futures_util::future::join_all(views).await;
    for (number, id) in sessions.iter().enumerate() {
        let command = format!("mkdir -p .shell; echo '{{\"token\": \"number-{number}\"}}' > .shell/credential.json");
        let typed = serde_json::json!({ "text": command, "enter": true });
        assert_eq!(
            server
                .operator_client()
                .unwrap()
                .post(&format!("/api/auth/session/{id}/type"), typed)
                .await
                .unwrap()
                .status,
            204
        );
    }
    for (number, id) in sessions.iter().enumerate() {
        let view = server.operator_client().unwrap().wait_status(id, SessionStatus::Completed).await.unwrap();
        let lease = server.operator_client().unwrap().lease_credential(&view.credential.unwrap().id).await.unwrap();
        let wanted = format!("{{\"token\": \"number-{number}\"}}\n");
        assert_eq!(lease.files[0].content.expose(), wanted.as_bytes(), "each session stored the expected credential");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn doctor_lists_all_missing_requirements_at_once() {
    let empty = tempfile::tempdir().unwrap();
    let program = anteroom_testbed::plain_process::built_program("anteroom").unwrap();
    let mut doctor = tokio::process::Command::new(program);
    doctor.arg("doctor").env_clear().env("PATH", empty.path()).env("HOME", empty.path());
    let output = timeout(QEMU_WAIT_TIMEOUT, doctor.output()).await.unwrap().unwrap();
    let output_text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{output_text}");
    let missing: Vec<&str> = output_text.lines().filter(|line| line.starts_with("MISSING")).collect();
    for name in ["qemu", "mmdebstrap", "mksquashfs", "npm", "image"] {
        assert!(missing.iter().any(|line| line.contains(name)), "{name} in:\n{output_text}");
    }
    assert!(output_text.contains("apt-get install"), "the remedy:\n{output_text}");
}

#[tokio::test]
async fn qemu_login_prints_progress_and_writes_the_credential_to_the_given_path() {
    use std::os::unix::fs::PermissionsExt;
    let server = TestServer::start(TestConfig::qemu(&quick_provider())).await.unwrap();
    let out = server.path().join("credential");
    let output_text =
        server.run_anteroom(&["login", "quick", "--no-open", "--out", out.to_str().unwrap()]).await.unwrap();
    assert!(
        output_text.contains("/dashboard/remote-cli/auth?session=ses_") && output_text.contains("#login_token="),
        "the link:\n{output_text}"
    );
    assert!(
        output_text.contains("The machine is ready") && output_text.contains("Signed in."),
        "the progress:\n{output_text}"
    );
    assert_eq!(std::fs::read(&out).unwrap(), b"{\"token\": \"q-1\"}");
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(&out).unwrap();

    let error = server.run_anteroom(&["login", "nonsense"]).await.unwrap_err().to_string();
    assert!(error.contains("no such provider") && error.contains("quick"), "the available providers: {error}");
    let nowhere = server.path().join("no/such/directory/file");
    let error =
        server.run_anteroom(&["login", "quick", "--out", nowhere.to_str().unwrap()]).await.unwrap_err().to_string();
    assert!(error.contains("cannot be written"), "checked before the sign-in: {error}");
    server.stop_and_check_leaks().await.unwrap();
}
