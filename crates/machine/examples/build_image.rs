#![allow(clippy::print_stdout, missing_docs)]
use anteroom_machine::image::{BuildSettings, build};
use std::{path::PathBuf, sync::Arc, time::Instant};
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(dir), Some(agent), Some(demo)) = (args.next(), args.next(), args.next()) else { return Err("args".into()) };
    let mut settings = BuildSettings::new(dir, agent, demo);
    settings.refresh = args.next().is_some();
    let start = Instant::now();
    let progress = Arc::new(move |progress: anteroom_machine::image::Progress| {
        println!("{:6.1} s  {} {:?} {}", start.elapsed().as_secs_f32(), progress.step, progress.fraction, progress.note);
    });
    match build(&settings, progress, async |_| Ok(())).await {
        Ok(built) => println!("{:6.1} s  {} unchanged={}", start.elapsed().as_secs_f32(), built.image.manifest.hash, built.unchanged),
        Err(error) => println!("ERROR {error} / {:?}", std::error::Error::source(&error).map(ToString::to_string)),
    }
    Ok(())
}
