//! Passes the text that the user pastes to the tool: to its callback listener, its standard input, the open question on its screen, or its
//! terminal. The text is checked first, because a tool often gives up after one wrong input.
//!
//! ```text
//!  a callback, whole or only its query ─▶ does it belong to this sign-in? ─▶ requested inside the machine
//!  the address of the sign-in page     ─▶ rejected
//!  anything else, in this order:
//!    the tool waits for a key    ─▶ does it match the pattern? ─▶ the tool is started with it
//!    a rule's question is open   ─▶ does it match the pattern? ─▶ typed there, then Enter
//!    rules ask, but none is open ─▶ rejected: no prompt
//!    the tool waits for its callback, or polls with a device code ─▶ rejected: it reads nothing
//!    no rule asks                ─▶ typed into the terminal, then Enter
//! ```

use super::{
    active_claim::ActiveClaim,
    answer::{find_answer, matching_answer},
    callback::{self, CallbackUrl},
    tool,
};
use crate::{agent::Agent, api_error::ApiError};
use anteroom_screen::prompts::PromptRules;
use anteroom_wire::{
    Problem, Secret,
    agent::{CliState, KEY_ENTRY_PROMPT_ID, Paste, PasteResult, SignInEvent, SignInStatus},
};
use std::time::Duration;
use tokio::time::Instant;

const TEXT_BYTES_MAX: usize = 16 * 1024;
/// From the typing of an answer to Enter: a full-screen program that reads both at once takes them for pasted lines.
const ENTER_AFTER_MS: u64 = 100;
/// How long a tool may take to react to an answer, before the next paste is handled.
const REACTION_MS_MAX: u64 = 1_500;

/// Passes the pasted text to the tool, and reports the result as an event.
///
/// # Errors
/// [`Problem::Malformed`], [`Problem::NotReady`], [`Problem::NoPrompt`], [`Problem::WrongAnswer`], [`Problem::WrongCallback`],
/// [`Problem::CallbackExpected`], [`Problem::SignInPagePasted`], [`Problem::CallbackFailed`]: the tool got nothing, or did not answer. The detail never contains the pasted text.
pub(crate) async fn submit_paste(agent: &Agent, paste: &Paste) -> Result<PasteResult, ApiError> {
    let Some(claim) = agent.claim.current() else {
        return Err(ApiError::new(Problem::NotReady, "the machine is not claimed"));
    };
    let result = pass_to_tool(agent, &claim, &paste.text).await;
    agent.events.push(match &result {
        Ok(pasted) => SignInEvent::PasteAccepted(pasted.clone()),
        Err(error) => SignInEvent::PasteRejected { code: error.problem.code().into() },
    });
    result
}

async fn pass_to_tool(agent: &Agent, claim: &ActiveClaim, text: &Secret) -> Result<PasteResult, ApiError> {
    let text = text.expose().trim();
    let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || !text.chars().all(is_text) {
        let detail = "text must be 1 byte to 16 KiB; of control characters it may have line breaks and tabs";
        return Err(ApiError::new(Problem::Malformed, detail));
    }
    let sign_in = agent.sign_in.snapshot();
    let path = claim.provider.sign_in.callback_path.as_deref();
    if let Some(address) = callback::find_callback(text, &urls(&sign_in), path)? {
        let _calling = agent.tool.callback_lock.lock().await;
        return request_callback(claim, &agent.sign_in.snapshot(), &address).await;
    }
    if claim.use_credential.is_none() && callback::is_sign_in_page(text, &urls(&sign_in)) {
        return Err(ApiError::new(Problem::SignInPagePasted, ""));
    }
    let _typing = agent.tool.typing_lock.lock().await;
    let sign_in = agent.sign_in.snapshot();
    if sign_in.prompt.as_ref().is_some_and(|open| open.id == KEY_ENTRY_PROMPT_ID) {
        return provide_key(agent, claim, text).await;
    }
    if sign_in.cli != CliState::Running {
        return Err(ApiError::new(Problem::NoPrompt, "the tool does not run"));
    }
    if claim.provider.key_entry.is_some() {
        // The tool has read its key already: typed now, it would be visible on the screen.
        return Err(ApiError::new(Problem::NoPrompt, "the tool has its key"));
    }
    // With a stored credential the command is not the sign-in's, and the caller answers its questions.
    let rules =
        if claim.use_credential.is_none() { PromptRules::new(&claim.provider) } else { Ok(PromptRules::default()) };
    let rules = rules.map_err(ApiError::internal)?;
    if rules.has_questions() {
        return answer_prompt(agent, &rules, &sign_in, text).await;
    }
    if claim.use_credential.is_none() {
        if callback::waits_for_callback(&urls(&sign_in)) {
            return Err(ApiError::new(Problem::CallbackExpected, ""));
        }
        if sign_in.device_code.is_some() {
            return Err(ApiError::new(Problem::NoPrompt, "the tool waits until its code is entered at the provider"));
        }
    }
    if text.chars().any(char::is_control) {
        return Err(ApiError::new(Problem::WrongAnswer, "one line"));
    }
    type_and_enter(agent, text).await?;
    Ok(PasteResult::Terminal)
}

