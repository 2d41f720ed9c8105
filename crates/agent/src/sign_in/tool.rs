//! The tool's process as the agent steers it: started at once, or only when the person has given the secret that it reads on its
//! standard input; ended to be started by another method.
//!
//! ```text
//!  no pane ─▶ pane serves one method ─▶ key awaited ── give_key ──▶ tool runs ─▶ tool has ended ── Enter ──▶ …
//!     ▲                 └── no key entry ───────────────▲              │
//!     └── switch: the tool's process group is ended, with the pane; the next pane serves the new method ◀──┘
//! ```

use crate::{
    agent::Agent,
    claim::{Owner, Refusal},
    log, settings_file,
};
use anteroom_wire::{
    Problem, Secret,
    agent::{CaptureState, CliState, Event, KEY_ENTRY, OpenPrompt},
    provider::Provider,
};
use regex_lite::Regex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Mutex, oneshot, watch};

/// How long a key that was given may wait for the pane to take it, milliseconds: the pane may just be starting anew.
const KEY_TAKEN_MS_MAX: u64 = 10_000;
/// How long the end of a tool may take, the pane's own limits and its death included, milliseconds.
const END_MS_MAX: u64 = 15_000;

/// The secret for the tool's standard input.
enum Key {
    /// Nothing waits for one.
    Unwanted,
    /// The pane waits.
    Awaited,
    /// Given, and not yet taken by the pane; whoever gave it waits for that.
    Given(Secret, oneshot::Sender<()>),
}

/// What is to be known of the tool beside its terminal.
pub(crate) struct Tool {
    key: watch::Sender<Key>,
    /// The process id of the pane that serves now.
    serving: watch::Sender<Option<u32>>,
    /// Whether what was started last has ended, or could not be started.
    rests: AtomicBool,
    /// Counts the requests to end what the pane runs.
    ends: watch::Sender<u64>,
    /// Held while a credential is on its way out, and while the method is switched: never both at once.
    pub(crate) delivery: Mutex<()>,
}

impl Tool {
    pub(crate) fn new() -> Self {
        Self {
            key: watch::Sender::new(Key::Unwanted),
            serving: watch::Sender::new(None),
            rests: AtomicBool::new(false),
            ends: watch::Sender::new(0),
            delivery: Mutex::new(()),
        }
    }

    /// A pane begins to serve; what it gets tells it when to end. Dropped when it serves no longer.
    pub(crate) fn serve(&self, pane: u32) -> Serving<'_> {
        let ends = self.ends.subscribe();
        self.serving.send_replace(Some(pane));
        Serving { tool: self, ends }
    }

    /// Waits until the person has given the key, and takes it: there is one copy.
    pub(crate) async fn key_given(&self) -> Secret {
        let mut given = self.key.subscribe();
        loop {
            if given.wait_for(|key| matches!(key, Key::Given(..))).await.is_err() {
                return std::future::pending().await;
            }
            if let Key::Given(secret, taken) = self.key.send_replace(Key::Unwanted) {
                let _ = taken.send(());
                return secret;
            }
        }
    }

    /// From now on a key is wanted. One that was given meanwhile stays.
    pub(crate) fn want_key(&self) {
        self.key.send_if_modified(|key| match key {
            Key::Unwanted => {
                *key = Key::Awaited;
                true
            }
            Key::Awaited | Key::Given(..) => false,
        });
    }

    /// The tool has ended by itself, or was never started: `true`; it is started anew: `false`.
    pub(crate) fn rests(&self, rests: bool) {
        self.rests.store(rests, Ordering::Relaxed);
    }

    /// Whether the method is under way: its key is awaited, or its tool runs or is just being started.
    fn is_under_way(&self) -> bool {
        matches!(*self.key.borrow(), Key::Awaited | Key::Given(..)) || !self.rests.load(Ordering::Relaxed)
    }

    /// No key is wanted any more; one that was given is wiped.
    fn forget_key(&self) {
        self.key.send_replace(Key::Unwanted);
    }
}

/// A pane that serves.
pub(crate) struct Serving<'a> {
    tool: &'a Tool,
    ends: watch::Receiver<u64>,
}

impl Serving<'_> {
    /// Waits until what the pane runs shall end, and the pane with it.
    pub(crate) async fn ended(&mut self) {
        if self.ends.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.tool.serving.send_replace(None);
    }
}

/// What the person is asked for before the tool is started; `refused`: why it did not take the last one.
pub(crate) fn key_prompt(owner: &Owner, refused: Option<String>) -> Option<OpenPrompt> {
    let entry = owner.provider.key_entry.as_ref()?;
    let (label, hint) = (entry.label.clone(), entry.hint.clone());
    Some(OpenPrompt { id: KEY_ENTRY.to_owned(), label, secret: true, hint, rejected: refused })
}

/// Whether all of `text` matches `shape`, not only a part of it. No pattern: everything fits.
///
/// # Errors
/// `shape` is no regular expression; a descriptor without faults has none of this kind.
pub(crate) fn fits(pattern: Option<&str>, text: &str) -> Result<bool, regex_lite::Error> {
    let Some(shape) = shape else { return Ok(true) };
    Ok(Regex::new(&format!(r"\A(?:{shape})\z"))?.is_match(text))
}

