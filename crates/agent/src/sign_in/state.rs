//! The state of the sign-in (`GET /sign-in`): URLs, code, question and outcome of the running tool. Each change is reported once; a new
//! run of the tool resets everything.

use crate::channel::event_queue::EventQueue;
use anteroom_wire::{
    agent::{CaptureState, CliState, OpenPrompt, SignInEvent, SignInOutcome, SignInStatus, SignInUrl, UrlSource},
    provider::LinkFrom,
};
use parking_lot::Mutex;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Changes that are reported for one run of the tool. Further changes are not reported, in case the tool never stops.
const REPORTS_MAX: u32 = 500;
/// A tool may open its URL before its start was recorded. A URL that is at most this old, milliseconds, still counts for that start.
const EARLY_MS_MAX: u64 = 5_000;

/// The state of the sign-in. Several tasks write, each its part.
pub(crate) struct SignInState {
    current: watch::Sender<SignInStatus>,
    /// Counts the runs of the tool, that is calls of [`SignInState::start_run`].
    runs: watch::Sender<u64>,
    reported: Mutex<u32>,
    early_url: Mutex<Option<EarlyUrl>>,
    events: Arc<EventQueue>,
}

/// A URL that a tool opened before its start was recorded.
struct EarlyUrl {
    url: String,
    link_from: LinkFrom,
    opened_at: Instant,
}

impl SignInState {
    pub(crate) fn new(events: Arc<EventQueue>) -> Self {
        Self {
            current: watch::Sender::new(SignInStatus::default()),
            runs: watch::Sender::new(0),
            reported: Mutex::default(),
            early_url: Mutex::default(),
            events,
        }
    }

    /// For `GET /sign-in`.
    pub(crate) fn snapshot(&self) -> SignInStatus {
        self.current.borrow().clone()
    }

    /// Waits until the outcome differs from this one.
    pub(crate) async fn wait_outcome_change(&self, known: Option<SignInOutcome>) {
        // Cannot fail: the sender lives as long as the state.
        let _ = self.current.subscribe().wait_for(|current| current.outcome != known).await;
    }

    pub(crate) fn set_cli_state(&self, state: CliState) {
        self.current.send_modify(|current| current.cli = state);
    }

    pub(crate) fn set_capture_state(&self, state: CaptureState) {
        self.current.send_modify(|current| current.capture = state);
    }

    /// A new run of the tool starts: the findings of the previous run are dropped. Call it before `CliStarted` is pushed, with no
    /// `await` in between; findings that the new run has caused already are reported again after that.
    pub(crate) fn start_run(&self) {
        self.current.send_modify(|current| {
            let (cli, capture) = (current.cli.clone(), current.capture.clone());
            *current = SignInStatus { cli, capture, ..SignInStatus::default() };
        });
        *self.reported.lock() = 0;
        self.runs.send_modify(|runs| *runs += 1);
    }

    /// The number of the current run of the tool.
    pub(crate) fn run_number(&self) -> u64 {
        *self.runs.borrow()
    }

    /// Changes whenever a new run starts.
    pub(crate) fn subscribe_run_number(&self) -> watch::Receiver<u64> {
        self.runs.subscribe()
    }

    /// Reports the URL that was opened before the start was recorded, once.
    pub(crate) fn report_early_url(&self) {
        let Some(early) = self.early_url.lock().take() else { return };
        let is_recent = early.opened_at.elapsed() <= Duration::from_millis(EARLY_MS_MAX);
        if is_recent && self.current.borrow().browser_url.is_none() {
            self.add_url(early.url, UrlSource::BrowserCommand, early.link_from);
        }
    }

