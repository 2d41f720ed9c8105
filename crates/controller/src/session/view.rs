//! A session as callers see it: derived from the row and from what its owner knows, on each read.

use super::{active_session::SessionState, status, use_credential};
use crate::{app::App, clock::rfc3339, credentials::credential_meta, providers::methods};
use anteroom_store::{CredentialRow, CredentialUse, SessionRow, StoreError};
use anteroom_wire::{
    agent::{CliState, SignInOutcome, UsePurpose},
    api::{PromptView, Reason, SessionView, SignInView, Status, UseView},
    provider::{Lane, Provider, StoragePolicy},
};
use std::sync::Arc;

/// The session as it is now.
///
/// # Errors
/// The database cannot be read.
pub async fn view(app: &App, row: &SessionRow) -> Result<SessionView, StoreError> {
    let state = app.sessions.get(&row.id).map(|session| session.state());
    let credential = match row.credential() {
        Some(id) => app.store.credential(id).await?.filter(|credential| credential.deleted_at_ms.is_none()),
        None => None,
    };
    Ok(assemble(app, row, state.as_ref(), credential.as_ref()))
}

fn assemble(
    app: &App,
    row: &SessionRow,
    state: Option<&SessionState>,
    credential: Option<&CredentialRow>,
) -> SessionView {
    let offered = app.providers.get(&row.provider);
    let provider = match state {
        Some(state) => Some(Arc::clone(&state.provider)),
        None => app.providers.resolved(&row.provider, row.method.as_ref()).map(Arc::new),
    };
    let provider = provider.as_deref();
    let policy = provider.map_or(StoragePolicy::Store, |provider| provider.policy);
    let progress = state.map(|state| &state.progress);
    let sign_in = state.filter(|_| row.is_active()).map(sign_in).unwrap_or_default();
    let signing_in = row.purpose.credential_use().is_none() && state.is_some_and(signing_in);
    let status = status::status(&row.status, progress, row.generation, signing_in);
    SessionView {
        id: row.id.clone(),
        provider: row.provider.clone(),
        provider_name: provider.map_or_else(|| row.provider.to_string(), |provider| provider.name.clone()),
        user_id: row.user_id.clone(),
        status,
        reason: row.reason().map(reason),
        stage: progress.filter(|_| row.is_active()).and_then(status::Progress::stage),
        queue_position: match progress {
            Some(status::Progress::Queued { position }) if row.is_active() => Some(*position),
            Some(_) | None => None,
        },
        generation: row.generation,
        generations_max: if row.external_machine.is_some() { 1 } else { app.config.sessions.restarts_max + 1 },
        machine: row.external_machine.clone(),
        created_at: rfc3339(row.created_at_ms),
        idle_deadline_at: row.idle_deadline_ms.filter(|_| row.is_active()).map(rfc3339),
        deadline_at: rfc3339(row.deadline_ms),
        ended_at: row.end().map(|end| rfc3339(end.at_ms)),
        sign_in,
        lanes: match provider {
            Some(provider) if row.purpose.credential_use().is_none() => provider.lanes.clone(),
            Some(_) | None => vec![Lane::Terminal],
        },
        next_action: match row.purpose.credential_use() {
            None => next_action(status, provider, state),
            Some(using) => next_of_use(status, using, row.exit_code),
        },
        return_url: row.return_url.clone(),
        credential: credential.map(|row| credential_meta(app, row)),
        policy,
        policy_sentence: policy.sentence().to_owned(),
        method: provider.map_or_else(String::new, |provider| provider.method.to_string()),
        methods: offered.map_or_else(Vec::new, methods),
        renews: row.purpose.renews().cloned(),
        credential_use: row.purpose.credential_use().map(|using| used(row, using)),
        viewers: state.map_or(0, |state| state.viewers),
    }
}

