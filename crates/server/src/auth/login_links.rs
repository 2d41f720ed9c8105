//! Login links: a single-use token in the fragment of an address, which is redeemed for a cookie.

use super::{
    Auth,
    cookie_header::{OPERATOR_COOKIE, VIEWER_COOKIE_PREFIX},
};
use anteroom_controller::{api_error::ApiError, caller::Caller, random, unix_time};
use anteroom_store::{LoginScope, NewCaller, NewLoginToken, Role, SessionRow, Sha256Hex, StoreError};
use anteroom_wire::{CallerId, Problem, Secret};
use axum::http::HeaderValue;

/// Creates a single-use login token.
///
/// # Errors
/// The database cannot be written.
pub async fn create_login_token(auth: &Auth, scope: LoginScope) -> Result<Secret, StoreError> {
    let login_token = random::random_token("login_");
    let expires_at_ms = unix_time::now_unix_ms() + auth.login_link_lifetime_ms;
    auth.store
        .create_login_token(&NewLoginToken { hash: Sha256Hex::of_secret(&login_token), scope, expires_at_ms })
        .await?;
    Ok(login_token)
}

/// Redeems a login token. Returns the cookie to set, or `None` if the `current` caller has the access already.
///
/// # Errors
/// The token is used or expired, or the database cannot be used.
pub async fn redeem_login_token(
    auth: &Auth,
    login_token: &Secret,
    current: Option<&Caller>,
) -> Result<Option<HeaderValue>, ApiError> {
    let now = unix_time::now_unix_ms();
    let scope =
        auth.store.redeem_login_token(&Sha256Hex::of_secret(login_token), now).await?.ok_or(Problem::TicketUsed)?;
    let (role, name, cookie) = match scope {
        LoginScope::Operator { name } => (Role::Operator, name, OPERATOR_COOKIE.to_owned()),
        LoginScope::Session { session } => {
            let row = auth.store.get_session(&session).await?.ok_or(Problem::UnknownSession)?;
            if current.is_some_and(|caller| caller.require_session_access(&row).is_ok()) {
                return Ok(None);
            }
            let cookie = format!("{VIEWER_COOKIE_PREFIX}{session}");
            (Role::Viewer(session), "viewer".to_owned(), cookie)
        }
    };
    let token = random::random_token("ck_");
    let lifetime_s = auth.cookie_lifetime_s;
    let caller = NewCaller {
        id: random::random_id(CallerId::from_parts),
        role,
        name,
        token: Sha256Hex::of_secret(&token),
        created_at_ms: now,
        expires_at_ms: Some(now + lifetime_s * 1_000),
    };
    auth.store.create_caller(&caller).await?;
    let secure = if auth.addresses.is_https() { "; Secure" } else { "" };
    let header =
        format!("{cookie}={}; Path=/; Max-Age={lifetime_s}; HttpOnly; SameSite=Strict{secure}", token.expose());
    HeaderValue::from_str(&header).map(Some).map_err(ApiError::internal)
}

/// Creates an operator's login link. The token is in the fragment, which browsers do not send to the server.
///
/// # Errors
/// The database cannot be written.
pub async fn create_operator_login_link(auth: &Auth) -> Result<String, StoreError> {
    let login_token = create_login_token(auth, LoginScope::Operator { name: "operator".into() }).await?;
    Ok(format!("{}/login#login_token={}", auth.addresses.base_url(), login_token.expose()))
}

/// Creates a login link to one session's page.
///
/// # Errors
/// The database cannot be written.
pub async fn create_viewer_login_link(auth: &Auth, row: &SessionRow) -> Result<String, StoreError> {
    let login_token = create_login_token(auth, LoginScope::Session { session: row.id.clone() }).await?;
    let page =
        format!("{}/dashboard/remote-cli/auth?session={}&provider={}", auth.addresses.base_url(), row.id, row.provider);
    Ok(format!("{page}#login_token={}", login_token.expose()))
}
