//! Limits of request bodies: time, least rate, and the bytes that are held for one owner together.

use anteroom_controller::{api_error::ApiError, limits::HttpLimits};
use anteroom_wire::{CallerId, MachineId, Problem, SessionId};
use axum::{
    body::{Body, HttpBody},
    extract::Request,
};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError};
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    error::Error,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until},
};

/// Pieces of a body that may be small; beyond them a piece must have this many bytes on average. Each piece costs as much as a large one.
pub(super) const SMALL_PIECES_MAX: u64 = 1_024;
pub(super) const PIECE_BYTES_MIN: u64 = 64;

/// Whose request bodies share a budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum BodyOwner {
    /// All clients without a valid token or cookie.
    Strangers,
    /// A caller.
    Caller(CallerId),
    /// The agent of a session on an external machine.
    Agent(SessionId),
    /// A machine's agent, on the machine's channel.
    Machine(MachineId),
}

/// Bytes that may be held for one owner.
#[derive(Debug, Clone)]
pub(super) struct ByteBudget(Arc<Semaphore>);

impl ByteBudget {
    fn new(bytes: u32) -> Self {
        Self(Arc::new(Semaphore::new(bytes as usize)))
    }
}

/// The budgets of all owners.
#[derive(Debug, Default)]
pub struct BodyBudgets(Mutex<HashMap<BodyOwner, Weak<Semaphore>>>);

impl BodyBudgets {
    /// The budget of this owner; it exists while a request of the owner does.
    pub(super) fn of(&self, owner: BodyOwner, limits: &HttpLimits) -> ByteBudget {
        let mut budgets = self.0.lock();
        if let Some(budget) = budgets.get(&owner).and_then(Weak::upgrade) {
            return ByteBudget(budget);
        }
        budgets.retain(|_, budget| budget.strong_count() > 0);
        let budget = ByteBudget::new(match &owner {
            BodyOwner::Strangers => limits.stranger_bytes_max,
            BodyOwner::Caller(_) => limits.caller_bytes_max,
            BodyOwner::Agent(_) | BodyOwner::Machine(_) => limits.agent_bytes_max,
        });
        budgets.insert(owner, Arc::downgrade(&budget.0));
        budget
    }
}

/// The bytes of one request that count against a budget, for as long as this exists.
#[derive(Debug, Clone, Default)]
pub(super) struct HeldBytes(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

/// Why a request body was not read.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the request's body arrives too slowly")]
    TooSlow,
    #[error("too many bytes of requests are held")]
    OverBudget,
    #[error("the request's body is in too many small pieces: send larger chunks")]
    TooManyPieces,
}

