//! How often one program ended: its restarts, and whether it is in a loop of crashes.

use crate::{
    agent::Agent,
    events::{Events, bounded},
    log,
    supervisor::Output,
};
use anteroom_wire::agent::{Event, Stage};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// So many ends …
const LOOP_EXITS: usize = 5;
/// … within this are a loop of crashes.
const LOOP_WINDOW_S: u64 = 120;
/// A program that stays up this long is out of its loop.
const HELD_MS: u64 = 15_000;
/// Between two looks whether it does.
const LOOK_EVERY_MS: u64 = 1_000;

/// The ends of one program. Cheap to clone: all clones are the same.
#[derive(Clone)]
pub(crate) struct Ends {
    name: &'static str,
    stage: Stage,
    count: Arc<Mutex<Count>>,
}

#[derive(Debug, Default)]
struct Count {
    restarts: u32,
    recent: VecDeque<Instant>,
    /// Since when it is up.
    up: Option<Instant>,
    /// When a loop was told last; `None`: it is in none.
    told: Option<Instant>,
}

impl Count {
    /// It ended at `now`. `Some`: that makes a loop that shall be told; how many ends it has.
    fn ended(&mut self, now: Instant) -> Option<usize> {
        let window = Duration::from_secs(LOOP_WINDOW_S);
        self.up = None;
        self.recent.push_back(now);
        self.recent.retain(|&at| now.saturating_duration_since(at) < window);
        let told_long_ago = self.told.is_none_or(|at| now.saturating_duration_since(at) >= window);
        let tell = self.recent.len() >= LOOP_EXITS && told_long_ago;
        if tell {
            self.told = Some(now);
        }
        tell.then_some(self.recent.len())
    }

    /// Whether it has just left its loop.
    fn left_loop(&mut self, now: Instant) -> bool {
        let held = Duration::from_millis(HELD_MS);
        let out = self.told.is_some() && self.up.is_some_and(|up| now.saturating_duration_since(up) >= held);
        if out {
            self.told = None;
            self.recent.clear();
        }
        out
    }
}

impl Ends {
    /// Of the program `name`, whose failures are those of `stage`.
    pub(crate) fn new(name: &'static str, stage: Stage) -> Self {
        Self { name, stage, count: Arc::default() }
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It was started.
    pub(crate) fn up(&self) {
        self.count().up = Some(Instant::now());
    }

    /// Says that it ended, or could not be started at all (`Err`).
    pub(crate) fn tell(&self, agent: &Agent, ended: &io::Result<i32>, output: &Output) {
        let name = self.name;
        let mut last_lines = output.last_lines();
        let (code, what) = match ended {
            Ok(code) => (Some(*code), format!("{name} ended with {code}")),
            Err(error) => (None, format!("{name} could not be started: {error}")),
        };
        if code.is_none() {
            last_lines.push(what.clone());
        }
        let (restarts, crash_loop, first) = {
            let mut count = self.count();
            let (restarts, first) = (count.restarts, count.told.is_none());
            count.restarts = count.restarts.saturating_add(1);
            (restarts, count.ended(Instant::now()), first)
        };
        log::line(&format!("{what} (restarts {restarts}): {}", last_lines.join(" | ")));
        agent.stages.failed(self.stage, &format!("{what}; {}", last_lines.join("\n")));
        let last_lines: Vec<String> = last_lines.iter().map(|line| bounded(line)).collect();
        let name = name.to_owned();
        agent.events.push(Event::ChildExited { name: name.clone(), code, restarts, last_lines: last_lines.clone() });
        let Some(exits) = crash_loop else { return };
        let exits = u32::try_from(exits).unwrap_or(u32::MAX);
        log::line(&format!("{name} ended {exits} times within {LOOP_WINDOW_S} s"));
        agent.events.push(Event::CrashLoop { name, exits, window_s: LOOP_WINDOW_S, code, last_lines });
        if first {
            tokio::spawn(self.clone().see_out(agent.events.clone()));
        }
    }

    /// Says when the program is out of its loop.
    async fn see_out(self, events: Arc<Events>) {
        loop {
            tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
            if self.count().left_loop(Instant::now()) {
                events.push(Event::CrashLoopOver { name: self.name.to_owned() });
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_told_once_a_window_and_left_when_the_program_holds() {
        let (began, mut count) = (Instant::now(), Count::default());
        let at = |s: u64| began + Duration::from_secs(s);
        let told: Vec<_> = (0..10).map(|s| count.ended(at(s))).collect();
        assert_eq!(told.iter().flatten().collect::<Vec<_>>(), [&LOOP_EXITS]);
        assert!(!count.left_loop(at(1_000)), "it is not up");
        count.up = Some(at(10));
        assert!(!count.left_loop(at(20)));
        assert!(count.left_loop(at(26)));
        assert!(!count.left_loop(at(27)), "once");
        assert_eq!(count.ended(at(30)), None, "it begins anew");
    }

    #[test]
    fn ends_that_are_far_apart_are_no_loop_and_one_that_goes_on_is_told_again() {
        let (began, mut count) = (Instant::now(), Count::default());
        let at = |s: u64| began + Duration::from_secs(s);
        assert!((0..20).all(|n| count.ended(at(n * 40)).is_none()));
        let told = (0..300).filter(|s| count.ended(at(2_000 + s)).is_some()).count();
        assert_eq!(told, 3, "at its fifth end, and twice more in 300 s");
    }
}
