//! Watches the terminal's screen from the claim on: for the address and the code, for what the tool asks, and for its word on how the
//! sign-in ended. It looks only when something changed, at most four times a second, and presses keys only on a screen that it has
//! seen twice.

use crate::{
    agent::Agent,
    claim::Owner,
    finder::{Found, ScreenMatch},
    log,
    prompts::{PromptTracker, Rules, ScreenAction},
};
use anteroom_wire::{
    agent::{CliState, Event, UrlSource},
    provider::Key,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Between two looks.
const LOOK_EVERY_MS: u64 = 250;
/// What stands at the very end of the screen, where the program may go on writing, counts after so long without more.
const GROWN_MS: u64 = 2_000;

/// Looks, for ever.
pub(crate) async fn watch(agent: Arc<Agent>) {
    let mut watch = Watch::new(agent.claimed().await, agent.board.start());
    let (mut changes, mut starts) = (agent.terminal.changes(), agent.board.starts());
    let mut owner = agent.owner.subscribe();
    // The tool may have written before this began to listen.
    changes.mark_changed();
    loop {
        let in_time = async {
            match watch.again_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let goes_on = tokio::select! {
            changed = changes.changed() => changed.is_ok(),
            changed = starts.changed() => changed.is_ok(),
            changed = owner.changed() => changed.is_ok(),
            () = in_time => true,
        };
        if !goes_on {
            return;
        }
        loop {
            watch.follow(&agent);
            // What comes within this pause is seen by the one look after it.
            tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
            if !watch.is_past(&agent) {
                break;
            }
        }
        changes.mark_unchanged();
        watch.again_at = None;
        if !watch.is_idle() {
            watch.look(&agent).await;
        }
    }
}

/// What was seen in one run of the tool.
struct Watch {
    owner: Arc<Owner>,
    /// Which run this is, counted by [`crate::board::Board::clear`].
    start: u64,
    rules: Rules,
    tracker: PromptTracker,
    url: Growing,
    code: Growing,
    /// When to look although nothing changed.
    again_at: Option<Instant>,
}

/// Something at the end of the screen, and since when it did not grow.
type Growing = Option<(String, Instant)>;

impl Watch {
    fn new(owner: Arc<Owner>, start: u64) -> Self {
        // Where a stored credential is used, the command is another, and its questions are its owner's.
        let rules = if owner.use_credential.is_none() { Rules::new(&owner.provider) } else { Ok(Rules::default()) };
        let rules = rules.unwrap_or_else(|error| {
            log::line(&error);
            Rules::default()
        });
        Self { owner, start, rules, tracker: PromptTracker::default(), url: None, code: None, again_at: None }
    }

    /// Whether the tool was started anew, or another method was chosen.
    fn is_past(&self, agent: &Agent) -> bool {
        let another = agent.claim_now().is_some_and(|owner| !Arc::ptr_eq(&owner, &self.owner));
        another || agent.board.start() != self.start
    }

    /// Forgets what is past.
    fn follow(&mut self, agent: &Agent) {
        if self.is_past(agent) {
            let owner = agent.claim_now().unwrap_or_else(|| self.owner.clone());
            *self = Self::new(owner, agent.board.start());
            agent.board.tell_early();
        }
    }

    fn is_idle(&self) -> bool {
        self.owner.finder.is_empty() && self.rules.is_empty()
    }

    async fn look(&mut self, agent: &Agent) {
        let Ok(look) = agent.terminal.look().await else { return };
        if self.is_past(agent) {
            return;
        }
        let running = agent.board.read().cli == CliState::Running;
        let found = self.owner.finder.find(&look);
        self.tell(agent, found, running);
        let text = look.text();
        for step in self.tracker.observe(&self.rules, &text, running) {
            match step {
                ScreenAction::Appeared(id) => agent.board.tell(Event::PromptOpened { ask: None, id }),
                ScreenAction::Press { id, keys } => self.press(agent, &text, id, keys).await,
                ScreenAction::Open(prompt) => agent.board.open_prompt(prompt),
                ScreenAction::Again(prompt) => agent.board.ask_again(prompt),
                ScreenAction::Close(id) => agent.board.close_prompt(&id),
                ScreenAction::Outcome(outcome) => agent.board.outcome(outcome),
            }
        }
    }

    fn tell(&mut self, agent: &Agent, found: Found, running: bool) {
        let link_from = self.owner.provider.sign_in.link_from;
        if let Some(link) = found.link {
            agent.board.url(link, UrlSource::Hyperlink, link_from);
        }
        let (url, url_at) = grown(&mut self.url, found.url, running);
        if let Some(url) = url.filter(|url| !is_part_of_known(agent, url)) {
            agent.board.url(url, UrlSource::Screen, link_from);
        }
        let (code, code_at) = grown(&mut self.code, found.code, running);
        if let Some(code) = code {
            agent.board.device_code(code);
        }
        self.again_at = url_at.into_iter().chain(code_at).min();
    }

    /// Presses `keys` if the screen still shows what they are the answer to; else the next look decides.
    async fn press(&mut self, agent: &Agent, text: &str, id: String, keys: Vec<Key>) {
        let same = agent.terminal.look().await.is_ok_and(|look| look.text() == text);
        if !same || self.is_past(agent) || agent.board.read().cli != CliState::Running {
            self.again_at = Some(Instant::now());
            return;
        }
        // Once, however it goes: half of an answer and then all of it would be worse.
        self.tracker.pressed();
        match agent.terminal.press(&keys).await {
            Ok(()) => agent.board.tell(Event::KeysPressed { id, keys }),
            Err(error) => log::line(&format!("prompt {id}: {error}")),
        }
    }
}

/// What was found, if it is whole; else when to look again.
fn grown(growing: &mut Growing, found: Option<ScreenMatch>, running: bool) -> (Option<String>, Option<Instant>) {
    let Some(piece) = found else {
        *growing = None;
        return (None, None);
    };
    if !piece.maybe_incomplete || !running {
        *growing = None;
        return (Some(piece.text), None);
    }
    let since = match growing {
        Some((text, since)) if *text == piece.text => *since,
        Some(_) | None => growing.insert((piece.text.clone(), Instant::now())).1,
    };
    let at = since + Duration::from_millis(GROWN_MS);
    if Instant::now() >= at { (Some(piece.text), None) } else { (None, Some(at)) }
}

/// A window that got narrower may break an address that was whole before.
fn is_part_of_known(agent: &Agent, url: &str) -> bool {
    let known = agent.board.read().url;
    known.is_some_and(|known| known.source == UrlSource::Screen && known.url != url && known.url.starts_with(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, maybe_incomplete: bool) -> Option<ScreenMatch> {
        Some(ScreenMatch { text: text.into(), maybe_incomplete })
    }

    #[tokio::test(start_paused = true)]
    async fn incomplete_matches_count_once_they_stop_growing() {
        let mut growing = None;
        assert_eq!(grown(&mut growing, piece("https://a/ha", true), true).0, None);
        tokio::time::advance(Duration::from_millis(GROWN_MS - 1)).await;
        let (half, again_at) = grown(&mut growing, piece("https://a/half", true), true);
        assert_eq!(half, None);
        tokio::time::advance(Duration::from_millis(GROWN_MS)).await;
        assert!(Instant::now() >= again_at.unwrap());
        assert_eq!(grown(&mut growing, piece("https://a/half", true), true), (Some("https://a/half".into()), None));
        assert_eq!(grown(&mut growing, piece("https://a/all", false), true).0.as_deref(), Some("https://a/all"));
        assert_eq!(grown(&mut growing, piece("https://a/end", true), false).0.as_deref(), Some("https://a/end"));
    }
}
