//! Long runs: sessions with randomly drawn scenarios, and the audit of what is left when no session is active.

pub mod audit;
pub mod scenario;
pub mod seeded_rng;

/// Whether to run the long versions of tests: `ANTEROOM_TEST_FULL` is set and not empty (`./test --full`).
pub fn is_full_run() -> bool {
    std::env::var_os("ANTEROOM_TEST_FULL").is_some_and(|value| !value.is_empty())
}
