//! Kinds of callers, by what authenticates them.

use crate::text_enum::text_enum;

text_enum! {
    /// What authenticates a caller. A secret of one kind is not accepted where another kind is expected.
    pub enum CallerKind {
        /// An API token, accepted as a bearer token only.
        ApiToken = "api_token",
        /// The cookie of a person's browser, accepted as that cookie only.
        BrowserCookie = "browser_cookie",
        /// The cookie from a link to one session, accepted as that session's cookie only.
        ViewerCookie = "viewer_cookie",
        /// The operator's Unix socket. It has no secret.
        LocalSocket = "local_socket",
    }
}

impl CallerKind {
    /// The prefix of secrets of this kind. Secrets with another prefix are rejected without a query. `None`: the kind has no secret.
    pub fn secret_prefix(self) -> Option<&'static str> {
        match self {
            Self::ApiToken => Some("ant_"),
            Self::BrowserCookie => Some("ck_"),
            Self::ViewerCookie => Some("ckv_"),
            Self::LocalSocket => None,
        }
    }
}
