//! What a terminal's screen means by a provider's rules: the address and the code on it, what the tool asks, its word on its sign-in.
//! Pure: the same code runs in the machine, where it counts, and at a desk, where rules are tried on recorded screens.
//!
//! ```text
//!  Look (lines, hyperlinks, width) ──▶ Finder ──▶ address, code
//!                                 └──▶ Rules, Course ──▶ steps: press, ask, close, outcome
//!  Fixture (recorded screen, what is expected of it) ──▶ both, compared
//! ```

pub mod finder;
pub mod fixture;
pub mod look;
pub mod prompts;

pub use finder::{Finder, Found, Piece, masked, web_host};
pub use fixture::{Fixture, Reading};
pub use look::Look;
pub use prompts::{Course, Rule, Rules, Step};

/// The longest text of a guest's that is told, bytes.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;

/// `text` cut to what may be told of it.
pub fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}
