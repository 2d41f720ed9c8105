//! The claim and what a person does to sign in.

use super::{Answer, Granted, Refused, empty, json};
use crate::{agent::Agent, browser, claim, finder, paste, terminal::TerminalError, tool};
use anteroom_wire::{
    Problem,
    agent::{Claim, Input, OpenUrl, Paste, Screen, SignIn, SwitchMethod},
};
use http::StatusCode;
use std::{sync::Arc, time::Duration};

const INPUT_BYTES_MAX: usize = 16 * 1024;
const OPEN_FAULT_MS_MAX: u64 = 1_500;

pub(super) async fn claim(agent: &Arc<Agent>, asked: Claim) -> Result<Answer, Refused> {
    claim::claim(agent, asked).await.map(|claimed| json(Granted, &claimed)).map_err(refused)
}

/// What is known of the sign-in now.
pub(super) fn read(agent: &Agent) -> SignIn {
    let signs_in = agent.claim_now().filter(|owner| owner.use_credential.is_none());
    SignIn { method: signs_in.map(|owner| owner.provider.method.to_string()), ..agent.board.read() }
}

fn refused((problem, detail, status): claim::Refusal) -> Refused {
    let refused = Refused::new(problem, detail);
    Refused { status: status.unwrap_or(refused.status), ..refused }
}

pub(super) async fn paste(agent: &Arc<Agent>, asked: Paste) -> Result<Answer, Refused> {
    // To its end, also when nobody waits for the answer any more: half of an answer must not stay on the screen.
    let on = agent.clone();
    let pasted = tokio::spawn(async move { paste::paste(&on, &asked).await }).await;
    let pasted = pasted.map_err(|error| Refused::new(Problem::Internal, error.to_string()))?;
    pasted.map(|pasted| json(Granted, &pasted)).map_err(|(problem, detail)| Refused::new(problem, detail))
}

pub(super) async fn method(agent: &Arc<Agent>, asked: SwitchMethod) -> Result<Answer, Refused> {
    tool::switch(agent, asked.provider).await.map(|()| empty(StatusCode::NO_CONTENT)).map_err(refused)
}

pub(super) async fn open_url(agent: &Arc<Agent>, asked: OpenUrl) -> Result<Answer, Refused> {
    let host = finder::web_host(&asked.url)
        .ok_or_else(|| Refused::new(Problem::Malformed, "url must be an http or https address of at most 8 KiB"))?;
    owned(agent)?;
    if agent.browser.is_none() {
        return Err(Refused::new(Problem::NotReady, "this machine has no browser"));
    }
    let on = agent.clone();
    let mut opening = tokio::spawn(async move { browser::open(&on, &asked.url, &host).await });
    // A cold browser takes its time, and the person sees it work: only a fault at once is worth waiting for.
    match tokio::time::timeout(Duration::from_millis(OPEN_FAULT_MS_MAX), &mut opening).await {
        Ok(Ok(Err(error))) => {
            Err(Refused::new(Problem::NotReady, format!("the browser did not open it: {error:#}")))?;
        }
        Ok(Err(error)) => Err(Refused::new(Problem::Internal, error.to_string()))?,
        Ok(Ok(Ok(()))) | Err(_) => {}
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn input(agent: &Arc<Agent>, asked: Input) -> Result<Answer, Refused> {
    let text = asked.text.expose();
    if text.len() > INPUT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(Refused::new(Problem::Malformed, "text must be at most 16 KiB without control characters"));
    }
    owned(agent)?;
    agent.terminal.type_text(&asked.text, asked.enter).await.map_err(not_ready)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn screen(agent: &Arc<Agent>) -> Result<Answer, Refused> {
    let said = agent.last_words.borrow().clone();
    let lines = match said {
        Some(lines) => lines,
        // Whoever runs a command reads its output, of which the screen may be the end only.
        None if agent.claim_now().is_some_and(|owner| owner.use_credential.is_some()) => {
            agent.terminal.history().await.map_err(not_ready)?
        }
        None => agent.terminal.screen().await.map_err(not_ready)?,
    };
    Ok(json(Granted, &Screen { lines }))
}

/// Before the claim nothing may be typed or opened: the template must stay as it is.
fn owned(agent: &Agent) -> Result<(), Refused> {
    match agent.claim_now() {
        Some(_) => Ok(()),
        None => Err(Refused::new(Problem::NotReady, "the machine is not claimed")),
    }
}

fn not_ready(error: TerminalError) -> Refused {
    Refused::new(Problem::NotReady, error.to_string())
}
