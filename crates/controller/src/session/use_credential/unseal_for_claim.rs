//! Decrypts the credential for the machine that is being claimed: not earlier, and only for this claim. The agent installs its files.

use super::super::{active_session::ActiveSession, end};
use crate::{
    api_error::chain,
    credentials,
    session::{context::SessionContext, timeline::new_entry},
};
use anteroom_store::{
    CredentialUse, ExpectedState, SealedCredential, SessionChange, SessionRow, StoreError, TransitionOutcome,
};
use anteroom_wire::{
    EndReason, TimelineKind,
    agent::{UseCredential, UsePurpose},
    provider::MethodName,
};
use serde_json::json;
use std::sync::Arc;

/// The reason why a command cannot run after a restart of the server.
pub const COMMAND_LOST: &str = "The command was lost with the restart of the server.";

/// Why the credential cannot be decrypted for the claim.
#[derive(Debug, thiserror::Error)]
pub enum UnsealForClaimError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The session's row does not exist.
    #[error("the session does not exist")]
    NoSession,
    /// The session has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// The session was ended as failed.
    #[error("{why}")]
    SessionFailed {
        /// Its end reason.
        reason: EndReason,
        /// The detail of the reason, one sentence for people.
        why: String,
    },
}

/// Whether the session's command was lost with an earlier server. A session whose machine was requested is excluded: the command
/// may be running in it.
pub fn is_command_lost(context: &SessionContext, row: &SessionRow) -> bool {
    let is_exec = row.purpose.credential_use().is_some_and(|credential_use| credential_use.purpose == UsePurpose::Exec);
    is_exec && row.machine.is_none() && context.volatile_execs.command(&row.id).is_none()
}

/// The decrypted credential and the command for the claim; `None` for a sign-in. The timeline records it before it is decrypted.
///
/// # Errors
/// Why the machine cannot be claimed. If no other machine could help, the session is ended.
pub async fn unseal_for_claim(
    context: &SessionContext,
    session: &ActiveSession,
) -> Result<Option<UseCredential>, UnsealForClaimError> {
    let row = context.store.get_session(&session.id).await?.ok_or(UnsealForClaimError::NoSession)?;
    let Some(credential_use) = row.purpose.credential_use() else { return Ok(None) };
    let (argv, attached) = match credential_use.purpose {
        UsePurpose::Check => (Vec::new(), false),
        UsePurpose::Logout => (session.provider().logout_argv.clone(), false),
        UsePurpose::Exec => match context.volatile_execs.command(&session.id) {
            Some(command) => command,
            None => {
                return Err(fail_session(context, session, EndReason::ControllerRestarted, COMMAND_LOST).await);
            }
        },
    };
    let record = match context.store.get_sealed_credential(&credential_use.credential).await {
        Err(error @ StoreError::TamperedRow { .. }) => {
            tracing::error!(outcome = "unseal_failed", session = %session.id, error = %chain(&error), "credential not decrypted");
            let why = "What is stored of the credential was changed outside of this server.";
            return Err(fail_session(context, session, EndReason::Internal, why).await);
        }
        other => other?,
    };
    let Some(record) = record else {
        let why = "It was deleted before it could be used.";
        return Err(fail_session(context, session, EndReason::CredentialDeleted, why).await);
    };
    let stored_method = record.credential.method.as_ref();
    let Some((method, provider)) = context.providers().resolved_for_use(&record.credential.provider, stored_method)
    else {
        let why = format!("{} is no longer configured.", record.credential.provider);
        return Err(fail_session(context, session, EndReason::ProviderRemoved, &why).await);
    };
    // The method of these bytes, not of the session's start: the credential may have been renewed since.
    session.update_state(|state| state.provider = Arc::new(provider));
    record_unsealing(context, session, credential_use, &record, method).await?;
    match credentials::unseal_files(context, &record) {
        Ok(files) => Ok(Some(UseCredential { purpose: credential_use.purpose, files, argv, attached })),
        Err(error) => {
            tracing::error!(outcome = "unseal_failed", session = %session.id, error = %chain(&error), "credential not decrypted");
            let why = "The stored credential cannot be decrypted.";
            Err(fail_session(context, session, EndReason::Internal, why).await)
        }
    }
}

/// Records which revision this machine receives, and by which method it was obtained.
async fn record_unsealing(
    context: &SessionContext,
    session: &ActiveSession,
    credential_use: &CredentialUse,
    record: &SealedCredential,
    method: MethodName,
) -> Result<(), UnsealForClaimError> {
    let revision = record.credential.revision;
    let data = json!({
        "credential": credential_use.credential, "revision": revision, "files": record.credential.files.len(), "method": method.as_str(),
    });
    let entry =
        new_entry(TimelineKind::CredentialUnsealed, "The credential is decrypted for this machine.").with_data(data);
    context.timeline.wait_written(&session.id).await;
    let change = SessionChange::new().with_used_revision(revision).with_method(method);
    match context.store.transition(&session.id, ExpectedState::Active, change, entry).await {
        Ok(TransitionOutcome::Done { .. }) => {
            session.notify_subscribers();
            Ok(())
        }
        Ok(TransitionOutcome::Conflict(_)) => Err(UnsealForClaimError::SessionEnded),
        Err(error) => Err(error.into()),
    }
}

/// Ends the session as failed; returns the reason as an error.
async fn fail_session(
    context: &SessionContext,
    session: &ActiveSession,
    reason: EndReason,
    why: &str,
) -> UnsealForClaimError {
    if let Err(error) = end::end_session(context, &session.id, reason, why).await {
        tracing::error!(outcome = "end_not_written", session = %session.id, error = %chain(&error), "session end not written");
    }
    UnsealForClaimError::SessionFailed { reason, why: why.to_owned() }
}
