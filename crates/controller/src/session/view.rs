//! A session as callers see it, computed on each read from its row and its state.

use super::{
    active_session::{ActiveSession, CurrentMachine, MachineSignIn, SessionState},
    consent, failure_cause,
    for_person::SituationInput,
    host_facts::without_host_facts,
    settings, status, use_credential,
};
use crate::{
    credentials::to_credential_meta, providers::to_method_views, session::context::SessionContext,
    unix_time::format_rfc3339,
};
use anteroom_store::{CredentialRow, CredentialUse, SessionRow, StoreError};
use anteroom_wire::{
    DEFAULT_OWNER, PersonValues,
    agent::{CliState, KEY_ENTRY_PROMPT_ID, OpenPrompt, SignInOutcome, UsePurpose},
    api::{CredentialUseView, PromptView, Reason, SessionStatus, SessionView, SignInView, UnexpectedAddress},
    diagnosis::Verdict,
    guest_text::{GUEST_TEXT_BYTES_MAX, clean_line},
    provider::{Lane, Provider, StoragePolicy},
    situation::{ForPerson, Situation},
};
use std::sync::Arc;

/// The current view of the session.
///
/// # Errors
/// The database cannot be read.
pub async fn to_session_view(context: &SessionContext, row: &SessionRow) -> Result<SessionView, StoreError> {
    let session = context.sessions.get(&row.id);
    let credential = match row.credential() {
        Some(id) => context.store.get_credential(id).await?.filter(|credential| credential.deleted_at_ms.is_none()),
        None => None,
    };
    let cause = failure_cause::cause_of(context, row).await;
    let mut view = assemble(context, row, session.as_deref(), credential.as_ref(), cause);
    if row.waits_for_host() {
        let place = context.store.find_place_in_line(&row.id).await?;
        view.queue_position = Some(u32::try_from(place).unwrap_or(u32::MAX));
    }
    Ok(view)
}

fn assemble(
    context: &SessionContext,
    row: &SessionRow,
    session: Option<&ActiveSession>,
    credential: Option<&CredentialRow>,
    cause: Option<Verdict>,
) -> SessionView {
    let state = session.map(ActiveSession::state);
    let state = state.as_ref();
    let providers = context.providers();
    let descriptor = providers.get(&row.provider);
    let resolved = || providers.resolved(&row.provider, row.method.as_ref()).map(Arc::new);
    let provider = state.map(|state| Arc::clone(&state.provider)).or_else(resolved);
    let provider = provider.as_deref();
    let storage_policy = provider.map_or(StoragePolicy::Store, |provider| provider.storage_policy);
    let progress = state.map(|state| &state.progress);
    let machine = state.and_then(|state| state.machine.as_ref());
    let shown_machine = provider.zip(machine).filter(|_| row.is_active());
    let signing_in = row.purpose.credential_use().is_none() && machine.is_some_and(signing_in);
    let status = status::derive_status(&row.status, progress, row.generation, signing_in);
    let methods = descriptor.map_or_else(Vec::new, to_method_views);
    let egress_faults = session.map(|session| session.egress_faults.lock().clone()).unwrap_or_default();
    let input = SituationInput {
        status,
        queue_position: progress.filter(|_| row.is_active()).and_then(status::Progress::queue_position),
        queue_wait_s: state.and_then(|state| state.queue_wait_s),
        provider,
        machine,
        egress_faults: &egress_faults,
        uses_credential: row.purpose.credential_use().is_some(),
        end_reason: row.end().map(|end| end.reason.kind),
        methods: &methods,
        asks_setting: provider.zip(machine).is_some_and(|(provider, machine)| {
            settings::asked_setting(provider, &row.settings, &machine.sign_in).is_some()
        }),
    };
    let Sentences { next_action, for_person } = sentences(context, row, &input, cause);
    let owner = for_person.values.owner.as_deref().unwrap_or(DEFAULT_OWNER);
    SessionView {
        id: row.id.clone(),
        provider: row.provider.clone(),
        provider_name: provider.map_or_else(|| row.provider.to_string(), |provider| provider.name.clone()),
        policy_sentence: storage_policy.for_person(owner),
        owner_name: consent::owner_name(row),
        return_host: consent::return_host(row),
        user_id: row.user_id.clone(),
        status,
        reason: row.reason().map(|found| reason(found, row.is_active())),
        stage: progress.filter(|_| row.is_active()).and_then(status::Progress::pending_stage),
        queue_position: input.queue_position,
        generation: row.generation,
        generations_max: if row.external_machine.is_some() { 1 } else { context.config().sessions.restarts_max + 1 },
        machine: row.external_machine.clone(),
        created_at: format_rfc3339(row.created_at_ms),
        idle_deadline_at: row.idle_deadline_ms.filter(|_| row.is_active()).map(|at_ms| {
            let code_until = shown_machine.and_then(|(provider, machine)| machine.sign_in.device_code_until(provider));
            format_rfc3339(code_until.map_or(at_ms, |until| until.at_ms.max(at_ms)))
        }),
        deadline_at: format_rfc3339(row.deadline_ms),
        ended_at: row.end().map(|end| format_rfc3339(end.at_ms)),
        sign_in: shown_machine
            .map_or_else(SignInView::default, |(provider, machine)| sign_in(row, provider, &machine.sign_in)),
        lanes: lanes(row, provider, for_person.situation),
        next_action,
        for_person,
        return_url: row.return_url.clone(),
        credential: credential.map(|row| to_credential_meta(context, row)),
        storage_policy,
        method: provider.map_or_else(String::new, |provider| provider.method.to_string()),
        methods,
        renews: row.purpose.renewed_credential().cloned(),
        credential_use: row.purpose.credential_use().map(|credential_use| use_view(row, state, credential_use)),
        viewers: state.map_or(0, |state| state.desktop_viewers),
        host: context.cluster.host_name(row.holder.as_ref()),
        host_is_silent: false,
    }
}

