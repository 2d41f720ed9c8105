//! Announces that a connection closes because a request's body was not read.
//!
//! Many requests are answered before their body is read. If it has not arrived by then, an HTTP/1.1 connection cannot be used again, and a
//! client that is not informed of it sends its next request into a connection that closes.

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderValue, StatusCode, Version, header},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Pieces of an unread body that are read and dropped to keep the connection open.
const DROPPED_PIECES_MAX: usize = 16;

/// Adds `Connection: close` to the response if the request's body was not read and has not arrived.
pub(super) async fn announce_close(request: Request, next: Next) -> Response {
    if request.version() > Version::HTTP_11 || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let rest = Rest::default();
    let request = request.map(|body| Body::new(ReturnedBody { body, rest: Arc::clone(&rest) }));
    let mut response = next.run(request).await;
    let unread = rest.lock().take();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS && unread.is_some_and(|body| !has_arrived(body)) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether the rest of a body has been received and is short.
fn has_arrived(mut body: Body) -> bool {
    for _ in 0..DROPPED_PIECES_MAX {
        if body.is_end_stream() {
            return true;
        }
        match body.frame().now_or_never() {
            Some(Some(Ok(_))) => {}
            Some(None) => return true,
            Some(Some(Err(_))) | None => return false,
        }
    }
    false
}

/// What was not read of a body.
type Rest = Arc<Mutex<Option<Body>>>;

/// A body that is put into `rest` when it is dropped.
struct ReturnedBody {
    body: Body,
    rest: Rest,
}

impl Drop for ReturnedBody {
    fn drop(&mut self) {
        *self.rest.lock() = Some(std::mem::take(&mut self.body));
    }
}

impl HttpBody for ReturnedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
