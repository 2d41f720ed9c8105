//! `anteroom serve`.

use super::{machine_environment, print_line};
use anteroom_controller::{
    config::ConfigSources, config_files::read_with_files, limits::ServerLimits, log, state_file_system,
};
use anteroom_server::StateDir;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

pub(super) async fn run(sources: ConfigSources, demo: bool) -> anyhow::Result<ExitCode> {
    // Before anything else: without a handler this signal ends a process.
    let hangup = signal(SignalKind::hangup())?;
    let config = read_with_files(&sources)?;
    let state_dir = StateDir::lock(&config.state_dir)?;
    log::start_server(&config)?;
    state_file_system::warn_unless_local(&config.state_dir);
    anteroom_server::protect_process();
    anteroom_server::require_database(&config).await?;
    anteroom_server::report_start("preparing the machines; the first start takes minutes");
    let environment = machine_environment::prepare_machine_environment(&config).await?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let valid = match config.sessions.login_link_s_max {
        s @ ..120 => format!("{s} seconds"),
        s => format!("{} minutes", s / 60),
    };
    let server = anteroom_server::start_server(config, ServerLimits::default(), &state_dir, environment, demo).await?;
    server.reload_on(hangup, sources);
    print_line(format_args!("\nAnteroom is listening at {}", server.address));
    print_line(format_args!("Its pages are at {}", server.app.auth.addresses.base_url()));
    print_line(format_args!("Isolation of machines: {}.", server.app.image.isolation.detail));
    print_line(format_args!("Kind of machines: {}.", server.app.image.kind));
    if anteroom_server::output_is_kept() {
        // A link is a secret.
        print_line("`anteroom login-link` prints a link for your browser.");
    } else {
        let link = anteroom_server::create_operator_login_link(&server).await?;
        print_line(format_args!(
            "Open this login link (valid once, for {valid}; `anteroom login-link` prints a new one):\n\n  {link}\n"
        ));
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    print_line("Stopping. Machines and sessions continue and are adopted at the next start.");
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}
