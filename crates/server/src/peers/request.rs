//! A request that is passed on over the pooled connection: its answer is streamed.

use super::{Peers, Unreachable, head::ForwardedHead, link::LinkGuard};
use anteroom_wire::HostId;
use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Response, Version, header};
use hyper::body::Incoming;
use std::{io, sync::Arc};
use tokio_util::sync::CancellationToken;

/// The type of a body that ends only with its server.
const EVENT_STREAM: &[u8] = b"text/event-stream";

impl Peers {
    /// Passes a request on.
    ///
    /// # Errors
    /// The host does not answer, or this server stops.
    pub(super) async fn pass_on(
        self: &Arc<Self>,
        host: &HostId,
        head: &ForwardedHead,
        body: &Bytes,
    ) -> Result<Response<Body>, Unreachable> {
        let link = self.link(host);
        let make = || head.request(Version::HTTP_2, Body::from(body.clone()));
        let response = link.send(self, head.method.is_safe(), make).await?;
        let content = response.headers().get(header::CONTENT_TYPE);
        let is_stream = content.is_some_and(|kind| kind.as_bytes().starts_with(EVENT_STREAM));
        let stop = if is_stream { self.stop.clone() } else { CancellationToken::new() };
        let body = response.map(|body| Body::from_stream(until_silent(body, link).take_until(stop.cancelled_owned())));
        Ok(body)
    }
}

/// The body, which breaks off when the host is silent: a host that was frozen keeps its connections open.
fn until_silent(body: Incoming, link: LinkGuard) -> impl Stream<Item = Result<Bytes, io::Error>> {
    let pieces = Body::new(body).into_data_stream();
    stream::unfold(Some((pieces, link)), |state| async {
        let (mut pieces, link) = state?;
        let piece = tokio::select! {
            piece = pieces.next() => piece?.map_err(io::Error::other),
            _ = link.wait_silent() => Err(io::Error::other("the host of the session does not answer")),
        };
        let rest = piece.is_ok().then_some((pieces, link));
        Some((piece, rest))
    })
}
