//! Limits how many log lines a guest or a stranger can cause, so that neither turns the log files over.
//!
//! | lines | most |
//! |---|---|
//! | of one session or machine, from one place in the source | [`SESSION_LINES_PER_MINUTE_MAX`] |
//! | of a library, from one place in its source | [`LIBRARY_LINES_PER_MINUTE_MAX`] |
//! | about refused requests (target [`SECURITY_TARGET`]), from one place in the source | [`SECURITY_LINES_PER_MINUTE_MAX`] and [`SECURITY_LINES_PER_DAY_MAX`] |
//!
//! Lines above that are counted, and one line for each place reports the count ([`LineBudget::report_dropped`]).

use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap, hash_map::RandomState},
    fmt::Debug,
    hash::BuildHasher,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// The target of lines about requests of strangers that were refused, and about attempts to break out of a machine. They are also
/// written to a file of their own.
pub const SECURITY_TARGET: &str = "security";

/// Lines of one session or machine from one place in the source, in a minute.
pub const SESSION_LINES_PER_MINUTE_MAX: u32 = 120;
/// Lines of a library from one place in its source, in a minute. They name no session, and a machine or client can cause some with one frame.
pub const LIBRARY_LINES_PER_MINUTE_MAX: u32 = 20;
/// Lines about refused requests from one place in the source, in a minute.
pub const SECURITY_LINES_PER_MINUTE_MAX: u32 = 20;
/// The same, in a day.
pub const SECURITY_LINES_PER_DAY_MAX: u32 = 1_000;
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Counted places and sessions; when there are more, those without lines in the last minute are forgotten.
pub const WINDOWS_MAX: usize = 10_000;

/// Counts lines by place and by session; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LineBudget(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    hasher: RandomState,
    windows: HashMap<(LineKind, u64), Window>,
    /// Dropped lines by the place's name.
    dropped: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum LineKind {
    Security,
    Session,
    Library,
}

/// How the targets of this server's own lines begin.
const OWN_TARGETS: &str = "anteroom";

#[derive(Debug)]
struct Window {
    minute: (Instant, u32),
    day: (Instant, u32),
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { minute: (now, 0), day: (now, 0) }
    }

    /// Counts a line. Returns whether it is written.
    fn count(&mut self, kind: LineKind, now: Instant) -> bool {
        let (minute_max, day_max) = match kind {
            LineKind::Security => (SECURITY_LINES_PER_MINUTE_MAX, SECURITY_LINES_PER_DAY_MAX),
            LineKind::Session => (SESSION_LINES_PER_MINUTE_MAX, u32::MAX),
            LineKind::Library => (LIBRARY_LINES_PER_MINUTE_MAX, u32::MAX),
        };
        for ((start, lines), length) in [(&mut self.minute, MINUTE), (&mut self.day, DAY)] {
            if now.duration_since(*start) >= length {
                (*start, *lines) = (now, 0);
            }
        }
        let is_within = self.minute.1 < minute_max && self.day.1 < day_max;
        if is_within {
            self.minute.1 += 1;
            self.day.1 += 1;
        }
        is_within
    }
}

impl LineBudget {
    /// Counts a line of this place, about this session or machine. Returns whether it is written.
    fn count(&self, kind: LineKind, place: &str, subject: &str, now: Instant) -> bool {
        let mut counts = self.0.lock();
        let key = (kind, counts.hasher.hash_one((place, subject)));
        if counts.windows.len() >= WINDOWS_MAX && !counts.windows.contains_key(&key) {
            counts.windows.retain(|(kind, _), window| {
                *kind == LineKind::Security || now.duration_since(window.minute.0) < MINUTE
            });
        }
        let is_full = counts.windows.len() >= WINDOWS_MAX && !counts.windows.contains_key(&key);
        let is_written = !is_full && counts.windows.entry(key).or_insert_with(|| Window::new(now)).count(kind, now);
        if !is_written {
            *counts.dropped.entry(place.to_owned()).or_default() += 1;
        }
        is_written
    }

    /// Logs how many lines of each place were dropped since the last report.
    pub fn report_dropped(&self) {
        let dropped = std::mem::take(&mut self.0.lock().dropped);
        for (place, lines) in dropped {
            tracing::warn!(outcome = "log_lines_dropped", place, lines, "log lines dropped: too many from one source");
        }
    }
}

impl<S: Subscriber> Layer<S> for LineBudget {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let mut found = Subject::default();
        event.record(&mut found);
        let kind = match (metadata.target(), &found.subject) {
            (SECURITY_TARGET, _) => LineKind::Security,
            (_, Some(_)) => LineKind::Session,
            (target, None) if target.starts_with(OWN_TARGETS) => return true,
            (_, None) => LineKind::Library,
        };
        let subject = found.subject.filter(|_| kind == LineKind::Session).unwrap_or_default();
        self.count(kind, metadata.name(), &subject, Instant::now())
    }
}

/// The session or machine that a line is about.
#[derive(Default)]
struct Subject {
    subject: Option<String>,
}

impl Visit for Subject {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if matches!(field.name(), "session" | "machine") && self.subject.is_none() {
            self.subject = Some(format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(budget: &LineBudget, kind: LineKind, subject: &str, now: Instant, lines: u32) -> u32 {
        (0..lines).map(|_| u32::from(budget.count(kind, "place", subject, now))).sum()
    }

    #[test]
    fn a_session_with_too_many_lines_takes_none_from_another() {
        let (budget, now) = (LineBudget::default(), Instant::now());
        assert_eq!(written(&budget, LineKind::Session, "ses_1", now, 10_000), SESSION_LINES_PER_MINUTE_MAX);
        assert_eq!(written(&budget, LineKind::Session, "ses_2", now, 10), 10);
        assert_eq!(written(&budget, LineKind::Session, "ses_1", now + MINUTE, 10), 10, "a minute later");
        assert_eq!(budget.0.lock().dropped["place"], u64::from(10_000 - SESSION_LINES_PER_MINUTE_MAX));
    }

    #[test]
    fn refused_requests_cannot_fill_a_file_in_a_day() {
        let (budget, start) = (LineBudget::default(), Instant::now());
        let lines: u32 =
            (0..24 * 60).map(|minute| written(&budget, LineKind::Security, "", start + minute * MINUTE, 100)).sum();
        assert_eq!(lines, SECURITY_LINES_PER_DAY_MAX);
        assert!(written(&budget, LineKind::Security, "", start + DAY, 100) > 0, "the next day");
    }

    #[test]
    fn lines_of_a_library_are_limited_by_place_and_own_lines_are_not() {
        use tracing_subscriber::layer::SubscriberExt;
        let budget = LineBudget::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(budget.clone()), || {
            for _ in 0..100 {
                tracing::warn!(target: "h2::proto::ping_pong", "recv PING ack that we never sent");
                tracing::warn!("a line of this server");
            }
        });
        let dropped: Vec<u64> = budget.0.lock().dropped.values().copied().collect();
        assert_eq!(dropped, [u64::from(100 - LIBRARY_LINES_PER_MINUTE_MAX)]);
    }

    #[test]
    fn the_number_of_counted_places_is_bounded() {
        let (budget, now) = (LineBudget::default(), Instant::now());
        for number in 0..2 * WINDOWS_MAX {
            budget.count(LineKind::Session, "place", &number.to_string(), now);
        }
        assert_eq!(budget.0.lock().windows.len(), WINDOWS_MAX);
        assert!(budget.count(LineKind::Session, "place", "a later session", now + MINUTE));
    }
}
