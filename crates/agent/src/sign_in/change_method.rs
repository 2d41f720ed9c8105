//! Changes the sign-in method: stops the tool, and lets the pane start it again by another method.

use super::active_claim::ActiveClaim;
use crate::{
    agent::Agent,
    api_error::ApiError,
    log,
    platform::{environment::ExecutionEnvironment, home_files},
};
use anteroom_wire::{
    Problem,
    agent::{CaptureState, ChangeMethod, CliState, SignInEvent},
    provider::Provider,
};
use std::time::Duration;

/// How long the stop of the tool may take, including the limits of the pane and its stop, milliseconds.
const STOP_MS_MAX: u64 = 15_000;

/// Stops the tool and lets the pane start it by the method of the request's provider. A method that is already active is started again
/// only if the request says so.
///
/// # Errors
/// [`Problem::NotReady`] before the claim, [`Problem::Malformed`] for another or an invalid provider or where a stored credential is
/// used, [`Problem::DeliveryInProgress`] while a credential is being delivered, [`Problem::Internal`] when the tool does not stop.
pub(crate) async fn change_method(agent: &Agent, request: ChangeMethod) -> Result<(), ApiError> {
    let _applying = agent.claim.applying.lock().await;
    let Some(claim) = agent.claim.current() else {
        return Err(ApiError::new(Problem::NotReady, "the machine is not claimed"));
    };
    let next = claim.with_provider(&agent.environment, request.provider)?;
    if next.provider == claim.provider && agent.tool.is_active() && !request.restart {
        return Ok(());
    }
    let Ok(_delivery) = agent.tool.delivery_lock.try_lock() else {
        return Err(ApiError::new(Problem::DeliveryInProgress, ""));
    };
    stop(agent).await?;
    install_settings(&agent.environment, &next.provider).map_err(ApiError::internal)?;
    start(agent, next);
    Ok(())
}

/// Makes `claim` the active one: the next pane starts its method.
fn start(agent: &Agent, claim: ActiveClaim) {
    let method = claim.provider.method.to_string();
    log::write_line(&format!("method {method}"));
    agent.tool.clear_key();
    agent.tool.set_idle(false);
    agent.sign_in.start_run();
    agent.sign_in.set_cli_state(CliState::Waiting);
    agent.sign_in.set_capture_state(CaptureState::Waiting);
    agent.events.push(SignInEvent::MethodSwitched { method: method.into() });
    agent.claim.set(claim);
}

/// Stops the tool and the pane. The next pane waits for the lock that the caller holds.
async fn stop(agent: &Agent) -> Result<(), ApiError> {
    let stopped = tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), agent.tool.stop_pane());
    stopped
        .await
        .map_err(|_| ApiError::new(Problem::Internal, format!("the tool did not stop within {STOP_MS_MAX} ms")))
}

/// Installs the provider's settings files; existing files are replaced.
///
/// # Errors
/// The first file that cannot be written, with its path.
pub(crate) fn install_settings(environment: &ExecutionEnvironment, provider: &Provider) -> std::io::Result<()> {
    provider.settings_files.iter().try_for_each(|file| home_files::write_settings_file(environment, file))
}
