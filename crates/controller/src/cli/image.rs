//! `anteroom image build | show`.

use super::{
    machine_environment::{self, images_dir, keeper_program},
    progress::Work,
    print_line,
};
use crate::config::Config;
use anteroom_machine::image::{BuildSettings, Image, OnProgress, build};
use anyhow::Context;
use clap::Subcommand;
use std::{path::PathBuf, process::ExitCode, sync::Arc};

#[derive(Debug, Subcommand)]
pub(super) enum ImageCommand {
    /// Build the image, or find that it is there: it is cached by the hash of what it is made of.
    Build {
        /// Install the newest packages although the recipe has not changed.
        #[arg(long)]
        refresh: bool,
        /// Print only the image's directory.
        #[arg(long)]
        print_dir: bool,
        /// The agent's static binary. Default: `anteroom-agent` beside this program.
        #[arg(long, value_name = "FILE")]
        agent: Option<PathBuf>,
        /// The demo tool's static binary. Default: `anteroom-demo-cli` beside this program.
        #[arg(long, value_name = "FILE")]
        demo_cli: Option<PathBuf>,
    },
    /// Show the current image and what is in it.
    Show,
}

pub(super) async fn run(config: &Config, command: ImageCommand) -> anyhow::Result<ExitCode> {
    match command {
        ImageCommand::Build { refresh, print_dir, agent, demo_cli } => {
            let image = make(config, refresh, agent, demo_cli, print_dir).await?;
            if print_dir {
                print_line(image.dir.display());
            }
        }
        ImageCommand::Show => {
            let image = Image::current(&images_dir(config))?;
            print_line(serde_json::to_string_pretty(&image.manifest)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn make(
    config: &Config,
    refresh: bool,
    agent: Option<PathBuf>,
    demo_cli: Option<PathBuf>,
    quiet: bool,
) -> anyhow::Result<Image> {
    let beside = |name: &str| keeper_program().map(|program| program.with_file_name(name));
    let agent = agent.map_or_else(|| beside("anteroom-agent"), Ok)?;
    let demo_cli = demo_cli.map_or_else(|| beside("anteroom-demo-cli"), Ok)?;
    let mut settings = BuildSettings::new(images_dir(config), agent, demo_cli);
    settings.refresh = refresh;
    settings.extra_clis.clone_from(&config.image.extra_clis);
    settings.extra_packages.clone_from(&config.image.extra_packages);
    let work = Arc::new(Work::new());
    let shown = Arc::clone(&work);
    let progress: OnProgress = Arc::new(move |progress| {
        shown.at(&progress.step.to_string(), &progress.note, progress.fraction);
    });
    let test = Arc::clone(&work);
    let self_test = async |image: &Image| {
        let tested = async {
            let report = machine_environment::probe(config, image).await?;
            machine_environment::prepare_template(config, image, &report.chosen, &test).await
        };
        tested.await.map(|_| ()).map_err(|error| Box::<dyn std::error::Error + Send + Sync>::from(format!("{error:#}")))
    };
    let built = build(&settings, progress, self_test).await.context("the image could not be built")?;
    drop(work);
    if !quiet {
        let state = if built.unchanged { "is there already" } else { "was built" };
        let tools: Vec<String> =
            built.image.manifest.clis.iter().map(|(name, version)| format!("{name} {version}")).collect();
        print_line(format_args!("Image {} {state}, with {}.", &built.image.manifest.hash[..12], tools.join(", ")));
    }
    Ok(built.image)
}
