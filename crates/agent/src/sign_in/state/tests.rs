//! What the board knows and what it tells of it.

use super::*;

fn board() -> (Board, Arc<Events>) {
    let events = Arc::new(Events::default());
    events.open();
    (Board::new(events.clone()), events)
}

async fn told(events: &Events) -> Vec<Event> {
    let batch = tokio::time::timeout(Duration::from_millis(50), events.batch()).await.unwrap_or_default();
    events.answered(batch.last().map_or(0, |last| last.number));
    batch.into_iter().map(|event| event.event).collect()
}

fn prompt(id: &str, refused: Option<&str>) -> OpenPrompt {
    let refused = refused.map(str::to_owned);
    OpenPrompt { id: id.into(), label: "The code".into(), secret: false, hint: None, refused }
}

#[tokio::test]
async fn each_change_is_told_once_and_the_shim_outweighs_the_screen() {
    let (board, events) = board();
    board.url("https://a.example/short".into(), UrlSource::Screen, LinkFrom::Any);
    board.url("https://a.example/link".into(), UrlSource::Hyperlink, LinkFrom::Any);
    board.url("https://a.example/short".into(), UrlSource::Screen, LinkFrom::Any);
    board.url("https://a.example/full".into(), UrlSource::BrowserCommand, LinkFrom::Any);
    board.url("https://a.example/link".into(), UrlSource::Hyperlink, LinkFrom::Any);
    board.url("https://a.example/next".into(), UrlSource::BrowserCommand, LinkFrom::Any);
    board.url("https://a.example/next".into(), UrlSource::BrowserCommand, LinkFrom::Any);
    board.device_code("AB-12".into());
    board.device_code("AB-12".into());
    let known = board.read();
    assert_eq!(known.url.unwrap().url, "https://a.example/next");
    assert_eq!(known.browser_url.as_deref(), Some("https://a.example/next"));
    assert_eq!(known.device_code.as_deref(), Some("AB-12"));
    assert_eq!(told(&events).await.len(), 5);
}

#[tokio::test]
async fn an_address_for_the_machines_browser_alone_is_not_the_persons() {
    let (board, events) = board();
    board.url("https://a.example/local".into(), UrlSource::BrowserCommand, LinkFrom::Screen);
    assert_eq!(board.read().url, None);
    board.url("https://a.example/code".into(), UrlSource::Screen, LinkFrom::Screen);
    board.url("https://a.example/local2".into(), UrlSource::BrowserCommand, LinkFrom::Screen);
    let known = board.read();
    assert_eq!(known.browser_url.as_deref(), Some("https://a.example/local2"));
    assert_eq!(known.url.unwrap().url, "https://a.example/code");
    assert_eq!(told(&events).await.len(), 3);
}

#[tokio::test]
async fn a_question_opens_and_closes_once() {
    let (board, events) = board();
    board.open_prompt(prompt("code", None));
    board.open_prompt(prompt("code", None));
    board.open_prompt(prompt("code", Some("too short")));
    board.close_prompt("other");
    board.open_prompt(prompt("name", None));
    board.close_prompt("name");
    board.close_prompt("name");
    let opened = |prompt: OpenPrompt| Event::PromptOpened { id: prompt.id.clone(), ask: Some(prompt) };
    let closed = |id: &str| Event::PromptClosed { id: id.into() };
    let expected = [
        opened(prompt("code", None)),
        opened(prompt("code", Some("too short"))),
        closed("code"),
        opened(prompt("name", None)),
        closed("name"),
    ];
    assert_eq!(told(&events).await, expected);
    assert_eq!(board.read().prompt, None);
}

#[tokio::test]
async fn a_new_start_forgets_what_the_last_run_said_and_nothing_else() {
    let (board, events) = board();
    board.cli(CliState::Running);
    board.capture(CaptureState::Delivered);
    board.url("https://a.example/full".into(), UrlSource::BrowserCommand, LinkFrom::Any);
    board.device_code("AB-12".into());
    board.open_prompt(prompt("code", None));
    board.outcome(SignInOutcome::Done);
    board.clear();
    let expected = SignIn { cli: CliState::Running, capture: CaptureState::Delivered, ..SignIn::default() };
    assert_eq!(board.read(), expected);
    told(&events).await;
    board.device_code("AB-12".into());
    assert_eq!(told(&events).await.len(), 1, "the same code of a new run is news");
    board.tell_early();
    assert_eq!(board.read().url, None, "what came while the tool ran was not early");
}

#[tokio::test]
async fn an_address_that_comes_before_its_start_was_noted_is_told_after_it() {
    let (board, events) = board();
    board.url("https://a.example/full".into(), UrlSource::BrowserCommand, LinkFrom::Any);
    board.clear();
    board.cli(CliState::Running);
    events.push(Event::CliStarted);
    board.tell_early();
    board.tell_early();
    let found = SignInUrl { url: "https://a.example/full".into(), source: UrlSource::BrowserCommand };
    let expected = [Event::SignInUrl(found.clone()), Event::CliStarted, Event::SignInUrl(found)];
    assert_eq!(told(&events).await, expected);
}

#[tokio::test]
async fn a_tool_that_never_stops_changing_its_mind_is_not_told_for_ever() {
    let (board, events) = board();
    let mut heard = 0;
    for n in 0..CHANGES_MAX + 50 {
        board.device_code(format!("CODE-{n}"));
        if n % 20 == 0 {
            heard += told(&events).await.len();
        }
    }
    heard += told(&events).await.len();
    assert_eq!(heard, CHANGES_MAX as usize);
}

#[tokio::test]
async fn an_answer_takes_the_reason_for_the_last_refusal_away() {
    let (board, events) = board();
    board.ask_again(prompt("code", Some("too short")));
    board.ask_again(prompt("code", Some("too short")));
    assert_eq!(told(&events).await.len(), 2, "the same reason for another answer is news");
    board.answered("other");
    board.answered("code");
    board.answered("code");
    assert_eq!(board.read().prompt, Some(prompt("code", None)));
    assert_eq!(told(&events).await.len(), 1);
}
