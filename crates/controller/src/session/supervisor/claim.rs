//! Making a clone this session's machine: entropy, time, identity, the tool, the token.

use crate::{
    api_error::chain,
    app::App,
    clock, random,
    session::{active_session::ActiveSession, change_method, timeline, use_credential::install_files},
};
use anteroom_machine::Channels;
use anteroom_store::{Change, Expect, NewEvent, Sha256Hex, Transition};
use anteroom_wire::{
    Base64, MachineId, Secret,
    agent::{CaptureLimits, CaptureState, Claim, ClaimedBy, Geometry, UseCredential},
};
use serde_json::json;

/// Claims the machine, or finds that it is this session's already.
///
/// # Errors
/// Why the machine cannot be used, for people.
pub(super) async fn claim(
    app: &App,
    session: &ActiveSession,
    generation: u32,
    machine: &MachineId,
    channels: &Channels,
    token: Option<&Secret>,
) -> Result<(), String> {
    let by = ClaimedBy { session: session.id.clone(), machine: machine.clone(), generation };
    let mut is_use = false;
    match (&channels.hello.claimed, token) {
        // By a former server, or by this task, whose answer was lost with the channel.
        (Some(claimed), _) if *claimed == by => {
            adopted(app, session, channels, token.is_none()).await?;
            let row = app.store.session(&session.id).await.ok().flatten();
            if row.is_none_or(|row| row.claimed_generation == Some(generation)) {
                return Ok(());
            }
        }
        (Some(claimed), _) => return Err(format!("it belongs to {}", claimed.session)),
        (None, Some(token)) => {
            let used = install_files::install_files(app, session).await?;
            is_use = used.is_some();
            let claim = made(app, session, by, token, used);
            channels.agent.claim(&claim).await.map_err(|error| chain(&error))?;
        }
        // A former server asked for it and ended before it was anybody's: its token never left that server.
        (None, None) => {
            let token = random::token("agt_");
            renew_token(app, session, &token).await?;
            let used = install_files::install_files(app, session).await?;
            is_use = used.is_some();
            let claim = made(app, session, by, &token, used);
            channels.agent.claim(&claim).await.map_err(|error| chain(&error))?;
            session.change(|state| state.delivery_pending = false);
        }
    }
    let change = Change::new().claimed_generation(Some(generation)).cli_started(true).setback(None);
    let sentence = if is_use {
        "The machine is ready; the stored credential lies in it.".to_owned()
    } else {
        format!("The machine is ready; {} was started in it.", session.provider().name)
    };
    let data = json!({ "machine": machine, "timings": channels.timings, "versions": channels.hello.clis });
    let event = NewEvent::new(clock::now(), "machine_ready", sentence).with(data);
    timeline::flush(app, &session.id).await;
    match app.store.transition(&session.id, Expect::Active, change, event).await {
        Ok(Transition::JobResult { .. }) => session.notify(),
        Ok(Transition::Conflict(_)) => {}
        // The machine is what counts; the row says so a little later or not at all.
        Err(error) => {
            tracing::error!(outcome = "claim_not_written", session = %session.id, error = %chain(&error), "a claim could not be written");
        }
    }
    Ok(())
}

/// A machine that a former server claimed: only what it knows of the sign-in has to be asked, and the method told again if that
/// server did not come to it.
async fn adopted(app: &App, session: &ActiveSession, channels: &Channels, by_former: bool) -> Result<(), String> {
    let sign_in = channels.agent.sign_in().await.map_err(|error| chain(&error))?;
    session.change(|state| {
        state.delivery_pending = matches!(sign_in.capture, CaptureState::Delivering { .. });
        state.sign_in = sign_in.clone();
    });
    if by_former {
        let sentence = "The server took the running machine over; nothing in it was touched.";
        timeline::append(app, &session.id, "machine_adopted", sentence, json!({})).await;
    }
    change_method::resync_method(app, session, channels, &sign_in).await
}

/// Gives a machine that nobody claimed a token of this server's.
async fn renew_token(app: &App, session: &ActiveSession, token: &Secret) -> Result<(), String> {
    let hash = Sha256Hex::of_secret(token);
    let change = Change::new().agent_token(Some(hash.clone()));
    let sentence = "The server took the machine over before it was anybody's.";
    let event = NewEvent::new(clock::now(), "machine_adopted", sentence);
    match app.store.transition(&session.id, Expect::Active, change, event).await {
        Ok(Transition::JobResult { .. }) => {
            session.change(|state| state.agent_token = Some(hash));
            Ok(())
        }
        Ok(Transition::Conflict(_)) => Err("the session has ended".into()),
        Err(error) => Err(chain(&error)),
    }
}

fn made(app: &App, session: &ActiveSession, by: ClaimedBy, token: &Secret, used: Option<UseCredential>) -> Claim {
    let sessions = &app.config.sessions;
    Claim {
        entropy: Base64::new(random::bytes::<64>().to_vec()),
        now_unix_ns: clock::now_ns(),
        guest_machine_id: random::hex(&random::bytes::<16>()),
        by,
        geometry: Geometry { width: app.config.machines.width, height: app.config.machines.height },
        provider: (*session.provider()).clone(),
        agent_token: token.clone(),
        capture: CaptureLimits {
            stable_ms: sessions.capture_stable_ms,
            file_bytes_max: sessions.credential_bytes_max,
            retry_ms_min: sessions.delivery_retry_ms_min,
            retry_ms_max: sessions.delivery_retry_ms_max,
            status_ms_max: sessions.status_command_ms_max,
        },
        use_credential: used,
    }
}
