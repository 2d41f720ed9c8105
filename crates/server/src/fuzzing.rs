//! Properties of the server's parsers, for the fuzz targets: each function panics where one does not hold.

use crate::{auth, http::viewer_sockets};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// A text message on a terminal's WebSocket.
#[expect(clippy::missing_panics_doc, reason = "it panics to report a fault")]
pub fn check_viewer_text_message(data: &[u8]) {
    // The WebSocket library passes only valid UTF-8.
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(size) = viewer_sockets::parse_terminal_size(text) {
        assert!((2..=500).contains(&size.cols) && (2..=300).contains(&size.rows), "{size:?}");
    }
}

/// A request's header fields, one per line.
#[expect(clippy::missing_panics_doc, reason = "it panics to report a fault")]
pub fn check_request_headers(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|&byte| byte == b'\n') {
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let lines = headers.get_all("cookie").iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>();
    for (name, value) in auth::cookie_header::parse_cookie_header(&headers) {
        assert!(!name.contains([';', '=']) && !value.contains(';'), "{name:?} {value:?}");
        assert!(lines.iter().any(|line| line.contains(&format!("{name}={value}"))), "{name:?} {value:?}");
    }
    if let Some(token) = auth::bearer_token(&headers) {
        let token = token.expose();
        assert_eq!(token.trim(), token);
        assert!(
            headers["authorization"]
                .to_str()
                .is_ok_and(|value| value.ends_with(token) || value.trim_end().ends_with(token))
        );
    }
}
