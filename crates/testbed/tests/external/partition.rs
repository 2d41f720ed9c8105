//! Networks without a way there: the test runs itself again in a network namespace of its own, where it makes the routes.

use crate::{Fixture, connect_error, start, verdict};
use std::process::Command;

const INSIDE: &str = "ANTEROOM_TEST_INSIDE";

/// Whether this is the run inside; outside, runs the test of this name there and says `false` when it has passed.
fn inside(name: &str) -> bool {
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

/// What viewers of a desktop at this address are told, and the entry's data.
async fn told(desktop: &str) -> (String, serde_json::Value) {
    let fixture = Fixture::new();
    let server = fixture.start_server(desktop, "").await;
    let api = server.backend().unwrap();
    let id = start(&api).await.session.id;
    let told = connect_error(&api, &id).await;
    assert_eq!(verdict(&api, &id).await.0, told.0);
    let address = desktop.split("://").nth(1).unwrap().split(':').next().unwrap();
    assert!(!api.responses().iter().any(|body| body.contains(address)), "the address was told to a client");
    assert!(verdict(&server.operator().unwrap(), &id).await.1.contains(address), "an operator is told");
    server.finish().await.unwrap();
    told
}

#[test]
fn missing_route_is_reported_within_one_second() {
    if !inside("partition::missing_route_is_reported_within_one_second") {
        return;
    }
    ip("link set lo up");
    ip("route add unreachable 198.51.100.0/24");
    let run = tokio::runtime::Runtime::new().unwrap();
    // The first is no network at all, the second a host without a route.
    for desktop in ["vnc://192.0.2.7:5900", "vnc://198.51.100.7:5900", "ws://198.51.100.7:6080/"] {
        let (problem, data) = run.block_on(told(desktop));
        assert_eq!(problem, "external_no_route", "{desktop}: {data}");
        let after_ms = data["after_ms"].as_u64().unwrap();
        println!("no route to {desktop} was named after {after_ms} ms");
        assert!(after_ms < 1_000, "{data}");
    }
}

#[test]
fn dropped_packets_are_reported_as_timeout_within_three_seconds() {
    if !inside("partition::dropped_packets_are_reported_as_timeout_within_three_seconds") {
        return;
    }
    ip("link set lo up");
    ip("link add near type veth peer name far");
    ip("addr add 198.51.100.1/24 dev near");
    ip("link set near up");
    ip("link set far up");
    // Its packets are sent, and nobody takes them.
    ip("neigh add 198.51.100.7 lladdr 02:00:00:00:00:07 dev near nud permanent");
    let run = tokio::runtime::Runtime::new().unwrap();
    let (problem, data) = run.block_on(told("vnc://198.51.100.7:5900"));
    assert_eq!(problem, "external_timeout", "{data}");
    let after_ms = data["after_ms"].as_u64().unwrap();
    println!("a black hole was named after {after_ms} ms of 900");
    assert!((900..3_000).contains(&after_ms), "{data}");
}
