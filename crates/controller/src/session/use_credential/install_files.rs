//! Opening the credential for the machine that is being claimed: not before, and for this one claim.

use super::super::{active_session::ActiveSession, end, lifecycle::EndKind, timeline};
use crate::{api_error::chain, app::App, clock, credentials};
use anteroom_store::{Change, CredentialUse, Expect, NewEvent, Record, SessionRow, Transition};
use anteroom_wire::{
    Problem,
    agent::{UseCredential, UsePurpose},
    provider::MethodName,
};
use serde_json::json;
use std::sync::Arc;

/// Why a command cannot be run after a restart.
pub const LOST: &str = "The command was known to a server that has ended.";

/// Whether the session's command was known to a former server alone and no machine can have it: it would stand in line for nothing.
/// One whose machine was asked for may be running in it.
pub fn is_lost(app: &App, row: &SessionRow) -> bool {
    let is_exec = row.purpose.credential_use().is_some_and(|using| using.purpose == UsePurpose::Exec);
    is_exec && row.machine.is_none() && app.exec_cache.argv(&row.id).is_none()
}

/// What the claim brings along for a session that uses a credential; `None`: somebody signs in. That it was opened is on the timeline
/// before it is.
///
/// # Errors
/// Why the machine cannot be claimed, for people. What no other machine could change has ended the session.
pub async fn install_files(app: &App, session: &ActiveSession) -> Result<Option<UseCredential>, String> {
    let row = app.store.session(&session.id).await.map_err(|error| chain(&error))?.ok_or("the session is gone")?;
    let Some(using) = row.purpose.credential_use() else { return Ok(None) };
    let argv = match using.purpose {
        UsePurpose::Check => Vec::new(),
        UsePurpose::Logout => session.provider().logout_argv.clone(),
        UsePurpose::Exec => match app.exec_cache.argv(&session.id) {
            Some(argv) => argv,
            None => {
                return Err(give_up(app, session, Problem::ControllerRestarted, LOST).await);
            }
        },
    };
    let record = app.store.sealed_credential(&using.credential).await.map_err(|error| chain(&error))?;
    let Some(record) = record else {
        return Err(give_up(app, session, Problem::UnknownCredential, "It was deleted before it could be used.").await);
    };
    let came_by = record.credential.method.as_ref();
    let Some((method, provider)) = app.providers.in_use(&record.credential.provider, came_by) else {
        let why = format!("{} is no longer configured.", record.credential.provider);
        return Err(give_up(app, session, Problem::ProviderUnavailable, &why).await);
    };
    // Of the method that these bytes came by, whatever was known when the session was started: they may have been renewed since.
    session.change(|state| state.provider = Arc::new(provider));
    tell(app, session, using, &record, method).await?;
    match credentials::opened(app, &record) {
        Ok(files) => Ok(Some(Use { purpose: using.purpose, files, argv })),
        Err(problem) => Err(give_up(app, session, problem, "The stored credential cannot be opened.").await),
    }
}

/// Puts on the timeline which revision this machine gets, and by which method it came.
async fn tell(
    app: &App,
    session: &ActiveSession,
    using: &CredentialUse,
    record: &Record,
    method: MethodName,
) -> Result<(), String> {
    let revision = record.credential.revision;
    let data = json!({
        "credential": using.credential, "revision": revision, "files": record.credential.files.len(), "method": method.as_str(),
    });
    let event = NewEvent::new(clock::now(), "credential_unsealed", "The credential is opened for this machine.");
    timeline::flush(app, &session.id).await;
    let change = Change::new().used_revision(revision).method(method);
    match app.store.transition(&session.id, Expect::Active, change, event.with(data)).await {
        Ok(Transition::Done { .. }) => {
            session.notify();
            Ok(())
        }
        Ok(Transition::Conflict(_)) => Err("the session has ended".into()),
        Err(error) => Err(chain(&error)),
    }
}

/// Ends the session; why, for people.
async fn give_up(app: &App, session: &ActiveSession, problem: Problem, why: &str) -> String {
    if let Err(error) = end::end(app, &session.id, EndKind::Failed, problem, why).await {
        tracing::error!(outcome = "end_not_written", session = %session.id, error = %chain(&error), "a session's end could not be written");
    }
    why.to_owned()
}
