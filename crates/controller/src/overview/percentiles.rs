//! Percentiles of durations.

/// Half of the durations and 95 of 100 of them are at most as long as these, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Percentiles {
    pub count: u64,
    pub p50_ms: u64,
    pub p95_ms: u64,
}

impl Percentiles {
    /// By the nearest rank; `None` without durations.
    pub(super) fn of(mut durations_ms: Vec<u64>) -> Option<Self> {
        durations_ms.sort_unstable();
        let rank =
            |percent: usize| durations_ms.get((durations_ms.len() * percent).div_ceil(100).checked_sub(1)?).copied();
        Some(Self { count: durations_ms.len() as u64, p50_ms: rank(50)?, p95_ms: rank(95)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_durations_that_occurred() {
        let of = |durations: &[u64]| Percentiles::of(durations.to_vec()).map(|found| (found.p50_ms, found.p95_ms));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7]), Some((7, 7)));
        assert_eq!(of(&[3, 1, 2]), Some((2, 3)));
        assert_eq!(of(&(1..=100).collect::<Vec<_>>()), Some((50, 95)));
        assert_eq!(of(&(1..=20).collect::<Vec<_>>()), Some((10, 19)));
    }
}
