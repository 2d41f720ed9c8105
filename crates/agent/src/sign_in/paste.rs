//! Passes the text that the user pastes to the tool: to its callback listener, its standard input, the open question on its screen, or its
//! terminal. The text is checked first, because a tool often gives up after one wrong input.
//!
//! ```text
//!  http://localhost:PORT/…  ─▶ does it belong to this sign-in? ─▶ requested inside the machine
//!  anything else, in this order:
//!    the tool waits for a key    ─▶ does it match the pattern? ─▶ the tool is started with it
//!    a rule's question is open   ─▶ does it match the pattern? ─▶ typed there, then Enter
//!    rules ask, but none is open ─▶ rejected: no prompt
//!    no rule asks                ─▶ typed into the terminal, then Enter
//! ```

use super::{
    active_claim::ActiveClaim,
    callback::{self, CallbackUrl},
    tool,
};
use crate::{agent::Agent, api_error::ApiError};
use anteroom_screen::prompts::PromptRules;
use anteroom_wire::{
    Problem, Secret,
    agent::{CliState, KEY_ENTRY_PROMPT_ID, Paste, PasteResult, SignInEvent, SignInStatus},
    provider::PromptQuestion,
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
/// [`Problem::CallbackFailed`]: the tool got nothing, or did not answer. The detail never contains the pasted text.
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
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(ApiError::new(Problem::Malformed, "text must be 1 byte to 16 KiB without control characters"));
    }
    let address = CallbackUrl::parse(text);
    if let Some(address) = address.filter(CallbackUrl::is_loopback) {
        let _calling = agent.tool.callback_lock.lock().await;
        return request_callback(claim, &agent.sign_in.snapshot(), &address).await;
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
    type_and_enter(agent, text).await?;
    Ok(PasteResult::Terminal)
}

/// The sign-in's URLs.
fn urls(sign_in: &SignInStatus) -> Vec<&str> {
    sign_in.browser_url.as_deref().into_iter().chain(sign_in.url.as_ref().map(|found| found.url.as_str())).collect()
}

async fn request_callback(
    claim: &ActiveClaim,
    sign_in: &SignInStatus,
    address: &CallbackUrl<'_>,
) -> Result<PasteResult, ApiError> {
    callback::check_callback_url(address, &urls(sign_in), claim.provider.sign_in.callback_path.as_deref())?;
    let status = callback::request_callback(address).await?;
    Ok(PasteResult::Callback { status: status.as_u16() })
}

async fn provide_key(agent: &Agent, claim: &ActiveClaim, text: &str) -> Result<PasteResult, ApiError> {
    let key = Secret::new(text.to_owned());
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

/// The answer that matches the question's pattern: the text itself, or the code in the URL of the page that shows it.
pub(crate) fn matching_answer(text: &str, question: &PromptQuestion, known_urls: &[&str]) -> Result<Secret, ApiError> {
    let matches = |answer: &str| {
        let is_plain = !answer.is_empty() && !answer.chars().any(char::is_control);
        tool::matches_pattern(question.pattern.as_deref(), answer)
            .map(|matches| matches && is_plain)
            .map_err(ApiError::internal)
    };
    if matches(text)? {
        return Ok(Secret::new(text.to_owned()));
    }
    let page = CallbackUrl::parse(text).filter(|page| page.is_https);
    if let Some(page) = page
        && let Some(code) = page.query_value("code")
    {
        let state = page.query_value("state");
        let mut expected = known_urls.iter().filter_map(|url| CallbackUrl::parse(url)?.query_value("state")).peekable();
        if let Some(state) = &state
            && expected.peek().is_some()
            && !expected.any(|expected| expected == *state)
        {
            return Err(ApiError::new(Problem::WrongCallback, "not the same as in this sign-in: state"));
        }
        for answer in state.map(|state| format!("{code}#{state}")).into_iter().chain([code.clone()]) {
            if matches(&answer)? {
                return Ok(Secret::new(answer));
            }
        }
    }
    Err(ApiError::new(Problem::WrongAnswer, question.expected_format.clone().unwrap_or_default()))
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

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &[
        "https://a.example/authorize?state=the-state&redirect_uri=https%3A%2F%2Fa.example%2Fcode",
        "https://a.example/z-opaque",
    ];

    fn question(pattern: Option<&str>) -> PromptQuestion {
        let expected_format = Some("A code with a # in the middle".into());
        PromptQuestion {
            label: "The code".into(),
            secret: false,
            pattern: pattern.map(Into::into),
            expected_format,
            rejected: None,
        }
    }

    fn answer(text: &str, pattern: Option<&str>) -> Result<String, ApiError> {
        matching_answer(text, &question(pattern), KNOWN).map(|answer| answer.expose().to_owned())
    }

    #[test]
    fn answer_must_match_the_whole_pattern() {
        let pattern = Some(r"[A-Za-z0-9_-]+#[A-Za-z0-9_-]+");
        assert_eq!(answer("abc#def", pattern).unwrap(), "abc#def");
        assert_eq!(answer("anything at all", None).unwrap(), "anything at all");
        let error = answer("abc", pattern).unwrap_err();
        assert_eq!((error.problem, error.detail.as_str()), (Problem::WrongAnswer, "A code with a # in the middle"));
        assert_eq!(answer("abc#def ghi", pattern).unwrap_err().problem, Problem::WrongAnswer);
    }

    #[test]
    fn url_of_the_page_that_shows_the_code_contains_the_answer() {
        let page = "https://a.example/code/callback?code=ab%2Fc&state=the-state";
        assert_eq!(answer(page, Some(r"[a-z/]+#[a-z-]+")).unwrap(), "ab/c#the-state");
        assert_eq!(answer(page, Some(r"[a-z/]{4}")).unwrap(), "ab/c");
        assert_eq!(answer(page, Some("[0-9]+")).unwrap_err().problem, Problem::WrongAnswer);
        assert_eq!(answer(page, None).unwrap(), page, "without a pattern every text is the answer");
        let no_state = "https://a.example/code/callback?code=abc";
        assert_eq!(answer(no_state, Some("[a-z]+")).unwrap(), "abc");
        let line_feed = "https://a.example/code/callback?code=ab%0Ac&state=the-state";
        assert_eq!(answer(line_feed, Some(r"[\s\S]+c")).unwrap_err().problem, Problem::WrongAnswer);
    }

    #[test]
    fn page_of_another_sign_in_is_rejected() {
        let page = "https://a.example/code/callback?code=abc&state=of-yesterday";
        let error = answer(page, Some(r"[a-z]+#[a-z-]+")).unwrap_err();
        assert_eq!(error.problem, Problem::WrongCallback);
        assert!(error.detail.contains("state") && !error.detail.contains("yesterday"), "{}", error.detail);
    }
}
