//! Claims a ready machine for the session: entropy, time, identity, the tool, the agent token.

use super::{machine_slot::MachineOrigin, restored_sign_in::restore_sign_in};
use crate::{
    api_error::{ApiError, chain},
    random,
    session::{
        active_session::ActiveSession,
        agent_events::reported_sign_in::replace_status,
        change_method,
        context::SessionContext,
        timeline::new_entry,
        use_credential::unseal_for_claim::{self, UnsealForClaimError},
    },
    unix_time,
};
use anteroom_machine::{AgentError, Channels};
use anteroom_store::{ExpectedState, SessionChange, SessionRow, Sha256Hex, StoreError, TransitionOutcome};
use anteroom_wire::{
    Base64, MachineId, Secret, SessionId, TimelineKind,
    agent::{CaptureLimits, CaptureState, Claim, ClaimedBy, Geometry, UseCredential},
};
use serde_json::json;
use std::sync::Arc;

/// First delay before a failed delivery is retried, milliseconds; it doubles. Most failures are a database that is locked for a moment.
const DELIVERY_RETRY_MS_MIN: u64 = 250;

/// Why a machine cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimError {
    /// Another session has claimed it.
    #[error("it belongs to {0}")]
    OtherSession(SessionId),
    /// The session has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// The machine's agent did not do it.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This host may not act.
    #[error(transparent)]
    ContactLost(#[from] ApiError),
    /// The stored credential cannot be used.
    #[error(transparent)]
    Unseal(#[from] UnsealForClaimError),
}

/// Claims the machine, or resumes a machine that this session has claimed already.
///
/// # Errors
/// Why the machine cannot be used.
pub(super) async fn claim_machine(
    context: &SessionContext,
    session: &Arc<ActiveSession>,
    generation: u32,
    machine: &MachineId,
    channels: &Channels,
    origin: &MachineOrigin,
) -> Result<(), ClaimError> {
    context.cluster.require_may_act()?;
    let by = ClaimedBy { session: session.id.clone(), machine: machine.clone(), generation };
    let mut is_use = false;
    match (&channels.agent_info.claimed_by, origin) {
        // Claimed by an earlier server, or by this task, and the response was lost with the channel.
        (Some(claimed), _) if *claimed == by => {
            resync_adopted(context, session, generation, channels, origin).await?;
            let row = context.store.get_session(&session.id).await.ok().flatten();
            if row.is_none_or(|row| row.claimed_generation == Some(generation)) {
                return Ok(());
            }
        }
        (Some(claimed), _) => return Err(ClaimError::OtherSession(claimed.session.clone())),
        (None, MachineOrigin::Requested(token)) => {
            let credential = unseal_for_claim::unseal_for_claim(context, session).await?;
            is_use = credential.is_some();
            let claim = build_claim(context, session, by, (token, channels), credential);
            channels.agent.claim(&claim).await?;
        }
        // The earlier server ended before the claim.
        (None, MachineOrigin::Adopted) => {
            let token = random::random_token("agt_");
            renew_token(context, session, generation, &token).await?;
            let credential = unseal_for_claim::unseal_for_claim(context, session).await?;
            is_use = credential.is_some();
            let claim = build_claim(context, session, by, (&token, channels), credential);
            channels.agent.claim(&claim).await?;
            session.update_state(|state| {
                if let Some(machine) = state.machine_of_generation(generation) {
                    machine.delivery_pending = false;
                }
            });
        }
    }
    write_claimed(context, session, generation, machine, (channels, origin), is_use).await;
    Ok(())
}

/// Writes that the machine is claimed. An error is only logged: the claim itself succeeded, and the row is informative.
async fn write_claimed(
    context: &SessionContext,
    session: &ActiveSession,
    generation: u32,
    machine: &MachineId,
    (channels, origin): (&Channels, &MachineOrigin),
    is_use: bool,
) {
    let change = SessionChange::new()
        .with_claimed_generation(Some(generation))
        .with_cli_started(true)
        .with_replacement_reason(None);
    let sentence = if is_use {
        "The machine is ready; the stored credential is installed in it.".to_owned()
    } else {
        format!("The machine is ready; {} was started in it.", session.provider().name)
    };
    let data = json!({ "machine": machine, "timings": channels.timings, "versions": channels.agent_info.clis });
    let entry = new_entry(TimelineKind::MachineReady, sentence).with_data(data);
    context.timeline.wait_written(&session.id).await;
    match context.store.transition(&session.id, ExpectedState::Active, change, entry).await {
        Ok(TransitionOutcome::Done { row, .. }) => {
            observe_start(context, &row, channels, origin);
            session.notify_subscribers();
        }
        Ok(TransitionOutcome::Conflict(_)) => {}
        Err(error) => {
            tracing::error!(outcome = "claim_not_written", session = %session.id, error = %chain(&error), "claim not written");
        }
    }
}

/// Counts the start of the row's machine, unless this server did not start it.
fn observe_start(context: &SessionContext, row: &SessionRow, channels: &Channels, origin: &MachineOrigin) {
    if matches!(origin, MachineOrigin::Requested(_)) {
        let total_ms = unix_time::now_unix_ms().saturating_sub(row.created_at_ms);
        context.start_histograms.observe_start(&channels.timings, (row.generation == 1).then_some(total_ms));
    }
}

/// Reads the sign-in state from the agent of a claimed machine, and sends the chosen method again if the agent runs another.
async fn resync_adopted(
    context: &SessionContext,
    session: &Arc<ActiveSession>,
    generation: u32,
    channels: &Channels,
    origin: &MachineOrigin,
) -> Result<(), ClaimError> {
    let sign_in = channels.agent.sign_in_state().await?;
    let provider = session.provider();
    session.update_state(|state| {
        if let Some(machine) = state.machine_of_generation(generation) {
            machine.delivery_pending = matches!(sign_in.capture, CaptureState::Delivering { .. });
            replace_status(&mut machine.sign_in, &provider, sign_in.clone());
        }
    });
    if matches!(origin, MachineOrigin::Adopted) {
        restore_sign_in(context, session, generation).await?;
        let sentence = "The server adopted the running machine without changing anything in it.";
        context
            .timeline
            .append(&session.id, new_entry(TimelineKind::MachineAdopted, sentence).with_data(json!({})))
            .await;
    }
    Ok(change_method::resend_method(context, session, channels, &sign_in).await?)
}

/// Records a new agent token for a machine that is not claimed yet.
async fn renew_token(
    context: &SessionContext,
    session: &ActiveSession,
    generation: u32,
    token: &Secret,
) -> Result<(), ClaimError> {
    let hash = Sha256Hex::of_secret(token);
    let change = SessionChange::new().with_agent_token(Some(hash.clone()));
    let sentence = "The server adopted the machine before it was claimed.";
    let entry = new_entry(TimelineKind::MachineAdopted, sentence);
    match context.store.transition(&session.id, ExpectedState::Active, change, entry).await {
        Ok(TransitionOutcome::Done { .. }) => {
            session.update_state(|state| {
                if let Some(machine) = state.machine_of_generation(generation) {
                    machine.agent_token = hash;
                }
            });
            Ok(())
        }
        Ok(TransitionOutcome::Conflict(_)) => Err(ClaimError::SessionEnded),
        Err(error) => Err(error.into()),
    }
}

fn build_claim(
    context: &SessionContext,
    session: &ActiveSession,
    by: ClaimedBy,
    (token, channels): (&Secret, &Channels),
    credential: Option<UseCredential>,
) -> Claim {
    let config = context.config();
    let (settings, limits) = (&config.sessions, &context.limits.sessions);
    Claim {
        entropy: Base64::new(random::random_bytes::<64>().to_vec()),
        now_unix_ns: unix_time::now_unix_ns(),
        guest_machine_id: hex::encode(random::random_bytes::<16>()),
        claimed_by: by,
        geometry: Geometry { width: config.machines.width, height: config.machines.height },
        provider: session.provider().for_agent(&channels.agent_info.capabilities),
        agent_token: token.clone(),
        capture_limits: CaptureLimits {
            stable_ms: settings.capture_stable_ms,
            file_bytes_max: limits.credential_bytes_max,
            retry_ms_min: DELIVERY_RETRY_MS_MIN,
            retry_ms_max: limits.delivery_retry_ms_max,
            status_ms_max: limits.status_command_ms_max,
        },
        extra_ca_pem: context.extra_ca_pem.to_string(),
        use_credential: credential,
    }
}
