//! The provider's settings of a session, which some accounts need: given at its start, or asked for like a prompt of the tool once the
//! tool has refused the account without one. The tool is then started again in the same machine, with what its sign-in has written.

use super::{
    active_session::{ActiveSession, MachineSignIn},
    change_method::send_to_agent,
    context::SessionContext,
    lifecycle::DeliveryState,
    request_rates::ViewerRequest,
    server_context::ServerContext,
    timeline::new_entry,
};
use crate::api_error::ApiError;
use anteroom_store::{ExpectedState, SessionChange, SessionRow, TransitionOutcome};
use anteroom_wire::{
    CredentialId, Problem, TimelineKind,
    agent::{PasteResult, SignInOutcome},
    api::{PromptView, StartRequest},
    provider::{Provider, SettingRule},
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

/// Checks the settings of a request.
///
/// # Errors
/// [`Problem::Malformed`]: the provider has no such setting, or does not accept the value; the detail says what it expects.
pub(super) fn check_settings(provider: &Provider, request: &StartRequest) -> Result<(), ApiError> {
    for (id, value) in &request.settings {
        let malformed = |detail: String| ApiError::new(Problem::Malformed, detail);
        let setting = provider.settings.iter().find(|setting| setting.id == *id);
        let setting = setting.ok_or_else(|| malformed(format!("settings: {} has no setting {id:?}", provider.id)))?;
        if !setting.accepts(value) {
            return Err(malformed(format!("settings.{id}: {}", setting.expected_format)));
        }
    }
    Ok(())
}

/// The settings with which a sign-in starts: those of the request, and those with which the credential that it renews was signed in, so
/// that the user is not asked again.
///
/// # Errors
/// The database cannot be read.
pub(super) async fn of_sign_in(
    server_context: &ServerContext,
    provider: &Provider,
    request: &StartRequest,
    renewed: Option<&CredentialId>,
) -> Result<BTreeMap<String, String>, ApiError> {
    let mut settings = match renewed.filter(|_| !provider.settings.is_empty()) {
        Some(credential) => {
            server_context.store.find_last_sign_in(credential).await?.map(|row| row.settings).unwrap_or_default()
        }
        None => BTreeMap::new(),
    };
    // The descriptor may have changed since.
    settings.retain(|id, value| provider.settings.iter().any(|rule| rule.id == *id && rule.accepts(value)));
    settings.extend(request.settings.clone());
    Ok(settings)
}

/// The setting that the user is asked for: the tool has refused the account for the want of it, or with a value that was given before.
pub(super) fn asked_setting<'p>(
    provider: &'p Provider,
    given: &BTreeMap<String, String>,
    sign_in: &MachineSignIn,
) -> Option<&'p SettingRule> {
    let reported = &sign_in.reported_status;
    let Some(SignInOutcome::Failed { why }) = &reported.outcome else { return None };
    let is_asked = |setting: &&SettingRule| setting.is_needed(why) || given.contains_key(&setting.id);
    provider.settings.iter().find(is_asked).filter(|_| reported.prompt.is_none())
}

/// The question for a setting. The reason of the tool is shown with its failure.
pub(super) fn to_prompt_view(setting: &SettingRule) -> PromptView {
    PromptView {
        id: setting.id.clone(),
        label: setting.label.clone(),
        secret: false,
        expected_format: Some(setting.expected_format.clone()),
        rejection: None,
    }
}

/// Takes `text` as the value of the setting that the user is asked for, and starts the tool again with it. `None`: no setting is asked for.
///
/// # Errors
/// [`Problem::WrongAnswer`] with what is expected, the session has ended, or the machine's agent cannot do it: then the next machine uses
/// the setting.
pub async fn answer_with(
    context: &SessionContext,
    row: &SessionRow,
    session: &Arc<ActiveSession>,
    text: &str,
) -> Result<Option<PasteResult>, ApiError> {
    let state = session.state();
    let asked =
        state.machine.as_ref().and_then(|machine| asked_setting(&state.provider, &row.settings, &machine.sign_in));
    let Some(setting) = asked else { return Ok(None) };
    if !setting.accepts(text) {
        return Err(ApiError::new(Problem::WrongAnswer, setting.expected_format.clone()));
    }
    session.request_rates.check(ViewerRequest::MethodChange)?;
    let settings: BTreeMap<_, _> = [(setting.id.clone(), text.to_owned())].into();
    let settings = row.settings.clone().into_iter().chain(settings).collect();
    let (setting, task_context, task_session, row) =
        (setting.clone(), context.clone(), Arc::clone(session), row.clone());
    // On a task, so that it completes even if the caller disconnects: row and agent must not diverge.
    let given = context.tasks.spawn(async move { give(&task_context, &task_session, &row, &setting, settings).await });
    given.await.map_err(ApiError::internal)?.map(Some)
}

async fn give(
    context: &SessionContext,
    session: &ActiveSession,
    row: &SessionRow,
    setting: &SettingRule,
    settings: BTreeMap<String, String>,
) -> Result<PasteResult, ApiError> {
    let _lock = session.method_lock.lock().await;
    if session.state().delivery() != DeliveryState::None {
        return Err(Problem::DeliveryInProgress.into());
    }
    let providers = context.providers();
    let provider = providers.get(&row.provider).ok_or(Problem::UnknownProvider)?;
    // What the sign-in has left besides its credential, so that the tool does not ask for another sign-in.
    let descriptor = provider.with_method_for_use(&session.provider().method).ok_or(Problem::UnknownMethod)?;
    let descriptor = descriptor.with_settings(&settings);
    let result = PasteResult::Setting { id: setting.id.as_str().into() };
    let sentence = format!("{} is started again with the setting that was given: {}.", provider.name, setting.label);
    let entry = new_entry(TimelineKind::Pasted, sentence).with_data(json!(result));
    context.timeline.wait_written(&row.id).await;
    let change = SessionChange::new().with_settings(settings);
    match context.store.transition(&row.id, ExpectedState::Active, change, entry).await? {
        TransitionOutcome::Done { .. } => {}
        TransitionOutcome::Conflict(row) => {
            let end = row.end().ok_or_else(|| ApiError::internal("a session that is not active has no end reason"))?;
            return Err(ApiError::new(Problem::Ended(end.reason.kind), end.reason.detail.clone().unwrap_or_default()));
        }
    }
    session.update_state(|state| state.provider = Arc::new(descriptor.clone()));
    send_to_agent(context, session, descriptor).await?;
    Ok(result)
}
