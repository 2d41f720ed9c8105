//! Controls the tool's process: it is started at once, or only when the user has entered the secret that it reads on its standard input;
//! it is stopped to be started again by another method.
//!
//! ```text
//!  no pane ─▶ pane attached ─▶ key requested ── provide_key ──▶ tool runs ─▶ tool has exited ── Enter ──▶ …
//!     ▲              └── no key needed ─────────────▲               │
//!     └── change of method: the tool's process group is stopped, with the pane; the next pane starts the new method
//! ```

use super::active_claim::ActiveClaim;
use crate::{api_error::ApiError, platform::environment::ExecutionEnvironment};
use anteroom_wire::{
    Problem, Secret,
    agent::{KEY_ENTRY_PROMPT_ID, OpenPrompt},
    provider::Provider,
};
use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::sync::{Mutex, oneshot, watch};

/// How long the pane may take to read a key that was entered, milliseconds: the pane may just be restarting.
const KEY_USED_MS_MAX: u64 = 10_000;

/// The command line, environment variables and working directory of the tool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ToolCommand {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) dir: PathBuf,
}

impl ToolCommand {
    /// For the tool of `provider`, with the proxy at `proxy`.
    pub(crate) fn new(environment: &ExecutionEnvironment, proxy: SocketAddr, provider: &Provider) -> Self {
        let mut env = environment.program_env(Some(proxy));
        env.insert("TERM".into(), "tmux-256color".into());
        env.insert("COLORTERM".into(), "truecolor".into());
        env.extend(provider.env.clone());
        env.retain(|name, _| !provider.env_unset.contains(name));
        Self { argv: provider.argv.clone(), env, dir: environment.home.clone() }
    }
}

/// The secret for the tool's standard input.
enum KeyState {
    /// No pane waits for a key.
    NotRequested,
    /// The pane waits.
    Requested,
    /// Entered, and not yet read by the pane. The sender completes the request that entered it.
    Entered(Secret, oneshot::Sender<()>),
}

/// Coordinates what happens to the tool's process.
pub(crate) struct Tool {
    key: watch::Sender<KeyState>,
    /// The process id of the attached pane.
    attached_pane: watch::Sender<Option<u32>>,
    /// Whether the last started process has exited, or could not be started.
    is_idle: AtomicBool,
    /// Counts the requests to stop the pane.
    stop_requests: watch::Sender<u64>,
    /// Held while a credential is delivered, and while the method is changed: never both at once.
    pub(crate) delivery_lock: Mutex<()>,
    /// Held while text is typed for the user: of two requests with the same text the second finds what the first left.
    pub(crate) typing_lock: Mutex<()>,
    /// Held while a callback URL is requested, for the same reason.
    pub(crate) callback_lock: Mutex<()>,
}

impl Tool {
    pub(crate) fn new() -> Self {
        Self {
            key: watch::Sender::new(KeyState::NotRequested),
            attached_pane: watch::Sender::new(None),
            is_idle: AtomicBool::new(false),
            stop_requests: watch::Sender::new(0),
            delivery_lock: Mutex::new(()),
            typing_lock: Mutex::new(()),
            callback_lock: Mutex::new(()),
        }
    }

    /// Records that a pane runs the tool, until the result is dropped.
    pub(crate) fn attach_pane(&self, pid: u32) -> AttachedPane<'_> {
        let stop_requests = self.stop_requests.subscribe();
        self.attached_pane.send_replace(Some(pid));
        AttachedPane { tool: self, stop_requests }
    }

    /// Requests the stop of the attached pane, and waits until none is attached.
    pub(super) async fn stop_pane(&self) {
        let mut attached = self.attached_pane.subscribe();
        self.stop_requests.send_modify(|count| *count += 1);
        // Cannot fail: the sender lives as long as the tool.
        let _ = attached.wait_for(Option::is_none).await;
    }

    /// Waits until the user has entered the key, and returns the only copy.
    pub(crate) async fn wait_key(&self) -> Secret {
        let mut key = self.key.subscribe();
        loop {
            if key.wait_for(|key| matches!(key, KeyState::Entered(..))).await.is_err() {
                return std::future::pending().await;
            }
            if let KeyState::Entered(secret, used) = self.key.send_replace(KeyState::NotRequested) {
                let _ = used.send(());
                return secret;
            }
        }
    }

    /// Allows a key to be entered. One that is already entered is kept.
    pub(crate) fn request_key(&self) {
        self.key.send_if_modified(|key| match key {
            KeyState::NotRequested => {
                *key = KeyState::Requested;
                true
            }
            KeyState::Requested | KeyState::Entered(..) => false,
        });
    }

    /// Hands the user's secret to the pane, which starts the tool with it on standard input. The caller has checked it
    /// ([`check_key`]). `false`: no pane waits for a key, or none read it in time; then the key is wiped.
    pub(crate) async fn provide_key(&self, key: Secret) -> bool {
        let (used, mut waiting) = oneshot::channel();
        let mut entered = Some(KeyState::Entered(key, used));
        let requested = self.key.send_if_modified(|key| match key {
            KeyState::Requested => entered.take().is_some_and(|entered| {
                *key = entered;
                true
            }),
            KeyState::NotRequested | KeyState::Entered(..) => false,
        });
        if !requested {
            return false;
        }
        if let Ok(used) = tokio::time::timeout(Duration::from_millis(KEY_USED_MS_MAX), &mut waiting).await {
            return used.is_ok();
        }
        self.key.send_if_modified(|key| {
            let unused = matches!(key, KeyState::Entered(..));
            if unused {
                *key = KeyState::Requested;
            }
            unused
        });
        waiting.try_recv().is_ok()
    }

    /// `true`: the tool has exited, or could not be started. `false`: it is being started.
    pub(crate) fn set_idle(&self, is_idle: bool) {
        self.is_idle.store(is_idle, Ordering::Relaxed);
    }

    /// Whether the method is active: its key is requested, or its tool runs or is being started.
    pub(super) fn is_active(&self) -> bool {
        matches!(*self.key.borrow(), KeyState::Requested | KeyState::Entered(..))
            || !self.is_idle.load(Ordering::Relaxed)
    }

    /// No longer requests a key; one that was entered is wiped.
    pub(super) fn clear_key(&self) {
        self.key.send_replace(KeyState::NotRequested);
    }
}

