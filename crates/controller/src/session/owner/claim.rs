//! Making a clone this session's machine: entropy, time, identity, the tool, the token.

use crate::{app::App, clock, random, refusal::chain, session::live::Live};
use anteroom_machine::Channels;
use anteroom_store::{Change, Expect, NewEvent, Transition};
use anteroom_wire::{
    Base64, MachineId, Secret,
    agent::{CaptureLimits, Claim, ClaimedBy, Geometry},
};
use serde_json::json;

/// Claims the machine, or finds that it is this session's already.
///
/// # Errors
/// Why the machine cannot be used, for people.
pub(super) async fn claim(
    app: &App,
    live: &Live,
    generation: u32,
    machine: &MachineId,
    channels: &Channels,
    token: Option<&Secret>,
) -> Result<(), String> {
    let by = ClaimedBy { session: live.id.clone(), machine: machine.clone(), generation };
    match (&channels.hello.claimed, token) {
        (Some(claimed), _) if *claimed == by => return adopted(app, live, channels).await,
        (Some(claimed), _) => return Err(format!("it belongs to {}", claimed.session)),
        (None, None) => return Err("it was never claimed and its token is lost".into()),
        (None, Some(token)) => {
            let claim = made(app, live, by, token);
            channels.agent.claim(&claim).await.map_err(|error| chain(&error))?;
        }
    }
    let change = Change::new().claimed_generation(Some(generation)).cli_started(true).setback(None);
    let sentence = format!("The machine is ready; {} was started in it.", live.provider.name);
    let data = json!({ "machine": machine, "timings": channels.timings, "versions": channels.hello.clis });
    let event = NewEvent::new(clock::now(), "machine_ready", sentence).with(data);
    match app.store.transition(&live.id, Expect::Active, change, event).await {
        Ok(Transition::Done { .. }) => live.tell(),
        Ok(Transition::Conflict(_)) => {}
        // The machine is what counts; the row says so a little later or not at all.
        Err(error) => {
            tracing::error!(outcome = "claim_not_written", session = %live.id, error = %chain(&error), "a claim could not be written");
        }
    }
    Ok(())
}

/// A machine that a former server claimed: only what it knows of the sign-in has to be asked.
async fn adopted(app: &App, live: &Live, channels: &Channels) -> Result<(), String> {
    let sign_in = channels.agent.sign_in().await.map_err(|error| chain(&error))?;
    live.change(|facts| facts.sign_in = sign_in);
    let sentence = "The server took the running machine over; nothing in it was touched.";
    super::note(app, &live.id, "machine_adopted", sentence, json!({})).await;
    Ok(())
}

fn made(app: &App, live: &Live, by: ClaimedBy, token: &Secret) -> Claim {
    let sessions = &app.config.sessions;
    Claim {
        entropy: Base64::new(random::bytes::<64>().to_vec()),
        now_unix_ns: clock::now_ns(),
        guest_machine_id: random::hex(&random::bytes::<16>()),
        by,
        geometry: Geometry { width: app.config.machines.width, height: app.config.machines.height },
        provider: (*live.provider).clone(),
        agent_token: token.clone(),
        capture: CaptureLimits {
            stable_ms: sessions.capture_stable_ms,
            file_bytes_max: sessions.credential_bytes_max,
            retry_ms_min: sessions.delivery_retry_ms_min,
            retry_ms_max: sessions.delivery_retry_ms_max,
            status_ms_max: sessions.status_command_ms_max,
        },
    }
}
