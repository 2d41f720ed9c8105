//! `anteroom serve`.

use super::{foundation, say};
use crate::{
    config::Config,
    log,
    server::{self, StateDir},
};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

pub(super) async fn run(config: Config, demo: bool) -> anyhow::Result<ExitCode> {
    let state = StateDir::take(&config.state_dir)?;
    log::serve(&config).map_err(anyhow::Error::msg)?;
    let foundation = foundation::lay(&config).await?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let minutes = config.sessions.login_link_s_max / 60;
    let server = server::start(config, &state, foundation, demo).await?;
    let link = server::enter_link(&server).await?;
    say(format_args!("\nAnteroom serves at {}", server.app.base_url));
    say(format_args!("Machines run under {}.", server.app.image.accelerator));
    say(format_args!(
        "Open this link (works once, for {minutes} minutes; `anteroom link` prints another):\n\n  {link}\n"
    ));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    say("Stopping; machines and sessions live on for the next start.");
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}
