//! The delivery: posted until the controller answers. The bytes stay in memory meanwhile, whatever becomes of the files.

use super::{Found, Watch};
use crate::{backoff::Backoff, events::bounded, host};
use anteroom_wire::{
    Base64, ProblemBody,
    agent::{CaptureState, Delivered, DeliveredFile, Delivery, Event, STORE_PATH},
};
use http::StatusCode;
use std::time::Duration;

/// How long the first try waits until what led to it has been heard. The controller that can hear it does so in a few
/// milliseconds; the credential of one that cannot must not wait for it.
const TELL_MS_MAX: u64 = 3_000;

/// How a delivery ended.
pub(crate) enum Outcome {
    /// The controller has it.
    Done,
    /// The controller does not want it.
    Refused,
    /// The file changed meanwhile: what was read is worth less than what is there now.
    Superseded,
}

/// What one try came to.
enum Answer {
    Stored,
    Refused(String),
    /// None that counts; why.
    Again(String),
}

pub(super) async fn deliver(watch: &Watch<'_>, found: &Found) -> Outcome {
    let (agent, claim) = (watch.agent, &watch.owner.claim);
    let delivery = Delivery {
        session: claim.by.session.clone(),
        generation: claim.by.generation,
        provider: claim.provider.id.clone(),
        files: found
            .files()
            .map(|(path, seen)| DeliveredFile {
                path: path.to_owned(),
                mode: seen.mode,
                content: Base64::new(seen.bytes.clone()),
            })
            .collect(),
    };
    let (min, max) =
        (Duration::from_millis(claim.capture.retry_ms_min), Duration::from_millis(claim.capture.retry_ms_max));
    let mut backoff = Backoff::new(min, max, Duration::MAX);
    let mut attempts = 0;
    let mut last_error = None;
    loop {
        agent.board.capture(CaptureState::Delivering { attempts, last_error: last_error.clone() });
        agent.host.connected().await;
        if attempts == 0 {
            // The answer may be this machine's end: an event on its way then would be missing in the session's timeline.
            let _ = tokio::time::timeout(Duration::from_millis(TELL_MS_MAX), agent.events.all_answered()).await;
        }
        let mut changes = agent.host.changes();
        changes.mark_unchanged();
        attempts += 1;
        let error = match post(watch, &delivery).await {
            Answer::Stored => {
                agent.board.capture(CaptureState::Delivered);
                return Outcome::Done;
            }
            Answer::Refused(code) => {
                agent.board.capture(CaptureState::Refused { code });
                return Outcome::Refused;
            }
            Answer::Again(error) => error,
        };
        agent.events.push(Event::DeliveryRetry { attempts, error: error.clone() });
        agent.board.capture(CaptureState::Delivering { attempts, last_error: Some(error.clone()) });
        last_error = Some(error);
        // A new connection is a reason to try at once.
        let _ = tokio::time::timeout(backoff.after(Duration::ZERO), changes.changed()).await;
        if watch.superseded(found) {
            return Outcome::Superseded;
        }
    }
}

async fn post(watch: &Watch<'_>, delivery: &Delivery) -> Answer {
    match watch.agent.host.post(STORE_PATH, &watch.owner.agent_token, delivery).await {
        Ok((status, body)) if status.is_success() => match host::json::<Delivered>(&body) {
            Some(Delivered::Stored { .. } | Delivered::Ignored) => Answer::Stored,
            None => Answer::Again(format!("{status} with an answer that is none")),
        },
        Ok((status, body)) if is_final(status) => {
            let problem = host::json::<ProblemBody>(&body);
            let code = problem.map_or_else(|| status.as_u16().to_string(), |problem| problem.code);
            Answer::Refused(bounded(&code))
        }
        Ok((status, _)) => Answer::Again(status.to_string()),
        Err(error) => Answer::Again(error.to_string()),
    }
}

/// Whether the same request would be refused again for ever.
fn is_final(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 408 | 429)
}
