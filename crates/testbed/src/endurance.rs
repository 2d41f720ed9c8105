//! What long runs are made of: sessions with a fate drawn by lot, and the look at what is left when none lives.

pub mod audit;
pub mod seeded_rng;
pub mod scenario;

/// Whether the long runs are wanted: `ANTEROOM_TEST_FULL` is set and not empty (`./test --full`).
pub fn full() -> bool {
    std::env::var_os("ANTEROOM_TEST_FULL").is_some_and(|value| !value.is_empty())
}