/// Whether `key` has the shape of the secret that the tool reads; else why it is not given to it.
///
/// # Errors
/// [`Problem::WrongAnswer`] with the hint, never with what was brought; [`Problem::NoPrompt`] when the tool reads no secret.
pub(crate) fn check_key(owner: &Owner, key: &Secret) -> Result<(), Refusal> {
    let Some(entry) = &owner.provider.key_entry else { return Err((Problem::NoPrompt, String::new(), None)) };
    let one_line = !key.expose().is_empty() && !key.expose().chars().any(char::is_control);
    match fits(entry.pattern.as_deref(), key.expose()) {
        Ok(true) if one_line => Ok(()),
        Ok(_) => Err((Problem::WrongAnswer, entry.hint.clone().unwrap_or_default(), None)),
        Err(error) => Err((Problem::Malformed, format!("key_entry.pattern: {error}"), None)),
    }
}

/// Gives the person's secret to the tool, which is started with it on its standard input. Its shape is the caller's business
/// ([`check_key`]). `false`: nothing waits for a key, or nothing took it in time; then it is wiped.
pub(crate) async fn give_key(agent: &Agent, key: Secret) -> bool {
    let slot = &agent.tool.key;
    let (taken, mut taking) = oneshot::channel();
    let mut given = Some(Key::Given(key, taken));
    let awaited = slot.send_if_modified(|slot| match slot {
        Key::Awaited => given.take().is_some_and(|given| {
            *slot = given;
            true
        }),
        Key::Unwanted | Key::Given(..) => false,
    });
    if !awaited {
        return false;
    }
    if let Ok(taken) = tokio::time::timeout(Duration::from_millis(KEY_TAKEN_MS_MAX), &mut taking).await {
        return taken.is_ok();
    }
    slot.send_if_modified(|slot| {
        let left = matches!(slot, Key::Given(..));
        if left {
            *slot = Key::Awaited;
        }
        left
    });
    taking.try_recv().is_ok()
}

/// Ends the tool and lets the pane start it by another method, which is already resolved in `provider`. The method that is under way
/// already is no change.
///
/// # Errors
/// [`Problem::NotReady`] before the claim, [`Problem::Malformed`] for another or an unsound provider or where a stored credential is
/// used, [`Problem::DeliveryInProgress`] while a credential is on its way, [`Problem::Internal`] when the tool does not end.
pub(crate) async fn switch(agent: &Arc<Agent>, provider: Provider) -> Result<(), Refusal> {
    let _one = agent.claiming.lock().await;
    let Some(owner) = agent.claim_now() else {
        return Err((Problem::NotReady, "the machine is not claimed".to_owned(), None));
    };
    let next = owner.with_provider(&agent.place, provider)?;
    if next.provider == owner.provider && agent.tool.is_under_way() {
        return Ok(());
    }
    let Ok(_held) = agent.tool.delivery.try_lock() else {
        return Err((Problem::DeliveryInProgress, String::new(), None));
    };
    end(agent).await?;
    lay_down_settings(agent, &next.provider).map_err(|error| {
        log::line(&format!("method {}: {error}", next.provider.method));
        (Problem::Internal, error.to_string(), None)
    })?;
    let method = next.provider.method.to_string();
    log::line(&format!("method {method}"));
    agent.tool.forget_key();
    agent.tool.rests(false);
    agent.board.clear();
    agent.board.cli(CliState::Waiting);
    agent.board.capture(CaptureState::Waiting);
    agent.events.push(Event::MethodSwitched { method });
    agent.owner.send_replace(Some(Arc::new(next)));
    Ok(())
}

/// Ends what the pane runs, and the pane; the next one waits for the lock that the caller holds.
async fn end(agent: &Agent) -> Result<(), Refusal> {
    let mut serving = agent.tool.serving.subscribe();
    agent.tool.ends.send_modify(|ends| *ends += 1);
    let gone = serving.wait_for(Option::is_none);
    match tokio::time::timeout(Duration::from_millis(END_MS_MAX), gone).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err((Problem::Internal, format!("the tool did not end within {END_MS_MAX} ms"), None)),
    }
}

/// Lays the provider's settings files down, in the place of those that are there.
///
/// # Errors
/// The first that cannot be written, with its path.
pub(crate) fn lay_down_settings(agent: &Agent, provider: &Provider) -> std::io::Result<()> {
    provider.settings_files.iter().try_for_each(|file| settings_file::lay_down(&agent.place, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_must_fit_the_whole_text() {
        assert!(fits(Some("a|ab"), "ab").unwrap());
        for bad in ["xab", "abx", "ab\n", ""] {
            assert!(!fits(Some("a|ab"), bad).unwrap(), "{bad:?}");
        }
        assert!(fits(None, "anything").unwrap());
    }

    #[tokio::test]
    async fn a_key_is_taken_once() {
        let tool = Tool::new();
        tool.want_key();
        assert!(matches!(*tool.key.borrow(), Key::Awaited));
        let (taken, taking) = oneshot::channel();
        tool.key.send_replace(Key::Given(Secret::new("k".into()), taken));
        tool.want_key();
        assert_eq!(tool.key_given().await, Secret::new("k".into()));
        assert!(matches!(*tool.key.borrow(), Key::Unwanted) && taking.await.is_ok());
        let again = tokio::time::timeout(Duration::from_millis(10), tool.key_given()).await;
        assert!(again.is_err());
    }
}
