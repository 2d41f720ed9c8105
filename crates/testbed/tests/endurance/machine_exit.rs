//! The exit of a machine is reported to viewers, status and timeline immediately. `examples/measure_recovery.rs` measures the exact
//! times; the limits here also hold on a busy host.

use crate::{idle_provider, start_ready};
use anteroom_testbed::{DurationStats, TestConfig, TestServer, measure_recovery};
use std::time::Duration;

const EXITS: usize = 20;
const REPORTED_MS_MAX: u64 = 2_000;

#[tokio::test]
async fn machine_exit_is_reported_to_viewer_status_and_timeline_within_two_seconds() {
    let server = TestServer::start(TestConfig::with_provider(idle_provider())).await.unwrap();
    let api = server.operator_client().unwrap();
    let limit = Duration::from_millis(REPORTED_MS_MAX);
    let [mut closed, mut status, mut timeline, mut frame] = [const { DurationStats::EMPTY }; 4];
    for _ in 0..EXITS {
        let id = start_ready(&api).await;
        let mut viewer = api.connect_desktop(&id).await.unwrap();
        viewer.request_full_frame().await.unwrap();
        let measured = measure_recovery::kill_and_measure(&api, &server.state_dir(), &id, viewer, limit).await.unwrap();
        assert_eq!(measured.close_code, 4510);
        closed.add(measured.closed);
        status.add(measured.status_changed);
        timeline.add(measured.timeline_entry);
        frame.extend(measured.frame);
        api.cancel_session(&id).await.unwrap();
    }
    println!("closed   {closed}\nstatus   {status}\ntimeline {timeline}\nframe    {frame}");
    assert_eq!(frame.count(), EXITS, "every viewer has a desktop again");
    server.stop_and_check_leaks().await.unwrap();
}
