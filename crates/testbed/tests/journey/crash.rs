//! The server crashes or restarts during a sign-in in a QEMU machine: the user keeps the page, the desktop and the sign-in.

use super::{assert_stored_nowhere, browser_with, codex::SETTINGS, lease, wait_success};
use anteroom_testbed::{
    CodexIssuer, QEMU_WAIT_TIMEOUT, TestConfig, TestServer, codex_issuer::DeviceCodeApproval, eventually, stats,
};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use serde::Deserialize;
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

/// The longest time from when the next server accepts connections until the page shows the desktop again.
const RECONNECT_MS_MAX: i64 = 3_000;
/// Time between two connection attempts, milliseconds. It limits the precision of the measurement.
const POLL_EVERY_MS: u64 = 10;

/// How the server ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// SIGKILL.
    Crash,
    /// SIGTERM.
    Stop,
}

impl End {
    /// The directory of this run's screenshots.
    fn results(self) -> &'static str {
        match self {
            Self::Crash => "journey-crash",
            Self::Stop => "journey-restart",
        }
    }
}

/// The page's observations, milliseconds since 1970.
#[derive(Debug, Deserialize)]
struct Observations {
    lost: i64,
    listening: i64,
    back: i64,
}

#[tokio::test]
async fn journey_sign_in_survives_a_server_crash() {
    end_server_during_sign_in(End::Crash).await;
}

#[tokio::test]
async fn journey_sign_in_survives_a_server_restart() {
    end_server_during_sign_in(End::Stop).await;
}

async fn end_server_during_sign_in(end: End) {
    let issuer = CodexIssuer::start(DeviceCodeApproval::OnCommand).await.unwrap();
    let config = TestConfig::qemu(SETTINGS).with_host_override("issuer.codex.test:80", issuer.address());
    let mut server = TestServer::start(config).await.unwrap();
    let marks = tempfile::tempdir().unwrap();
    // Two tests run the same script.
    let results = format!("{}/../../web/test-results/{}", env!("CARGO_MANIFEST_DIR"), end.results());
    let more = [("ANTEROOM_E2E_MARKS", marks.path().to_str().unwrap()), ("ANTEROOM_E2E_RESULTS", &results)];
    let page = browser_with(&server, "crash.mjs", &more);

    let id: SessionId = wait_file(&marks.path().join("ready")).await.parse().unwrap();
    let (machines, address) = (server.list_machines(), server.address().unwrap());
    match end {
        End::Crash => server.kill_server().await.unwrap(),
        End::Stop => server.stop_server().await.unwrap(),
    }
    assert_eq!(server.list_machines(), machines, "the machine keeps running");
    let ended = Instant::now();
    let (listening, started) = tokio::join!(wait_listening(address), server.start_server());
    started.unwrap();
    let restart = ended.elapsed();
    let temporary = marks.path().join(".listening");
    fs::write(&temporary, listening.to_string()).unwrap();
    fs::rename(temporary, marks.path().join("listening")).unwrap();
    let page_saw: Observations = serde_json::from_str(&wait_file(&marks.path().join("back")).await).unwrap();
    eprintln!(
        "{end:?}: the page shows the desktop {} ms after the next server listens, {} ms after the loss; the restart took {} ms; {}",
        page_saw.back - page_saw.listening,
        page_saw.back - page_saw.lost,
        restart.as_millis(),
        stats::host_summary(),
    );

    issuer.approve_device_code();
    let api = server.operator_client().unwrap();
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    assert_eq!(view.generation, 1, "the session kept its machine");
    wait_success(page).await;
    assert!(!lease(&server, &id).await[0].content.expose().is_empty());
    let kinds: Vec<_> = api.get_timeline(&id).await.unwrap().into_iter().map(|entry| entry.kind).collect();
    let count = |kind| kinds.iter().filter(|found| **found == kind).count();
    assert_eq!(
        (count(TimelineKind::MachineAdopted), count(TimelineKind::MachineReplaced), count(TimelineKind::Completed)),
        (1, 0, 1),
        "{kinds:?}"
    );
    server.wait_machines_removed().await.unwrap();
    assert_stored_nowhere(&server, &id, &issuer.issued_secrets()).await;
    server.stop_and_check_leaks().await.unwrap();
    assert!(page_saw.back - page_saw.listening <= RECONNECT_MS_MAX, "{page_saw:?}");
}

/// Waits for a file that the browser script writes; returns its text.
async fn wait_file(path: &Path) -> String {
    let text = async || Ok(fs::read_to_string(path).ok());
    eventually(&format!("{} exists", path.display()), QEMU_WAIT_TIMEOUT * 2, text).await.unwrap()
}

/// Waits until a server accepts connections at `address`; returns the time, milliseconds since 1970.
async fn wait_listening(address: SocketAddr) -> u128 {
    let deadline = Instant::now() + QEMU_WAIT_TIMEOUT;
    while TcpStream::connect(address).await.is_err() {
        assert!(Instant::now() < deadline, "no server listens at {address}");
        sleep(Duration::from_millis(POLL_EVERY_MS)).await;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}
