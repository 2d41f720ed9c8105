//! What the agent tells: into the session's facts and onto its timeline. Everything is the guest's word: bounded, and
//! believed only for what it can know.

mod sign_in;

use super::{
    active_session::{ActiveSession, SessionState},
    timeline,
    use_credential::{self, Told},
};
use crate::{app::App, clock};
use anteroom_store::StoreError;
use anteroom_wire::{
    agent::{CaptureState, CliState, Event, Events, NumberedEvent, SignInUrl, StageReport, StageState, UrlSource},
    provider::LinkFrom,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Events of one batch.
const EVENTS_MAX: usize = 256;
/// An address to sign in at; longer ones are not believed.
const URL_BYTES_MAX: usize = 8 * 1024;
/// A device code.
const CODE_CHARS_MAX: usize = 64;

/// Takes a batch. What was seen before is skipped, so that sending again does no harm.
///
/// # Errors
/// The database cannot be written: the agent keeps this event and those after it, and sends them again.
pub async fn ingest(app: &App, session: &Arc<ActiveSession>, events: Events) -> Result<(), StoreError> {
    let seen = session.state().last_event;
    let mut fresh = events.events;
    fresh.retain(|event| event.number > seen);
    fresh.truncate(EVENTS_MAX);
    // The page shows all of it at once, also while the timeline cannot be written.
    let news: Vec<bool> = fresh.iter().map(|told| take(session, &told.event)).collect();
    for (NumberedEvent { number, event, .. }, is_news) in fresh.into_iter().zip(news) {
        let of_use = Told::of(&event);
        let of_command = use_credential::words(app, session, &event).await?;
        if is_news && let Some((kind, sentence, data)) = of_command.or_else(|| words(session, event)) {
            timeline::append_durably(app, &session.id, kind, sentence, data).await?;
        }
        if let Some(told) = of_use {
            told.take(app, session).await?;
        }
        session.change(|state| state.last_event = state.last_event.max(number));
    }
    Ok(())
}

/// What the session's page shows at once; `false`: something better is known already.
fn take(session: &ActiveSession, event: &Event) -> bool {
    if let Event::SignInUrl(found) = event
        && !is_better(found, session.state().sign_in.url.as_ref())
    {
        return false;
    }
    session.change(|state| match event {
        Event::CliStarted => {
            forget(state);
            state.sign_in.cli = CliState::Running;
        }
        Event::MethodSwitched { method } => begin_anew(state, method),
        Event::CliExited { code, .. } => {
            state.sign_in.cli = CliState::Exited { code: *code };
            state.sign_in.prompt = None;
        }
        Event::SignInUrl(found) if is_address(found) => {
            let for_the_machine = found.source == UrlSource::BrowserCommand;
            if for_the_machine {
                state.sign_in.browser_url = Some(found.url.clone());
            }
            if !(for_the_machine && state.provider.sign_in.link_from == LinkFrom::Screen) {
                state.sign_in.url = Some(found.clone());
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

/// What the tool said belongs to the process that said it.
fn forget(state: &mut SessionState) {
    state.sign_in.url = None;
    state.sign_in.browser_url = None;
    state.sign_in.device_code = None;
    state.sign_in.prompt = None;
    state.sign_in.outcome = None;
    state.device_code_at_ms = None;
}

/// The tool was ended, to be started by this method.
fn begin_anew(state: &mut SessionState, method: &str) {
    forget(state);
    state.sign_in.method = Some(method.to_owned());
    state.sign_in.cli = CliState::Waiting;
    state.sign_in.capture = CaptureState::Waiting;
    state.credential_kept_in_machine = false;
}

/// What the tool handed to its browser is the whole address; what its screen shows may be a short form of it.
fn is_better(found: &SignInUrl, known: Option<&SignInUrl>) -> bool {
    let worth = |source| match source {
        UrlSource::BrowserCommand => 2,
        UrlSource::Hyperlink => 1,
        UrlSource::Screen => 0,
    };
    known.is_none_or(|known| worth(found.source) >= worth(known.source))
}

fn is_address(found: &SignInUrl) -> bool {
    let good = found.url.starts_with("https://") || found.url.starts_with("http://");
    good && found.url.len() <= URL_BYTES_MAX && !found.url.chars().any(char::is_control)
}

/// The host of an address, for the timeline: the rest of it may carry what only the person should see.
fn host_of(url: &str) -> String {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or("");
    authority.rsplit('@').next().unwrap_or("").chars().take(253).collect()
}

/// Kind, sentence and data of a timeline entry.
type Words = (&'static str, String, Value);

fn words(session: &ActiveSession, event: Event) -> Option<Words> {
    let provider = session.provider();
    let tool = &provider.name;
    Some(match event {
        Event::Stage(report) => return stage_failed(&report),
        Event::CliStarted => ("cli_started", format!("{tool} was started."), Value::Null),
        Event::CliExited { code, last_lines } => (
            "cli_exited",
            format!("{tool} ended with exit code {code}."),
            json!({ "code": code, "last_lines": last_lines }),
        ),
        Event::SignInUrl(found) => {
            let host = host_of(&found.url);
            ("sign_in_url", format!("{tool} wants {host} opened."), json!({ "host": host, "source": found.source }))
        }
        Event::DeviceCode { .. } => ("device_code", format!("{tool} shows a code to sign in with."), Value::Null),
        Event::BrowserOpened { host } => {
            ("browser_opened", format!("The machine's browser opened {host}."), json!({ "host": host }))
        }
        Event::BrowserNotOpened { host, why } => (
            "browser_not_opened",
            format!("The machine's browser did not open {host}: {why}."),
            json!({ "host": host, "why": why }),
        ),
        told @ (Event::PromptOpened { .. }
        | Event::PromptClosed { .. }
        | Event::KeysPressed { .. }
        | Event::Pasted(_)
        | Event::PasteRejected { .. }
        | Event::SignInOutcome(_)
        | Event::MethodSwitched { .. }
        | Event::CredentialKeptInMachine { .. }
        | Event::CredentialChecked { .. }
        | Event::UseCompleted { .. }) => return sign_in::words(tool, told),
        Event::CandidateRejected { path, why } => (
            "candidate_rejected",
            format!("A credential file appeared and is not whole: {path}."),
            json!({ "path": path, "why": why }),
        ),
        Event::CandidateAccepted { path, bytes } => (
            "candidate_accepted",
            format!("A whole credential was found and is being delivered: {path}."),
            json!({ "path": path, "bytes": bytes }),
        ),
        Event::DeliveryRetry { attempts, error } => (
            "delivery_retry",
            format!("The delivery failed {attempts} time(s) and will be tried again."),
            json!({ "attempts": attempts, "error": error }),
        ),
        Event::ChildExited { name, code, restarts, last_lines } => child_exited(&name, code, restarts, &last_lines),
        Event::CrashLoop { name, exits, window_s, code, last_lines } => {
            crash_loop(&name, exits, window_s, code, &last_lines)
        }
        Event::CrashLoopEnded { name } => {
            ("crash_loop_ended", format!("{name} stays up in the machine."), json!({ "name": name }))
        }
        Event::MemoryPressure { low, available_mib, some_avg10 } => (
            if low { "memory_low" } else { "memory_recovered" },
            format!("The machine has {available_mib} MiB of memory left{}.", if low { "" } else { " again" }),
            json!({ "available_mib": available_mib, "some_avg10": some_avg10 }),
        ),
        Event::OutOfMemory { victim, kills } => (
            "out_of_memory",
            format!("The machine's kernel killed {} for want of memory.", victim.as_deref().unwrap_or("a program")),
            json!({ "victim": victim, "kills": kills }),
        ),
    })
}

/// Of stages only a failure is news.
fn stage_failed(report: &StageReport) -> Option<Words> {
    let data = json!({ "stage": report.stage, "attempts": report.attempts, "error": report.last_error });
    let failed = report.state == StageState::Failed;
    failed.then(|| ("stage_failed", format!("{:?} fails in the machine.", report.stage), data))
}

fn child_exited(name: &str, code: Option<i32>, restarts: u32, last_lines: &[String]) -> Words {
    let sentence = match code {
        Some(_) => format!("{name} ended in the machine and is started again."),
        None => format!("{name} could not be started in the machine."),
    };
    let data = json!({ "name": name, "code": code, "restarts": restarts, "last_lines": last_lines });
    ("child_exited", sentence, data)
}

fn crash_loop(name: &str, exits: u32, window_s: u64, code: Option<i32>, last_lines: &[String]) -> Words {
    let what = if code.is_some() { "ended" } else { "could not be started" };
    let sentence = format!("{name} {what} {exits} times within {window_s} s in the machine.");
    let data = json!({ "name": name, "exits": exits, "window_s": window_s, "code": code, "last_lines": last_lines });
    ("crash_loop", sentence, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_browser_was_given_is_not_replaced_by_what_the_screen_shows() {
        let found = |source, url: &str| SignInUrl { source, url: url.into() };
        let (whole, short) =
            (found(UrlSource::BrowserCommand, "https://a/whole"), found(UrlSource::Screen, "https://a/short"));
        assert!(is_better(&short, None) && is_better(&whole, Some(&short)));
        assert!(!is_better(&short, Some(&whole)));
        assert!(
            is_better(&found(UrlSource::BrowserCommand, "https://a/next"), Some(&whole)),
            "a second try of the tool"
        );
    }

    #[test]
    fn the_timeline_has_only_the_host_of_an_address() {
        assert_eq!(host_of("https://auth.example.com/authorize?state=s3cret#x"), "auth.example.com");
        assert_eq!(host_of("https://user:pass@auth.example.com:444/a"), "auth.example.com:444");
        assert_eq!(host_of("nonsense"), "nonsense");
    }
}
