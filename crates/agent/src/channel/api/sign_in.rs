//! The claim, and the user's actions of a sign-in.

use super::{ApiResponse, MethodChecked, empty, json};
use crate::{
    agent::Agent,
    api_error::ApiError,
    desktop::browser::{self, Browser},
    sign_in::{change_method, claim, paste},
};
use anteroom_screen::sign_in_finder;
use anteroom_wire::{
    Problem,
    agent::{ChangeMethod, Claim, OpenUrl, Paste, Screen, SignInStatus, TypeText},
};
use http::StatusCode;
use std::{sync::Arc, time::Duration};

const INPUT_BYTES_MAX: usize = 16 * 1024;
const OPEN_ERROR_MS_MAX: u64 = 1_500;

pub(super) async fn claim_machine(agent: &Arc<Agent>, request: Claim) -> Result<ApiResponse, ApiError> {
    claim::apply_claim(agent, request).await.map(|claimed| json(MethodChecked, &claimed))
}

/// The current state of the sign-in.
pub(super) fn get_sign_in_status(agent: &Agent) -> SignInStatus {
    let signing_in = agent.claim.current().filter(|claim| claim.use_credential.is_none());
    SignInStatus {
        method: signing_in.map(|claim| claim.provider.method.to_string()).map(Into::into),
        browser_page: agent.browser.as_ref().and_then(Browser::page),
        ..agent.sign_in.snapshot()
    }
}

pub(super) async fn submit_paste(agent: &Arc<Agent>, request: Paste) -> Result<ApiResponse, ApiError> {
    // Runs to its end also when the request is cancelled: half of an answer must not stay on the screen.
    let agent = agent.clone();
    let pasted = tokio::spawn(async move { paste::submit_paste(&agent, &request).await }).await;
    let pasted = pasted.map_err(ApiError::internal)?;
    pasted.map(|pasted| json(MethodChecked, &pasted))
}

pub(super) async fn change_method(agent: &Arc<Agent>, request: ChangeMethod) -> Result<ApiResponse, ApiError> {
    change_method::change_method(agent, request).await.map(|()| empty(StatusCode::NO_CONTENT))
}

pub(super) async fn open_url(agent: &Arc<Agent>, request: OpenUrl) -> Result<ApiResponse, ApiError> {
    let host = sign_in_finder::web_url_host(&request.url)
        .ok_or_else(|| ApiError::new(Problem::Malformed, "url must be an http or https address of at most 8 KiB"))?;
    require_claim(agent)?;
    let Some(browser) = &agent.browser else {
        return Err(ApiError::new(Problem::NotReady, "this machine has no browser"));
    };
    browser.report_opening(&agent.events, &host);
    let agent = agent.clone();
    let mut opening =
        tokio::spawn(
            async move { browser::open_url(agent.browser.as_ref(), &agent.events, &request.url, &host).await },
        );
    // A browser that was not used yet is slow, and the user sees its progress: only an immediate error is waited for.
    match tokio::time::timeout(Duration::from_millis(OPEN_ERROR_MS_MAX), &mut opening).await {
        Ok(Ok(Err(error))) => {
            Err(ApiError::caused_by(Problem::NotReady, error.context("the browser did not open the URL")))?;
        }
        Ok(Err(error)) => Err(ApiError::internal(error))?,
        Ok(Ok(Ok(()))) | Err(_) => {}
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn type_text(agent: &Arc<Agent>, request: TypeText) -> Result<ApiResponse, ApiError> {
    let text = request.text.expose();
    if text.len() > INPUT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(ApiError::new(Problem::Malformed, "text must be at most 16 KiB without control characters"));
    }
    require_claim(agent)?;
    agent.terminal.paste_text(&request.text, request.press_enter).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn get_screen(agent: &Arc<Agent>) -> Result<ApiResponse, ApiError> {
    let final_output = agent.final_output.borrow().clone();
    let lines = match final_output {
        Some(lines) => lines,
        // The caller of a command reads its output, of which the screen may show only the end.
        None if agent.claim.current().is_some_and(|claim| claim.use_credential.is_some()) => {
            agent.terminal.read_history().await?
        }
        None => agent.terminal.read_screen().await?,
    };
    Ok(json(MethodChecked, &Screen { lines: lines.into_iter().map(Into::into).collect() }))
}

/// Before the claim nothing may be typed or opened: the template must stay unchanged.
fn require_claim(agent: &Agent) -> Result<(), ApiError> {
    match agent.claim.current() {
        Some(_) => Ok(()),
        None => Err(ApiError::new(Problem::NotReady, "the machine is not claimed")),
    }
}