/// Whether the sign-in runs: there is something for the person to do, or its credential is on its way. Of a tool that has ended only a
/// question counts: what it said before leads nowhere.
fn signing_in(state: &SessionState) -> bool {
    let has_ended = matches!(state.sign_in.cli, CliState::Exited { .. });
    state.delivery_pending || state.sign_in.prompt.is_some() || (state.sign_in.is_under_way() && !has_ended)
}

fn sign_in(state: &SessionState) -> SignInView {
    let until = state
        .device_code_at_ms
        .zip(state.provider.sign_in.code_s_max)
        .map(|(shown, life_s)| rfc3339(shown + life_s * 1_000));
    SignInView {
        url: state.sign_in.url.as_ref().map(|found| found.url.clone()),
        browser_url: state.sign_in.browser_url.clone(),
        device_code: state.sign_in.device_code.clone(),
        device_code_until: until,
        prompt: state.sign_in.prompt.as_ref().map(|open| PromptView {
            id: open.id.clone(),
            label: open.label.clone(),
            secret: open.secret,
            hint: open.hint.clone(),
            rejected: open.rejected.clone(),
        }),
        failed: match &state.sign_in.outcome {
            Some(SignInOutcome::Failed { why }) => Some(why.clone()),
            Some(SignInOutcome::Done) | None => None,
        },
        kept_in_machine: state.credential_kept_in_machine,
    }
}

fn next_action(status: Status, provider: Option<&Provider>, state: Option<&SessionState>) -> String {
    let tool = provider.map_or("The tool", |provider| &provider.name);
    match status {
        Status::VmCreating => "Wait a moment: your machine is being made.".into(),
        Status::VmCreated => "Wait a moment: your machine is starting.".into(),
        Status::VmStopped => {
            "Wait a moment: your machine is being replaced. The sign-in starts again by itself.".into()
        }
        Status::VmStarted | Status::Authenticating if state.is_some_and(|state| state.credential_kept_in_machine) => {
            format!(
                "{tool} is signed in; the credential stays in this machine. End the session when you are done: it goes with it."
            )
        }
        Status::VmStarted if state.is_some_and(|state| matches!(state.sign_in.cli, CliState::Exited { .. })) => {
            format!(
                "{tool} has ended. Press Enter in its terminal to start it again, or choose another way of signing in."
            )
        }
        Status::VmStarted | Status::Authenticating => {
            provider.map_or_else(String::new, |provider| provider.next_action.clone())
        }
        Status::Completed => "Nothing more to do: the credential is stored.".into(),
        Status::Failed | Status::Cancelled | Status::Expired => "Start a new session when you are ready.".into(),
    }
}

fn used(row: &SessionRow, using: &CredentialUse) -> UseView {
    UseView { purpose: using.purpose, credential: using.credential.clone(), exit_code: row.exit_code }
}

/// Nobody signs in here: what goes on by itself, and how it ended.
fn next_of_use(status: Status, using: &CredentialUse, exit_code: Option<i32>) -> String {
    match status {
        Status::VmCreating => "Wait a moment: a machine is being made.".into(),
        Status::VmCreated => "Wait a moment: the machine is starting.".into(),
        Status::VmStopped => "Wait a moment: the machine is being replaced. The command starts again by itself.".into(),
        Status::VmStarted | Status::Authenticating => match using.purpose {
            UsePurpose::Exec => "The command runs in the terminal.",
            UsePurpose::Check => "The tool is being asked whether it is signed in; there is nothing to do.",
            UsePurpose::Logout => "The tool signs out in the terminal.",
        }
        .into(),
        Status::Completed => use_credential::outcome_sentence(using.purpose, exit_code.unwrap_or_default()),
        Status::Failed | Status::Cancelled | Status::Expired => "Use the credential again when you are ready.".into(),
    }
}

fn reason(reason: &anteroom_store::Reason) -> Reason {
    let sentence = reason.problem.sentence();
    Reason {
        code: reason.problem.code().to_owned(),
        sentence: reason.detail.as_ref().map_or_else(|| sentence.to_owned(), |detail| format!("{sentence} {detail}")),
    }
}
