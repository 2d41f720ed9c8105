//! Login links: a single-use token in the fragment of an address, which is redeemed for a cookie.

use super::{
    Auth,
    browsers::{self, BrowserInfo, PageContext},
    cookie_header::cookie_name,
};
use anteroom_controller::{
    api_error::ApiError,
    audit,
    caller::{Action, Caller, OPERATOR_NAME},
    random,
    session::{consent, helpers::HELPERS_MAX},
    unix_time,
};
use anteroom_store::{
    CallerKind, Invitation, LoginScope, NewCaller, NewLoginToken, RedeemedLoginToken, Role, SessionRow, Sha256Hex,
    StoreError,
};
use anteroom_wire::{CallerId, Problem, Secret};
use axum::http::HeaderValue;

/// Creates a single-use login token. What is redeemed for it is revoked with its `creator`.
///
/// # Errors
/// The database cannot be written.
pub async fn create_login_token(auth: &Auth, creator: &Caller, scope: LoginScope) -> Result<Secret, StoreError> {
    let login_token = random::random_token("login_");
    let expires_at_ms = unix_time::now_unix_ms() + auth.login_link_lifetime_ms;
    let (hash, creator) = (Sha256Hex::of_secret(&login_token), Some(creator.id.clone()));
    auth.store.create_login_token(&NewLoginToken { hash, scope, creator, expires_at_ms }).await?;
    Ok(login_token)
}

/// What a login token was redeemed for.
#[derive(Debug)]
pub struct RedeemedLink {
    /// The cookie to set.
    pub cookie: HeaderValue,
    /// The role of the caller that the cookie authenticates.
    pub role: Role,
}

/// Redeems a login token. Returns `None` if the `current` caller has the access already.
///
/// # Errors
/// The token is used or expired, its creator is revoked, or the database cannot be used.
pub async fn redeem_login_token(
    auth: &Auth,
    login_token: &Secret,
    current: Option<&Caller>,
    browser: BrowserInfo,
) -> Result<Option<RedeemedLink>, ApiError> {
    let now = unix_time::now_unix_ms();
    let hash = Sha256Hex::of_secret(login_token);
    let Some(redeemed) = auth.store.redeem_login_token(&hash, now).await? else {
        return Err(used_link_error(auth, &hash).await?);
    };
    let RedeemedLoginToken { scope, creator, caller: helper_id } = redeemed;
    let new_id = || random::random_id(CallerId::from_parts);
    let (id, kind, role, name) = match scope {
        LoginScope::Operator { name } => (new_id(), CallerKind::BrowserCookie, Role::Operator, name),
        LoginScope::Session { session } => {
            let row = auth.store.get_session(&session).await?.ok_or(Problem::UnknownSession)?;
            if current.is_some_and(|caller| caller.require(Action::ControlSession, &row).is_ok()) {
                return Ok(None);
            }
            (new_id(), CallerKind::ViewerCookie, Role::Viewer(session), "viewer".to_owned())
        }
        LoginScope::Helper { session, name } => (helper_id, CallerKind::ViewerCookie, Role::Helper(session), name),
    };
    let mut scopes = role.scopes();
    if let (Role::Operator, Some(creator)) = (&role, &creator) {
        // A link gives no more than its creator has.
        let creator = auth.store.get_caller(creator).await?.ok_or(Problem::TicketUsed)?;
        scopes = scopes.iter().filter(|scope| creator.scopes.contains(*scope)).collect();
    }
    let token = random::random_token(kind.secret_prefix().unwrap_or_default());
    let lifetime_s = auth.cookie_lifetime_s;
    let cookie = cookie_name(&role);
    let caller = NewCaller {
        id,
        kind,
        role,
        name,
        secret: Sha256Hex::of_secret(&token),
        scopes,
        parent: creator,
        created_at_ms: now,
        expires_at_ms: Some(now + lifetime_s * 1_000),
    };
    create_caller(auth, &caller, &hash).await?;
    audit::note_caller(&caller.id);
    audit::note_actor("cookie", &caller.id, Some(&caller.role));
    // An operator's cookie is never sent to a frame of another site.
    let context = if caller.kind == CallerKind::ViewerCookie { browser.context } else { PageContext::TopLevel };
    browsers::sign_in(auth, caller.id.clone(), browser).await?;
    let replaced = current.filter(|current| current.kind == kind && cookie_name(&current.role) == cookie);
    // The new cookie replaces the browser's previous one. If that made the link, its end would end the new one too.
    if let Some(replaced) = replaced.filter(|replaced| caller.parent.as_ref() != Some(&replaced.id)) {
        browsers::sign_out(auth, replaced, &replaced.id).await?;
    }
    let cookie = browsers::set_cookie(auth, &cookie, token.expose(), lifetime_s, context)?;
    Ok(Some(RedeemedLink { cookie, role: caller.role }))
}

