//! Delivers the credential: repeats the request until the controller answers. The bytes stay in memory, independent of the files.

use crate::{agent::Agent, channel::controller_client::parse_json, sign_in::active_claim::ActiveClaim};
use anteroom_screen::truncate_text;
use anteroom_wire::{
    ProblemBody,
    agent::{
        CaptureEvent, CaptureState, CredentialDelivery, DeliveredFile, DeliveryResult, STORE_CREDENTIAL_PATH,
        is_permanent_rejection,
    },
    backoff::Backoff,
};
use std::time::Duration;

/// How long the first attempt waits until the controller has acknowledged the earlier events. A controller that receives them does so
/// within milliseconds; if it does not, the credential must not wait for it.
const EVENTS_MS_MAX: u64 = 3_000;

/// The result of a delivery.
pub(crate) enum DeliveryOutcome {
    /// The controller has the credential.
    Accepted,
    /// The controller rejected it finally.
    Rejected,
    /// The file has changed: a newer credential must be delivered instead.
    Superseded,
}

/// The result of one attempt.
enum Attempt {
    Accepted,
    /// Rejected finally, with this code.
    Rejected(String),
    /// To be repeated, for this reason.
    Retry(String),
}

/// Delivers `files`. `is_superseded` is checked between attempts.
pub(super) async fn deliver_credential(
    agent: &Agent,
    claim: &ActiveClaim,
    files: Vec<DeliveredFile>,
    is_superseded: impl Fn() -> bool,
) -> DeliveryOutcome {
    let delivery = CredentialDelivery {
        session: claim.claimed_by.session.clone(),
        generation: claim.claimed_by.generation,
        provider: claim.provider.id.clone(),
        files,
    };
    let (min, max) = (
        Duration::from_millis(claim.capture_limits.retry_ms_min),
        Duration::from_millis(claim.capture_limits.retry_ms_max),
    );
    let mut backoff = Backoff::new(min, max.max(min));
    let mut attempts = 0;
    let mut last_error = None;
    loop {
        agent.sign_in.set_capture_state(CaptureState::Delivering { attempts, last_error: last_error.clone() });
        agent.controller.wait_connected().await;
        if attempts == 0 {
            // The controller may stop this machine as soon as it has the credential: events that are still pending would be lost.
            let limit = Duration::from_millis(EVENTS_MS_MAX);
            let _ = tokio::time::timeout(limit, agent.events.wait_all_acknowledged()).await;
        }
        let mut connection_changes = agent.controller.subscribe_connection();
        connection_changes.mark_unchanged();
        attempts += 1;
        let error = match post(agent, claim, &delivery).await {
            Attempt::Accepted => {
                agent.sign_in.set_capture_state(CaptureState::Delivered);
                return DeliveryOutcome::Accepted;
            }
            Attempt::Rejected(code) => {
                agent.sign_in.set_capture_state(CaptureState::DeliveryRejected { code: code.into() });
                return DeliveryOutcome::Rejected;
            }
            Attempt::Retry(error) => error,
        };
        agent.events.push(CaptureEvent::DeliveryRetry { attempts, error: error.clone().into() });
        agent.sign_in.set_capture_state(CaptureState::Delivering { attempts, last_error: Some(error.clone().into()) });
        last_error = Some(error.into());
        // A new connection is a reason to retry at once.
        let _ = tokio::time::timeout(backoff.next_delay(), connection_changes.changed()).await;
        if is_superseded() {
            return DeliveryOutcome::Superseded;
        }
    }
}

async fn post(agent: &Agent, claim: &ActiveClaim, delivery: &CredentialDelivery) -> Attempt {
    match agent.controller.post(STORE_CREDENTIAL_PATH, &claim.agent_token, delivery).await {
        Ok((status, body)) if status.is_success() => match parse_json::<DeliveryResult>(&body) {
            Some(DeliveryResult::Stored { .. } | DeliveryResult::Ignored) => Attempt::Accepted,
            None => Attempt::Retry(format!("{status} with an invalid body")),
        },
        Ok((status, body)) if is_permanent_rejection(status.as_u16()) => {
            let problem = parse_json::<ProblemBody>(&body);
            let code = problem.map_or_else(|| status.as_u16().to_string(), |problem| problem.code);
            Attempt::Rejected(truncate_text(&code))
        }
        Ok((status, _)) => Attempt::Retry(status.to_string()),
        Err(error) => Attempt::Retry(error.to_string()),
    }
}
