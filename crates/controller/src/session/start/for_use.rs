//! Starts a session that uses a stored credential.

use super::super::{
    active_session::ActiveSession,
    queue::SessionOwner,
    supervisor::{self, use_turn::takes_turns},
};
use crate::{
    admission,
    api_error::ApiError,
    caller::{Action, Caller},
    credentials, random,
    session::server_context::ServerContext,
    unix_time::{self, UnixMs},
};
use anteroom_audit::Subject;
use anteroom_store::{
    CreateSessionOutcome, CredentialRow, CredentialUse, NewSession, NewSessionPlace, NewTimelineEntry, SessionPurpose,
    SessionRow,
};
use anteroom_wire::{
    CallerId, CredentialId, Problem, SessionId, TimelineKind,
    agent::UsePurpose,
    api::CredentialUseRequest,
    provider::{Provider, StoragePolicy},
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

/// Maximum number of words of a command: the program and its arguments.
pub const ARGV_WORDS_MAX: usize = 256;
/// Maximum size of all words together.
pub const ARGV_BYTES_MAX: usize = 64 * 1024;

/// Starts a session that uses the credential, for a caller that may.
///
/// # Errors
/// No such credential, another owner, forbidden by policy, an invalid command, no capacity.
pub async fn start_credential_use(
    server_context: &ServerContext,
    caller: &Caller,
    id: &CredentialId,
    request: &CredentialUseRequest,
) -> Result<SessionRow, ApiError> {
    let credential =
        credentials::require_undeleted_credential(server_context, caller, Action::UseCredential, id).await?;
    admission::require_capacity(server_context)?;
    start_credential_use_as(server_context, &caller.id, &credential, request).await
}

/// As [`start`], also for this server's periodic checks. The session belongs to the credential's owner.
///
/// # Errors
/// As [`start`].
pub(crate) async fn start_credential_use_as(
    server_context: &ServerContext,
    by: &CallerId,
    credential: &CredentialRow,
    request: &CredentialUseRequest,
) -> Result<SessionRow, ApiError> {
    let provider = check_request(server_context, credential, request)?;
    if server_context.stop.is_cancelled() {
        return Err(Problem::ShuttingDown.into());
    }
    let id = random::random_id(SessionId::from_parts);
    let turns = &server_context.credential_turns;
    let turn = if takes_turns(&provider) { Some(turns.join(&credential.id, &id).await?) } else { None };
    record_attempt(server_context, &id, credential).await?;
    let owner = SessionOwner { caller: credential.owner.clone(), user_id: credential.user_id.clone() };
    let ticket = server_context.queue.enqueue(&owner)?;
    let now = unix_time::now_unix_ms();
    let uses =
        CredentialUse { purpose: request.purpose, credential: credential.id.clone(), revision: credential.revision };
    let new = NewSession {
        id: id.clone(),
        owner: credential.owner.clone(),
        user_id: credential.user_id.clone(),
        provider: credential.provider.clone(),
        return_url: None,
        idempotency: None,
        created_at_ms: now,
        idle_deadline_ms: Some(now + server_context.config().sessions.idle_s_max * 1_000),
        deadline_ms: now + server_context.config().sessions.session_s_max * 1_000,
        external: None,
        method: credential.method.clone(),
        purpose: SessionPurpose::UseCredential(uses),
        settings: BTreeMap::new(),
        place: NewSessionPlace::ThisHost,
        // Its command is on this host, whose queue counts the machines of its caller here.
        machines_by_caller_max: None,
    };
    // The command is stored before the row, so that it exists when the session runs.
    server_context.volatile_execs.store_command(&id, request.argv.clone(), request.attached, |session| {
        server_context.sessions.get(session).is_some()
    });
    match server_context.store.create_session(&new, accepted(now, credential, request, by)).await? {
        CreateSessionOutcome::New(row) => {
            tracing::info!(outcome = "credential_used", session = %id, credential = %credential.id, caller = %by, purpose = ?request.purpose, "credential use started");
            let session = ActiveSession::new(id, Arc::new(provider), &server_context.close_signal);
            let start_from = supervisor::SupervisorStart::Queue { ticket, turn };
            supervisor::spawn_supervisor(server_context, session, row.clone(), start_from);
            Ok(row)
        }
        CreateSessionOutcome::Existing(_)
        | CreateSessionOutcome::IdempotencyKeyReused(_)
        | CreateSessionOutcome::MachineInUse(_) => {
            Err(ApiError::internal("a new session without idempotency key and external machine exists already"))
        }
    }
}

/// The first entry of the session's timeline.
fn accepted(
    now: UnixMs,
    credential: &CredentialRow,
    request: &CredentialUseRequest,
    by: &CallerId,
) -> NewTimelineEntry {
    let sentence = format!("A session that {} with a stored credential was accepted.", purpose_phrase(request.purpose));
    let data = json!({ "credential": credential.id, "purpose": request.purpose, "by": by });
    NewTimelineEntry::new(now, TimelineKind::Accepted, sentence).with_data(data)
}

/// Records the use in the audit trail before it begins.
async fn record_attempt(
    server_context: &ServerContext,
    session: &SessionId,
    credential: &CredentialRow,
) -> Result<(), ApiError> {
    let subject = Subject {
        session: Some(session.to_string()),
        credential: Some(credential.id.to_string()),
        user: credential.user_id.clone(),
        ..Subject::default()
    };
    server_context.audit.record_before(anteroom_audit::Action::CredentialUse, subject).await
}

/// What the session does, as a phrase that follows "a session that".
fn purpose_phrase(purpose: UsePurpose) -> &'static str {
    match purpose {
        UsePurpose::Exec => "runs a command",
        UsePurpose::Check => "checks it with the tool",
        UsePurpose::Logout => "signs out at the provider",
    }
}

