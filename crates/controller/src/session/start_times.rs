//! How long tools take from their start until they show what their user must do: measured on this server, in memory.

use anteroom_wire::{
    ProviderId,
    provider::{MethodName, Provider},
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

/// The starts of one method that are remembered; older ones are dropped.
const STARTS_MAX: usize = 21;
/// With fewer starts, nothing is usual.
const STARTS_MIN: usize = 3;

/// The last start times, by provider and method.
#[derive(Debug, Default)]
pub struct StartTimes(Mutex<HashMap<(ProviderId, MethodName), VecDeque<Duration>>>);

impl StartTimes {
    /// Adds a start.
    pub fn record(&self, provider: &Provider, start_time: Duration) {
        let mut all = self.0.lock();
        let times = all.entry((provider.id.clone(), provider.method.clone())).or_default();
        if times.len() == STARTS_MAX {
            times.pop_front();
        }
        times.push_back(start_time);
    }

    /// The median in seconds, rounded up; `None`: there were too few starts.
    pub fn usual_s(&self, provider: &Provider) -> Option<u64> {
        let all = self.0.lock();
        let times = all.get(&(provider.id.clone(), provider.method.clone()))?;
        median_s(times.iter().copied(), STARTS_MIN)
    }
}

/// The median in seconds, rounded up; `None` if there are fewer than `count_min`.
pub(super) fn median_s(times: impl IntoIterator<Item = Duration>, count_min: usize) -> Option<u64> {
    let mut sorted: Vec<_> = times.into_iter().collect();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).filter(|_| sorted.len() >= count_min)?;
    Some(u64::try_from(median.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_rounded_up_and_needs_enough_starts() {
        let seconds = |times: &[f64]| median_s(times.iter().map(|s| Duration::from_secs_f64(*s)), 3);
        assert_eq!(seconds(&[1.0, 2.0]), None);
        assert_eq!(seconds(&[60.0, 2.1, 0.3]), Some(3));
        assert_eq!(seconds(&[0.1, 0.2, 0.3, 0.4]), Some(1));
    }
}
