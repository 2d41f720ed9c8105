//! Starts a session: writes the row, then starts its supervisor. Returns before the machine exists.

pub mod for_use;
mod repeated;

use super::{
    active_session::ActiveSession, change_method, placement, queue::SessionOwner, settings, supervisor,
    waiting_sessions,
};
use crate::{
    admission,
    api_error::ApiError,
    caller::{Action, Caller},
    external::ExternalMachine,
    names::require_shown,
    random,
    session::server_context::ServerContext,
    unix_time,
};
use anteroom_store::{
    CreateSessionOutcome, CredentialRow, ExternalMachineClaim, NewSession, NewSessionPlace, NewTimelineEntry,
    SessionPurpose, SessionRow,
};
use anteroom_wire::{
    CallerId, CredentialId, Problem, ProviderId, SessionId, TimelineKind,
    api::StartRequest,
    provider::{MethodName, Provider, StoragePolicy},
};
use std::sync::Arc;

/// The longest id of a user and the longest idempotency key, characters.
pub const TEXT_CHARS_MAX: usize = 255;
/// The longest return address, bytes.
pub const URL_BYTES_MAX: usize = 2048;

/// Starts a session for `owner`, or returns the one that the same request started earlier.
///
/// # Errors
/// The request is invalid, the provider cannot be used, the queue is full, or the database cannot be written.
pub async fn start_session(
    server_context: &ServerContext,
    owner: &CallerId,
    request: &StartRequest,
) -> Result<SessionRow, ApiError> {
    let (provider, method) = check_request(server_context, request)?;
    let renewed = find_renewed(server_context, owner, &provider, request).await?;
    let user_id = request.user_id.clone().or_else(|| renewed.as_ref().and_then(|it| it.user_id.clone()));
    let purpose = SessionPurpose::SignIn { renews: renewed.map(|credential| credential.id) };
    let settings = settings::of_sign_in(server_context, &provider, request, purpose.renewed_credential()).await?;
    let provider = provider.with_settings(&settings);
    if server_context.stop.is_cancelled() {
        return Err(Problem::ShuttingDown.into());
    }
    let id = random::random_id(SessionId::from_parts);
    let key = request.idempotency_key.as_ref().map(|key| repeated::idempotency_key(key, request));
    let session_owner = SessionOwner { caller: owner.clone(), user_id: user_id.clone() };
    let Allocated { start_from, external, choice } = match allocate(server_context, &session_owner, request).await {
        Ok(allocated) => allocated,
        // A repeated request needs no capacity.
        Err(error) => return repeated::find_earlier(server_context, owner, key.as_ref()).await?.ok_or(error),
    };
    let start_from = match start_from {
        Some(from) => Some(join_line(server_context, from, &id, purpose.renewed_credential()).await?),
        None => None,
    };
    let now = unix_time::now_unix_ms();
    let new = NewSession {
        id: id.clone(),
        owner: owner.clone(),
        user_id,
        provider: provider.id.clone(),
        return_url: request.return_url.clone(),
        idempotency: key,
        created_at_ms: now,
        idle_deadline_ms: Some(now + server_context.config().sessions.idle_s_max * 1_000),
        deadline_ms: now + server_context.config().sessions.session_s_max * 1_000,
        external: external.map(|machine| ExternalMachineClaim {
            machine: machine.name.clone(),
            agent_token: machine.agent_token.clone(),
        }),
        method,
        purpose,
        settings,
        place: choice.place.clone(),
        machines_by_caller_max: server_context.config().machines.machines_by_caller_max,
    };
    let on = external.map_or_else(String::new, |machine| format!(" on the external machine {}", machine.name));
    let sentence = format!("A session for {}{on} was accepted.", provider.name);
    let entry = NewTimelineEntry::new(now, TimelineKind::Accepted, sentence);
    let outcome = server_context.store.create_session(&new, entry).await?;
    if let CreateSessionOutcome::New(row) = &outcome {
        begin(server_context, row, provider, start_from, choice);
    }
    created_row(outcome, request)
}

