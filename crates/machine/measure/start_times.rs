//! Measures the start of machines: `start_times KEEPER IMAGE_DIR STATE_DIR [N]` prepares a template in STATE_DIR, starts N
//! machines one after another and prints the duration of each step in milliseconds.
#![allow(clippy::print_stdout, reason = "an example for a terminal")]

#[path = "common.rs"]
mod common;

use anteroom_machine::{Machines, MachinesSettings, State, StopReason, image::Image};
use anteroom_wire::MachineId;
use std::{path::PathBuf, sync::Arc, time::Instant};
use tokio::io::AsyncReadExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(keeper), Some(image), Some(state)) = (args.next(), args.next(), args.next()) else {
        return Err("start_times KEEPER IMAGE_DIR STATE_DIR [N]".into());
    };
    let count: u64 = args.next().and_then(|count| count.to_str()?.parse().ok()).unwrap_or(10);
    let template = common::template(&keeper, &Image::open(&image)?, &state).await?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let settings = MachinesSettings::in_state_dir(&state, keeper);
    let machines =
        Machines::open(settings, Arc::new(template), common::no_service(), tasks.clone(), stop.clone()).await?;
    println!("spawned channel   hello   ready     RFB removed  private MB");
    for number in 0..count {
        println!("{}", start(&machines, MachineId::from_parts(number, [7; 10])).await?);
    }
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Starts and stops one machine; returns a line of the table.
async fn start(machines: &Machines, id: MachineId) -> Result<String, Box<dyn std::error::Error>> {
    let began = Instant::now();
    let mut states = machines.start(id.clone())?;
    let ready = states.wait_for(|state| state.channels().is_some() || state.is_removed()).await?.clone();
    let State::Ready { channels } = ready else { return Err(format!("{ready:?}").into()) };
    let mut greeting = [0u8; 12];
    channels.agent.open_desktop().await?.read_exact(&mut greeting).await?;
    let rfb = began.elapsed().as_millis();
    let private_mb = machines.memory_usage(&id).map_or(0, |memory| memory.private_bytes / 1_000_000);
    let stop_requested = Instant::now();
    machines.stop(&id, StopReason::Completed);
    states.wait_for(State::is_removed).await?;
    let removed = stop_requested.elapsed().as_millis();
    let t = channels.timings;
    let steps = format!("{:7} {:7} {:7} {:7}", t.spawned_ms, t.channel_ms, t.agent_info_ms, t.ready_ms);
    Ok(format!("{steps} {rfb:7} {removed:7} {private_mb:11}"))
}
