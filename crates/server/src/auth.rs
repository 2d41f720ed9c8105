//! Authentication and authorization of callers.
//!
//! | caller | authenticates with | may use |
//! |---|---|---|
//! | operator | the cookie from a login link, the Unix socket as the user who runs the server, or an API token | everything |
//! | auditor | an API token | the audit log and the metrics |
//! | backend | an API token (`Authorization: Bearer`) | the sessions that it started |
//! | user | a cookie | the sessions that the person started |
//! | viewer | the cookie from a session's link | that session, but not its credential |
//! | helper | the cookie from an invitation to a session | the desktop of that session, view-only |
//!
//! A secret of one [`CallerKind`] is not accepted where another kind is expected. What callers may do is decided by
//! [`permits`](anteroom_controller::caller::permits).

pub(crate) mod cookie_header;
mod identify;
pub mod login_links;

pub use identify::{CSRF_HEADER, bearer_token, credential_kind, identify_caller, require_own_origin};

use crate::addresses::Addresses;
use anteroom_controller::caller::Caller;
use anteroom_store::{CallerKind, Role, Store};
use anteroom_wire::CallerId;

/// The name of the operator at this host's command line.
pub(crate) const LOCAL_OPERATOR_NAME: &str = "this host's command line";

/// What authentication needs of the server. Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    /// The database.
    pub store: Store,
    /// The addresses of this server.
    pub addresses: Addresses,
    /// The operator at this host's command line.
    pub local_operator_id: CallerId,
    /// How long a login link can be redeemed, milliseconds.
    pub login_link_lifetime_ms: u64,
    /// How long a cookie is valid, seconds.
    pub cookie_lifetime_s: u64,
}

impl Auth {
    /// The operator at this host's command line.
    pub fn local_operator(&self) -> Caller {
        Caller {
            id: self.local_operator_id.clone(),
            kind: CallerKind::LocalSocket,
            role: Role::Operator,
            name: LOCAL_OPERATOR_NAME.to_owned(),
            scopes: Role::Operator.scopes(),
            account: self.local_operator_id.clone(),
        }
    }
}