/// The sentences of a session's situation.
struct Sentences {
    next_action: String,
    for_person: ForPerson,
}

fn sentences(
    context: &SessionContext,
    row: &SessionRow,
    input: &SituationInput<'_>,
    cause: Option<Verdict>,
) -> Sentences {
    let (situation, host) = input.situation();
    let config = context.config();
    let settings = &config.sessions;
    let position = input.queue_position;
    let values = PersonValues {
        tool: input.provider.map_or_else(|| "The tool".to_owned(), |provider| provider.name.clone()),
        owner: consent::owner_for_person(row),
        instruction: input.provider.map_or_else(String::new, |provider| provider.next_action.clone()),
        host: host.map(str::to_owned),
        position,
        wait_s: input.queue_wait_s.filter(|_| position.is_some()),
        machines: row.generation,
        idle_s_max: settings.idle_s_max,
        total_s_max: settings.session_s_max,
        reason: input.end_reason.map(|reason| reason.code().to_owned()),
        verdict: cause,
    };
    let has_restart_left = row.external_machine.is_none() && row.generation <= settings.restarts_max;
    let mut for_person = values.for_person(situation, input.actions(situation, has_restart_left));
    for_person.other_methods = input.other_methods();
    for_person.if_refused = input.if_page_refuses(situation, &for_person.other_methods);
    let opening = input.machine.and_then(|machine| machine.sign_in.page.as_ref());
    let opening_since = opening.map(|page| format_rfc3339(page.reported.at_ms));
    let page_usual_s = || input.provider.and_then(|provider| context.page_times.usual_s(provider));
    // In other situations the person has nothing to do there.
    let acts = situation == Situation::YourTurn || input.remote_browser().is_some_and(|(page, _)| page == situation);
    if let Some((page, host)) = input.remote_browser().filter(|_| acts) {
        let mut shown = values.remote_browser(page, host, input.page_actions(page));
        if page == Situation::PageOpening {
            (shown.since, shown.usual_s) = (opening_since.clone(), page_usual_s());
        }
        for_person.remote_browser = Some(shown);
    }
    if situation == Situation::PageOpening {
        (for_person.since, for_person.usual_s) = (opening_since, page_usual_s());
    }
    if situation == Situation::ToolStarting {
        let started = input.machine.and_then(|machine| machine.sign_in.tool_started.as_ref());
        for_person.since = started.map(|started| format_rfc3339(started.at_ms));
        for_person.usual_s = input.provider.and_then(|provider| context.start_times.usual_s(provider));
    }
    let next_action = match row.purpose.credential_use() {
        None => values.for_operator(situation),
        Some(credential_use) => next_action_of_use(input.status, credential_use, row.exit_code),
    };
    Sentences { next_action, for_person }
}

/// The lanes of the method, and the terminal if only it shows the code; a command with a stored credential runs in the terminal.
fn lanes(row: &SessionRow, provider: Option<&Provider>, situation: Situation) -> Vec<Lane> {
    let Some(provider) = provider.filter(|_| row.purpose.credential_use().is_none()) else {
        return vec![Lane::Terminal];
    };
    let needs_terminal = situation == Situation::CodeInTerminal && !provider.lanes.contains(&Lane::Terminal);
    provider.lanes.iter().copied().chain(needs_terminal.then_some(Lane::Terminal)).collect()
}

/// Whether a sign-in is in progress: the user can act, or the credential is being delivered. Of a tool that has exited only an open
/// prompt counts.
fn signing_in(machine: &CurrentMachine) -> bool {
    let sign_in = &machine.sign_in.reported_status;
    let has_ended = matches!(sign_in.cli, CliState::Exited { .. });
    machine.delivery_pending || sign_in.prompt.is_some() || (sign_in.is_in_progress() && !has_ended)
}

