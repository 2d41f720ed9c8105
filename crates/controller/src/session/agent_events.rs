//! Ingests the events of an agent: into the session's state and onto its timeline. All data comes from the guest and is
//! untrusted: sizes are bounded, and an event changes only what the agent can know.

mod machine;
mod sign_in;

use super::{
    active_session::{ActiveSession, SessionState},
    use_credential::{self, UseEvent},
};
use crate::{clock, session::context::SessionContext};
use anteroom_store::StoreError;
use anteroom_wire::{
    agent::{CaptureState, CliState, Event, Events, NumberedEvent, SignInUrl, UrlSource},
    provider::LinkFrom,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Maximum number of events in one batch.
const EVENTS_MAX: usize = 256;
/// Maximum length of a sign-in URL; longer ones are ignored.
const URL_BYTES_MAX: usize = 8 * 1024;
/// Maximum length of a device code.
const CODE_CHARS_MAX: usize = 64;

/// Ingests a batch. Events that were ingested before are skipped, so that a batch can be sent again.
///
/// # Errors
/// The database cannot be written: the agent keeps this event and those after it, and sends them again.
pub async fn ingest(context: &SessionContext, session: &Arc<ActiveSession>, events: Events) -> Result<(), StoreError> {
    let last_event = session.state().last_event;
    let mut new_events = events.events;
    new_events.retain(|event| event.number > last_event);
    new_events.truncate(EVENTS_MAX);
    // The page shows the new state at once, even while the timeline cannot be written.
    let accepted: Vec<bool> = new_events.iter().map(|numbered| apply_to_state(session, &numbered.event)).collect();
    for (NumberedEvent { number, event, .. }, is_new) in new_events.into_iter().zip(accepted) {
        let use_event = UseEvent::from_event(&event);
        let command_entry = use_credential::command_entry(context, session, &event).await?;
        if is_new && let Some((kind, sentence, data)) = command_entry.or_else(|| timeline_entry(session, event)) {
            context.timeline.append_durably(&session.id, kind, sentence, data).await?;
        }
        if let Some(use_event) = use_event {
            use_event.apply(context, session).await?;
        }
        session.update(|state| state.last_event = state.last_event.max(number));
    }
    Ok(())
}

/// Applies an event to the session's state. Returns `false` if it adds nothing: a more complete URL is known already.
fn apply_to_state(session: &ActiveSession, event: &Event) -> bool {
    if let Event::SignInUrl(sign_in_url) = event
        && !is_at_least_as_complete(sign_in_url, session.state().sign_in.url.as_ref())
    {
        return false;
    }
    session.update(|state| match event {
        Event::CliStarted => {
            clear_tool_output(state);
            state.sign_in.cli = CliState::Running;
        }
        Event::MethodSwitched { method } => reset_for_method(state, method),
        Event::CliExited { code, .. } => {
            state.sign_in.cli = CliState::Exited { code: *code };
            state.sign_in.prompt = None;
        }
        Event::SignInUrl(sign_in_url) if is_http_url(sign_in_url) => {
            let is_from_shim = sign_in_url.source == UrlSource::BrowserCommand;
            if is_from_shim {
                state.sign_in.browser_url = Some(sign_in_url.url.clone());
            }
            if !(is_from_shim && state.provider.sign_in.link_from == LinkFrom::Screen) {
                state.sign_in.url = Some(sign_in_url.clone());
            }
        }
        Event::PromptOpened { ask: Some(ask), .. } => state.sign_in.prompt = Some(ask.clone()),
        Event::PromptClosed { id } => {
            if state.sign_in.prompt.as_ref().is_some_and(|open| open.id == *id) {
                state.sign_in.prompt = None;
            }
        }
        Event::SignInOutcome(outcome) => state.sign_in.outcome = Some(outcome.clone()),
        Event::CredentialKeptInMachine { .. } => state.credential_kept_in_machine = true,
        Event::DeviceCode { code } if code.chars().count() <= CODE_CHARS_MAX => {
            state.sign_in.device_code = Some(code.clone());
            state.device_code_at_ms = Some(clock::now());
        }
        Event::CandidateRejected { path, why } => {
            state.sign_in.capture = CaptureState::CandidateRejected { path: path.clone(), why: why.clone() };
        }
        Event::CandidateAccepted { .. } => {
            state.delivery_pending = true;
            state.sign_in.capture = CaptureState::Delivering { attempts: 0, last_error: None };
        }
        Event::DeliveryRetry { attempts, error } => {
            state.delivery_pending = true;
            state.sign_in.capture = CaptureState::Delivering { attempts: *attempts, last_error: Some(error.clone()) };
        }
        Event::Stage(_)
        | Event::SignInUrl(_)
        | Event::DeviceCode { .. }
        | Event::PromptOpened { ask: None, .. }
        | Event::KeysPressed { .. }
        | Event::Pasted(_)
        | Event::PasteRejected { .. }
        | Event::CredentialChecked { .. }
        | Event::UseCompleted { .. }
        | Event::BrowserOpened { .. }
        | Event::BrowserNotOpened { .. }
        | Event::ChildExited { .. }
        | Event::CrashLoop { .. }
        | Event::CrashLoopEnded { .. }
        | Event::MemoryPressure { .. }
        | Event::OutOfMemory { .. } => {}
    });
    true
}

/// Clears what the tool's process reported: it is void for the next process.
fn clear_tool_output(state: &mut SessionState) {
    state.sign_in.url = None;
    state.sign_in.browser_url = None;
    state.sign_in.device_code = None;
    state.sign_in.prompt = None;
    state.sign_in.outcome = None;
    state.device_code_at_ms = None;
}

/// Resets the state for a tool that is started again with this method.
fn reset_for_method(state: &mut SessionState, method: &str) {
    clear_tool_output(state);
    state.sign_in.method = Some(method.to_owned());
    state.sign_in.cli = CliState::Waiting;
    state.sign_in.capture = CaptureState::Waiting;
    state.credential_kept_in_machine = false;
}

/// Compares the sources of two URLs: the one that the tool passed to its browser is complete, the one on its screen may be cut off.
fn is_at_least_as_complete(sign_in_url: &SignInUrl, known: Option<&SignInUrl>) -> bool {
    let rank = |source| match source {
        UrlSource::BrowserCommand => 2,
        UrlSource::Hyperlink => 1,
        UrlSource::Screen => 0,
    };
    known.is_none_or(|known| rank(sign_in_url.source) >= rank(known.source))
}

fn is_http_url(sign_in_url: &SignInUrl) -> bool {
    let good = sign_in_url.url.starts_with("https://") || sign_in_url.url.starts_with("http://");
    good && sign_in_url.url.len() <= URL_BYTES_MAX && !sign_in_url.url.chars().any(char::is_control)
}

/// The host of a URL, for the timeline: the rest may contain secrets of the user.
fn host_of(url: &str) -> String {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or("");
    authority.rsplit('@').next().unwrap_or("").chars().take(253).collect()
}

/// Kind, sentence and data of a timeline entry.
type TimelineEntry = (&'static str, String, Value);

fn timeline_entry(session: &ActiveSession, event: Event) -> Option<TimelineEntry> {
    let provider = session.provider();
    let tool = &provider.name;
    Some(match event {
        Event::Stage(report) => return machine::stage_failed(&report),
        Event::CliStarted => ("cli_started", format!("{tool} was started."), Value::Null),
        Event::CliExited { code, last_lines } => (
            "cli_exited",
            format!("{tool} exited with code {code}."),
            json!({ "code": code, "last_lines": last_lines }),
        ),
        Event::SignInUrl(sign_in_url) => {
            let host = host_of(&sign_in_url.url);
            (
                "sign_in_url",
                format!("{tool} requests that {host} is opened."),
                json!({ "host": host, "source": sign_in_url.source }),
            )
        }
        Event::DeviceCode { .. } => ("device_code", format!("{tool} shows a device code."), Value::Null),
        Event::BrowserOpened { host } => {
            ("browser_opened", format!("The machine's browser opened {host}."), json!({ "host": host }))
        }
        Event::BrowserNotOpened { host, why } => (
            "browser_not_opened",
            format!("The machine's browser did not open {host}: {why}."),
            json!({ "host": host, "why": why }),
        ),
        sign_in_event @ (Event::PromptOpened { .. }
        | Event::PromptClosed { .. }
        | Event::KeysPressed { .. }
        | Event::Pasted(_)
        | Event::PasteRejected { .. }
        | Event::SignInOutcome(_)
        | Event::MethodSwitched { .. }
        | Event::CredentialKeptInMachine { .. }
        | Event::CredentialChecked { .. }
        | Event::UseCompleted { .. }) => return sign_in::timeline_entry(tool, sign_in_event),
        Event::CandidateRejected { path, why } => (
            "candidate_rejected",
            format!("A credential file appeared and is incomplete: {path}."),
            json!({ "path": path, "why": why }),
        ),
        Event::CandidateAccepted { path, bytes } => (
            "candidate_accepted",
            format!("A complete credential was found and is being delivered: {path}."),
            json!({ "path": path, "bytes": bytes }),
        ),
        Event::DeliveryRetry { attempts, error } => (
            "delivery_retry",
            format!("The delivery failed {attempts} time(s) and will be retried."),
            json!({ "attempts": attempts, "error": error }),
        ),
        Event::ChildExited { name, code, restarts, last_lines } => {
            machine::child_exited(&name, code, restarts, &last_lines)
        }
        Event::CrashLoop { name, exits, window_s, code, last_lines } => {
            machine::crash_loop(&name, exits, window_s, code, &last_lines)
        }
        Event::CrashLoopEnded { name } => machine::crash_loop_ended(&name),
        Event::MemoryPressure { low, available_mib, some_avg10 } => {
            machine::memory_pressure(low, available_mib, some_avg10)
        }
        Event::OutOfMemory { victim, kills } => machine::out_of_memory(victim.as_deref(), kills),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_from_the_browser_is_not_replaced_by_one_from_the_screen() {
        let sign_in_url = |source, url: &str| SignInUrl { source, url: url.into() };
        let (whole, short) = (
            sign_in_url(UrlSource::BrowserCommand, "https://a/whole"),
            sign_in_url(UrlSource::Screen, "https://a/short"),
        );
        assert!(is_at_least_as_complete(&short, None) && is_at_least_as_complete(&whole, Some(&short)));
        assert!(!is_at_least_as_complete(&short, Some(&whole)));
        assert!(
            is_at_least_as_complete(&sign_in_url(UrlSource::BrowserCommand, "https://a/next"), Some(&whole)),
            "a second try of the tool"
        );
    }

    #[test]
    fn the_timeline_contains_only_the_host_of_a_url() {
        assert_eq!(host_of("https://auth.example.com/authorize?state=s3cret#x"), "auth.example.com");
        assert_eq!(host_of("https://user:pass@auth.example.com:444/a"), "auth.example.com:444");
        assert_eq!(host_of("nonsense"), "nonsense");
    }
}