/// The sign-in's URLs.
fn urls(sign_in: &SignInStatus) -> Vec<&str> {
    sign_in.browser_url.as_deref().into_iter().chain(sign_in.url.as_ref().map(|found| found.url.as_str())).collect()
}

async fn request_callback(claim: &ActiveClaim, sign_in: &SignInStatus, address: &str) -> Result<PasteResult, ApiError> {
    let Some(address) = CallbackUrl::parse(address) else {
        return Err(ApiError::new(Problem::WrongCallback, "not an address"));
    };
    let address = &address;
    callback::check_callback_url(address, &urls(sign_in), claim.provider.sign_in.callback_path.as_deref())?;
    let status = callback::request_callback(address).await?;
    Ok(PasteResult::Callback { status: status.as_u16() })
}

async fn provide_key(agent: &Agent, claim: &ActiveClaim, text: &str) -> Result<PasteResult, ApiError> {
    let entry = claim.provider.key_entry.as_ref();
    let found = find_answer(text, entry.and_then(|entry| entry.pattern.as_deref()), &[]).map_err(ApiError::internal)?;
    // What was pasted is checked too: the error describes the expected form.
    let key = found.unwrap_or_else(|| Secret::new(text.to_owned()));
    tool::check_key(claim, &key)?;
    if agent.tool.provide_key(key).await {
        Ok(PasteResult::Stdin)
    } else {
        Err(ApiError::new(Problem::NoPrompt, "the tool no longer waits for its key"))
    }
}

async fn answer_prompt(
    agent: &Agent,
    rules: &PromptRules,
    sign_in: &SignInStatus,
    text: &str,
) -> Result<PasteResult, ApiError> {
    // The recorded state may be older than the screen into which the answer is typed, so the screen decides.
    let snapshot = agent.terminal.read_snapshot().await?;
    let before = snapshot.text();
    let open = rules.first_matching_rule(&before).and_then(|rule| Some((rule, rule.question()?)));
    let Some((rule, question)) = open else { return Err(ApiError::new(Problem::NoPrompt, "")) };
    let answer = matching_answer(text, question, &urls(sign_in))?;
    type_and_enter(agent, answer.expose()).await?;
    agent.sign_in.record_prompt_answered(&rule.id);
    wait_screen_change(agent, &before).await;
    Ok(PasteResult::Prompt { id: rule.id.clone().into() })
}

async fn type_and_enter(agent: &Agent, text: &str) -> Result<(), ApiError> {
    agent.terminal.paste_text(&Secret::new(text.to_owned()), false).await?;
    tokio::time::sleep(Duration::from_millis(ENTER_AFTER_MS)).await;
    if agent.sign_in.snapshot().cli != CliState::Running {
        // Enter would start the tool again.
        return Err(ApiError::new(Problem::NoPrompt, "the tool has ended"));
    }
    Ok(agent.terminal.paste_text(&Secret::new(String::new()), true).await?)
}

/// Waits until the screen has changed, which is at once where the tool echoes.
async fn wait_screen_change(agent: &Agent, before: &str) {
    let mut changes = agent.terminal.subscribe_screen_changes();
    let end = Instant::now() + Duration::from_millis(REACTION_MS_MAX);
    loop {
        let same = agent.terminal.read_snapshot().await.is_ok_and(|snapshot| snapshot.text() == before);
        if !same || !matches!(tokio::time::timeout_at(end, changes.changed()).await, Ok(Ok(()))) {
            return;
        }
    }
}