/// Runs a new session here, or offers it to other hosts.
fn begin(
    server_context: &ServerContext,
    row: &SessionRow,
    provider: Provider,
    start_from: Option<supervisor::SupervisorStart>,
    choice: placement::Choice,
) {
    match start_from.filter(|_| !row.waits_for_host()) {
        Some(start_from) => {
            let session = ActiveSession::new(row.id.clone(), Arc::new(provider), &server_context.close_signal);
            supervisor::spawn_supervisor(server_context, session, row.clone(), start_from);
        }
        None => drop(server_context.tasks.spawn(placement::offer(server_context.clone(), row.id.clone(), choice))),
    }
}

/// The row of the session that was created now, or by the same request before.
fn created_row(outcome: CreateSessionOutcome, request: &StartRequest) -> Result<SessionRow, ApiError> {
    match outcome {
        CreateSessionOutcome::New(row) | CreateSessionOutcome::Existing(row) => Ok(row),
        CreateSessionOutcome::IdempotencyKeyReused(_) => Err(Problem::IdempotencyKeyReused.into()),
        CreateSessionOutcome::MachineInUse(_) => {
            let name = request.machine.as_deref().unwrap_or_default();
            Err(ApiError::new(Problem::MachineInUse, format!("{name} is in use")))
        }
    }
}

/// The owner of the requested session: the caller, or the credential's owner if the session renews a credential.
///
/// # Errors
/// There is no such credential, or the caller may not act for its owner.
pub async fn resolve_owner(
    server_context: &ServerContext,
    caller: &Caller,
    request: &StartRequest,
) -> Result<CallerId, ApiError> {
    let Some(id) = renewed_credential(request)? else { return Ok(caller.account.clone()) };
    let credential = server_context.store.get_credential(&id).await?.ok_or(Problem::UnknownCredential)?;
    caller.require(Action::UseCredential, &credential)?;
    Ok(credential.owner)
}

fn renewed_credential(request: &StartRequest) -> Result<Option<CredentialId>, ApiError> {
    let parsed = request.renews.as_ref().map(|id| id.parse()).transpose();
    parsed.map_err(|error| ApiError::new(Problem::Malformed, format!("renews: {error}")))
}

/// The credential of the owner and the requested user that the session renews; `None`: it makes a new one.
async fn find_renewed(
    server_context: &ServerContext,
    owner: &CallerId,
    provider: &Provider,
    request: &StartRequest,
) -> Result<Option<CredentialRow>, ApiError> {
    let Some(id) = renewed_credential(request)? else { return Ok(None) };
    let credential =
        server_context.store.get_credential(&id).await?.filter(|credential| credential.deleted_at_ms.is_none());
    let credential = credential.ok_or(Problem::UnknownCredential)?;
    if credential.owner != *owner {
        return Err(Problem::NotOwner.into());
    }
    if request.user_id.is_some() && request.user_id != credential.user_id {
        return Err(Problem::OtherUser.into());
    }
    if credential.provider != provider.id {
        let detail = format!("renews: {id} is a credential of {}", credential.provider);
        return Err(ApiError::new(Problem::Malformed, detail));
    }
    if provider.storage_policy == StoragePolicy::KeepInMachine {
        return Err(ApiError::new(
            Problem::ForbiddenByPolicy,
            format!("{}: {}", provider.id, provider.storage_policy.sentence()),
        ));
    }
    Ok(Some(credential))
}

/// What a new session gets.
struct Allocated<'a> {
    /// `None`: it waits for a host of the cluster.
    start_from: Option<supervisor::SupervisorStart>,
    external: Option<&'a ExternalMachine>,
    choice: placement::Choice,
}

