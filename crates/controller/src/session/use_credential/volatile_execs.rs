//! In-memory data of credential uses: the arguments of each command until its session ends, and the last screens for a limited
//! time. Both may contain secrets, so they are not written to the database.

use anteroom_wire::SessionId;
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Maximum number of screens; the oldest is discarded first.
pub const SCREENS_MAX: usize = 64;
/// Maximum size of one screen; of a larger one the end is kept.
pub const SCREEN_BYTES_MAX: usize = 256 * 1024;

/// How long the last screen of a command is kept for its caller: long enough for `anteroom exec`, which fetches it at once.
pub const LAST_SCREEN_AGE_MAX: Duration = Duration::from_secs(60);

/// The time after which a session that is being started counts as ended.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A text that is zeroed when it is dropped.
type SecretText = Zeroizing<String>;

/// Arguments and last screens of commands that use a credential.
#[derive(Default)]
pub struct VolatileExecs(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    commands: HashMap<SessionId, Command>,
    screens: VecDeque<LastScreen>,
}

struct Command {
    at: Instant,
    argv: Vec<SecretText>,
    attached: bool,
}

/// The last screen of a command.
struct LastScreen {
    session: SessionId,
    at: Instant,
    lines: Vec<SecretText>,
}

impl VolatileExecs {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }

    /// Stores a session's command: its arguments, and whether it waits for its caller. Those of sessions that are not active are discarded.
    pub fn store_command(
        &self,
        session: &SessionId,
        argv: Vec<String>,
        attached: bool,
        is_active: impl Fn(&SessionId) -> bool,
    ) {
        let mut inner = self.inner();
        // A session that is just being started is not active yet.
        inner.commands.retain(|session, command| command.at.elapsed() < START_TIMEOUT || is_active(session));
        let argv = argv.into_iter().map(SecretText::new).collect();
        inner.commands.insert(session.clone(), Command { at: Instant::now(), argv, attached });
    }

    /// The arguments of the session's command, and whether it waits for its caller; `None`: this server does not have them.
    pub fn command(&self, session: &SessionId) -> Option<(Vec<String>, bool)> {
        let inner = self.inner();
        let command = inner.commands.get(session)?;
        Some((command.argv.iter().map(|argument| argument.to_string()).collect(), command.attached))
    }

    /// Discards the session's arguments and stores the last content of its terminal.
    pub fn discard_argv_and_store_screen(&self, session: &SessionId, lines: Option<Vec<String>>) {
        let mut inner = self.inner();
        inner.commands.remove(session);
        let Some(lines) = lines else { return };
        let lines = truncated(lines);
        inner.screens.retain(|screen| screen.session != *session);
        if inner.screens.len() == SCREENS_MAX {
            inner.screens.pop_front();
        }
        inner.screens.push_back(LastScreen { session: session.clone(), at: Instant::now(), lines });
    }

    /// The last screen of a session that has ended, if it is not older than `max_age`.
    pub fn last_screen(&self, session: &SessionId, max_age: Duration) -> Option<Vec<String>> {
        self.discard_screens_older_than(max_age);
        let inner = self.inner();
        let screen = inner.screens.iter().find(|screen| screen.session == *session)?;
        Some(screen.lines.iter().map(|line| line.to_string()).collect())
    }

    /// Discards screens older than `max_age`.
    pub fn discard_screens_older_than(&self, max_age: Duration) {
        self.inner().screens.retain(|screen| screen.at.elapsed() < max_age);
    }
}

fn truncated(lines: Vec<String>) -> Vec<SecretText> {
    let mut remaining_bytes = SCREEN_BYTES_MAX;
    let mut screen: Vec<SecretText> = lines.into_iter().map(SecretText::new).rev().collect();
    let fits = screen.iter().take_while(|line| {
        let fits = line.len() < remaining_bytes;
        remaining_bytes = remaining_bytes.saturating_sub(line.len() + 1);
        fits
    });
    let count = fits.count();
    screen.truncate(count);
    screen.reverse();
    screen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u8) -> SessionId {
        SessionId::from_parts(1, [number; 10])
    }

    #[tokio::test(start_paused = true)]
    async fn a_screen_is_kept_only_for_its_maximum_age() {
        let (execs, max_age) = (VolatileExecs::default(), Duration::from_secs(60));
        execs.discard_argv_and_store_screen(&session(1), Some(vec!["done".into()]));
        assert_eq!(execs.last_screen(&session(1), max_age), Some(vec!["done".to_owned()]));
        assert_eq!(execs.last_screen(&session(2), max_age), None, "another session");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(execs.last_screen(&session(1), max_age), None);
        assert!(execs.inner().screens.is_empty(), "discarded, not hidden");
    }

    #[test]
    fn screens_are_bounded_in_number_and_size() {
        let execs = VolatileExecs::default();
        for number in 0..=u8::try_from(SCREENS_MAX).unwrap() {
            execs.discard_argv_and_store_screen(&session(number), Some(vec!["x".into()]));
        }
        assert_eq!(execs.inner().screens.len(), SCREENS_MAX);
        assert_eq!(execs.last_screen(&session(0), Duration::MAX), None, "the oldest is discarded");
        let large = vec!["first".to_owned(), "y".repeat(SCREEN_BYTES_MAX - 10), "last".to_owned()];
        execs.discard_argv_and_store_screen(&session(200), Some(large));
        let screen = execs.last_screen(&session(200), Duration::MAX).unwrap();
        assert_eq!(screen.last().map(String::as_str), Some("last"), "the end is kept");
        assert!(screen.iter().map(|line| line.len() + 1).sum::<usize>() <= SCREEN_BYTES_MAX);
    }
}
