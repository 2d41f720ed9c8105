//! What the server reports to the service manager (`sd_notify(3)`), and the unit by which systemd runs it.

use crate::fixture::Flags;
use anteroom_testbed::{TestConfig, TestServer, WAIT_MAX, plain_process::built_program};
use rustix::process::{Signal, kill_process};
use std::{fs, path::Path};
use tokio::{net::UnixDatagram, process::Command, time::timeout};

/// A service manager's socket.
struct Manager(UnixDatagram);

impl Manager {
    async fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = timeout(WAIT_MAX, self.0.recv(&mut buffer)).await.expect("a notification").unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The next notification without those that the server is alive, whose number is returned, too.
    async fn next_state(&self) -> (String, usize) {
        let mut alive = 0;
        loop {
            match self.next().await {
                state if state.trim() == "WATCHDOG=1" => alive += 1,
                state => return (state, alive),
            }
        }
    }
}

#[tokio::test]
async fn service_manager_is_told_when_the_server_answers_reloads_and_stops_and_that_it_is_alive() {
    let (flags, dir) = (Flags::new(), tempfile::tempdir().unwrap());
    let socket = dir.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&socket).unwrap());
    let mut config = TestConfig::with_provider(flags.idle_provider());
    config.env.insert("NOTIFY_SOCKET".into(), socket.to_str().unwrap().into());
    config.env.insert("WATCHDOG_USEC".into(), "2000000".into());
    let mut server = TestServer::start(config).await.unwrap();

    let (ready, _) = manager.next_state().await;
    let base_url = server.base_url().unwrap();
    let begins = |machines| format!("STATUS=serving {base_url}; {machines} of ");
    assert!(ready.starts_with(&format!("READY=1\n{}", begins(0))), "{ready}");
    // It was sent when requests are answered.
    let api = server.operator_client().unwrap();
    let session = api.start_session("scripted").await.unwrap().session.id;
    // It may wait for a moment.
    let mut alive = 0;
    loop {
        let (changed, more) = manager.next_state().await;
        alive += more;
        if changed.starts_with(&begins(1)) {
            break;
        }
    }
    assert!(alive >= 1, "{alive}");
    api.cancel_session(&session).await.unwrap();
    while !manager.next_state().await.0.starts_with(&begins(0)) {}

    kill_process(server.server_pid().unwrap(), Signal::HUP).unwrap();
    let (reloading, _) = manager.next_state().await;
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.next_state().await.0.trim(), ready.trim());
    server.stop_server().await.unwrap();
    assert!(manager.next_state().await.0.starts_with("STOPPING=1\n"));
    // A service manager that is not there prevents nothing.
    drop(manager);
    server.start_server().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

/// The unit with the program of this build.
fn unit_with_built_program(dir: &Path) -> std::path::PathBuf {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/anteroom.service");
    let unit = fs::read_to_string(unit).unwrap();
    for line in ["Type=notify", "KillMode=process", "Restart=always"] {
        assert!(unit.lines().any(|other| other == line), "{line}");
    }
    let path = dir.join("anteroom.service");
    fs::write(&path, unit.replace("=/usr/bin/anteroom", &format!("={}", built_program("anteroom").unwrap().display())))
        .unwrap();
    path
}

/// Skipped where systemd is not installed.
#[tokio::test]
async fn systemd_accepts_the_unit_and_counts_its_exposure_as_small() {
    let dir = tempfile::tempdir().unwrap();
    let path = unit_with_built_program(dir.path());
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().await;
    let Ok(verified) = verify else { return };
    let printed = crate::text(&verified.stderr);
    // It also prints what is wrong with other units of the host.
    assert!(!printed.contains("anteroom.service"), "{printed}");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager", "--threshold=30"]).arg(&path);
    let output = security.output().await.unwrap();
    assert!(output.status.success(), "{}{}", crate::text(&output.stdout), crate::text(&output.stderr));
}
