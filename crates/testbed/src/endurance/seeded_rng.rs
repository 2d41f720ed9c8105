//! A random number generator with a seed: `ANTEROOM_TEST_SEED=N` repeats the choices of a run.

use std::ops::Range;

/// The seed from `ANTEROOM_TEST_SEED`, or a random one. It is printed, so that a failed run can be repeated.
///
/// # Panics
/// The operating system has no random numbers.
#[allow(clippy::print_stdout, clippy::expect_used, reason = "for tests: a failed run is repeated by its seed")]
pub fn read_or_create_seed() -> u64 {
    let configured = std::env::var("ANTEROOM_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = configured.unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("random numbers");
        u64::from_le_bytes(bytes)
    });
    println!("ANTEROOM_TEST_SEED={seed}");
    seed
}

/// A deterministic random number generator (splitmix64).
#[derive(Debug)]
pub struct SeededRng(u64);

impl SeededRng {
    /// The generator of one part of a run. Its numbers do not depend on the other parts.
    pub fn new(seed: u64, part: u64) -> Self {
        let mut rng = Self(seed ^ part.wrapping_mul(0xD1B5_4A32_D192_ED03));
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number of `range`, which must not be empty.
    pub fn in_range(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }
}

#[cfg(test)]
#[test]
fn same_seed_gives_same_numbers_and_another_part_gives_others() {
    let choices = |seed, part| {
        let mut rng = SeededRng::new(seed, part);
        [0; 8].map(|_| rng.in_range(0..1_000))
    };
    assert_eq!(choices(1, 2), choices(1, 2));
    assert_ne!(choices(1, 2), choices(1, 3));
    assert_ne!(choices(1, 2), choices(2, 2));
    assert!(choices(5, 5).iter().all(|choice| *choice < 1_000));
}
