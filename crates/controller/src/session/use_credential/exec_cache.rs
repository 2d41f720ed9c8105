//! What is kept of uses in memory alone: what each command is called with, until its session is over, and the last screens, for a
//! while. Both may hold what no database should.

use anteroom_wire::SessionId;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Screens that are kept at once; the oldest goes first.
const SCREENS_MAX: usize = 64;
/// One screen; of a larger one the end is kept.
const SCREEN_BYTES_MAX: usize = 256 * 1024;

/// How long a start may take before its session counts as over.
const STARTING: Duration = Duration::from_secs(120);

/// A text that is wiped when it is forgotten.
type Line = Zeroizing<String>;

/// See the module.
#[derive(Default)]
pub struct ExecCache(Mutex<Book>);

#[derive(Default)]
struct Book {
    commands: HashMap<SessionId, (Instant, Vec<Line>)>,
    screens: VecDeque<Retention>,
}

/// The last screen of a command.
struct Retention {
    session: SessionId,
    at: Instant,
    lines: Vec<Line>,
}

impl ExecCache {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what a session's command is called with. Those of sessions that are over are forgotten.
    pub fn remember(&self, session: &SessionId, argv: Vec<String>, is_active: impl Fn(&SessionId) -> bool) {
        let mut book = self.book();
        // One that is just being started is not among those that live yet.
        book.commands.retain(|session, (at, _)| at.elapsed() < STARTING || is_active(session));
        book.commands.insert(session.clone(), (Instant::now(), argv.into_iter().map(Line::new).collect()));
    }

    /// What the session's command is called with; `None`: this server was not told.
    pub fn argv(&self, session: &SessionId) -> Option<Vec<String>> {
        let book = self.book();
        let (_, argv) = book.commands.get(session)?;
        Some(argv.iter().map(|word| word.to_string()).collect())
    }

    /// The session is over; this stood on its terminal.
    pub fn over(&self, session: &SessionId, lines: Option<Vec<String>>) {
        let mut book = self.book();
        book.commands.remove(session);
        let Some(lines) = lines else { return };
        let lines = bounded(lines);
        book.screens.retain(|kept| kept.session != *session);
        if book.screens.len() == SCREENS_MAX {
            book.screens.pop_front();
        }
        book.screens.push_back(Retention { session: session.clone(), at: Instant::now(), lines });
    }

    /// The last screen of a session that is over. What was kept for longer than `life` is forgotten.
    pub fn screen(&self, session: &SessionId, life: Duration) -> Option<Vec<String>> {
        self.forget(life);
        let book = self.book();
        let kept = book.screens.iter().find(|kept| kept.session == *session)?;
        Some(kept.lines.iter().map(|line| line.to_string()).collect())
    }

    /// Forgets the screens that were kept for longer.
    pub fn forget(&self, life: Duration) {
        self.book().screens.retain(|kept| kept.at.elapsed() < life);
    }
}

fn bounded(lines: Vec<String>) -> Vec<Line> {
    let mut room = SCREEN_BYTES_MAX;
    let mut kept: Vec<Line> = lines.into_iter().map(Line::new).rev().collect();
    let fits = kept.iter().take_while(|line| {
        let fits = line.len() < room;
        room = room.saturating_sub(line.len() + 1);
        fits
    });
    let count = fits.count();
    kept.truncate(count);
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u8) -> SessionId {
        SessionId::from_parts(1, [number; 10])
    }

    #[tokio::test(start_paused = true)]
    async fn a_screen_is_kept_for_a_while_and_no_longer() {
        let (uses, life) = (ExecCache::default(), Duration::from_secs(60));
        uses.over(&session(1), Some(vec!["done".into()]));
        assert_eq!(uses.screen(&session(1), life), Some(vec!["done".to_owned()]));
        assert_eq!(uses.screen(&session(2), life), None, "another's");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(uses.screen(&session(1), life), None);
        assert!(uses.book().screens.is_empty(), "forgotten, not hidden");
    }

    #[test]
    fn screens_are_bounded_in_number_and_size() {
        let uses = ExecCache::default();
        for number in 0..=u8::try_from(SCREENS_MAX).unwrap() {
            uses.over(&session(number), Some(vec!["x".into()]));
        }
        assert_eq!(uses.book().screens.len(), SCREENS_MAX);
        assert_eq!(uses.screen(&session(0), Duration::MAX), None, "the oldest went");
        let large = vec!["first".to_owned(), "y".repeat(SCREEN_BYTES_MAX - 10), "last".to_owned()];
        uses.over(&session(200), Some(large));
        let kept = uses.screen(&session(200), Duration::MAX).unwrap();
        assert_eq!(kept.last().map(String::as_str), Some("last"), "the end is kept");
        assert!(kept.iter().map(|line| line.len() + 1).sum::<usize>() <= SCREEN_BYTES_MAX);
    }
}
