//! SeededRng that can be had again: `ANTEROOM_TEST_SEED=N` repeats a run's choices.

use std::ops::Range;

/// The seed from the environment, or a new one; printed, so that a run that failed can be repeated.
///
/// # Panics
/// The host gives no random numbers.
#[allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "for tests: whoever looks at one that failed wants the seed"
)]
pub fn seed() -> u64 {
    let given = std::env::var("ANTEROOM_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("random numbers");
        u64::from_le_bytes(bytes)
    });
    println!("ANTEROOM_TEST_SEED={seed}");
    seed
}

/// Numbers that follow from a seed (splitmix64).
#[derive(Debug)]
pub struct SeededRng(u64);

impl SeededRng {
    /// The chance of one part of a run, whatever the others do meanwhile.
    pub fn of(seed: u64, part: u64) -> Self {
        let mut mixed = Self(seed ^ part.wrapping_mul(0xD1B5_4A32_D192_ED03));
        mixed.next();
        mixed
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One of `range`.
    pub fn in_range(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }
}

#[cfg(test)]
#[test]
fn the_same_seed_gives_the_same_choices_and_another_part_gives_others() {
    let choices = |seed, part| {
        let mut chance = SeededRng::of(seed, part);
        [0; 8].map(|_| chance.in_range(0..1_000))
    };
    assert_eq!(choices(1, 2), choices(1, 2));
    assert_ne!(choices(1, 2), choices(1, 3));
    assert_ne!(choices(1, 2), choices(2, 2));
    assert!(choices(5, 5).iter().all(|choice| *choice < 1_000));
}
