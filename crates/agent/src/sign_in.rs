//! The sign-in: the claim that starts it, the tool's process, what its screen shows, and what the user enters.

pub(crate) mod active_claim;
pub(crate) mod answer;
pub(crate) mod callback;
pub(crate) mod change_method;
pub(crate) mod claim;
mod extra_authorities;
pub(crate) mod paste;
pub(crate) mod pasted_text;
pub(crate) mod screen_watch;
pub(crate) mod state;
pub(crate) mod tool;
pub(crate) mod url_opener;
