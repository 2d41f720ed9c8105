//! Watches the terminal's screen from the claim on: for the URL and the code, for the tool's questions, and for the outcome that it
//! shows. It reads the screen only after a change, at most four times a second, and presses keys only on a screen that it has read twice.

use super::{
    active_claim::{ActiveClaim, ClaimSlot},
    state::SignInState,
};
use crate::{log, terminal::handle::Terminal};
use anteroom_screen::{
    prompts::{PromptRules, PromptTracker, ScreenAction},
    sign_in_finder::{FoundSignIn, ScreenMatch},
};
use anteroom_wire::{
    agent::{CliState, SignInEvent, UrlSource},
    chain,
    provider::Key,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// The least time between two reads of the screen.
const READ_EVERY_MS: u64 = 250;
/// Text at the very end of the screen, which the program may still continue, counts when it has not changed for this long.
const SETTLED_MS: u64 = 2_000;

/// Watches the screen, forever.
pub(crate) async fn watch_screen(claim: &ClaimSlot, sign_in: &SignInState, terminal: &Terminal) {
    let mut watch = ScreenWatch::new(claim, sign_in, terminal, claim.wait_claimed().await);
    let (mut changes, mut run_changes) = (terminal.subscribe_screen_changes(), sign_in.subscribe_run_number());
    let mut claim_changes = claim.subscribe();
    // The tool may have written before the subscription.
    changes.mark_changed();
    loop {
        let recheck = async {
            match watch.recheck_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let senders_exist = tokio::select! {
            changed = changes.changed() => changed.is_ok(),
            changed = run_changes.changed() => changed.is_ok(),
            changed = claim_changes.changed() => changed.is_ok(),
            () = recheck => true,
        };
        if !senders_exist {
            return;
        }
        loop {
            watch.restart_if_outdated();
            // One read covers all changes within this pause.
            tokio::time::sleep(Duration::from_millis(READ_EVERY_MS)).await;
            if !watch.is_outdated() {
                break;
            }
        }
        changes.mark_unchanged();
        watch.recheck_at = None;
        if !watch.is_idle() {
            watch.read_screen().await;
        }
    }
}

/// The findings in one run of the tool.
struct ScreenWatch<'a> {
    claim_slot: &'a ClaimSlot,
    sign_in: &'a SignInState,
    terminal: &'a Terminal,
    claim: Arc<ActiveClaim>,
    /// The run's number ([`SignInState::run_number`]).
    run: u64,
    rules: PromptRules,
    tracker: PromptTracker,
    url: Unsettled,
    code: Unsettled,
    /// When to read the screen although nothing changed.
    recheck_at: Option<Instant>,
}

/// Text at the end of the screen, and since when it has not changed.
type Unsettled = Option<(String, Instant)>;

impl<'a> ScreenWatch<'a> {
    fn new(
        claim_slot: &'a ClaimSlot,
        sign_in: &'a SignInState,
        terminal: &'a Terminal,
        claim: Arc<ActiveClaim>,
    ) -> Self {
        // With a stored credential the command is not the sign-in's, and the caller answers its questions.
        let rules =
            if claim.use_credential.is_none() { PromptRules::new(&claim.provider) } else { Ok(PromptRules::default()) };
        let rules = rules.unwrap_or_else(|error| {
            log::write_line(&chain(&error));
            PromptRules::default()
        });
        let (run, tracker) = (sign_in.run_number(), PromptTracker::default());
        Self { claim_slot, sign_in, terminal, claim, run, rules, tracker, url: None, code: None, recheck_at: None }
    }

    /// Whether a new run of the tool has started, or another method was chosen.
    fn is_outdated(&self) -> bool {
        let claim_changed = self.claim_slot.current().is_some_and(|claim| !Arc::ptr_eq(&claim, &self.claim));
        claim_changed || self.sign_in.run_number() != self.run
    }

    /// Drops the findings of an earlier run.
    fn restart_if_outdated(&mut self) {
        if self.is_outdated() {
            let claim = self.claim_slot.current().unwrap_or_else(|| self.claim.clone());
            *self = Self::new(self.claim_slot, self.sign_in, self.terminal, claim);
            self.sign_in.report_early_url();
        }
    }

    fn is_idle(&self) -> bool {
        self.claim.sign_in_finder.is_empty() && self.rules.is_empty()
    }

    fn is_running(&self) -> bool {
        self.sign_in.snapshot().cli == CliState::Running
    }

    async fn read_screen(&mut self) {
        let Ok(snapshot) = self.terminal.read_snapshot().await else { return };
        if self.is_outdated() {
            return;
        }
        let running = self.is_running();
        let found = self.claim.sign_in_finder.find(&snapshot);
        self.record(found, running);
        let text = snapshot.text();
        for action in self.tracker.observe(&self.rules, &text, running) {
            match action {
                ScreenAction::ReportPrompt(id) => {
                    self.sign_in.report_event(SignInEvent::PromptOpened { ask: None, id: id.into() })
                }
                ScreenAction::PressKeys { id, keys } => self.press(&text, id, keys).await,
                ScreenAction::OpenPrompt(prompt) => self.sign_in.open_prompt(prompt),
                ScreenAction::ReopenPrompt(prompt) => self.sign_in.reopen_prompt(prompt),
                ScreenAction::ClosePrompt(id) => self.sign_in.close_prompt(&id),
                ScreenAction::ReportOutcome(outcome) => self.sign_in.set_outcome(outcome),
            }
        }
    }

    fn record(&mut self, found: FoundSignIn, running: bool) {
        let link_from = self.claim.provider.sign_in.link_from;
        if let Some(link) = found.hyperlink_url {
            self.sign_in.add_url(link, UrlSource::Hyperlink, link_from);
        }
        let (url, url_at) = settled(&mut self.url, found.url, running);
        if let Some(url) = url.filter(|url| !self.is_part_of_known_url(url)) {
            self.sign_in.add_url(url, UrlSource::Screen, link_from);
        }
        let (code, code_at) = settled(&mut self.code, found.code, running);
        if let Some(code) = code {
            self.sign_in.set_device_code(code);
        }
        self.recheck_at = url_at.into_iter().chain(code_at).min();
    }

    /// Presses `keys` if the screen still shows the prompt that they answer. Otherwise the screen is read again.
    async fn press(&mut self, text: &str, id: String, keys: Vec<Key>) {
        let same = self.terminal.read_snapshot().await.is_ok_and(|snapshot| snapshot.text() == text);
        if !same || self.is_outdated() || !self.is_running() {
            self.recheck_at = Some(Instant::now());
            return;
        }
        // Once, also after an error: half of an answer followed by all of it would be worse.
        self.tracker.record_press();
        match self.terminal.press_keys(&keys).await {
            Ok(()) => self.sign_in.report_event(SignInEvent::KeysPressed { id: id.into(), keys }),
            Err(error) => log::write_line(&format!("prompt {id}: {error}")),
        }
    }

    /// In a window that got narrower a complete URL may appear cut off.
    fn is_part_of_known_url(&self, url: &str) -> bool {
        let known = self.sign_in.snapshot().url;
        known.is_some_and(|known| known.source == UrlSource::Screen && known.url != url && known.url.starts_with(url))
    }
}

/// The found text if it is complete. Otherwise when to read the screen again.
fn settled(unsettled: &mut Unsettled, found: Option<ScreenMatch>, running: bool) -> (Option<String>, Option<Instant>) {
    let Some(found) = found else {
        *unsettled = None;
        return (None, None);
    };
    if !found.maybe_incomplete || !running {
        *unsettled = None;
        return (Some(found.text), None);
    }
    let since = match unsettled {
        Some((text, since)) if *text == found.text => *since,
        Some(_) | None => unsettled.insert((found.text.clone(), Instant::now())).1,
    };
    let at = since + Duration::from_millis(SETTLED_MS);
    if Instant::now() >= at { (Some(found.text), None) } else { (None, Some(at)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, maybe_incomplete: bool) -> Option<ScreenMatch> {
        Some(ScreenMatch { text: text.into(), maybe_incomplete })
    }

    #[tokio::test(start_paused = true)]
    async fn text_that_may_be_incomplete_counts_once_it_has_not_changed_for_a_while() {
        let mut unsettled = None;
        assert_eq!(settled(&mut unsettled, found("https://a/ha", true), true).0, None);
        tokio::time::advance(Duration::from_millis(SETTLED_MS - 1)).await;
        let (half, recheck_at) = settled(&mut unsettled, found("https://a/half", true), true);
        assert_eq!(half, None);
        tokio::time::advance(Duration::from_millis(SETTLED_MS)).await;
        assert!(Instant::now() >= recheck_at.unwrap());
        assert_eq!(settled(&mut unsettled, found("https://a/half", true), true), (Some("https://a/half".into()), None));
        assert_eq!(settled(&mut unsettled, found("https://a/all", false), true).0.as_deref(), Some("https://a/all"));
        assert_eq!(settled(&mut unsettled, found("https://a/end", true), false).0.as_deref(), Some("https://a/end"));
    }
}
