//! Authentication and authorization of callers.
//!
//! | caller | authenticates with | may use |
//! |---|---|---|
//! | operator | the cookie from a login link, or the Unix socket as the user who runs the server | everything |
//! | backend | `Authorization: Bearer` API token | the sessions that it started |
//! | viewer | the cookie from a session's link | that session, but not its credential |

pub(crate) mod cookie_header;
mod identify;
pub mod login_links;

pub use identify::{CSRF_HEADER, bearer_token, identify_caller, require_own_origin};

use crate::addresses::Addresses;
use anteroom_store::Store;
use anteroom_wire::CallerId;

/// What authentication needs of the server. Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    /// The database.
    pub store: Store,
    /// The addresses of this server.
    pub addresses: Addresses,
    /// The operator at this host's command line.
    pub local_operator: CallerId,
    /// How long a login link can be redeemed, milliseconds.
    pub login_link_lifetime_ms: u64,
    /// How long a cookie is valid, seconds.
    pub cookie_lifetime_s: u64,
}
