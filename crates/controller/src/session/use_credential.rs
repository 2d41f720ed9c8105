//! Uses a stored credential in a session without a sign-in. The credential is decrypted when a machine is claimed and is
//! stored nowhere else in plaintext.
//!
//! ```text
//!  start ─▶ queue ─▶ machine ─▶ claim with files ─▶ command ─▶ Checked ─▶ health
//!                       ▲          │ next machine                └▶ Completed ─▶ completed, machine stopped
//!                       └──────────┘
//! ```
//!
//! The arguments of a command are kept only in memory, because they may be secret: after a restart of the server a command that
//! has not started cannot run, and its session fails.

pub mod unseal_for_claim;
mod use_events;
pub mod volatile_execs;

pub use unseal_for_claim::{COMMAND_LOST, is_command_lost};
pub use use_events::{apply_use_event, outcome_sentence, to_command_entry};
