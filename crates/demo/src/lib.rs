//! The demo: a complete sign-in without an account and without Internet access.
//!
//! ```text
//!  anteroom-demo (the binary of this crate, in the machine) ── egress gate ──▶ identity_provider (in `anteroom serve --demo`)
//! ```
//!
//! The feature `identity-provider` (on by default) compiles the identity provider; the guest's build needs only the tool.

#[cfg(feature = "identity-provider")]
pub mod identity_provider;
