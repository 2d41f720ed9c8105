//! Interprets a terminal's screen by a provider's rules: the sign-in address and the device code on it, the tool's prompts and the
//! result of its sign-in. No I/O: the agent runs this code in the machine, tests and `anteroom providers` run it on recorded screens.
//!
//! ```text
//!  ScreenSnapshot (lines, hyperlinks, width) ──▶ SignInFinder ──▶ address, code
//!                                           └──▶ PromptRules, PromptTracker ──▶ ScreenAction: press, ask, close, outcome
//!  Fixture (recorded screens, expected findings) ──▶ both, compared
//! ```

pub mod fixture;
mod pattern;
pub mod prompts;
pub mod sign_in_finder;
pub mod snapshot;

pub use fixture::{Fixture, ScreenFindings};
pub use pattern::{PatternError, compile_pattern};
pub use prompts::{CompiledPromptRule, PromptRules, PromptTracker, ScreenAction};
pub use sign_in_finder::{FoundSignIn, ScreenMatch, SignInFinder, mask_secrets, web_url_host};
pub use snapshot::ScreenSnapshot;

/// The longest text from the guest that is reported, bytes.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;

/// `text` cut to [`TEXT_BYTES_MAX`] at a character boundary.
pub fn truncate_text(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}
