//! Names of the cookies that authenticate operators and viewers, and the parser of the `Cookie` header.

use axum::http::{HeaderMap, header};

/// The cookie of an operator.
pub(super) const OPERATOR_COOKIE: &str = "anteroom";
/// The cookie of a viewer begins with this; the session's id follows.
pub(super) const VIEWER_COOKIE_PREFIX: &str = "anteroom_view_";

/// Parses the `Cookie` headers into pairs of name and value.
pub(crate) fn parse_cookie_header(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('=')).collect()
}
