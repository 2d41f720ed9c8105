//! QEMU machines that exit and are replaced, and machines that the next server adopts. For many sessions see `endurance/cycles.rs`.

use anteroom_testbed::{DurationStats, measure_adoption, measure_recovery};
use anteroom_wire::api::SessionStatus;
use std::time::{Duration, Instant};

const EXITS: usize = 3;
/// For a busy host under emulation; `examples/measure_recovery.rs` measures the exact times.
const REPORTED_S_MAX: u64 = 10;
const MACHINES: usize = 3;
const ADOPTED_S_MAX: u64 = 60;

#[tokio::test]
async fn qemu_killed_machine_is_reported_and_replaced_while_viewed() {
    let server = super::start_server("").await;
    let api = server.operator_client().unwrap();
    let [mut closed, mut status, mut timeline, mut frame] = [const { DurationStats::EMPTY }; 4];
    for _ in 0..EXITS {
        let id = super::open_shell(&server).await;
        let mut viewer = api.connect_desktop(&id).await.unwrap();
        viewer.request_full_frame().await.unwrap();
        let limit = Duration::from_secs(REPORTED_S_MAX);
        let measured = measure_recovery::kill_and_measure(&api, &server.state_dir(), &id, viewer, limit).await.unwrap();
        assert_eq!(measured.close_code, 4510);
        closed.add(measured.closed);
        status.add(measured.status_changed);
        timeline.add(measured.timeline_entry);
        frame.extend(measured.frame);
        api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
        api.cancel_session(&id).await.unwrap();
    }
    println!("closed   {closed}\nstatus   {status}\ntimeline {timeline}\nframe    {frame}");
    assert_eq!(frame.count(), EXITS, "every viewer has a desktop again");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn qemu_next_server_adopts_machines_and_shows_them_again() {
    let mut server = super::start_server("").await;
    let before = measure_adoption::start_sessions(&server.operator_client().unwrap(), "shell", MACHINES).await.unwrap();
    let machines = server.list_machines();
    server.kill_server().await.unwrap();
    let began = Instant::now();
    server.start_server().await.unwrap();
    let limit = Duration::from_secs(ADOPTED_S_MAX);
    let adoption =
        measure_adoption::measure_adoption(&server.operator_client().unwrap(), &before, began, limit).await.unwrap();
    println!("{adoption}");
    assert_eq!(adoption.frames.count(), MACHINES);
    assert_eq!(server.list_machines(), machines, "the same machines");
    server.stop_and_check_leaks().await.unwrap();
}
