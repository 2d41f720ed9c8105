//! Limits of request bodies: time, least rate, and the bytes that are held for clients of one kind together.

use anteroom_controller::{api_error::ApiError, limits::HttpLimits};
use anteroom_wire::{MachineId, Problem};
use axum::{
    body::{Body, HttpBody},
    extract::Request,
};
use bytes::Bytes;
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

/// Bytes that may be held for all clients of one kind.
#[derive(Debug, Clone)]
pub struct ByteBudget(Arc<Semaphore>);

impl ByteBudget {
    /// A budget of so many bytes.
    pub fn new(bytes: u32) -> Self {
        Self(Arc::new(Semaphore::new(bytes as usize)))
    }
}

/// A budget for each machine's agent.
#[derive(Debug, Default)]
pub(super) struct AgentBudgets(Mutex<HashMap<MachineId, Weak<Semaphore>>>);

impl AgentBudgets {
    /// The budget of this machine's agent; it exists while a request of the machine does.
    pub(super) fn of(&self, machine: &MachineId, bytes: u32) -> ByteBudget {
        let mut budgets = self.0.lock();
        if let Some(budget) = budgets.get(machine).and_then(Weak::upgrade) {
            return ByteBudget(budget);
        }
        budgets.retain(|_, budget| budget.strong_count() > 0);
        let budget = ByteBudget::new(bytes);
        budgets.insert(machine.clone(), Arc::downgrade(&budget.0));
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
}

/// A request body with its limits.
struct LimitedBody {
    body: Body,
    budget: Option<ByteBudget>,
    held: HeldBytes,
    time_max: Duration,
    bytes_per_s_min: u64,
    started: Option<Instant>,
    received: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Applies the limits to the request's body. Bytes that are read from it count against the budget, if there is one, until the result is
/// dropped.
pub(super) fn limit_body(request: Request, limits: &HttpLimits, budget: Option<ByteBudget>) -> (Request, HeldBytes) {
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
            timer: None,
        })
    });
    (request, held)
}

/// Reads the whole body.
///
/// # Errors
/// It is too large or too slow, the connection ended, or too many bytes are held.
pub(super) async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let collected = body.collect().await.map_err(|error| {
        if find_source::<LengthLimitError>(&error).is_some() {
            return Problem::TooLarge.into();
        }
        match find_source::<BodyError>(&error) {
            Some(BodyError::TooSlow) => Problem::RequestTimeout.into(),
            Some(BodyError::OverBudget) => ApiError::new(
                Problem::TooManyConnections,
                "the bytes of requests that are held have reached their limit",
            ),
            None => ApiError::new(Problem::Malformed, "the connection ended within the request body"),
        }
    })?;
    Ok(collected.to_bytes())
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
        let Some(ByteBudget(budget)) = &self.budget else { return Ok(()) };
        let bytes = u32::try_from(bytes).map_err(|_| BodyError::OverBudget)?;
        let permit = Arc::clone(budget).try_acquire_many_owned(bytes).map_err(|_| BodyError::OverBudget)?;
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
                this.received += bytes as u64;
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

    async fn read(body: Body, budget: Option<ByteBudget>) -> Result<usize, Problem> {
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
        assert_eq!(read(dripped(90, 100), None).await, Ok(100));
        let started = Instant::now();
        assert_eq!(read(dripped(200, 1_000), None).await, Err(Problem::RequestTimeout));
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(silent, None).await, Err(Problem::RequestTimeout));
    }

    #[tokio::test]
    async fn bytes_above_the_budget_are_refused_until_others_are_released() {
        let budget = ByteBudget::new(100);
        let (request, held) = limit_body(Request::new(Body::from(vec![0; 60])), &limits(), Some(budget.clone()));
        assert_eq!(read_body(request.into_body()).await.unwrap().len(), 60);
        let more = || Body::from(vec![0; 50]);
        assert_eq!(read(more(), Some(budget.clone())).await, Err(Problem::TooManyConnections));
        drop(held);
        assert_eq!(read(more(), Some(budget)).await, Ok(50));
    }
}
