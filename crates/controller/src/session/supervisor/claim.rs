//! Claims a ready machine for the session: entropy, time, identity, the tool, the agent token.

use super::machine_slot::MachineOrigin;
use crate::{
    api_error::chain,
    clock, random,
    session::{
        active_session::ActiveSession, change_method, context::SessionContext, timeline::entry,
        use_credential::unseal_for_claim,
    },
};
use anteroom_machine::Channels;
use anteroom_store::{Change, Expect, Sha256Hex, Transition};
use anteroom_wire::{
    Base64, MachineId, Secret, TimelineKind,
    agent::{CaptureLimits, CaptureState, Claim, ClaimedBy, Geometry, UseCredential},
};
use serde_json::json;

/// First delay before a failed delivery is retried, milliseconds; it doubles. Most failures are a database that is locked for a moment.
const DELIVERY_RETRY_MS_MIN: u64 = 250;

/// Claims the machine, or resumes a machine that this session has claimed already.
///
/// # Errors
/// The reason why the machine cannot be used, for people.
pub(super) async fn claim(
    context: &SessionContext,
    session: &ActiveSession,
    generation: u32,
    machine: &MachineId,
    channels: &Channels,
    origin: &MachineOrigin,
) -> Result<(), String> {
    let by = ClaimedBy { session: session.id.clone(), machine: machine.clone(), generation };
    let mut is_use = false;
    match (&channels.agent_info.claimed, origin) {
        // Claimed by an earlier server, or by this task, and the response was lost with the channel.
        (Some(claimed), _) if *claimed == by => {
            resync_adopted(context, session, generation, channels, origin).await?;
            let row = context.store.session(&session.id).await.ok().flatten();
            if row.is_none_or(|row| row.claimed_generation == Some(generation)) {
                return Ok(());
            }
        }
        (Some(claimed), _) => return Err(format!("it belongs to {}", claimed.session)),
        (None, MachineOrigin::Requested(token)) => {
            let credential = unseal_for_claim::unseal_for_claim(context, session).await?;
            is_use = credential.is_some();
            let claim = build_claim(context, session, by, token, credential);
            channels.agent.claim(&claim).await.map_err(|error| chain(&error))?;
        }
        // The earlier server ended before the claim.
        (None, MachineOrigin::Adopted) => {
            let token = random::token("agt_");
            renew_token(context, session, generation, &token).await?;
            let credential = unseal_for_claim::unseal_for_claim(context, session).await?;
            is_use = credential.is_some();
            let claim = build_claim(context, session, by, &token, credential);
            channels.agent.claim(&claim).await.map_err(|error| chain(&error))?;
            session.update(|state| {
                if let Some(machine) = state.machine_of(generation) {
                    machine.delivery_pending = false;
                }
            });
        }
    }
    let change = Change::new().claimed_generation(Some(generation)).cli_started(true).replacement_reason(None);
    let sentence = if is_use {
        "The machine is ready; the stored credential is installed in it.".to_owned()
    } else {
        format!("The machine is ready; {} was started in it.", session.provider().name)
    };
    let data = json!({ "machine": machine, "timings": channels.timings, "versions": channels.agent_info.clis });
    let entry = entry(TimelineKind::MachineReady, sentence).data(data);
    context.timeline.wait_written(&session.id).await;
    match context.store.transition(&session.id, Expect::Active, change, entry).await {
        Ok(Transition::Done { .. }) => session.notify(),
        Ok(Transition::Conflict(_)) => {}
        // The claim itself succeeded; the row is only informative.
        Err(error) => {
            tracing::error!(outcome = "claim_not_written", session = %session.id, error = %chain(&error), "claim not written");
        }
    }
    Ok(())
}

/// Reads the sign-in state from the agent of a claimed machine, and sends the chosen method again if the agent runs another.
async fn resync_adopted(
    context: &SessionContext,
    session: &ActiveSession,
    generation: u32,
    channels: &Channels,
    origin: &MachineOrigin,
) -> Result<(), String> {
    let sign_in = channels.agent.sign_in_state().await.map_err(|error| chain(&error))?;
    session.update(|state| {
        if let Some(machine) = state.machine_of(generation) {
            machine.delivery_pending = matches!(sign_in.capture, CaptureState::Delivering { .. });
            machine.sign_in.reported = sign_in.clone();
        }
    });
    if matches!(origin, MachineOrigin::Adopted) {
        let sentence = "The server adopted the running machine without changing anything in it.";
        context.timeline.append(&session.id, entry(TimelineKind::MachineAdopted, sentence).data(json!({}))).await;
    }
    change_method::resync_method(context, session, channels, &sign_in).await
}

/// Records a new agent token for a machine that is not claimed yet.
async fn renew_token(
    context: &SessionContext,
    session: &ActiveSession,
    generation: u32,
    token: &Secret,
) -> Result<(), String> {
    let hash = Sha256Hex::of_secret(token);
    let change = Change::new().agent_token(Some(hash.clone()));
    let sentence = "The server adopted the machine before it was claimed.";
    let entry = entry(TimelineKind::MachineAdopted, sentence);
    match context.store.transition(&session.id, Expect::Active, change, entry).await {
        Ok(Transition::Done { .. }) => {
            session.update(|state| {
                if let Some(machine) = state.machine_of(generation) {
                    machine.agent_token = hash;
                }
            });
            Ok(())
        }
        Ok(Transition::Conflict(_)) => Err("the session has ended".into()),
        Err(error) => Err(chain(&error)),
    }
}

fn build_claim(
    context: &SessionContext,
    session: &ActiveSession,
    by: ClaimedBy,
    token: &Secret,
    credential: Option<UseCredential>,
) -> Claim {
    let (settings, limits) = (&context.config.sessions, &context.limits.sessions);
    Claim {
        entropy: Base64::new(random::bytes::<64>().to_vec()),
        now_unix_ns: clock::now_ns(),
        guest_machine_id: hex::encode(random::bytes::<16>()),
        by,
        geometry: Geometry { width: context.config.machines.width, height: context.config.machines.height },
        provider: (*session.provider()).clone(),
        agent_token: token.clone(),
        capture_limits: CaptureLimits {
            stable_ms: settings.capture_stable_ms,
            file_bytes_max: settings.credential_bytes_max,
            retry_ms_min: DELIVERY_RETRY_MS_MIN,
            retry_ms_max: limits.delivery_retry_ms_max,
            status_ms_max: limits.status_command_ms_max,
        },
        use_credential: credential,
    }
}
