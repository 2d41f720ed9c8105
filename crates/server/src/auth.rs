//! Authentication and authorization of callers.
//!
//! | caller | authenticates with | may use |
//! |---|---|---|
//! | operator | the cookie of a browser that signed in, the Unix socket as the user who runs the server, or an API token | everything |
//! | auditor | the cookie of a person, or an API token | the audit log and the metrics |
//! | backend | an API token (`Authorization: Bearer`) | the sessions that it started |
//! | user | the cookie of a person | the sessions that the person started |
//! | viewer | the cookie from a session's link | that session, but not its credential |
//! | helper | the cookie from an invitation to a session | the desktop of that session, view-only |
//!
//! A secret of one [`CallerKind`](anteroom_store::CallerKind) is not accepted where another kind is expected. What callers may do is decided by
//! [`permits`](anteroom_controller::caller::permits).

pub mod browsers;
pub(crate) mod cookie_header;
mod identify;
mod live_callers;
pub mod login_links;
pub(crate) mod people;
mod recorded_uses;

pub(crate) use cookie_header::{cookie_name, parse_cookie_header};
pub use identify::{
    CSRF_HEADER, bearer_token, credential_kind, identify_caller, require_own_origin, require_own_origin_or_token,
};
pub use live_callers::{LiveCaller, LiveCallers};
pub use recorded_uses::RecordedUses;

use crate::addresses::Addresses;
use anteroom_store::Store;
use std::sync::Arc;
use tokio_util::task::TaskTracker;

/// What authentication needs of the server. Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    /// The database.
    pub store: Store,
    /// The addresses of this server.
    pub addresses: Addresses,
    /// The callers that have open connections.
    pub live_callers: Arc<LiveCallers>,
    /// The issuer of the OpenID provider with which people sign in. Those of another one are not accepted any more.
    pub issuer: Option<Arc<str>>,
    /// Last uses that are being written.
    pub recorded_uses: RecordedUses,
    /// The running tasks of the server.
    pub tasks: TaskTracker,
    /// How long a login link can be redeemed, milliseconds.
    pub login_link_lifetime_ms: u64,
    /// How long a cookie is valid, seconds.
    pub cookie_lifetime_s: u64,
    /// Whether other sites may show a session's page in a frame.
    pub frames_permitted: bool,
    /// A browser that was not used for this long is signed out, milliseconds.
    pub browser_idle_ms_max: u64,
    /// How long after a sign-in a browser may do what needs a confirmation, milliseconds.
    pub confirmation_ms_max: u64,
}
