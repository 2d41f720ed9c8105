//! `anteroom status`: whether a server runs, and how to open and stop it.

use super::{
    client::{ApiClient, ClientError},
    print_error_line, print_line,
};
use anteroom_controller::config::Config;
use serde_json::json;
use std::process::ExitCode;

/// As `systemctl status` exits for a service that is not running.
const NOT_RUNNING: u8 = 3;

pub(super) async fn run(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let dir = config.state_dir.display();
    let process = match ApiClient::new(&config.state_dir).server_process().await {
        Ok(process) => process,
        Err(error @ ClientError::NoServer { .. }) => {
            if json {
                print_line(json!({ "running": false, "state_dir": config.state_dir }));
            } else {
                print_error_line(format_args!("anteroom: {error}"));
            }
            return Ok(ExitCode::from(NOT_RUNNING));
        }
        Err(error @ (ClientError::Api(_) | ClientError::InvalidResponse(_))) => return Err(error.into()),
    };
    if json {
        print_line(json!({ "running": true, "state_dir": config.state_dir, "process": process }));
        return Ok(ExitCode::SUCCESS);
    }
    print_line(format_args!("Anteroom runs: process {process}, state directory {dir}."));
    print_line("Open it: `anteroom login-link` prints a link for your browser.");
    print_line(format_args!("Stop it: press Ctrl-C in its terminal, or run `kill {process}`."));
    Ok(ExitCode::SUCCESS)
}
