//! What is said about a host that does not answer.

use super::Peers;
use anteroom_controller::{api_error::ApiError, unix_time};
use anteroom_wire::{HostId, Problem};

/// The longest name in a sentence, characters: the reason of a close frame has 123 bytes.
const NAME_CHARS_MAX: usize = 14;
/// The longest time until another attempt, seconds.
const RETRY_AFTER_S_MAX: u64 = 9_999;

/// A host that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreachable {
    /// Which one.
    pub(crate) host: HostId,
    /// When it answered last, milliseconds since 1970.
    pub(crate) since_ms: u64,
}

/// What is known about a host that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// The host, since when, and what happens next: at most 105 bytes.
    pub(crate) sentence: String,
    /// Time until another machine begins, seconds.
    pub(crate) retry_after_s: u64,
}

impl Unreachable {
    /// What happens next. `fence_after_s`: after how long without a heartbeat other hosts take over.
    pub(crate) fn outlook(&self, peers: &Peers, fence_after_s: u64, now_ms: u64) -> Outlook {
        let known = peers.directory.get(&self.host);
        let name = known.as_ref().map_or("that was removed", |host| host.name.as_str());
        // A heartbeat in the database may be old where they go to etcd.
        let last_ms = known.as_ref().and_then(|host| host.heartbeat_at_ms).unwrap_or(0).max(self.since_ms);
        outlook(name, self.since_ms, last_ms.saturating_add(fence_after_s * 1_000), now_ms)
    }

    /// The error of a request.
    pub(crate) fn error(&self, outlook: &Outlook) -> ApiError {
        ApiError::new(Problem::HostUnreachable, outlook.sentence.clone())
    }
}

fn outlook(name: &str, since_ms: u64, next_ms: u64, now_ms: u64) -> Outlook {
    let name: String = name.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(NAME_CHARS_MAX).collect();
    let next_ms = next_ms.max(now_ms);
    // Whole seconds, and never at once: the host is found dead a moment later.
    let retry_after_s = ((next_ms - now_ms) / 1_000).clamp(1, RETRY_AFTER_S_MAX);
    let sentence = format!(
        "host {name} silent since {}; another begins at {} (in {retry_after_s} s) unless it comes back",
        clock(since_ms),
        clock(next_ms)
    );
    Outlook { sentence, retry_after_s }
}

/// `17:01:05Z`.
fn clock(unix_ms: u64) -> String {
    let text = unix_time::format_rfc3339(unix_ms);
    let time = text.split('T').nth(1).unwrap_or_default();
    format!("{}Z", time.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentence_fits_into_a_close_frame_and_names_the_times() {
        let found = outlook("h2", 61_000, 76_000, 64_000);
        assert_eq!(
            found.sentence,
            "host h2 silent since 00:01:01Z; another begins at 00:01:16Z (in 12 s) unless it comes back"
        );
        assert_eq!(found.retry_after_s, 12);
        let found = outlook(&"x".repeat(200), 61_000, 60_000, 64_000);
        assert!(found.sentence.contains("at 00:01:04Z"), "{found:?}");
        assert!("host_unreachable: ".len() + found.sentence.len() <= 123, "{found:?}");
    }
}
