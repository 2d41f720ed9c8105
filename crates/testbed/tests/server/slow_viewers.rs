//! The effect of a viewer that stops reading while its desktop sends much data: memory of the server, latency of other viewers.

use crate::{Flags, start_session_with};
use anteroom_rfb::client::{RfbClient, ViewerSocket};
use anteroom_testbed::{
    TestConfig, WAIT_MAX,
    fake_rfb_server::{SPOT_COLOUR, ServerBehaviour},
    processes,
};
use anteroom_wire::api::SessionStatus;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Bytes sent to the reading viewer while the other one is stalled.
const FLOOD_BYTES: usize = 100 << 20;
/// The memory growth allowed for a stalled viewer, KiB: one chunk in transit (64 KiB), the flow-control window of its stream of
/// the machine's channel (256 KiB), and memory that the allocator retains.
const HELD_KIB_MAX: u64 = 16 * 1024;
const BYTES_A_PIXEL: usize = 4;
const CLICKS: usize = 9;

/// The median time from a click until its mark is on the screen.
async fn round_trip(viewer: &mut RfbClient<ViewerSocket>, row: u16) -> Duration {
    let mut took = Vec::new();
    for count in 0..CLICKS {
        let column = 40 + 30 * u16::try_from(count).unwrap();
        let began = Instant::now();
        viewer.click(column, row).await.unwrap();
        while viewer.request_full_frame().await.unwrap().pixel(column + 2, row + 2) != Some(SPOT_COLOUR) {}
        took.push(began.elapsed());
    }
    took.sort();
    took[took.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_viewer_does_not_grow_memory() {
    let flags = Flags::new();
    // The stall limit is raised: the disconnection of stalled viewers has another test.
    let config = TestConfig::with_provider(flags.idle_provider())
        .with_settings("[limits.tunnel]\nstall_ms_max = 600000\n[log]\nlevel = 'info'\n");
    let (server, api, id) = start_session_with(config).await;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let machine = server.list_machines().remove(0);
    let mut stuck = api.connect_desktop(&id).await.unwrap();
    let mut other = api.connect_desktop(&id).await.unwrap();
    stuck.request_full_frame().await.unwrap();
    let before = round_trip(&mut other, 100).await;
    let server_pid = server.server_pid().unwrap();
    let resident = || processes::read_resource_usage(server_pid).unwrap().resident_kib;
    let at_first = resident();

    server.set_desktop_behaviour(&machine, ServerBehaviour::Flood).await.unwrap();
    let (mut read, mut most) = (0, 0);
    let flood = async {
        while read < FLOOD_BYTES {
            read += other.apply_next_update().await.unwrap().pixel_count * BYTES_A_PIXEL;
            most = most.max(resident());
        }
    };
    timeout(2 * WAIT_MAX, flood).await.expect("100 MB reach the reading viewer");
    let grown = most.saturating_sub(at_first);
    println!(
        "resident memory: {at_first} KiB at first, at most {most} KiB while {read} bytes were read with a stalled viewer"
    );
    assert!(grown <= HELD_KIB_MAX, "the server grew by {grown} KiB");

    // The flood is over; the stalled viewer still has a full pipe on the same channel.
    server.set_desktop_behaviour(&machine, ServerBehaviour::Normal).await.unwrap();
    timeout(WAIT_MAX, other.request_full_frame()).await.expect("the picture of the other viewer").unwrap();
    let after = round_trip(&mut other, 200).await;
    println!("round trip of a click: {before:?} before, {after:?} with a stalled viewer");
    assert!(after <= 3 * before + Duration::from_millis(250), "{before:?} before, {after:?} after");

    // The stalled viewer reads again: it gets the sent data in order, then a complete picture, and its clicks take effect.
    timeout(WAIT_MAX, stuck.request_full_frame()).await.expect("a complete picture").unwrap();
    timeout(WAIT_MAX, round_trip(&mut stuck, 300)).await.expect("its clicks are seen");
    server.stop_and_check_leaks().await.unwrap();
}