/// Checks the request. Returns the descriptor, resolved for the use of a credential of this method.
fn check_request(
    server_context: &ServerContext,
    credential: &CredentialRow,
    request: &CredentialUseRequest,
) -> Result<Provider, ApiError> {
    if credential.deleted_at_ms.is_some() {
        return Err(Problem::UnknownCredential.into());
    }
    let providers = server_context.providers();
    let provider = providers.get(&credential.provider);
    let provider = provider.ok_or_else(|| {
        ApiError::new(Problem::UnknownProvider, format!("{} is no longer configured", credential.provider))
    })?;
    for policy in [credential.deletion_policy.storage_policy(), provider.storage_policy] {
        if policy != StoragePolicy::Store {
            return Err(ApiError::new(Problem::ForbiddenByPolicy, format!("{}: {}", provider.id, policy.sentence())));
        }
    }
    if !server_context.image.has_tool(&provider.cli) {
        return Err(ApiError::new(Problem::ProviderUnavailable, format!("the image has no {}", provider.cli)));
    }
    let missing =
        |command: &str| Err(ApiError::new(Problem::NoSuchCommand, format!("{} has no {command}", provider.id)));
    match request.purpose {
        UsePurpose::Exec => check_argv(&request.argv)?,
        UsePurpose::Check | UsePurpose::Logout if !request.argv.is_empty() || request.attached => {
            return Err(ApiError::new(Problem::Malformed, "argv and attached are for the purpose exec"));
        }
        UsePurpose::Check if provider.credential.status_argv.is_empty() => return missing("status command"),
        UsePurpose::Logout if provider.logout_argv.is_empty() => return missing("sign-out command"),
        UsePurpose::Check | UsePurpose::Logout => {}
    }
    let in_use = providers.resolved_for_use(&credential.provider, credential.method.as_ref());
    in_use.map(|(_, provider)| provider).ok_or_else(|| Problem::UnknownProvider.into())
}

/// Checks a command.
///
/// # Errors
/// It is empty, too long, or cannot be a command.
pub fn check_argv(argv: &[String]) -> Result<(), ApiError> {
    let bytes: usize = argv.iter().map(|argument| argument.len() + 1).sum();
    let is_valid = argv.first().is_some_and(|program| !program.is_empty())
        && argv.len() <= ARGV_WORDS_MAX
        && bytes <= ARGV_BYTES_MAX
        && !argv.iter().any(|argument| argument.contains('\0'));
    let detail = || {
        format!(
            "argv must be 1 to {ARGV_WORDS_MAX} words of at most {ARGV_BYTES_MAX} bytes together, without NUL, and begin with a program"
        )
    };
    if is_valid { Ok(()) } else { Err(ApiError::new(Problem::Malformed, detail())) }
}
