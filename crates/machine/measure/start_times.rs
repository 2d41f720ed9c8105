//! Measures the start of machines: `start_times KEEPER IMAGE_DIR STATE_DIR [N]` prepares a template in STATE_DIR, starts N
//! machines one after another and prints the duration of each step in milliseconds.
#![allow(clippy::print_stdout, reason = "an example for a terminal")]

use anteroom_machine::{
    BoxBody, ControllerService, Machines, MachinesSettings, State, StopReason,
    image::Image,
    qemu::{self, Hardware, ProbeSettings, Template, TemplateSettings},
};
use anteroom_wire::{MachineId, agent::Geometry};
use http_body_util::{BodyExt, Full};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};
use tokio::io::AsyncReadExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(keeper), Some(image), Some(state)) = (args.next(), args.next(), args.next()) else {
        return Err("start_times KEEPER IMAGE_DIR STATE_DIR [N]".into());
    };
    let count: u64 = args.next().and_then(|count| count.to_str()?.parse().ok()).unwrap_or(10);
    let template = template(&keeper, &Image::open(&image)?, &state).await?;
    let host: ControllerService = Arc::new(|_, _| {
        let body: BoxBody = Full::from("{}").map_err(|never| match never {}).boxed_unsync();
        Box::pin(std::future::ready(hyper::Response::new(body)))
    });
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let settings = MachinesSettings::in_state_dir(&state, keeper);
    let machines = Machines::open(settings, Arc::new(template), host, tasks.clone(), stop.clone()).await?;
    println!("spawned channel   hello   ready     RFB removed  private MB");
    for number in 0..count {
        println!("{}", start(&machines, MachineId::from_parts(number, [7; 10])).await?);
    }
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(())
}

async fn template(keeper: &Path, image: &Image, state: &Path) -> Result<Template, Box<dyn std::error::Error>> {
    let qemu_program = qemu::find_qemu().ok_or("no qemu-system-x86_64 in PATH")?;
    let probe = ProbeSettings {
        qemu_program: qemu_program.clone(),
        keeper_program: keeper.to_owned(),
        cache_dir: state.to_owned(),
        boot_ms_max: 15_000,
    };
    let report =
        qemu::probe_accelerator(&image.kernel_path(), &image.initramfs_path(), &image.manifest.hash, &probe).await?;
    println!("{}", report.explanation);
    let settings = TemplateSettings {
        templates_dir: state.join("templates"),
        qemu_program,
        keeper_program: keeper.to_owned(),
        hardware: Hardware::default(),
        geometry: Geometry { width: 1280, height: 800 },
        prepare_ms_max: 600_000,
        console_bytes_max: 16 * 1024,
    };
    Ok(Template::find_or_prepare(image, &report.chosen, &settings, |progress| println!("{progress:?}")).await?)
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
