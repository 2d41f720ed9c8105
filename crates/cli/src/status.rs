//! `anteroom status`: whether a server runs, and how to open and stop it.

use super::{
    client::{ApiClient, ClientError},
    print_error_line, print_line,
};
use anteroom_controller::config::Config;
use anteroom_wire::api::{CurrentCaller, Health, HealthStatus, ServerAddresses};
use serde_json::json;
use std::process::ExitCode;

/// As `systemctl status` exits for a service that is not running.
pub(crate) const NOT_RUNNING: u8 = 3;

pub(super) async fn run(config: &Config, client: &ApiClient, json: bool) -> anyhow::Result<ExitCode> {
    let dir = config.state_dir.display();
    let process = match client.server_process().await {
        Ok(Some(process)) => process,
        Ok(None) => return remote(client, json).await,
        Err(error @ ClientError::NoServer { .. }) => {
            if json {
                print_line(json!({ "running": false, "state_dir": config.state_dir }));
            } else {
                print_error_line(format_args!("anteroom: {error}"));
            }
            return Ok(ExitCode::from(NOT_RUNNING));
        }
        Err(error) => return Err(error.into()),
    };
    let caller: CurrentCaller = client.get("/api/me").await?;
    if json {
        let mut status = json!({ "running": true, "state_dir": config.state_dir, "process": process });
        if let Some(ServerAddresses { listen, pages }) = caller.addresses {
            (status["listen"], status["pages"]) = (listen.into(), pages.into());
        }
        print_line(status);
        return Ok(ExitCode::SUCCESS);
    }
    print_line(format_args!("Anteroom runs: process {process}, state directory {dir}."));
    if let Some(ServerAddresses { listen, pages }) = caller.addresses {
        print_line(format_args!("It listens at {listen}; its pages are at {pages}."));
    }
    print_line("Open it: `anteroom login-link` prints a link for your browser.");
    print_line(format_args!("Stop it: press Ctrl-C in its terminal, or run `kill {process}`."));
    Ok(ExitCode::SUCCESS)
}

/// Whether a server on another host answers, and its health.
async fn remote(client: &ApiClient, json: bool) -> anyhow::Result<ExitCode> {
    let server = client.server_name();
    let health: Health = match client.get("/health").await {
        Ok(health) => health,
        Err(error @ ClientError::Unreachable { .. }) => {
            if json {
                print_line(json!({ "running": false, "server": server }));
            } else {
                print_error_line(format_args!("anteroom: {error}"));
            }
            return Ok(ExitCode::from(NOT_RUNNING));
        }
        Err(error) => return Err(error.into()),
    };
    if json {
        print_line(json!({ "running": true, "server": server, "health": health }));
        return Ok(ExitCode::SUCCESS);
    }
    let state = match health.status {
        HealthStatus::Ok => "it is well",
        HealthStatus::Degraded => "it works, with limits",
        HealthStatus::Down => "it does not work",
    };
    print_line(format_args!("Anteroom runs at {server}: {state}."));
    for check in health.checks.iter().filter(|check| check.status != HealthStatus::Ok) {
        print_line(format_args!("  {}: {}", check.name, check.detail));
    }
    Ok(ExitCode::SUCCESS)
}
