//! Using a stored credential: a session like any other, for which nobody signs in. The credential is opened at the moment at which a
//! machine is claimed, and lies nowhere else in the clear.
//!
//! ```text
//!  start ─▶ line ─▶ machine ─▶ claim + files (lay_down) ─▶ command ─▶ told: Checked ─▶ health
//!                      ▲          │ another machine: again            └────▶ CompleteUse ─▶ completed, machine stopped
//!                      └──────────┘
//! ```
//!
//! What a command is called with is kept in memory alone, for it may hold what no database should: a server that restarts before the
//! command runs cannot run it, and says so.

pub mod exec_cache;
pub mod install_files;
mod use_events;

pub use install_files::{LOST, is_lost};
pub use use_events::{NOT_CONCLUSIVE, Told, outcome_sentence, words};
