//! What the person brings from their own browser, and who gets it: the tool's listener on the loopback, its standard input, the question
//! that is open on its screen, or its terminal. It is looked at before the tool sees it, because tools forgive little.
//!
//! ```text
//!  http://localhost:PORT/…  ─▶ is it this sign-in's? ─▶ asked for inside the machine
//!  anything else, in this order:
//!    the tool waits for a key ─▶ does it have the shape? ─▶ the tool is started with it
//!    a rule's question is open ─▶ does it have the shape? ─▶ typed there, Enter
//!    rules ask, none is open  ─▶ refused: nothing waits for it
//!    no rule asks             ─▶ typed into the terminal, Enter
//! ```

use crate::{
    agent::Agent,
    callback::{self, Address, CallbackError},
    claim::Owner,
    log,
    prompts::Rules,
    tool,
};
use anteroom_wire::{
    Problem, Secret,
    agent::{CliState, Event, KEY_ENTRY, Paste, PasteResult, SignIn},
    provider::PromptQuestion,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

const TEXT_BYTES_MAX: usize = 16 * 1024;
/// From the typing of an answer to Enter: programs that draw their own screen take both in one read for pasted lines.
const ENTER_AFTER_MS: u64 = 100;
/// How long a tool may take to show that it took an answer, before the next is looked at.
const SETTLE_MS_MAX: u64 = 1_500;

/// Whoever brings the same twice at once (two clicks, two pages) waits here: the second finds what the first left.
#[derive(Default)]
pub(crate) struct Turns {
    typing: Mutex<()>,
    calling: Mutex<()>,
}

/// Why something was not given to the tool. The text never has anything of what was brought.
pub(crate) type Refusal = (Problem, String);

/// Gives `brought` to whoever waits for it, and tells the controller what became of it.
///
/// # Errors
/// [`Problem::Malformed`], [`Problem::NotReady`], [`Problem::NoPrompt`], [`Problem::WrongAnswer`], [`Problem::WrongCallback`],
/// [`Problem::CallbackFailed`]: the tool got nothing, or did not answer.
pub(crate) async fn paste(agent: &Arc<Agent>, brought: &Paste) -> Result<PasteResult, Refusal> {
    let Some(owner) = agent.claim_now() else {
        return Err((Problem::NotReady, "the machine is not claimed".to_owned()));
    };
    let taken = give(agent, &owner, &brought.text).await;
    agent.events.push(match &taken {
        Ok(pasted) => Event::Pasted(pasted.clone()),
        Err((problem, _)) => Event::PasteRejected { code: problem.code().to_owned() },
    });
    taken
}

async fn give(agent: &Agent, owner: &Owner, brought: &Secret) -> Result<PasteResult, Refusal> {
    let text = brought.expose().trim();
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err((Problem::Malformed, "text must be 1 byte to 16 KiB without control characters".to_owned()));
    }
    let address = Address::parse(text);
    if let Some(address) = address.filter(Address::is_loopback) {
        let _one = agent.turns.calling.lock().await;
        return call_back(owner, &agent.board.read(), &address).await;
    }
    let _one = agent.turns.typing.lock().await;
    let now = agent.board.read();
    if now.prompt.as_ref().is_some_and(|open| open.id == KEY_ENTRY) {
        return give_key(agent, owner, text).await;
    }
    if now.cli != CliState::Running {
        return Err((Problem::NoPrompt, "the tool does not run".to_owned()));
    }
    if owner.provider.key_entry.is_some() {
        // The key is in: typed now, it would stand on the screen.
        return Err((Problem::NoPrompt, "the tool has its key".to_owned()));
    }
    // Where a stored credential is used, the command is another: its questions are nobody's but its owner's.
    let rules = if owner.use_credential.is_none() { Rules::new(&owner.provider) } else { Ok(Rules::default()) };
    let rules = rules.map_err(|error| (Problem::Internal, error))?;
    if rules.asks_user() {
        return answer(agent, &rules, &now, text).await;
    }
    type_in(agent, text).await?;
    Ok(PasteResult::Terminal)
}

/// The sign-in's addresses.
fn addresses(now: &SignIn) -> Vec<&str> {
    now.browser_url.as_deref().into_iter().chain(now.url.as_ref().map(|found| found.url.as_str())).collect()
}

async fn call_back(owner: &Owner, now: &SignIn, address: &Address<'_>) -> Result<PasteResult, Refusal> {
    let refused = |error: CallbackError| {
        let problem = match &error {
            CallbackError::Wrong(_) => Problem::WrongCallback,
            CallbackError::NotAsked => Problem::Malformed,
            CallbackError::Failed(_) => Problem::CallbackFailed,
        };
        (problem, error.to_string())
    };
    callback::check(address, &addresses(now), owner.provider.sign_in.callback_path.as_deref()).map_err(refused)?;
    let status = callback::relay(address).await.map_err(refused)?;
    Ok(PasteResult::Callback { status: status.as_u16() })
}

async fn give_key(agent: &Agent, owner: &Owner, text: &str) -> Result<PasteResult, Refusal> {
    let key = Secret::new(text.to_owned());
    tool::check_key(owner, &key).map_err(|(problem, detail, _)| (problem, detail))?;
    if tool::give_key(agent, key).await {
        Ok(PasteResult::Stdin)
    } else {
        Err((Problem::NoPrompt, "the tool does not wait for it any more".to_owned()))
    }
}

