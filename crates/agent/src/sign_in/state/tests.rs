//! What the sign-in state records, and which events it pushes.

use super::*;
use anteroom_wire::agent::{AgentEvent, ToolEvent};

fn sign_in() -> (SignInState, Arc<EventQueue>) {
    let events = Arc::new(EventQueue::default());
    events.start_recording();
    (SignInState::new(events.clone()), events)
}

async fn pushed(events: &EventQueue) -> Vec<AgentEvent> {
    let batch = tokio::time::timeout(Duration::from_millis(50), events.next_batch()).await.unwrap_or_default();
    events.acknowledge(batch.last().map_or(0, |last| last.number));
    batch.into_iter().map(|event| event.event).collect()
}

fn prompt(id: &str, rejected: Option<&str>) -> OpenPrompt {
    let rejected = rejected.map(str::to_owned);
    OpenPrompt {
        id: id.into(),
        label: "The code".into(),
        secret: false,
        expected_format: None,
        rejection: rejected.map(Into::into),
    }
}

#[tokio::test]
async fn each_sign_in_change_is_reported_once_and_the_browser_command_outranks_the_screen() {
    let (state, events) = sign_in();
    state.add_url("https://a.example/short".into(), UrlSource::Screen, LinkFrom::Any);
    state.add_url("https://a.example/link".into(), UrlSource::Hyperlink, LinkFrom::Any);
    state.add_url("https://a.example/short".into(), UrlSource::Screen, LinkFrom::Any);
    state.add_url("https://a.example/full".into(), UrlSource::BrowserCommand, LinkFrom::Any);
    state.add_url("https://a.example/link".into(), UrlSource::Hyperlink, LinkFrom::Any);
    state.add_url("https://a.example/next".into(), UrlSource::BrowserCommand, LinkFrom::Any);
    state.add_url("https://a.example/next".into(), UrlSource::BrowserCommand, LinkFrom::Any);
    state.set_device_code("AB-12".into());
    state.set_device_code("AB-12".into());
    let known = state.snapshot();
    assert_eq!(known.url.unwrap().url, "https://a.example/next");
    assert_eq!(known.browser_url.as_deref(), Some("https://a.example/next"));
    assert_eq!(known.device_code.as_deref(), Some("AB-12"));
    assert_eq!(pushed(&events).await.len(), 5);
}

#[tokio::test]
async fn url_for_the_machines_browser_is_not_shown_to_the_user() {
    let (state, events) = sign_in();
    state.add_url("https://a.example/local".into(), UrlSource::BrowserCommand, LinkFrom::Screen);
    assert_eq!(state.snapshot().url, None);
    state.add_url("https://a.example/code".into(), UrlSource::Screen, LinkFrom::Screen);
    state.add_url("https://a.example/local2".into(), UrlSource::BrowserCommand, LinkFrom::Screen);
    let known = state.snapshot();
    assert_eq!(known.browser_url.as_deref(), Some("https://a.example/local2"));
    assert_eq!(known.url.unwrap().url, "https://a.example/code");
    assert_eq!(pushed(&events).await.len(), 3);
}

#[tokio::test]
async fn prompt_opens_and_closes_once() {
    let (state, events) = sign_in();
    state.open_prompt(prompt("code", None));
    state.open_prompt(prompt("code", None));
    state.open_prompt(prompt("code", Some("too short")));
    state.close_prompt("other");
    state.open_prompt(prompt("name", None));
    state.close_prompt("name");
    state.close_prompt("name");
    let opened =
        |prompt: OpenPrompt| AgentEvent::from(SignInEvent::PromptOpened { id: prompt.id.clone(), ask: Some(prompt) });
    let closed = |id: &str| AgentEvent::from(SignInEvent::PromptClosed { id: id.into() });
    let expected = [
        opened(prompt("code", None)),
        opened(prompt("code", Some("too short"))),
        closed("code"),
        opened(prompt("name", None)),
        closed("name"),
    ];
    assert_eq!(pushed(&events).await, expected);
    assert_eq!(state.snapshot().prompt, None);
}

#[tokio::test]
async fn new_run_drops_only_the_findings_of_the_previous_run() {
    let (state, events) = sign_in();
    state.set_cli_state(CliState::Running);
    state.set_capture_state(CaptureState::Delivered);
    state.add_url("https://a.example/full".into(), UrlSource::BrowserCommand, LinkFrom::Any);
    state.set_device_code("AB-12".into());
    state.open_prompt(prompt("code", None));
    state.set_outcome(SignInOutcome::Done);
    state.start_run();
    let expected = SignInStatus { cli: CliState::Running, capture: CaptureState::Delivered, ..SignInStatus::default() };
    assert_eq!(state.snapshot(), expected);
    pushed(&events).await;
    state.set_device_code("AB-12".into());
    assert_eq!(pushed(&events).await.len(), 1, "the same code of a new run is reported again");
    state.report_early_url();
    assert_eq!(state.snapshot().url, None, "a URL of a running tool is not early");
}

#[tokio::test]
async fn url_opened_before_the_start_was_recorded_is_reported_again_after_it() {
    let (state, events) = sign_in();
    state.add_url("https://a.example/full".into(), UrlSource::BrowserCommand, LinkFrom::Any);
    state.start_run();
    state.set_cli_state(CliState::Running);
    events.push(ToolEvent::Started);
    state.report_early_url();
    state.report_early_url();
    let found = SignInUrl { url: "https://a.example/full".into(), source: UrlSource::BrowserCommand };
    let shown = AgentEvent::from(SignInEvent::Url(found));
    let expected = [shown.clone(), ToolEvent::Started.into(), shown];
    assert_eq!(pushed(&events).await, expected);
}

#[tokio::test]
async fn number_of_reports_of_one_run_is_limited() {
    let (state, events) = sign_in();
    let mut count = 0;
    for n in 0..REPORTS_MAX + 50 {
        state.set_device_code(format!("CODE-{n}"));
        if n % 20 == 0 {
            count += pushed(&events).await.len();
        }
    }
    count += pushed(&events).await.len();
    assert_eq!(count, REPORTS_MAX as usize);
}

#[tokio::test]
async fn answer_removes_the_reason_of_the_last_rejection() {
    let (state, events) = sign_in();
    state.reopen_prompt(prompt("code", Some("too short")));
    state.reopen_prompt(prompt("code", Some("too short")));
    assert_eq!(pushed(&events).await.len(), 2, "the same reason for another answer is reported again");
    state.record_prompt_answered("other");
    state.record_prompt_answered("code");
    state.record_prompt_answered("code");
    assert_eq!(state.snapshot().prompt, Some(prompt("code", None)));
    assert_eq!(pushed(&events).await.len(), 1);
}
