//! The consent of the person at a session's page: they see for whom they sign in before they can see the machine, and agree once in
//! each browser. Backends and operators act for themselves and are not asked.

use super::{context::SessionContext, timeline::new_entry};
use crate::{
    api_error::ApiError,
    caller::{COMMAND_LINE_NAME, Caller, OPERATOR_NAME},
    names::with_script,
    unix_time,
};
use anteroom_store::{Role, SessionRow};
use anteroom_wire::{
    DEFAULT_OWNER, Problem, TimelineKind,
    api::{ConsentStatus, ConsentView},
    guest_text::clean_line,
    provider::StoragePolicy,
};
use serde_json::json;
use url::Url;

/// The most bytes of an owner's name that are shown.
const NAME_BYTES_MAX: usize = 200;

/// [`DEFAULT_OWNER`] at the start of a sentence.
const DEFAULT_SUBJECT: &str = "The person who runs this page";

/// The request to sign in as the caller sees it.
///
/// # Errors
/// The database cannot be read.
pub async fn to_consent_view(
    context: &SessionContext,
    caller: &Caller,
    row: &SessionRow,
) -> Result<ConsentView, ApiError> {
    // Its name is shown: it must be the one with which the owner was created.
    context.store.get_caller(&row.owner).await?;
    let status = match &caller.role {
        // A helper only watches.
        Role::Operator | Role::Auditor | Role::Backend | Role::User | Role::Helper(_) => ConsentStatus::NotNeeded,
        // In a use of a stored credential, the viewer enters nothing.
        Role::Viewer(_) if row.purpose.credential_use().is_some() => ConsentStatus::NotNeeded,
        Role::Viewer(_) if context.store.has_consented(&caller.id).await? => ConsentStatus::Given,
        Role::Viewer(_) => ConsentStatus::Required,
    };
    let owner_name = owner_for_person(row);
    let return_host = return_host(row);
    let providers = context.providers();
    let provider = providers.get(&row.provider);
    let tool = provider.map_or_else(|| row.provider.as_str(), |provider| provider.name.as_str());
    let storage_policy = provider.map_or(StoragePolicy::Store, |provider| provider.storage_policy);
    let sentence = request_sentence(storage_policy, owner_name.as_deref(), tool, return_host.as_deref());
    let provider_name = tool.to_owned();
    Ok(ConsentView { status, owner_name, provider_name, storage_policy, return_host, sentence })
}

/// Requires that the caller may act in the session: a viewer has agreed.
///
/// # Errors
/// [`Problem::ConsentRequired`], or the database cannot be read.
pub async fn require_consent(context: &SessionContext, caller: &Caller, row: &SessionRow) -> Result<(), ApiError> {
    match to_consent_view(context, caller, row).await?.status {
        ConsentStatus::NotNeeded | ConsentStatus::Given => Ok(()),
        ConsentStatus::Required => Err(Problem::ConsentRequired.into()),
    }
}

/// Records that the viewer agreed. Does nothing for other callers, who are not asked.
///
/// # Errors
/// The database cannot be written.
pub async fn agree(context: &SessionContext, caller: &Caller, row: &SessionRow) -> Result<ConsentView, ApiError> {
    let view = to_consent_view(context, caller, row).await?;
    match view.status {
        ConsentStatus::NotNeeded | ConsentStatus::Given => return Ok(view),
        ConsentStatus::Required => {}
    }
    if context.store.record_consent(&caller.id, unix_time::now_unix_ms()).await? {
        let sentence = format!("A viewer agreed to sign in for {}.", owner_name(row));
        let data = json!({ "caller": caller.id, "owner": row.owner });
        context.timeline.append(&row.id, new_entry(TimelineKind::ConsentGiven, sentence).with_data(data)).await;
    }
    Ok(ConsentView { status: ConsentStatus::Given, ..view })
}

/// The display name of the caller that started the session; a name in another script that looks like Latin letters is marked.
pub fn owner_name(row: &SessionRow) -> String {
    with_script(&clean_line(&row.owner_name, NAME_BYTES_MAX)).into_owned()
}

/// What the owner is called in sentences for the person: its display name; `None`: it is a person without a name of their own there, so
/// that [`DEFAULT_OWNER`] describes them.
pub fn owner_for_person(row: &SessionRow) -> Option<String> {
    let has_default_name = [OPERATOR_NAME, COMMAND_LINE_NAME].contains(&row.owner_name.as_str());
    (!has_default_name && !row.owner_is_user).then(|| owner_name(row))
}

/// The host of the address to which the user returns at the end; names in other scripts are in their ASCII form.
pub fn return_host(row: &SessionRow) -> Option<String> {
    let url = Url::parse(row.return_url.as_deref()?).ok()?;
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    Some(format!("{}{port}", url.host_str()?))
}

/// The request of the owner, for the person.
pub(super) fn request_sentence(
    policy: StoragePolicy,
    owner: Option<&str>,
    tool: &str,
    return_host: Option<&str>,
) -> String {
    // At the start of a sentence, and inside of it.
    let (subject, owner) = (owner.unwrap_or(DEFAULT_SUBJECT), owner.unwrap_or(DEFAULT_OWNER));
    let stored = match policy {
        StoragePolicy::Store => {
            format!("{subject} keeps your sign-in, encrypted, and can use {tool} as you until one of you removes it.")
        }
        StoragePolicy::DeliverOnce => format!("Your sign-in is handed to {owner}, who can then use {tool} as you."),
        StoragePolicy::KeepInMachine | StoragePolicy::Forbidden => {
            "Your sign-in is deleted together with the temporary computer on which it takes place.".to_owned()
        }
    };
    let after = return_host.map_or_else(String::new, |host| format!(" After that you return to {host}."));
    format!("{subject} asks you to sign in to {tool}. {stored}{after}")
}