    /// Records a URL to open. A URL that the tool passed to `BROWSER` is for the browser in the machine; with [`LinkFrom::Any`] it is
    /// for the user too, and is preferred to a hyperlink, which is preferred to the screen's text, which may be shortened. A later URL
    /// replaces an earlier one of the same source.
    pub(crate) fn add_url(&self, url: String, source: UrlSource, link_from: LinkFrom) {
        let from_tool = source == UrlSource::BrowserCommand;
        if from_tool && self.current.borrow().cli != CliState::Running {
            *self.early_url.lock() = Some(EarlyUrl { url: url.clone(), link_from, opened_at: Instant::now() });
        }
        let found = SignInUrl { url, source };
        let changed = self.current.send_if_modified(|current| {
            let before = (current.url.clone(), current.browser_url.clone());
            if from_tool {
                current.browser_url = Some(found.url.clone());
            }
            let for_user = !from_tool || link_from == LinkFrom::Any;
            if for_user && current.url.as_ref().is_none_or(|known| known.source <= source) {
                current.url = Some(found.clone());
            }
            (&current.url, &current.browser_url) != (&before.0, &before.1)
        });
        if changed {
            self.report_event(SignInEvent::Url(found));
        }
    }

    /// Records the code that the user must enter at the URL.
    pub(crate) fn set_device_code(&self, code: String) {
        let changed =
            self.current.send_if_modified(|current| replace(&mut current.device_code, Some(code.clone().into())));
        if changed {
            self.report_event(SignInEvent::DeviceCode { code: code.into() });
        }
    }

    /// The tool asks the user a question, or asks it again with a reason. Another open question is closed.
    pub(crate) fn open_prompt(&self, prompt: OpenPrompt) {
        self.close_other_prompt(&prompt.id);
        let changed = self.current.send_if_modified(|current| replace(&mut current.prompt, Some(prompt.clone())));
        if changed {
            self.report_event(SignInEvent::PromptOpened { id: prompt.id.clone(), ask: Some(prompt) });
        }
    }

    /// The tool asks again because it rejected the answer. Reported each time: the same reason may occur twice.
    pub(crate) fn reopen_prompt(&self, prompt: OpenPrompt) {
        self.close_other_prompt(&prompt.id);
        self.current.send_modify(|current| current.prompt = Some(prompt.clone()));
        self.report_event(SignInEvent::PromptOpened { id: prompt.id.clone(), ask: Some(prompt) });
    }

    /// An answer to this question was typed: the reason for the rejection of the previous answer is removed.
    pub(crate) fn record_prompt_answered(&self, id: &str) {
        let open = self.current.borrow().prompt.clone().filter(|open| open.id == id && open.rejection.is_some());
        if let Some(prompt) = open {
            self.open_prompt(OpenPrompt { rejection: None, ..prompt });
        }
    }

    fn close_other_prompt(&self, id: &str) {
        let open = self.current.borrow().prompt.as_ref().map(|open| open.id.clone());
        if let Some(other) = open.filter(|open| open != id) {
            self.close_prompt(&other);
        }
    }

    /// Closes the question with this id. Any other stays open.
    pub(crate) fn close_prompt(&self, id: &str) {
        let changed = self.current.send_if_modified(|current| {
            current.prompt.as_ref().is_some_and(|open| open.id == id) && replace(&mut current.prompt, None)
        });
        if changed {
            // Not limited by the number of reports: an opening that was reported must be followed by the close.
            self.events.push(SignInEvent::PromptClosed { id: id.into() });
        }
    }

    /// Records the outcome that the tool shows. Call it once for each time that it does: the same outcome may occur twice.
    pub(crate) fn set_outcome(&self, outcome: SignInOutcome) {
        self.current.send_modify(|current| current.outcome = Some(outcome.clone()));
        self.report_event(SignInEvent::Outcome(outcome));
    }

    /// Reports something that this run of the tool did, up to [`REPORTS_MAX`] times.
    pub(crate) fn report_event(&self, event: SignInEvent) {
        let mut reported = self.reported.lock();
        if *reported < REPORTS_MAX {
            *reported += 1;
            self.events.push(event);
        }
    }
}

/// Replaces the value. Returns whether it differs from the old one.
fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let changed = *old != new;
    *old = new;
    changed
}

#[cfg(test)]
mod tests;
