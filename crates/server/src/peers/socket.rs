//! A WebSocket that is passed on: a TLS connection of its own, so that a slow viewer holds up no other.

use super::{
    Peers, Unreachable,
    frames::{Frames, close_frame},
    head::ForwardedHead,
    link::LinkGuard,
};
use anteroom_cluster::peer::ALPN_HTTP1;
use anteroom_controller::unix_time::now_unix_ms;
use anteroom_wire::{HostId, Problem};
use axum::body::Body;
use bytes::BufMut;
use http::{Response, StatusCode, Version};
use hyper::{
    body::Incoming,
    client::conn::http1,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use std::{future::poll_fn, io, pin::pin, sync::Arc, task::Poll, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    time::{sleep, timeout},
};

/// Bytes that are copied at once: a message to a viewer with its head.
const COPY_BYTES: usize = 72 * 1_024;
/// Time for the other side to close after one has, milliseconds.
const CLOSE_MS_MAX: u64 = 2_000;
/// Time until a connection that was refused is tried again, milliseconds.
const RETRY_MS: u64 = 200;
/// The close code for a server that restarts (the registry of RFC 6455).
const SERVICE_RESTART: u16 = 1_012;

type Io = TokioIo<Upgraded>;

/// What a viewer is sent when its host has become silent: the reason of the close frame.
pub(super) type Reason = Arc<dyn Fn(&Unreachable) -> String + Send + Sync>;

impl Peers {
    /// Passes on the handshake of a WebSocket. If it is accepted, both sides are copied until one closes.
    ///
    /// # Errors
    /// The host does not answer, or this server stops.
    pub(super) async fn pass_on_socket(
        self: &Arc<Self>,
        host: &HostId,
        head: &ForwardedHead,
        client: OnUpgrade,
        reason: Reason,
    ) -> Result<Response<Body>, Unreachable> {
        let link = self.link(host);
        let answered = tokio::select! {
            answered = self.shake_hands(host, head) => answered,
            silent = link.wait_silent() => return Err(silent),
            () = self.stop.cancelled() => return Err(Unreachable { host: host.clone(), since_ms: now_unix_ms() }),
        };
        let mut response = answered;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response.map(Body::new));
        }
        let owner = hyper::upgrade::on(&mut response);
        let peers = Arc::clone(self);
        self.tasks.spawn(async move {
            let opened = timeout(Duration::from_millis(CLOSE_MS_MAX), async { tokio::try_join!(client, owner) }).await;
            if let Ok(Ok((client, owner))) = opened {
                copy(&peers, &link, TokioIo::new(client), TokioIo::new(owner), reason).await;
            }
        });
        Ok(response.map(|_| Body::empty()))
    }

    /// Sends the handshake until the host has received it.
    async fn shake_hands(&self, host: &HostId, head: &ForwardedHead) -> Response<Incoming> {
        loop {
            let attempt = async {
                let stream = self.connect(host, ALPN_HTTP1).await?;
                let (mut sender, connection) =
                    http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
                let stop = self.stop.clone();
                self.tasks.spawn(async move { stop.run_until_cancelled(connection.with_upgrades()).await });
                sender.send_request(head.request(Version::HTTP_11, Body::empty())).await.map_err(io::Error::other)
            };
            match attempt.await {
                Ok(response) => return response,
                // A ticket that was used is refused by the next attempt.
                Err(error) => {
                    tracing::debug!(outcome = "peer_request_failed", %host, %error, "WebSocket could not be passed on");
                }
            }
            sleep(Duration::from_millis(RETRY_MS)).await;
        }
    }
}

/// How the copying ended.
enum End {
    /// The viewer closed.
    Viewer,
    /// The host closed.
    Owner,
    /// The host is silent or was removed.
    Unreachable(Unreachable),
    /// This server stops.
    Stop,
}