/// A pane that runs the tool.
pub(crate) struct AttachedPane<'a> {
    tool: &'a Tool,
    stop_requests: watch::Receiver<u64>,
}

impl AttachedPane<'_> {
    /// Waits until the pane must stop, with what it runs.
    pub(crate) async fn wait_stop_requested(&mut self) {
        if self.stop_requests.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for AttachedPane<'_> {
    fn drop(&mut self) {
        self.tool.attached_pane.send_replace(None);
    }
}

/// The question for the key, before the tool is started. `rejection`: why the tool did not accept the previous key.
pub(crate) fn build_key_prompt(claim: &ActiveClaim, rejection: Option<String>) -> Option<OpenPrompt> {
    let entry = claim.provider.key_entry.as_ref()?;
    let (label, expected_format) = (entry.label.clone(), entry.expected_format.clone());
    Some(OpenPrompt {
        id: KEY_ENTRY_PROMPT_ID.into(),
        label: label.into(),
        secret: true,
        expected_format: expected_format.map(Into::into),
        rejection: rejection.map(Into::into),
    })
}

/// Whether all of `text` matches `pattern`, not only a part of it. Without a pattern every text matches.
///
/// # Errors
/// `pattern` is not a regular expression, which a valid descriptor cannot contain.
pub(crate) fn matches_pattern(pattern: Option<&str>, text: &str) -> Result<bool, regex_lite::Error> {
    let Some(pattern) = pattern else { return Ok(true) };
    Ok(Regex::new(&format!(r"\A(?:{pattern})\z"))?.is_match(text))
}

/// Checks the format of the secret that the tool reads.
///
/// # Errors
/// [`Problem::WrongAnswer`] with the expected format, never with the key; [`Problem::NoPrompt`] when the tool reads no secret.
pub(crate) fn check_key(claim: &ActiveClaim, key: &Secret) -> Result<(), ApiError> {
    let Some(entry) = &claim.provider.key_entry else { return Err(ApiError::new(Problem::NoPrompt, "")) };
    let one_line = !key.expose().is_empty() && !key.expose().chars().any(char::is_control);
    match matches_pattern(entry.pattern.as_deref(), key.expose()) {
        Ok(true) if one_line => Ok(()),
        Ok(_) => Err(ApiError::new(Problem::WrongAnswer, entry.expected_format.clone().unwrap_or_default())),
        Err(error) => Err(ApiError::caused_by(Problem::Malformed, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_must_match_the_whole_text() {
        assert!(matches_pattern(Some("a|ab"), "ab").unwrap());
        for bad in ["xab", "abx", "ab\n", ""] {
            assert!(!matches_pattern(Some("a|ab"), bad).unwrap(), "{bad:?}");
        }
        assert!(matches_pattern(None, "anything").unwrap());
    }

    #[tokio::test]
    async fn key_is_used_once() {
        let tool = Tool::new();
        tool.request_key();
        assert!(matches!(*tool.key.borrow(), KeyState::Requested));
        let (used, waiting) = oneshot::channel();
        tool.key.send_replace(KeyState::Entered(Secret::new("k".into()), used));
        tool.request_key();
        assert_eq!(tool.wait_key().await, Secret::new("k".into()));
        assert!(matches!(*tool.key.borrow(), KeyState::NotRequested) && waiting.await.is_ok());
        let again = tokio::time::timeout(Duration::from_millis(10), tool.wait_key()).await;
        assert!(again.is_err());
    }
}