/// Reserves a place in the queue, or selects the external machine. Without a start, the session waits for a host of the cluster.
async fn allocate<'a>(
    server_context: &'a ServerContext,
    owner: &SessionOwner,
    request: &StartRequest,
) -> Result<Allocated<'a>, ApiError> {
    let Some(name) = &request.machine else {
        let choice = placement::choose(server_context, &request.provider, &request.labels)?;
        if choice.place != NewSessionPlace::ThisHost {
            waiting_sessions::require_place(server_context, owner).await?;
            return Ok(Allocated { start_from: None, external: None, choice });
        }
        admission::require_capacity(server_context)?;
        let ticket = server_context.queue.enqueue(owner)?;
        let start_from = Some(supervisor::SupervisorStart::Queue { ticket, turn: None });
        return Ok(Allocated { start_from, external: None, choice });
    };
    if !request.labels.is_empty() {
        return Err(ApiError::new(Problem::Malformed, "labels: they choose a host, and an external machine is none"));
    }
    let machine = server_context.external.get(name).ok_or_else(|| {
        ApiError::new(
            Problem::UnknownMachine,
            format!("the external machines are: {}", server_context.external.comma_separated_names()),
        )
    })?;
    let machine_use = server_context.queue.use_external_machine(owner)?;
    let agent_token = machine.agent_token.clone();
    let start = supervisor::SupervisorStart::External { agent_token, machine_use, turn: None };
    Ok(Allocated { start_from: Some(start), external: Some(machine), choice: placement::Choice::default() })
}

/// Joins the line for the credential that the session renews: a use that ended later would replace the new bytes by older ones.
async fn join_line(
    server_context: &ServerContext,
    from: supervisor::SupervisorStart,
    session: &SessionId,
    renewed: Option<&CredentialId>,
) -> Result<supervisor::SupervisorStart, ApiError> {
    let Some(credential) = renewed else { return Ok(from) };
    let turns = &server_context.credential_turns;
    match from {
        supervisor::SupervisorStart::Queue { ticket, .. } => {
            let turn = Some(turns.join(credential, session).await?);
            Ok(supervisor::SupervisorStart::Queue { ticket, turn })
        }
        supervisor::SupervisorStart::External { agent_token, machine_use, .. } => {
            let turn = turns.try_hold(credential, session).await?;
            let in_use =
                || ApiError::new(Problem::CredentialInUse, "a session on an external machine cannot wait for it");
            let turn = Some(turn.ok_or_else(in_use)?);
            Ok(supervisor::SupervisorStart::External { agent_token, machine_use, turn })
        }
        from @ (supervisor::SupervisorStart::Adopted { .. } | supervisor::SupervisorStart::Lost { .. }) => Ok(from),
    }
}

/// Checks the request. Returns the descriptor, resolved for the method, and the method if one is requested.
fn check_request(
    server_context: &ServerContext,
    request: &StartRequest,
) -> Result<(Provider, Option<MethodName>), ApiError> {
    let id: ProviderId =
        request.provider.parse().map_err(|error| ApiError::new(Problem::UnknownProvider, format!("{error}")))?;
    let providers = server_context.providers();
    let provider = providers.get(&id).ok_or_else(|| {
        ApiError::new(Problem::UnknownProvider, format!("{id} is not one of {}", providers.comma_separated_ids()))
    })?;
    if provider.storage_policy == StoragePolicy::Forbidden {
        return Err(ApiError::new(
            Problem::ForbiddenByPolicy,
            format!("{}: {}", provider.id, provider.storage_policy.sentence()),
        ));
    }
    let requested = request.method.as_deref().unwrap_or(provider.method.as_str());
    let (method, resolved) = change_method::resolve_method(provider, requested)?;
    settings::check_settings(&resolved, request)?;
    let resolved = resolved.with_settings(&request.settings);
    // The tools of an external machine are unknown here.
    if request.machine.is_none() && !server_context.image.has_tool(&provider.cli) {
        return Err(ApiError::new(Problem::ProviderUnavailable, format!("the image has no {}", provider.cli)));
    }
    for (name, text) in [("user_id", &request.user_id), ("idempotency_key", &request.idempotency_key)] {
        if let Some(text) = text {
            require_shown(name, text, TEXT_CHARS_MAX)?;
        }
    }
    if let Some(url) = &request.return_url {
        let parsed: Option<http::Uri> = url.parse().ok();
        let is_valid = url.len() <= URL_BYTES_MAX
            && parsed.is_some_and(|uri| {
                let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && !has_user
            });
        if !is_valid {
            let detail = format!(
                "return_url must be an http or https address without a user name, of at most {URL_BYTES_MAX} bytes"
            );
            return Err(ApiError::new(Problem::Malformed, detail));
        }
    }
    Ok((resolved, request.method.is_some().then_some(method)))
}
