//! The server goes away in the middle of a real sign-in in a real machine and another takes its place: the person at the
//! page keeps the page, the desktop and the sign-in.

use super::{arrived, browser_with, codex::SETTINGS, leased, nowhere};
use anteroom_testbed::{CodexIssuer, QemuServer, codex_issuer::Approval, qemu_server::QEMU_WAIT_MAX, stats};
use anteroom_wire::{SessionId, api::Status};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

/// From the moment when the next server takes connections until the page shows the desktop again.
const BACK_MS_MAX: i64 = 3_000;
/// Between two looks at a file, milliseconds.
const LOOK_EVERY_MS: u64 = 10;

/// How the server goes away.
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

/// What the page saw, milliseconds since 1970.
#[derive(Debug, Deserialize)]
struct Back {
    lost: i64,
    listening: i64,
    back: i64,
}

#[tokio::test]
async fn journey_sign_in_survives_a_server_crash() {
    middle_of_a_sign_in(End::Crash).await;
}

#[tokio::test]
async fn journey_sign_in_survives_a_server_restart() {
    middle_of_a_sign_in(End::Stop).await;
}

async fn middle_of_a_sign_in(end: End) {
    let issuer = CodexIssuer::start(Approval::OnCommand).await.unwrap();
    let answers = BTreeMap::from([("issuer.codex.test:80".to_owned(), issuer.address())]);
    let mut server = QemuServer::start(SETTINGS, &answers, false).await.unwrap();
    let marks = tempfile::tempdir().unwrap();
    // One script, two runs of it.
    let results = format!("{}/../../web/test-results/{}", env!("CARGO_MANIFEST_DIR"), end.results());
    let more = [("ANTEROOM_E2E_MARKS", marks.path().to_str().unwrap()), ("ANTEROOM_E2E_RESULTS", &results)];
    let page = browser_with(&server, "crash.mjs", &more);

    let id: SessionId = appears(&marks.path().join("ready")).await.parse().unwrap();
    let (machines, address) = (server.machines(), server.address().unwrap());
    match end {
        End::Crash => server.kill_server().await.unwrap(),
        End::Stop => server.stop_server().await.unwrap(),
    }
    assert_eq!(server.machines(), machines, "the machine lives on");
    let went = Instant::now();
    let (listening, served) = tokio::join!(listens(address), server.start_server(false));
    served.unwrap();
    let away = went.elapsed();
    let beside = marks.path().join(".listening");
    fs::write(&beside, listening.to_string()).unwrap();
    fs::rename(beside, marks.path().join("listening")).unwrap();
    let back: Back = serde_json::from_str(&appears(&marks.path().join("back")).await).unwrap();
    eprintln!(
        "{end:?}: the desktop is back {} ms after the next server listens, {} ms after it was gone; the server itself needed {} ms; {}",
        back.back - back.listening,
        back.back - back.lost,
        away.as_millis(),
        stats::host_summary(),
    );

    issuer.approve();
    let api = server.operator().unwrap();
    let view = api.wait_status(&id, Status::Completed).await.unwrap();
    assert_eq!(view.generation, 1, "the same machine to the end");
    arrived(page).await;
    assert!(!leased(&server, &id).await[0].content.expose().is_empty());
    let kinds: Vec<_> = api.timeline(&id).await.unwrap().into_iter().map(|entry| entry.kind).collect();
    let count = |kind: &str| kinds.iter().filter(|found| *found == kind).count();
    assert_eq!((count("machine_adopted"), count("machine_replaced"), count("completed")), (1, 0, 1), "{kinds:?}");
    server.wait_machines_removed().await.unwrap();
    nowhere(&server, &id, &issuer.canaries()).await;
    server.finish().await.unwrap();
    assert!(back.back - back.listening <= BACK_MS_MAX, "{back:?}");
}

/// Waits for a file of the page's; its text.
async fn appears(path: &Path) -> String {
    let until = Instant::now() + QEMU_WAIT_MAX * 2;
    loop {
        if let Ok(text) = fs::read_to_string(path) {
            return text;
        }
        assert!(Instant::now() < until, "{} does not appear", path.display());
        sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
    }
}

/// When somebody takes connections at `address`, milliseconds since 1970.
async fn listens(address: SocketAddr) -> u128 {
    let until = Instant::now() + QEMU_WAIT_MAX;
    while TcpStream::connect(address).await.is_err() {
        assert!(Instant::now() < until, "nobody listens at {address}");
        sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}
