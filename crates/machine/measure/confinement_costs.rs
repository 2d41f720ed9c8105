//! Measures what the confinement of QEMU costs: `confinement_costs KEEPER IMAGE_DIR STATE_DIR [N]` prepares a template in STATE_DIR
//! and starts N machines confined and N unconfined, in turns. Prints the median and the 95th percentile of each, milliseconds.
#![allow(clippy::print_stdout, reason = "an example for a terminal")]

#[path = "common.rs"]
mod common;

use anteroom_machine::{
    Confinement, Machines, MachinesSettings, ProcessSpec, SpecError, SpecSource, State, StopReason, image::Image,
    qemu::Template,
};
use anteroom_wire::MachineId;
use std::{path::PathBuf, sync::Arc, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(keeper), Some(image), Some(state)) = (args.next(), args.next(), args.next()) else {
        return Err("confinement_costs KEEPER IMAGE_DIR STATE_DIR [N]".into());
    };
    let count: usize = args.next().and_then(|count| count.to_str()?.parse().ok()).unwrap_or(20);
    let template = Arc::new(common::template(&keeper, &Image::open(&image)?, &state).await?);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let open = async |name: &str, source: Arc<dyn SpecSource>| {
        let settings = MachinesSettings::in_state_dir(&state.join(name), keeper.clone());
        Machines::open(settings, source, common::no_service(), tasks.clone(), stop.clone()).await
    };
    let confined = open("confined", template.clone()).await?;
    let unconfined = open("unconfined", Arc::new(Unconfined(template))).await?;
    let mut times = [Vec::new(), Vec::new()];
    // The first start of each is not counted: it warms the page cache.
    for number in 0..=count {
        for (machines, times) in [&confined, &unconfined].into_iter().zip(&mut times) {
            let taken = start(machines, MachineId::from_parts(u64::try_from(number)?, [7; 10])).await?;
            if number > 0 {
                times.push(taken);
            }
        }
    }
    println!("n = {count}            spawned   ready (p50, p95), ms");
    for (name, mut times) in ["confined", "unconfined"].into_iter().zip(times) {
        let at = |times: &mut Vec<(f64, f64)>, part: f64, of: fn(&(f64, f64)) -> f64| {
            times.sort_by(|first, second| of(first).total_cmp(&of(second)));
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let index = ((times.len() - 1) as f64 * part).round() as usize;
            times.get(index).map(of).unwrap_or_default()
        };
        let row = [(0.5, 0), (0.95, 0), (0.5, 1), (0.95, 1)]
            .map(|(part, column)| at(&mut times, part, if column == 0 { |time| time.0 } else { |time| time.1 }));
        println!("{name:11} {:8.1} {:8.1}   {:8.1} {:8.1}", row[0], row[1], row[2], row[3]);
    }
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Machines of a template without any confinement.
struct Unconfined(Arc<Template>);

impl SpecSource for Unconfined {
    fn image_hash(&self) -> &str {
        self.0.image_hash()
    }

    fn build_spec(&self, machine: &MachineId) -> Result<ProcessSpec, SpecError> {
        let mut spec = self.0.build_spec(machine)?;
        if let Confinement::Confined { files, .. } = &spec.confinement {
            for file in files {
                let path = file.path.to_str().ok_or_else(|| SpecError::Path(file.path.clone()))?.replace(',', ",,");
                spec.args.iter_mut().for_each(|arg| *arg = arg.replace(&file.name, &path));
            }
        }
        spec.confinement = Confinement::Unconfined;
        Ok(spec)
    }
}

/// Starts and stops a machine. Returns the milliseconds until its process was spawned and until its agent was ready.
async fn start(machines: &Machines, id: MachineId) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let began = Instant::now();
    let mut states = machines.start(id.clone())?;
    let millis = || began.elapsed().as_secs_f64() * 1_000.0;
    states.wait_for(|state| !matches!(state, State::Requested | State::Cloning)).await?;
    let spawned = millis();
    let ready = states.wait_for(|state| state.channels().is_some() || state.is_removed()).await?.clone();
    let taken = millis();
    if !matches!(ready, State::Ready { .. }) {
        return Err(format!("{ready:?}").into());
    }
    machines.stop(&id, StopReason::Completed);
    states.wait_for(State::is_removed).await?;
    Ok((spawned, taken))
}
