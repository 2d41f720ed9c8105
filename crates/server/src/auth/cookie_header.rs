//! Names of the cookies that authenticate operators and viewers, and the parser of the `Cookie` header.

use super::Auth;
use anteroom_store::Role;
use axum::http::{HeaderMap, header};

/// The cookie of an operator.
pub(super) const OPERATOR_COOKIE: &str = "anteroom";
/// The cookie of a viewer begins with this; the session's id follows.
pub(super) const VIEWER_COOKIE_PREFIX: &str = "anteroom_view_";
/// Browsers accept a cookie with this prefix only from its own host, over TLS and for all paths (RFC 6265bis §4.1.3.2).
const HOST_PREFIX: &str = "__Host-";

/// The cookie's name, without the prefix, for a caller of this role.
pub(crate) fn cookie_name(role: &Role) -> String {
    role.session().map_or_else(|| OPERATOR_COOKIE.to_owned(), |session| format!("{VIEWER_COOKIE_PREFIX}{session}"))
}

/// The cookie's name in headers.
pub(super) fn full_name(auth: &Auth, name: &str) -> String {
    let prefix = if auth.addresses.is_https() { HOST_PREFIX } else { "" };
    format!("{prefix}{name}")
}

/// Parses the `Cookie` headers into pairs of name, without the prefix, and value. Over TLS cookies without the prefix are ignored:
/// another host of the same domain may have set them.
pub(crate) fn parse_cookie_header(headers: &HeaderMap, is_https: bool) -> Vec<(&str, &str)> {
    let prefix = if is_https { HOST_PREFIX } else { "" };
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value))).collect()
}
