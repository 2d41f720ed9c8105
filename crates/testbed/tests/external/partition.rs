//! Networks without a route to the desktop. Each test runs itself again in a separate network namespace, where it configures the routes.

use crate::{Fixture, connect_error, start, verdict};
use std::process::Command;

/// Set in the run inside of the namespace.
const INSIDE: &str = "ANTEROOM_TEST_INSIDE";

/// Whether this run is inside of the namespace. Outside, runs the test of this name there, which must pass, and returns `false`.
fn is_inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let program = std::env::current_exe().unwrap();
    let ran =
        command.arg("--net").arg(program).args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && out.contains("1 passed"), "{out}\n{err}");
    eprintln!("{out}");
    false
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The problem that viewers of a desktop at this address receive, and the data of its timeline entry.
async fn problem_for(desktop: &str) -> (String, serde_json::Value) {
    let fixture = Fixture::new();
    let server = fixture.start_server_with_desk(desktop, "allow_unencrypted = true").await;
    let api = server.backend_client().unwrap();
    let id = start(&api).await.session.id;
    let error = connect_error(&api, &id).await;
    assert_eq!(verdict(&api, &id).await.0, error.0);
    let address = desktop.split("://").nth(1).unwrap().split(':').next().unwrap();
    assert!(!api.recorded_responses().iter().any(|body| body.contains(address)), "a response contains the address");
    assert!(
        verdict(&server.operator_client().unwrap(), &id).await.1.contains(address),
        "the operator's diagnosis contains the address"
    );
    server.stop_and_check_leaks().await.unwrap();
    error
}

#[test]
fn missing_route_is_reported_within_one_second() {
    if !is_inside("partition::missing_route_is_reported_within_one_second") {
        return;
    }
    ip("link set lo up");
    ip("route add unreachable 198.51.100.0/24");
    let run = tokio::runtime::Runtime::new().unwrap();
    // The first network does not exist, the second host has no route.
    for desktop in ["vnc://192.0.2.7:5900", "vnc://198.51.100.7:5900", "ws://198.51.100.7:6080/"] {
        let (problem, data) = run.block_on(problem_for(desktop));
        assert_eq!(problem, "external_no_route", "{desktop}: {data}");
        let after_ms = data["after_ms"].as_u64().unwrap();
        println!("the missing route to {desktop} was reported after {after_ms} ms");
        assert!(after_ms < 1_000, "{data}");
    }
}

#[test]
fn dropped_packets_are_reported_as_timeout_within_three_seconds() {
    if !is_inside("partition::dropped_packets_are_reported_as_timeout_within_three_seconds") {
        return;
    }
    ip("link set lo up");
    ip("link add near type veth peer name far");
    ip("addr add 198.51.100.1/24 dev near");
    ip("link set near up");
    ip("link set far up");
    // Packets to this address are sent and then lost.
    ip("neigh add 198.51.100.7 lladdr 02:00:00:00:00:07 dev near nud permanent");
    let run = tokio::runtime::Runtime::new().unwrap();
    let (problem, data) = run.block_on(problem_for("vnc://198.51.100.7:5900"));
    assert_eq!(problem, "external_timeout", "{data}");
    let after_ms = data["after_ms"].as_u64().unwrap();
    println!("lost packets were reported after {after_ms} ms of 900");
    assert!((900..3_000).contains(&after_ms), "{data}");
}