async fn copy(peers: &Peers, link: &LinkGuard, client: Io, owner: Io, reason: Reason) {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_owner, mut to_owner) = split(owner);
    let (mut up_frames, mut frames) = (Frames::default(), Frames::default());
    let removed = async {
        peers.directory.wait_removed(&link.host).await;
        Unreachable { host: link.host.clone(), since_ms: now_unix_ms() }
    };
    let end = tokio::select! {
        () = copy_up(&mut from_client, &mut to_owner, &mut up_frames) => End::Viewer,
        () = copy_down(&mut from_owner, &mut to_client, &mut frames) => End::Owner,
        silent = link.wait_silent() => End::Unreachable(silent),
        removed = removed => End::Unreachable(removed),
        () = peers.stop.cancelled() => End::Stop,
    };
    let close = match end {
        End::Viewer => {
            // The host answers the viewer's close frame.
            let rest = copy_down(&mut from_owner, &mut to_client, &mut frames);
            let _ = timeout(Duration::from_millis(CLOSE_MS_MAX), rest).await;
            None
        }
        End::Owner if frames.permits_close() => Some(why_closed(peers, link, &reason).await),
        End::Owner => None,
        End::Unreachable(silent) => Some((Problem::HostUnreachable.close_code(), reason(&silent))),
        End::Stop => {
            let stopping = Problem::ShuttingDown;
            Some((stopping.close_code(), format!("{}: {}", stopping.code(), stopping.sentence())))
        }
    };
    if let Some((code, reason)) = close.filter(|_| frames.permits_close()) {
        let closed = async {
            to_client.write_all(&close_frame(code, &reason)).await?;
            to_client.flush().await?;
            // What the viewer still sends must be read, or the frame does not arrive. After its own close frame it waits for the end.
            let mut bytes = Vec::new();
            while !up_frames.has_closed() {
                read_some(&mut from_client, &mut bytes).await?;
                if bytes.is_empty() {
                    break;
                }
                up_frames.follow(&bytes);
            }
            io::Result::Ok(())
        };
        let _ = timeout(Duration::from_millis(CLOSE_MS_MAX), closed).await;
    }
    let _ = timeout(Duration::from_millis(CLOSE_MS_MAX), to_client.shutdown()).await;
}

/// Why the host has closed a connection without a close frame: it restarts, or it is silent from now on.
async fn why_closed(peers: &Peers, link: &LinkGuard, reason: &Reason) -> (u16, String) {
    tokio::select! {
        () = link.wait_answer(peers) => (SERVICE_RESTART, "the connection between two hosts broke".to_owned()),
        silent = link.wait_silent() => (Problem::HostUnreachable.close_code(), reason(&silent)),
        () = peers.stop.cancelled() => (SERVICE_RESTART, "the server stops".to_owned()),
    }
}

/// Copies until the viewer closes or the host accepts nothing more.
async fn copy_up(from: &mut ReadHalf<Io>, to: &mut WriteHalf<Io>, frames: &mut Frames) {
    if copy_all(from, to, frames).await.is_err() {
        // The other direction has the reason.
        return std::future::pending().await;
    }
    let _ = to.shutdown().await;
}

/// Copies until the host closes or the viewer accepts nothing more.
async fn copy_down(from: &mut ReadHalf<Io>, to: &mut WriteHalf<Io>, frames: &mut Frames) {
    let _ = copy_all(from, to, frames).await;
}

/// Copies until nothing more comes.
///
/// # Errors
/// Nothing more can be written.
async fn copy_all(from: &mut ReadHalf<Io>, to: &mut WriteHalf<Io>, frames: &mut Frames) -> io::Result<()> {
    let mut bytes = Vec::new();
    while read_some(from, &mut bytes).await.is_ok() && !bytes.is_empty() {
        frames.follow(&bytes);
        to.write_all(&bytes).await?;
        to.flush().await?;
    }
    Ok(())
}

/// Waits for bytes and takes all that are there, at most [`COPY_BYTES`], instead of those in `bytes`; none: the end. TLS gives out one record
/// at a time. There is no buffer while it waits, so that an idle viewer holds none.
async fn read_some(from: &mut ReadHalf<Io>, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.clear();
    poll_fn(|context| {
        bytes.reserve_exact(COPY_BYTES);
        while bytes.len() < COPY_BYTES {
            let left = COPY_BYTES - bytes.len();
            let mut rest = (&mut *bytes).limit(left);
            let read = pin!(from.read_buf(&mut rest)).poll(context);
            match read {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Err(error)) if bytes.is_empty() => return Poll::Ready(Err(error)),
                Poll::Pending if bytes.is_empty() => {
                    *bytes = Vec::new();
                    return Poll::Pending;
                }
                // An end or error is found again by the next read.
                Poll::Ready(Ok(0) | Err(_)) | Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}
