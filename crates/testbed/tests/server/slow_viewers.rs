//! A viewer that stops reading while its desktop floods it: what that costs the server, the others and the viewer itself.

use crate::Scene;
use anteroom_controller::rfb::{RfbClient, ViewerSocket};
use anteroom_testbed::{
    TestConfig, WAIT_MAX, TestServer,
    fake_rfb_server::{Behaviour, SPOT_COLOUR},
    processes,
};
use anteroom_wire::api::Status;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// What flows to a viewer that reads while the other one stands still.
const FLOOD_BYTES: usize = 100 << 20;
/// What the server may hold more for a viewer that stands still, KiB: one chunk on its way to it (64 KiB), what its stream of
/// the machine's channel may send ahead (256 KiB), and what the allocator keeps of all that passed by.
const HELD_KIB_MAX: u64 = 16 * 1024;
const BYTES_A_PIXEL: usize = 4;
const CLICKS: usize = 9;

/// How long it takes from a click until its mark is seen, the middle of some.
async fn round_trip(viewer: &mut RfbClient<ViewerSocket>, row: u16) -> Duration {
    let mut took = Vec::new();
    for count in 0..CLICKS {
        let column = 40 + 30 * u16::try_from(count).unwrap();
        let began = Instant::now();
        viewer.click(column, row).await.unwrap();
        while viewer.whole_frame().await.unwrap().at(column + 2, row + 2) != Some(SPOT_COLOUR) {}
        took.push(began.elapsed());
    }
    took.sort();
    took[took.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_viewer_does_not_grow_memory() {
    let scene = Scene::new();
    // It stands still for longer than a viewer may: that it is let go then is another test's.
    let plan = TestConfig::with_tool(scene.idle_tool()).with_settings("[tunnel]\nstall_ms_max = 600000\n[log]\nlevel = 'info'\n");
    let world = TestServer::start(plan).await.unwrap();
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    api.wait_status(&id, Status::VmStarted).await.unwrap();
    let machine = world.machines().remove(0);
    let mut stuck = api.desktop(&id).await.unwrap();
    let mut other = api.desktop(&id).await.unwrap();
    stuck.whole_frame().await.unwrap();
    let before = round_trip(&mut other, 100).await;
    let server = world.server_pid().unwrap();
    let resident = || processes::resource_usage(server).unwrap().resident_kib;
    let at_first = resident();

    world.set_desktop_behaviour(&machine, Behaviour::Flood).await.unwrap();
    let (mut read, mut most) = (0, 0);
    let flood = async {
        while read < FLOOD_BYTES {
            read += other.update().await.unwrap().pixels * BYTES_A_PIXEL;
            most = most.max(resident());
        }
    };
    timeout(2 * WAIT_MAX, flood).await.expect("100 MB reach the viewer that reads");
    let grown = most.saturating_sub(at_first);
    println!(
        "resident memory: {at_first} KiB at first, at most {most} KiB while {read} bytes were read beside the viewer that stands still"
    );
    assert!(grown <= HELD_KIB_MAX, "the server grew by {grown} KiB");

    // The flood is over; the one that stands still has its pipe full, on the same machine's channel.
    world.set_desktop_behaviour(&machine, Behaviour::Normal).await.unwrap();
    timeout(WAIT_MAX, other.whole_frame()).await.expect("the other viewer's picture").unwrap();
    let after = round_trip(&mut other, 200).await;
    println!("round trip of a click: {before:?} before, {after:?} beside a viewer that stands still");
    assert!(after <= 3 * before + Duration::from_millis(250), "{before:?} before, {after:?} after");

    // It reads on: what was sent comes in order, then a whole picture, and what it does is obeyed.
    timeout(WAIT_MAX, stuck.whole_frame()).await.expect("a whole picture").unwrap();
    timeout(WAIT_MAX, round_trip(&mut stuck, 300)).await.expect("its clicks are seen");
    world.finish().await.unwrap();
}
