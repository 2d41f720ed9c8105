//! What is known of the sign-in now (`GET /sign-in`): addresses, code, question and outcome of the running tool. Each real change is
//! told once; a new start of the tool forgets them all.

use crate::events::Events;
use anteroom_wire::{
    agent::{CaptureState, CliState, Event, OpenPrompt, SignInOutcome, SignIn, SignInUrl, UrlSource},
    provider::LinkFrom,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Changes that are told of one run of the tool; a tool that goes on and on changing its mind is not told further.
const CHANGES_MAX: u32 = 500;
/// A tool may hand over its address before its start has been noted: so long before, milliseconds, it still counts for that start.
const EARLY_MS_MAX: u64 = 5_000;

/// The board: many writers, each of its own part.
pub(crate) struct Board {
    now: watch::Sender<SignIn>,
    /// Counts the tool's starts, that is calls of [`Board::clear`].
    starts: watch::Sender<u64>,
    told: Mutex<u32>,
    early: Mutex<Option<Early>>,
    events: Arc<Events>,
}

/// An address that a tool handed over before its start was noted.
struct Early {
    url: String,
    link_from: LinkFrom,
    at: Instant,
}

impl Board {
    pub(crate) fn new(events: Arc<Events>) -> Self {
        Self {
            now: watch::Sender::new(SignIn::default()),
            starts: watch::Sender::new(0),
            told: Mutex::default(),
            early: Mutex::default(),
            events,
        }
    }

    /// For `GET /sign-in`.
    pub(crate) fn read(&self) -> SignIn {
        self.now.borrow().clone()
    }

    pub(crate) fn cli(&self, state: CliState) {
        self.now.send_modify(|now| now.cli = state);
    }

    pub(crate) fn capture(&self, state: CaptureState) {
        self.now.send_modify(|now| now.capture = state);
    }

    /// The tool starts anew: what its last run said is forgotten. Call it before `CliStarted` is pushed, with no `await` between the
    /// two; what the new run has said already is told again after that.
    pub(crate) fn clear(&self) {
        self.now.send_modify(|now| {
            let (cli, capture) = (now.cli.clone(), now.capture.clone());
            *now = SignIn { cli, capture, ..SignIn::default() };
        });
        *locked(&self.told) = 0;
        self.starts.send_modify(|starts| *starts += 1);
    }

    /// How often the tool was started.
    pub(crate) fn start(&self) -> u64 {
        *self.starts.borrow()
    }

    /// The same, as it changes.
    pub(crate) fn starts(&self) -> watch::Receiver<u64> {
        self.starts.subscribe()
    }

    /// Tells the address that came before its start was noted, once.
    pub(crate) fn tell_early(&self) {
        let Some(early) = locked(&self.early).take() else { return };
        if early.at.elapsed() <= Duration::from_millis(EARLY_MS_MAX) && self.now.borrow().browser_url.is_none() {
            self.url(early.url, UrlSource::BrowserCommand, early.link_from);
        }
    }

    /// An address to open. What the tool handed to `BROWSER` is for the browser in the machine; with [`LinkFrom::Any`] it is the
    /// person's too, and outweighs a hyperlink, which outweighs the screen's text, which may be a short form. A newer one replaces
    /// an older one of the same worth.
    pub(crate) fn url(&self, url: String, source: UrlSource, link_from: LinkFrom) {
        let shim = source == UrlSource::BrowserCommand;
        if shim && self.now.borrow().cli != CliState::Running {
            *locked(&self.early) = Some(Early { url: url.clone(), link_from, at: Instant::now() });
        }
        let found = SignInUrl { url, source };
        let changed = self.now.send_if_modified(|now| {
            let before = (now.url.clone(), now.browser_url.clone());
            if shim {
                now.browser_url = Some(found.url.clone());
            }
            let for_the_person = !shim || link_from == LinkFrom::Any;
            if for_the_person && now.url.as_ref().is_none_or(|known| worth(known.source) <= worth(source)) {
                now.url = Some(found.clone());
            }
            (&now.url, &now.browser_url) != (&before.0, &before.1)
        });
        if changed {
            self.tell(Event::SignInUrl(found));
        }
    }

    /// A code to type there.
    pub(crate) fn device_code(&self, code: String) {
        let changed = self.now.send_if_modified(|now| replace(&mut now.device_code, Some(code.clone())));
        if changed {
            self.tell(Event::DeviceCode { code });
        }
    }

    /// The tool asks the person something, or asks it again with a reason. Another question that was open is closed.
    pub(crate) fn open_prompt(&self, prompt: OpenPrompt) {
        self.close_other(&prompt.id);
        let changed = self.now.send_if_modified(|now| replace(&mut now.prompt, Some(prompt.clone())));
        if changed {
            self.tell(Event::PromptOpened { id: prompt.id.clone(), ask: Some(prompt) });
        }
    }

    /// The tool asks again because it did not take the answer. Told each time: the same reason may come twice.
    pub(crate) fn ask_again(&self, prompt: OpenPrompt) {
        self.close_other(&prompt.id);
        self.now.send_modify(|now| now.prompt = Some(prompt.clone()));
        self.tell(Event::PromptOpened { id: prompt.id.clone(), ask: Some(prompt) });
    }

    /// An answer was typed at this question: why the tool did not take the last one no longer counts.
    pub(crate) fn answered(&self, id: &str) {
        let open = self.now.borrow().prompt.clone().filter(|open| open.id == id && open.rejected.is_some());
        if let Some(prompt) = open {
            self.open_prompt(OpenPrompt { rejected: None, ..prompt });
        }
    }

    fn close_other(&self, id: &str) {
        let open = self.now.borrow().prompt.as_ref().map(|open| open.id.clone());
        if let Some(other) = open.filter(|open| open != id) {
            self.close_prompt(&other);
        }
    }

    /// The question of this name is no longer open. Any other stays.
    pub(crate) fn close_prompt(&self, id: &str) {
        let changed = self.now.send_if_modified(|now| {
            now.prompt.as_ref().is_some_and(|open| open.id == id) && replace(&mut now.prompt, None)
        });
        if changed {
            // Always told: whoever heard that it opened must hear that it closed.
            self.events.push(Event::PromptClosed { id: id.to_owned() });
        }
    }

    /// What the tool says of its sign-in. Call it once for each time that it says so: the same word may come twice.
    pub(crate) fn outcome(&self, outcome: SignInOutcome) {
        self.now.send_modify(|now| now.outcome = Some(outcome.clone()));
        self.tell(Event::SignInOutcome(outcome));
    }

    /// Tells of something that this run of the tool did on its screen, as long as there was not too much of it.
    pub(crate) fn tell(&self, event: Event) {
        let mut told = locked(&self.told);
        if *told < CHANGES_MAX {
            *told += 1;
            self.events.push(event);
        }
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether `new` is something else than what stood there.
fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let other = *old != new;
    *old = new;
    other
}

fn worth(source: UrlSource) -> u8 {
    match source {
        UrlSource::BrowserCommand => 2,
        UrlSource::Hyperlink => 1,
        UrlSource::Screen => 0,
    }
}

#[cfg(test)]
mod tests;
