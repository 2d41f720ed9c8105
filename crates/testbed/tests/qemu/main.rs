//! Sessions on real QEMU machines, through the API. Needs the image in `ANTEROOM_TEST_IMAGE` (`./test` sets it).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod end_reasons;
mod fault_injection;
mod recovery;

use anteroom_testbed::{QemuServer, qemu_server::QEMU_WAIT_MAX};
use anteroom_wire::{SessionId, api::Status};
use axum::{Router, extract::Query, routing::get};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};

/// A shell as the tool: what the test types runs in the machine.
const SHELL: &str = r#"
[providers.shell]
name = "Shell"
cli = "codex"
argv = ["sh", "-i"]
lanes = ["terminal"]
next_action = "Type."
policy = "store"
egress = [{ host = "page.example.test", ports = [80] }]
credential = { paths = [".shell/credential.json"], required = ["/token"] }
"#;

/// Types a command into the machine's shell and reads the terminal until `end` has been shown.
async fn run(house: &QemuServer, id: &SessionId, command: &str, end: &str) -> String {
    let api = house.operator().unwrap();
    let mut terminal = api.terminal(id).await.unwrap();
    terminal.send_text("{\"type\":\"resize\",\"cols\":200,\"rows\":50}").await.unwrap();
    let typed = serde_json::json!({ "text": command, "enter": true });
    assert_eq!(api.post(&format!("/api/auth/session/{id}/type"), typed).await.unwrap().status, 204);
    let mut screen = Vec::new();
    let shown = async {
        while !String::from_utf8_lossy(&screen).contains(end) {
            assert!(terminal.read_buf(&mut screen).await.unwrap() > 0, "the terminal ended");
        }
    };
    timeout(QEMU_WAIT_MAX, shown).await.unwrap_or_else(|_| panic!("{end:?} was not shown"));
    String::from_utf8_lossy(&screen).into_owned()
}

async fn open_shell(house: &QemuServer) -> SessionId {
    let api = house.operator().unwrap();
    let id = api.start("shell").await.unwrap().session.id;
    api.wait_status(&id, Status::VmStarted).await.unwrap();
    id
}

#[tokio::test]
async fn qemu_machine_has_only_loopback_and_the_agents_interface() {
    let house = QemuServer::start(SHELL, &BTreeMap::new(), false).await.unwrap();
    let id = open_shell(&house).await;
    let screen = run(
        &house,
        &id,
        "echo \"[$(echo $(ls /sys/class/net))]\"; readlink /sys/class/net/eth0; echo DO\"\"NE",
        "DONE",
    )
    .await;
    assert!(screen.contains("[eth0 lo]"), "{screen}");
    assert!(screen.contains("/devices/virtual/net/eth0"), "eth0 is no hardware: {screen}");
    house.finish().await.unwrap();
}

#[tokio::test]
async fn qemu_connection_to_a_host_outside_the_allowlist_fails_and_is_on_the_timeline() {
    let house = QemuServer::start(SHELL, &BTreeMap::new(), false).await.unwrap();
    let id = open_shell(&house).await;
    // The proxy's own answer, asked for without any further tool.
    let asked = "exec 3<>/dev/tcp/127.0.0.1/3128; printf 'CONNECT not-granted.example.test:443 HTTP/1.1\\r\\n\\r\\n' >&3; head -n1 <&3; echo DO\"\"NE";
    let screen = run(&house, &id, &format!("bash -c {}", quoted(asked)), "DONE").await;
    assert!(screen.contains("HTTP/1.1 403"), "{screen}");
    let entry = house.operator().unwrap().wait_entry(&id, "egress_denied").await.unwrap();
    assert_eq!(entry.data["host"], "not-granted.example.test");
    assert_eq!(entry.data["reason"], "egress_denied");
    house.finish().await.unwrap();
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A page that tells its own server what the browser believes.
async fn page() -> (SocketAddr, Arc<Mutex<HashMap<String, String>>>) {
    const PAGE: &str =
        "<!doctype html><title>t</title><body>page<script>fetch('/told?online='+navigator.onLine)</script>";
    let told: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    let heard = Arc::clone(&told);
    let router = Router::new().route("/", get(|| async { axum::response::Html(PAGE) })).route(
        "/told",
        get(move |Query(query): Query<HashMap<String, String>>| async move { heard.lock().unwrap().extend(query) }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, told)
}

#[tokio::test]
async fn qemu_browser_reports_that_it_is_online() {
    let (address, told) = page().await;
    let answers = BTreeMap::from([("page.example.test:80".to_owned(), address)]);
    let house = QemuServer::start(SHELL, &answers, false).await.unwrap();
    let id = open_shell(&house).await;
    let open = serde_json::json!({ "url": "http://page.example.test/" });
    let answer = house.operator().unwrap().post(&format!("/api/auth/session/{id}/open-url"), open).await.unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text);
    let until = tokio::time::Instant::now() + QEMU_WAIT_MAX;
    while told.lock().unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < until, "the page was not shown");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(told.lock().unwrap().get("online").map(String::as_str), Some("true"));
    house.finish().await.unwrap();
}