/// Why a link cannot be redeemed. Who presents a person's link may know for whom it was made; who guesses one gets no name.
async fn used_link_error(auth: &Auth, login_token: &Sha256Hex) -> Result<ApiError, StoreError> {
    let error = ApiError::from(Problem::TicketUsed);
    let Some(session) = auth.store.session_of_login_token(login_token).await? else { return Ok(error) };
    let Some(row) = auth.store.get_session(&session).await? else { return Ok(error) };
    // Its name is shown: it must be the one with which the owner was created.
    auth.store.get_caller(&row.owner).await?;
    Ok(match consent::owner_for_person(&row) {
        Some(owner) => error.with_owner(&owner),
        None => error,
    })
}

/// Creates the caller for a redeemed login token.
async fn create_caller(auth: &Auth, caller: &NewCaller, login_token: &Sha256Hex) -> Result<(), ApiError> {
    let created = match &caller.role {
        Role::Helper(_) => auth.store.create_helper(caller, login_token).await,
        Role::Operator | Role::Auditor | Role::Backend | Role::User | Role::Viewer(_) => {
            auth.store.create_caller(caller).await
        }
    };
    match created {
        Ok(_) => Ok(()),
        // Its creator, or the invitation, was revoked since the link was redeemed.
        Err(StoreError::CallerInvalid(_)) => Err(Problem::TicketUsed.into()),
        Err(error) => Err(error.into()),
    }
}

/// Creates an operator's login link. The token is in the fragment, which browsers do not send to the server.
///
/// # Errors
/// The database cannot be written.
pub async fn create_operator_login_link(auth: &Auth, creator: &Caller) -> Result<String, StoreError> {
    let scope = LoginScope::Operator { name: OPERATOR_NAME.into() };
    let login_token = create_login_token(auth, creator, scope).await?;
    Ok(format!("{}/login#login_token={}", auth.addresses.base_url(), login_token.expose()))
}

/// Creates a login link to one session's page.
///
/// # Errors
/// The database cannot be written.
pub async fn create_viewer_login_link(auth: &Auth, creator: &Caller, row: &SessionRow) -> Result<String, StoreError> {
    let scope = LoginScope::Session { session: row.id.clone() };
    let login_token = create_login_token(auth, creator, scope).await?;
    let page =
        format!("{}/dashboard/remote-cli/auth?session={}&provider={}", auth.addresses.base_url(), row.id, row.provider);
    Ok(format!("{page}#login_token={}", login_token.expose()))
}

/// Creates a login link with which a helper of this name looks at a session.
///
/// # Errors
/// The session has too many helpers and open invitations, or the database cannot be written.
pub async fn create_helper_login_link(
    auth: &Auth,
    creator: &Caller,
    row: &SessionRow,
    name: &str,
) -> Result<String, ApiError> {
    let login_token = random::random_token("login_");
    let now_ms = unix_time::now_unix_ms();
    let (hash, creator) = (Sha256Hex::of_secret(&login_token), creator.id.clone());
    let invitation = Invitation { hash, creator, now_ms, expires_at_ms: now_ms + auth.login_link_lifetime_ms };
    if !auth.store.create_invitation(&row.id, name, &invitation, HELPERS_MAX).await? {
        let detail = format!("the limit is {HELPERS_MAX}");
        return Err(ApiError::new(Problem::TooManyHelpers, detail));
    }
    let (base, session, provider) = (auth.addresses.base_url(), &row.id, &row.provider);
    let page = format!("{base}/dashboard/remote-cli/auth?session={session}&provider={provider}&view=1");
    Ok(format!("{page}#login_token={}", login_token.expose()))
}