/// A request body with its limits.
struct LimitedBody {
    body: Body,
    budget: ByteBudget,
    held: HeldBytes,
    time_max: Duration,
    bytes_per_s_min: u64,
    started: Option<Instant>,
    received: u64,
    pieces: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Applies the limits to the request's body. Bytes that are read from it count against the budget until the result is dropped.
pub(super) fn limit_body(request: Request, limits: &HttpLimits, budget: ByteBudget) -> (Request, HeldBytes) {
    let held = HeldBytes::default();
    let request = request.map(|body| {
        Body::new(LimitedBody {
            body,
            budget,
            held: held.clone(),
            time_max: Duration::from_millis(limits.body_ms_max),
            bytes_per_s_min: limits.body_bytes_per_s_min.max(1),
            started: None,
            received: 0,
            pieces: 0,
            timer: None,
        })
    });
    (request, held)
}

/// Reads the whole body.
///
/// # Errors
/// It is too large or too slow, the connection ended, or too many bytes are held.
pub(super) async fn read_body(mut body: Body) -> Result<Bytes, ApiError> {
    // Copied: a chunk of one byte would keep the buffer that it was read into, and its own 32 bytes.
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(to_api_error)?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

fn to_api_error(error: axum::Error) -> ApiError {
    if find_source::<LengthLimitError>(&error).is_some() {
        return Problem::TooLarge.into();
    }
    match find_source::<BodyError>(&error) {
        Some(BodyError::TooSlow) => Problem::RequestTimeout.into(),
        Some(BodyError::OverBudget) => {
            ApiError::new(Problem::TooManyConnections, "the bytes of requests that are held have reached their limit")
        }
        Some(BodyError::TooManyPieces) => ApiError::new(Problem::Malformed, BodyError::TooManyPieces.to_string()),
        None => ApiError::new(Problem::Malformed, "the connection ended within the request body"),
    }
}

fn find_source<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

impl LimitedBody {
    /// When so many bytes must have arrived.
    fn deadline(&mut self) -> Instant {
        let by_rate = Duration::from_millis(self.received.saturating_mul(1_000) / self.bytes_per_s_min);
        *self.started.get_or_insert_with(Instant::now) + self.time_max + by_rate
    }

    fn poll_too_slow(&mut self, context: &mut Context<'_>) -> bool {
        let deadline = self.deadline();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(context).is_ready()
    }

    fn hold(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.received += bytes as u64;
        self.pieces += 1;
        if self.pieces > SMALL_PIECES_MAX + self.received / PIECE_BYTES_MIN {
            return Err(BodyError::TooManyPieces);
        }
        let bytes = u32::try_from(bytes).map_err(|_| BodyError::OverBudget)?;
        let permit = Arc::clone(&self.budget.0).try_acquire_many_owned(bytes).map_err(|_| BodyError::OverBudget)?;
        let mut held = self.held.0.lock();
        match &mut *held {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        }
        Ok(())
    }
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        // A client that sends a byte at a time has always just sent something, so the time is checked with every frame.
        if this.poll_too_slow(context) {
            return Poll::Ready(Some(Err(axum::Error::new(BodyError::TooSlow))));
        }
        match std::task::ready!(Pin::new(&mut this.body).poll_frame(context)) {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                Poll::Ready(Some(this.hold(bytes).map(|()| frame).map_err(axum::Error::new)))
            }
            other @ (Some(Err(_)) | None) => Poll::Ready(other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    fn limits() -> HttpLimits {
        HttpLimits { body_ms_max: 1_000, body_bytes_per_s_min: 10, ..HttpLimits::default() }
    }

    async fn read(body: Body, budget: ByteBudget) -> Result<usize, Problem> {
        let (request, held) = limit_body(Request::new(body), &limits(), budget);
        let read = read_body(request.into_body()).await.map(|bytes| bytes.len()).map_err(|error| error.problem);
        drop(held);
        read
    }

    /// A body of one byte every so many milliseconds.
    fn dripped(every_ms: u64, count: usize) -> Body {
        Body::from_stream(stream::unfold(0, move |sent| async move {
            tokio::time::sleep(Duration::from_millis(every_ms)).await;
            (sent < count).then(|| (Ok::<_, std::io::Error>(Bytes::from_static(b"x")), sent + 1))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn body_must_arrive_at_the_least_rate() {
        assert_eq!(read(dripped(90, 100), ByteBudget::new(1_000)).await, Ok(100));
        let started = Instant::now();
        assert_eq!(read(dripped(200, 1_000), ByteBudget::new(1_000)).await, Err(Problem::RequestTimeout));
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(silent, ByteBudget::new(1_000)).await, Err(Problem::RequestTimeout));
    }

    #[tokio::test]
    async fn bytes_above_the_budget_are_refused_until_others_are_released() {
        let budget = ByteBudget::new(100);
        let (request, held) = limit_body(Request::new(Body::from(vec![0; 60])), &limits(), budget.clone());
        assert_eq!(read_body(request.into_body()).await.unwrap().len(), 60);
        let more = || Body::from(vec![0; 50]);
        assert_eq!(read(more(), budget.clone()).await, Err(Problem::TooManyConnections));
        drop(held);
        assert_eq!(read(more(), budget).await, Ok(50));
    }
}
