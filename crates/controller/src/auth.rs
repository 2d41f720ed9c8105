//! Authentication and authorization of callers.
//!
//! | caller | authenticates with | may use |
//! |---|---|---|
//! | operator | the cookie from a login link, or the Unix socket as the user who runs the server | everything |
//! | backend | `Authorization: Bearer` API token | the sessions that it started |
//! | viewer | the cookie from a session's link | that session, but not its credential |

mod cookies;
mod identify;
pub mod login_links;

pub use identify::{CSRF_HEADER, Caller, bearer_token, identify, require_own_origin};
