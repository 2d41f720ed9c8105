//! The answer to a connection that cannot be served: a page for a person's browser, a problem document for a program.

use super::connections::TooManyConnections;
use crate::http::pages::{CONTENT_SECURITY_POLICY, busy_page, wants_page};
use anteroom_wire::Problem;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use bytes::{Bytes, BytesMut};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Bytes of the request that are read to choose the answer.
const HEAD_BYTES_MAX: usize = 4 * 1_024;
/// Time for them.
const HEAD_TIMEOUT: Duration = Duration::from_millis(500);
const HEADERS_MAX: usize = 64;

/// Answers 503.
pub(super) async fn refuse(mut stream: TcpStream, reason: TooManyConnections) -> io::Result<()> {
    let request = read_head(&mut stream).await;
    let problem = Problem::TooManyConnections;
    let page = headers_of_person(&request).and_then(|headers| busy_page(&headers));
    let (kind, body) = match page {
        Some(page) => ("text/html; charset=utf-8", page),
        None => ("application/json", Bytes::from(serde_json::to_vec(&problem.with_detail(reason.to_string()))?)),
    };
    let head = format!(
        "HTTP/1.1 {} Service Unavailable\r\ncontent-type: {kind}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         content-security-policy: {CONTENT_SECURITY_POLICY}\r\nx-content-type-options: nosniff\r\nvary: accept, accept-language, cookie\r\n\
         retry-after: 2\r\nconnection: close\r\n\r\n",
        problem.http_status(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if !request.starts_with(b"HEAD ") {
        stream.write_all(&body).await?;
    }
    stream.shutdown().await?;
    // Closing with unread data would reset the connection before the client has read the answer.
    let mut dropped = [0; 1_024];
    while stream.read(&mut dropped).await? > 0 {}
    Ok(())
}

/// What has arrived of the request's head in a short time.
async fn read_head(stream: &mut TcpStream) -> BytesMut {
    let mut head = BytesMut::new();
    let read = async {
        while head.len() < HEAD_BYTES_MAX && !head.windows(4).any(|window| window == b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
                break;
            }
        }
    };
    // After the timeout, what has arrived decides.
    let _ = timeout(HEAD_TIMEOUT, read).await;
    head
}

/// The headers of a request that a person's browser sends to open a page; `None`: it is from a program.
fn headers_of_person(head: &[u8]) -> Option<HeaderMap> {
    let mut parsed = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut parsed);
    request.parse(head).ok()?;
    let uri: Uri = request.path?.parse().ok()?;
    let headers = request.headers.iter().filter_map(|header| {
        Some((HeaderName::try_from(header.name).ok()?, HeaderValue::from_bytes(header.value).ok()?))
    });
    Some(headers.collect::<HeaderMap>()).filter(|headers| wants_page(uri.path(), headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_of_people_are_recognised_by_the_beginning_of_their_request() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html,*/*;q=0.8\r\n\r\n", true),
            ("GET /dashboard HTTP/1.1\r\nAccept: text/html\r\nCookie: not complete", true),
            ("GET /api/sessions HTTP/1.1\r\nAccept: text/html\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", false),
            ("GET / HTTP/1.1\r\n\r\n", false),
            ("POST /login HTTP/1.1\r\nAccept: text/html\r\n\r\n", true),
            ("", false),
            ("GET", false),
            ("\u{0}\u{1}", false),
            ("GET http://[ HTTP/1.1\r\nAccept: text/html\r\n\r\n", false),
        ] {
            assert_eq!(headers_of_person(head.as_bytes()).is_some(), expected, "{head:?}");
        }
    }
}