#[tokio::test]
async fn qemu_ten_concurrent_sessions_complete_and_clean_up() {
    let house = QemuServer::start(SHELL, &BTreeMap::new(), false).await.unwrap();
    let sessions = futures_util::future::join_all((0..10).map(|_| open_shell(&house))).await;
    assert_eq!(house.machines().len(), 10);
    let looks = sessions.iter().map(|id| async {
        let mut desktop = house.operator().unwrap().desktop(id).await.unwrap();
        let frame = desktop.whole_frame().await.unwrap();
        assert!(frame.colours(2) > 1, "a picture");
    });
    futures_util::future::join_all(looks).await;
    for (number, id) in sessions.iter().enumerate() {
        let command = format!("mkdir -p .shell; echo '{{\"token\": \"number-{number}\"}}' > .shell/credential.json");
        let typed = serde_json::json!({ "text": command, "enter": true });
        assert_eq!(
            house.operator().unwrap().post(&format!("/api/auth/session/{id}/type"), typed).await.unwrap().status,
            204
        );
    }
    for (number, id) in sessions.iter().enumerate() {
        let view = house.operator().unwrap().wait_status(id, Status::Completed).await.unwrap();
        let lease = house.operator().unwrap().lease(&view.credential.unwrap().id).await.unwrap();
        let wanted = format!("{{\"token\": \"number-{number}\"}}\n");
        assert_eq!(lease.files[0].content.expose(), wanted.as_bytes(), "each its own");
    }
    house.finish().await.unwrap();
}

#[tokio::test]
async fn qemu_next_server_after_a_kill_adopts_its_machines() {
    let mut house = QemuServer::start(SHELL, &BTreeMap::new(), false).await.unwrap();
    let id = open_shell(&house).await;
    let machines = house.machines();
    run(&house, &id, "MARK=still-here; echo DO\"\"NE", "DONE").await;
    house.kill_server().await.unwrap();
    house.start_server(false).await.unwrap();
    house.operator().unwrap().wait_status(&id, Status::VmStarted).await.unwrap();
    assert_eq!(house.machines(), machines, "the same machine");
    let screen = run(&house, &id, "echo [$MARK]", "[still-here]").await;
    assert!(screen.contains("[still-here]"));
    house.finish().await.unwrap();
}

#[tokio::test]
async fn qemu_doctor_reports_the_accelerator_and_its_consequences() {
    let house = QemuServer::start("", &BTreeMap::new(), false).await.unwrap();
    let output = house.anteroom_command().unwrap().arg("doctor").output().await.unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = words.lines().find(|line| line.contains("accelerator")).expect("a line on the accelerator");
    if line.contains("worse") {
        assert!(line.contains("emulated") && line.contains("not a security boundary"), "{line}");
    }
    if std::path::Path::new("/dev/kvm").exists() && line.contains("worse") {
        assert!(line.to_lowercase().contains("kvm"), "{line}");
    }
    for name in ["qemu", "image", "providers", "disk", "server"] {
        assert!(words.contains(name), "{name} in:\n{words}");
    }
    house.finish().await.unwrap();
}

#[tokio::test]
async fn doctor_lists_all_missing_requirements_at_once() {
    let empty = tempfile::tempdir().unwrap();
    let program = anteroom_testbed::plain_process::built_program("anteroom").unwrap();
    let mut doctor = tokio::process::Command::new(program);
    doctor.arg("doctor").env_clear().env("PATH", empty.path()).env("HOME", empty.path());
    let output = timeout(QEMU_WAIT_MAX, doctor.output()).await.unwrap().unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    let missing: Vec<&str> = words.lines().filter(|line| line.starts_with("MISSING")).collect();
    for name in ["qemu", "mmdebstrap", "mksquashfs", "npm", "image"] {
        assert!(missing.iter().any(|line| line.contains(name)), "{name} in:\n{words}");
    }
    assert!(words.contains("apt-get install"), "what to do:\n{words}");
}

/// A tool that signs in by itself.
const QUICK: &str = r#"
[providers.quick]
name = "Quick"
cli = "codex"
argv = ["sh", "-c", "mkdir -p .quick; printf '{\"token\": \"q-1\"}' > .quick/credential.json; sleep 600"]
lanes = ["terminal"]
next_action = "Wait."
policy = "store"
egress = []
credential = { paths = [".quick/credential.json"], required = ["/token"] }
"#;

#[tokio::test]
async fn qemu_login_prints_progress_and_writes_the_credential_to_the_given_path() {
    use std::os::unix::fs::PermissionsExt;
    let house = QemuServer::start(QUICK, &BTreeMap::new(), false).await.unwrap();
    let out = house.path().join("credential");
    let words = house.run_anteroom(&["login", "quick", "--no-open", "--out", out.to_str().unwrap()]).await.unwrap();
    assert!(
        words.contains("/dashboard/remote-cli/auth?session=ses_") && words.contains("#pass="),
        "the link:\n{words}"
    );
    assert!(words.contains("The machine is ready") && words.contains("Signed in."), "how it goes:\n{words}");
    assert_eq!(std::fs::read(&out).unwrap(), b"{\"token\": \"q-1\"}");
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(&out).unwrap();

    let refused = house.run_anteroom(&["login", "nonsense"]).await.unwrap_err().to_string();
    assert!(refused.contains("no such provider") && refused.contains("quick"), "what there is: {refused}");
    let nowhere = house.path().join("no/such/directory/file");
    let refused = house.run_anteroom(&["login", "quick", "--out", nowhere.to_str().unwrap()]).await.unwrap_err().to_string();
    assert!(refused.contains("cannot be written"), "before anybody signs in: {refused}");
    house.finish().await.unwrap();
}