async fn answer(agent: &Agent, rules: &Rules, now: &SignIn, text: &str) -> Result<PasteResult, Refusal> {
    // The board may be a moment behind: what counts is the screen into which is typed.
    let look = agent.terminal.look().await.map_err(|error| (Problem::NotReady, error.to_string()))?;
    let before = look.text();
    let open = rules.open(&before).and_then(|rule| Some((rule, rule.question()?)));
    let Some((rule, ask)) = open else { return Err((Problem::NoPrompt, String::new())) };
    let answer = answers(text, ask, &addresses(now))?;
    type_in(agent, answer.expose()).await?;
    agent.board.answered(&rule.id);
    settle(agent, &before).await;
    Ok(PasteResult::Prompt { id: rule.id.clone() })
}

/// The answer that fits: the text itself, or what stands in the address of the page that showed it.
fn answers(text: &str, ask: &PromptQuestion, known: &[&str]) -> Result<Secret, Refusal> {
    let fits = |answer: &str| {
        let plain = !answer.is_empty() && !answer.chars().any(char::is_control);
        tool::fits(ask.pattern.as_deref(), answer).map(|fits| fits && plain)
    };
    let mut found = if fits(text).map_err(no_shape)? { Some(Secret::new(text.to_owned())) } else { None };
    let page = Address::parse(text).filter(|page| page.secure);
    if found.is_none()
        && let Some(page) = page
        && let Some(code) = page.value("code")
    {
        let state = page.value("state");
        let mut wanted = known.iter().filter_map(|known| Address::parse(known)?.value("state")).peekable();
        if let Some(state) = &state
            && wanted.peek().is_some()
            && !wanted.any(|wanted| wanted == *state)
        {
            return Err((Problem::WrongCallback, "not the same as in this sign-in: state".to_owned()));
        }
        for answer in state.map(|state| format!("{code}#{state}")).into_iter().chain([code.clone()]) {
            if fits(&answer).map_err(no_shape)? {
                found = Some(Secret::new(answer));
                break;
            }
        }
    }
    found.ok_or_else(|| (Problem::WrongAnswer, ask.hint.clone().unwrap_or_default()))
}

fn no_shape(error: regex_lite::Error) -> Refusal {
    (Problem::Internal, format!("ask.pattern: {error}"))
}

async fn type_in(agent: &Agent, text: &str) -> Result<(), Refusal> {
    let not_ready = |error: crate::terminal::TerminalError| {
        log::line(&format!("paste: {error}"));
        (Problem::NotReady, error.to_string())
    };
    agent.terminal.type_text(&Secret::new(text.to_owned()), false).await.map_err(not_ready)?;
    tokio::time::sleep(Duration::from_millis(ENTER_AFTER_MS)).await;
    if agent.board.read().cli != CliState::Running {
        // Enter would start the tool again.
        return Err((Problem::NoPrompt, "the tool has ended".to_owned()));
    }
    agent.terminal.type_text(&Secret::new(String::new()), true).await.map_err(not_ready)
}

/// Waits until the screen is another, which it is at once where the tool echoes.
async fn settle(agent: &Agent, before: &str) {
    let mut changes = agent.terminal.changes();
    let end = Instant::now() + Duration::from_millis(SETTLE_MS_MAX);
    loop {
        let same = agent.terminal.look().await.is_ok_and(|look| look.text() == before);
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

    fn ask(pattern: Option<&str>) -> PromptQuestion {
        let hint = Some("A code with a # in the middle".into());
        PromptQuestion { label: "The code".into(), secret: false, pattern: pattern.map(Into::into), hint, rejected: None }
    }

    fn given(text: &str, pattern: Option<&str>) -> Result<String, Refusal> {
        answers(text, &ask(shape), KNOWN).map(|answer| answer.expose().to_owned())
    }

    #[test]
    fn an_answer_must_have_the_whole_shape() {
        let pattern = Some(r"[A-Za-z0-9_-]+#[A-Za-z0-9_-]+");
        assert_eq!(given("abc#def", shape).unwrap(), "abc#def");
        assert_eq!(given("anything at all", None).unwrap(), "anything at all");
        let refused = given("abc", shape).unwrap_err();
        assert_eq!(refused, (Problem::WrongAnswer, "A code with a # in the middle".to_owned()));
        assert_eq!(given("abc#def ghi", shape).unwrap_err().0, Problem::WrongAnswer);
    }

    #[test]
    fn the_page_that_showed_the_code_has_the_answer_in_its_address() {
        let page = "https://a.example/code/callback?code=ab%2Fc&state=the-state";
        assert_eq!(given(page, Some(r"[a-z/]+#[a-z-]+")).unwrap(), "ab/c#the-state");
        assert_eq!(given(page, Some(r"[a-z/]{4}")).unwrap(), "ab/c");
        assert_eq!(given(page, Some("[0-9]+")).unwrap_err().0, Problem::WrongAnswer);
        assert_eq!(given(page, None).unwrap(), page, "without a shape it is not known what fits");
        let no_state = "https://a.example/code/callback?code=abc";
        assert_eq!(given(no_state, Some("[a-z]+")).unwrap(), "abc");
        let line_feed = "https://a.example/code/callback?code=ab%0Ac&state=the-state";
        assert_eq!(given(line_feed, Some(r"[\s\S]+c")).unwrap_err().0, Problem::WrongAnswer);
    }

    #[test]
    fn the_page_of_another_sign_in_is_refused() {
        let page = "https://a.example/code/callback?code=abc&state=of-yesterday";
        let (problem, detail) = given(page, Some(r"[a-z]+#[a-z-]+")).unwrap_err();
        assert_eq!(problem, Problem::WrongCallback);
        assert!(detail.contains("state") && !detail.contains("yesterday"), "{detail}");
    }
}
