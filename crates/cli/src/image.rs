//! `anteroom image build | show`.

use super::{
    machine_environment::{self, images_dir, keeper_program},
    print_line,
    progress::ProgressDisplay,
};
use anteroom_controller::config::Config;
use anteroom_machine::image::{BuildSettings, Image, OnProgress, build_image};
use anyhow::Context;
use clap::Subcommand;
use std::{path::PathBuf, process::ExitCode, sync::Arc};

#[derive(Debug, Subcommand)]
pub(super) enum ImageCommand {
    /// Build the machine image. An image with the same inputs is reused.
    Build {
        /// Build again with the newest packages, even if the recipe has not changed.
        #[arg(long)]
        refresh: bool,
        /// Print only the path of the image's directory.
        #[arg(long)]
        print_dir: bool,
        /// Static binary of the agent. Default: `anteroom-agent` in the directory of this program.
        #[arg(long, value_name = "FILE")]
        agent: Option<PathBuf>,
        /// Static binary of the demo tool. Default: `anteroom-demo-cli` in the directory of this program.
        #[arg(long, value_name = "FILE")]
        demo_cli: Option<PathBuf>,
    },
    /// Print the manifest of the current image as JSON.
    Show,
}

pub(super) async fn run(config: &Config, command: ImageCommand) -> anyhow::Result<ExitCode> {
    match command {
        ImageCommand::Build { refresh, print_dir, agent, demo_cli } => {
            let image = build_configured_image(config, refresh, agent, demo_cli, print_dir).await?;
            if print_dir {
                print_line(image.dir.display());
            }
        }
        ImageCommand::Show => {
            let image = Image::open_current(&images_dir(config))?;
            print_line(serde_json::to_string_pretty(&image.manifest)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn build_configured_image(
    config: &Config,
    refresh: bool,
    agent: Option<PathBuf>,
    demo_cli: Option<PathBuf>,
    quiet: bool,
) -> anyhow::Result<Image> {
    let companion = |name: &str| keeper_program().map(|program| program.with_file_name(name));
    let agent = agent.map_or_else(|| companion("anteroom-agent"), Ok)?;
    let demo_cli = demo_cli.map_or_else(|| companion("anteroom-demo-cli"), Ok)?;
    let mut settings = BuildSettings::new(images_dir(config), agent, demo_cli);
    settings.update_packages = refresh;
    settings.extra_clis.clone_from(&config.image.extra_clis);
    settings.extra_packages.clone_from(&config.image.extra_packages);
    let display = Arc::new(ProgressDisplay::new());
    let build_display = Arc::clone(&display);
    let on_progress: OnProgress = Arc::new(move |progress| {
        build_display.show(&progress.step.to_string(), &progress.message, progress.fraction);
    });
    let test_display = Arc::clone(&display);
    let self_test = async |image: &Image| {
        let tested = async {
            let kvm = machine_environment::probe_kvm(config, Some(image)).await?;
            let kind = machine_environment::choose_kind(config, &kvm).await?;
            machine_environment::prepare_template(config, image, &kind, &test_display).await
        };
        tested.await.map(|_| ()).map_err(|error| Box::<dyn std::error::Error + Send + Sync>::from(format!("{error:#}")))
    };
    let built = build_image(&settings, on_progress, self_test).await.context("the image could not be built")?;
    drop(display);
    if !quiet {
        let state = if built.unchanged { "is up to date" } else { "was built" };
        let tools: Vec<String> =
            built.image.manifest.clis.iter().map(|(name, version)| format!("{name} {version}")).collect();
        print_line(format_args!("Image {} {state}, with {}.", &built.image.manifest.hash[..12], tools.join(", ")));
    }
    Ok(built.image)
}
