//! `anteroom image build | export | fetch | show | lock | sbom`.

mod archive;

use super::{
    machine_environment::{self, images_dir, keeper_program},
    output::print_json,
    print_line,
    progress::ProgressDisplay,
    table::Table,
};
use anteroom_controller::config::Config;
use anteroom_machine::image::{self, BuildSettings, Image, OnProgress, build_image};
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
        /// Fail if a package differs from the lock of this program (image/packages.lock).
        #[arg(long, conflicts_with = "refresh")]
        locked: bool,
        /// Print only the path of the image's directory.
        #[arg(long)]
        print_dir: bool,
        /// Static binary of the agent. Default: `anteroom-agent` in the directory of this program, or in `../lib/anteroom`.
        #[arg(long, value_name = "FILE")]
        agent: Option<PathBuf>,
        /// Static binary of the demo tool. Default: `anteroom-demo-cli` in the directory of this program, or in `../lib/anteroom`.
        #[arg(long, value_name = "FILE")]
        demo_cli: Option<PathBuf>,
    },
    /// Write the current image into one file, for hosts that do not build one, and its SHA-256 into FILE.sha256.
    Export {
        /// The file; it must not exist.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Verify a file of `image export` and make it the image for new machines.
    Fetch {
        /// The file; `-`: standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The SHA-256 of the file (hexadecimal). Default: that in FILE.sha256, as `sha256sum` writes it.
        #[arg(long, value_name = "HEX")]
        sha256: Option<String>,
    },
    /// Print what the current image is and has.
    Show {
        /// Print the whole manifest as JSON: also its packages and files.
        #[arg(long)]
        json: bool,
    },
    /// Print the Debian packages of the current image with their versions and hashes: the content of image/packages.lock.
    Lock,
    /// Print the software bill of materials of the current image (CycloneDX, JSON).
    Sbom,
}

pub(super) async fn run(config: &Config, command: ImageCommand) -> anyhow::Result<ExitCode> {
    match command {
        ImageCommand::Build { refresh, locked, print_dir, agent, demo_cli } => {
            let packages = if refresh {
                Packages::Newest
            } else if locked {
                Packages::LockedOrError
            } else {
                Packages::Locked
            };
            archive::require_own_cache_dir(config)?;
            let image = build_configured_image(config, packages, agent, demo_cli, print_dir).await?;
            if print_dir {
                print_line(image.dir.display());
            }
        }
        ImageCommand::Export { file } => return archive::export(config, file).await,
        ImageCommand::Fetch { file, sha256 } => return archive::fetch(config, file, sha256).await,
        ImageCommand::Show { json } => {
            let image = Image::open_current(&images_dir(config))?;
            if json { print_json(&image.manifest)? } else { show(&image) }
        }
        ImageCommand::Lock => {
            let image = Image::open_current(&images_dir(config))?;
            print_line(image::to_package_lock(&image.manifest).trim_end());
        }
        ImageCommand::Sbom => {
            let image = Image::open_current(&images_dir(config))?;
            print_line(serde_json::to_string_pretty(&image::to_cyclonedx(&image.manifest))?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what an operator compares: the rest is in the manifest.
fn show(image: &Image) {
    let manifest = &image.manifest;
    let mut table = Table::of_values();
    let mut row = |name: &str, value: String| table.add_row([name.to_owned(), value]);
    row("image", manifest.hash.clone());
    row("directory", image.dir.display().to_string());
    for (name, version) in &manifest.clis {
        row("tool", format!("{name} {version}"));
    }
    row("packages", manifest.packages.len().to_string());
    print_line(table);
    print_line("\n--json prints the whole manifest.");
}

/// The versions of the packages that a build installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packages {
    /// The locked ones; where the mirror no longer has one, its newest.
    Locked,
    /// The locked ones, and nothing else.
    LockedOrError,
    /// The newest, even if the recipe has not changed.
    Newest,
}

/// A program of the guest: it is in the directory of this program, or in `../lib/anteroom` (of the Debian package).
fn guest_program(name: &str) -> anyhow::Result<PathBuf> {
    let next_to_it = keeper_program()?.with_file_name(name);
    let in_package = next_to_it.with_file_name("../lib/anteroom").join(name);
    Ok(if !next_to_it.exists() && in_package.exists() { in_package } else { next_to_it })
}

async fn build_configured_image(
    config: &Config,
    packages: Packages,
    agent: Option<PathBuf>,
    demo_cli: Option<PathBuf>,
    quiet: bool,
) -> anyhow::Result<Image> {
    let agent = agent.map_or_else(|| guest_program("anteroom-agent"), Ok)?;
    let demo_cli = demo_cli.map_or_else(|| guest_program("anteroom-demo-cli"), Ok)?;
    let mut settings = BuildSettings::new(images_dir(config), agent, demo_cli);
    settings.update_packages = packages == Packages::Newest;
    settings.require_locked_packages = packages == Packages::LockedOrError;
    settings.extra_clis.clone_from(&config.image.extra_clis);
    settings.extra_packages.clone_from(&config.image.extra_packages);
    settings.extra_files.clone_from(&config.image.extra_files);
    settings.hook = config.image.hook.to_hook();
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
    let differences = image::package_differences(&built.image.manifest);
    if !differences.is_empty() {
        print_differences(&differences);
    }
    if !quiet {
        let state = if built.unchanged { "is up to date" } else { "was built" };
        let tools: Vec<String> =
            built.image.manifest.clis.iter().map(|(name, version)| format!("{name} {version}")).collect();
        print_line(format_args!("Image {} {state}, with {}.", &built.image.manifest.hash[..12], tools.join(", ")));
    }
    Ok(built.image)
}

/// Reports packages that differ from the lock, which is no error: Debian replaces packages by newer ones.
#[expect(clippy::print_stderr, reason = "standard output may carry only the image's directory")]
fn print_differences(differences: &[image::PackageDifference]) {
    eprintln!("anteroom: {} packages differ from image/packages.lock:", differences.len());
    for difference in differences {
        eprintln!("    {difference}");
    }
    eprintln!("to accept them: anteroom image lock > image/packages.lock");
}