fn sign_in(row: &SessionRow, provider: &Provider, state: &MachineSignIn) -> SignInView {
    let reported = &state.reported_status;
    // What a tool showed that ended with an error, or reported one and does not ask again, leads nowhere.
    let has_failed = state.has_reported_failure() && reported.prompt.is_none();
    let is_valid = !has_failed && !matches!(reported.cli, CliState::Exited { code } if code != 0);
    // The session may end before.
    let until = state.device_code_until(provider).map(|until| format_rfc3339(until.at_ms.min(row.deadline_ms)));
    SignInView {
        url: reported.url.as_ref().filter(|_| is_valid).map(|sign_in_url| sign_in_url.url.clone()),
        browser_url: reported.browser_url.clone().filter(|_| is_valid),
        unexpected_address: state.unexpected_origin.as_ref().map(|origin| UnexpectedAddress {
            host: origin.to_string(),
            sentence: unexpected_address_sentence(&origin.to_string(), &provider.name),
        }),
        device_code: reported.device_code.as_ref().filter(|_| is_valid).map(ToString::to_string),
        device_code_until: until.filter(|_| is_valid),
        prompt: match &reported.prompt {
            Some(prompt) => prompt_view(provider, prompt),
            None => settings::asked_setting(provider, &row.settings, state).map(settings::to_prompt_view),
        },
        failed: match &reported.outcome {
            Some(SignInOutcome::Failed { why }) => Some(why.to_string()),
            Some(SignInOutcome::Done) | None => None,
        },
        kept_in_machine: state.kept_in_machine,
    }
}

/// The warning about an address that the tool did not have to open, for the person.
pub(super) fn unexpected_address_sentence(host: &str, tool: &str) -> String {
    format!(
        "The temporary computer wants to open {host}, which is not a page of {tool}. Do not enter a password or a code there."
    )
}

/// The prompt with the texts of the provider's rule. The guest only names the rule and reports why an answer was rejected.
/// `None`: the provider has no such prompt.
fn prompt_view(provider: &Provider, prompt: &OpenPrompt) -> Option<PromptView> {
    let (label, secret, expected_format) = if prompt.id == KEY_ENTRY_PROMPT_ID {
        let entry = provider.key_entry.as_ref()?;
        (entry.label.clone(), true, entry.expected_format.clone())
    } else {
        let (_, question) = provider.questions().find(|(id, _)| prompt.id == *id)?;
        (question.label.clone(), question.secret, question.expected_format.clone())
    };
    let rejection = prompt.rejection.as_ref().map(ToString::to_string);
    Some(PromptView { id: prompt.id.to_string(), label, secret, expected_format, rejection })
}

fn use_view(row: &SessionRow, state: Option<&SessionState>, credential_use: &CredentialUse) -> CredentialUseView {
    CredentialUseView {
        purpose: credential_use.purpose,
        credential: credential_use.credential.clone(),
        exit_code: row.exit_code,
        waits_for: state.and_then(|state| state.waits_for_use.clone()).filter(|_| row.is_active()),
    }
}

/// The next action of a session that uses a credential: its progress and outcome.
fn next_action_of_use(status: SessionStatus, credential_use: &CredentialUse, exit_code: Option<i32>) -> String {
    match status {
        SessionStatus::VmCreating => "Wait a moment: a machine is being created.".into(),
        SessionStatus::VmCreated => "Wait a moment: the machine is starting.".into(),
        SessionStatus::VmStopped => {
            "Wait a moment: the machine is being replaced. The command restarts automatically.".into()
        }
        SessionStatus::VmStarted | SessionStatus::Authenticating => match credential_use.purpose {
            UsePurpose::Exec => "The command runs in the terminal.",
            UsePurpose::Check => "The credential is being checked with the tool; there is nothing to do.",
            UsePurpose::Logout => "The tool signs out in the terminal.",
        }
        .into(),
        SessionStatus::Completed => {
            use_credential::outcome_sentence(credential_use.purpose, exit_code.unwrap_or_default())
        }
        SessionStatus::Failed | SessionStatus::Cancelled | SessionStatus::Expired => {
            "Use the credential again when you are ready.".into()
        }
    }
}

/// The reason of an end, or of a replacement while the session is active.
fn reason(reason: &anteroom_store::Reason, is_replaced: bool) -> Reason {
    let sentence = if is_replaced { reason.kind.sentence_of_replacement() } else { reason.kind.sentence() };
    let detail = reason
        .detail
        .as_ref()
        .map(|detail| to_sentence(&clean_line(&without_host_facts(detail), GUEST_TEXT_BYTES_MAX)));
    Reason {
        code: reason.kind.code().to_owned(),
        sentence: detail.map_or_else(|| sentence.to_owned(), |detail| format!("{sentence} {detail}")),
    }
}

/// The text with a capital letter and a full stop.
fn to_sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map_or_else(String::new, |first| first.to_uppercase().to_string());
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}
