//! People who sign in with the OpenID provider.

use super::{
    Auth,
    browsers::{self, BROWSERS_MAX, BrowserInfo},
    cookie_header::OPERATOR_COOKIE,
};
use anteroom_controller::{
    api_error::ApiError,
    audit,
    caller::Caller,
    oidc::{Identity, PersonRole},
    random, unix_time,
};
use anteroom_store::{CallerKind, NewBrowser, NewCaller, Person, Role, Sha256Hex, UnixMs};
use anteroom_wire::{CallerId, Problem, guest_text::clean_line};
use axum::http::HeaderValue;

/// The most bytes that are shown of a person's id at the provider.
const SUBJECT_SHOWN_BYTES_MAX: usize = 100;

/// Signs a browser in for a person. Returns the cookie to set. The person's role is that of the last sign-in: browsers with another one
/// are signed out, and all of them if the person has no role any more.
///
/// # Errors
/// The person has no role, or the database cannot be used.
pub(crate) async fn sign_in(
    auth: &Auth,
    identity: Identity,
    browser: BrowserInfo,
    current: Option<&Caller>,
) -> Result<HeaderValue, ApiError> {
    let Identity { person, name, role, authenticated_at_ms } = identity;
    audit::note_person(&person.issuer, &person.subject);
    sign_out_other_roles(auth, &person, role).await?;
    let role = Role::from(role.ok_or(Problem::NoRole)?);
    let (kind, now) = (CallerKind::BrowserCookie, unix_time::now_unix_ms());
    // People choose their names at the provider: one that looks like a backend's is not shown.
    let is_backends = auth.store.find_api_token_with_name_like(&name, now).await?.is_some();
    let name = if is_backends { clean_line(&person.subject, SUBJECT_SHOWN_BYTES_MAX) } else { name };
    let token = random::random_token(kind.secret_prefix().unwrap_or_default());
    let lifetime_s = auth.cookie_lifetime_s;
    let caller = NewCaller {
        id: random::random_id(CallerId::from_parts),
        kind,
        scopes: role.scopes(),
        role,
        name,
        secret: Sha256Hex::of_secret(&token),
        parent: None,
        created_at_ms: now,
        expires_at_ms: Some(now + lifetime_s * 1_000),
    };
    let BrowserInfo { key, description, address, context } = browser;
    let new = NewBrowser {
        caller: caller.id.clone(),
        key,
        description,
        address,
        person: Some(person.clone()),
        // A provider may sign a person in who is not present, from an earlier authentication.
        confirmed_at_ms: authenticated_at_ms.unwrap_or(0).min(now),
        now_ms: now,
    };
    let row = auth.store.create_browser_of_person(&caller, &new, &person).await?;
    audit::note_caller(&row.id);
    audit::note_actor("cookie", &row.id, Some(&row.role));
    // The new cookie replaces the browser's previous one.
    if let Some(replaced) = current.filter(|current| current.kind == kind) {
        auth.store.revoke_caller(&replaced.id, now).await?;
        auth.live_callers.check_soon();
    }
    browsers::set_cookie(auth, OPERATOR_COOKIE, token.expose(), lifetime_s, context)
}

/// Records that the person who signed this browser in is present. The person must still have the role with which the browser signed in.
///
/// # Errors
/// The browser is not the one that began the confirmation, the role has changed, or the database cannot be used.
pub(crate) async fn confirm(
    auth: &Auth,
    current: &Caller,
    identity: Identity,
    caller: &CallerId,
    confirmed_at_ms: UnixMs,
) -> Result<(), ApiError> {
    audit::note_person(&identity.person.issuer, &identity.person.subject);
    if current.id != *caller {
        return Err(Problem::SignInExpired.into());
    }
    sign_out_other_roles(auth, &identity.person, identity.role).await?;
    if identity.role.map(Role::from).as_ref() != Some(&current.role) {
        return Err(Problem::RoleChanged.into());
    }
    Ok(auth.store.record_confirmation(caller, confirmed_at_ms).await?)
}

/// Signs out the person's browsers whose role is not this one.
async fn sign_out_other_roles(auth: &Auth, person: &Person, role: Option<PersonRole>) -> Result<(), ApiError> {
    let (role, now) = (role.map(Role::from), unix_time::now_unix_ms());
    loop {
        let mut others = auth.store.list_browsers(Some(person), now, 0, BROWSERS_MAX).await?;
        let is_full = u32::try_from(others.len()).is_ok_and(|count| count >= BROWSERS_MAX);
        others.retain(|browser| Some(&browser.role) != role.as_ref());
        for browser in &others {
            auth.store.revoke_caller(&browser.caller, now).await?;
        }
        if !others.is_empty() {
            auth.live_callers.check_soon();
        }
        if !is_full || others.is_empty() {
            return Ok(());
        }
    }
}
