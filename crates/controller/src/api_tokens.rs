//! API tokens: create, rotate, revoke, list. Used by the API, and by the command line while no server runs.

use crate::{
    api_error::ApiError,
    caller::Caller,
    names::require_clear,
    random,
    session::{context::SessionContext, end},
    unix_time::{self, format_rfc3339},
};
use anteroom_store::{
    CallerFilter, CallerKind, CallerRow, NewCaller, OwnerFilter, Role, Rotation, Sha256Hex, Store, StoreError,
};
use anteroom_wire::{
    CallerId, EndReason, Problem, Scopes, Secret,
    api_tokens::{CreateTokenRequest, CreatedToken, TokenList, TokenRole, TokenView},
};

/// The longest name of a token, characters.
pub const NAME_CHARS_MAX: usize = 100;
/// Tokens of a page at most, and if the request names no number.
pub const TOKENS_MAX: u32 = 500;
/// The longest lifetime and overlap of a token, seconds: ten years.
pub const LIFETIME_S_MAX: u64 = 10 * 366 * 86_400;
/// Sessions that one revocation ends at most; more than run at a time.
const SESSIONS_MAX: u32 = 10_000;

/// Creates an API token. `creator` can grant only scopes that it has.
///
/// # Errors
/// The request is invalid, the name is in use, the creator lacks a scope, or the database cannot be written.
pub async fn create_token(
    store: &Store,
    creator: &Caller,
    request: &CreateTokenRequest,
) -> Result<CreatedToken, ApiError> {
    require_clear("name", &request.name, NAME_CHARS_MAX)?;
    let role = match request.role {
        TokenRole::Operator => Role::Operator,
        TokenRole::Auditor => Role::Auditor,
        TokenRole::Backend => Role::Backend,
    };
    let scopes: Scopes = match &request.scopes {
        Some(scopes) => scopes.iter().copied().collect(),
        None => role.scopes(),
    };
    let excess = scopes.without(&role.scopes());
    if scopes.is_empty() || !excess.is_empty() {
        let detail = format!("scopes of the role {} are: {}", role.as_str(), role.scopes());
        return Err(ApiError::new(Problem::Malformed, detail));
    }
    require_scopes(creator, &scopes)?;
    let expires_in_s = request.expires_in_s;
    if expires_in_s.is_some_and(|seconds| seconds == 0 || seconds > LIFETIME_S_MAX) {
        return Err(ApiError::new(Problem::Malformed, format!("a token lives 1 to {LIFETIME_S_MAX} seconds")));
    }
    let (secret, now) = (new_secret(), unix_time::now_unix_ms());
    let new = NewCaller {
        scopes,
        expires_at_ms: expires_in_s.map(|seconds| now + seconds * 1_000),
        ..NewCaller::api_token(random::random_id(CallerId::from_parts), role, request.name.clone(), &secret, now)
    };
    let row = store.create_api_token(&new).await.map_err(to_api_error)?;
    tracing::info!(outcome = "token_created", caller = %creator.id, token = %row.id, scopes = %row.scopes, "API token created");
    Ok(CreatedToken { secret: secret.expose().to_owned(), token: to_token_view(row) })
}

/// Creates the successor of a token; the old one ends after the overlap.
///
/// # Errors
/// There is no such valid token, it has a successor, the caller lacks one of its scopes, or the database cannot be written.
pub async fn rotate_token(
    store: &Store,
    caller: &Caller,
    id: &CallerId,
    overlap_s: u64,
) -> Result<CreatedToken, ApiError> {
    if overlap_s > LIFETIME_S_MAX {
        return Err(ApiError::new(Problem::Malformed, format!("overlap_s is at most {LIFETIME_S_MAX}")));
    }
    let row = require_token(store, id).await?;
    // Its secret is returned to the caller.
    require_scopes(caller, &row.scopes)?;
    let secret = new_secret();
    let rotation = Rotation {
        id: random::random_id(CallerId::from_parts),
        secret: Sha256Hex::of_secret(&secret),
        now_ms: unix_time::now_unix_ms(),
        overlap_ms: overlap_s * 1_000,
    };
    let row = store.rotate_api_token(id, &rotation).await.map_err(to_api_error)?;
    tracing::info!(outcome = "token_rotated", caller = %caller.id, token = %id, successor = %row.id, overlap_s, "API token rotated");
    Ok(CreatedToken { secret: secret.expose().to_owned(), token: to_token_view(row) })
}

/// Revokes a token, or the cookie of an operator's browser, with everything that was made with it. Returns the number of revoked callers.
///
/// # Errors
/// There is none that is not yet revoked, or the database cannot be written.
pub async fn revoke_token(store: &Store, caller: &Caller, id: &CallerId) -> Result<u64, ApiError> {
    require_token(store, id).await?;
    let revoked = store.revoke_caller(id, unix_time::now_unix_ms()).await?;
    if revoked.is_empty() {
        return Err(Problem::UnknownToken.into());
    }
    tracing::info!(outcome = "token_revoked", caller = %caller.id, token = %id, callers = revoked.len(), "API token revoked");
    Ok(revoked.len() as u64)
}

/// Cancels the active sessions of the account of a caller. Returns their number.
///
/// # Errors
/// The database cannot be used.
pub async fn end_sessions_of(context: &SessionContext, id: &CallerId) -> Result<u64, ApiError> {
    let row = context.store.get_caller(id).await?.ok_or(Problem::UnknownToken)?;
    let sessions = context.store.list_sessions(OwnerFilter::Owner(&row.account), SESSIONS_MAX, None).await?;
    let mut ended = 0;
    for session in sessions.iter().filter(|session| session.is_active()) {
        end::end_session(context, &session.id, EndReason::Cancelled, "The token of its owner was revoked.").await?;
        ended += 1;
    }
    Ok(ended)
}

/// A page of the callers that are not bound to one session, the newest first, at most `limit`; with `cursor`, only older ones. Their
/// number on all pages is not counted.
///
/// # Errors
/// The database cannot be read.
pub async fn list_tokens(
    store: &Store,
    filter: &CallerFilter<'_>,
    limit: u32,
    cursor: Option<&CallerId>,
) -> Result<TokenList, ApiError> {
    let mut rows = store.list_callers(filter, limit.saturating_add(1), cursor).await?;
    let next_cursor = cut_to_page(&mut rows, limit, |row| row.id.clone());
    Ok(TokenList { tokens: rows.into_iter().map(to_token_view).collect(), next_cursor, total: None })
}

/// Cuts a list that has one row more than a page if there is another page. Returns where that begins.
pub fn cut_to_page<T, I>(rows: &mut Vec<T>, limit: u32, id: impl Fn(&T) -> I) -> Option<I> {
    let limit = limit as usize;
    if rows.len() <= limit {
        return None;
    }
    rows.truncate(limit);
    rows.last().map(id)
}

fn new_secret() -> Secret {
    random::random_token(CallerKind::ApiToken.secret_prefix().unwrap_or_default())
}

/// The token or cookie with this id. The command line of the server's host cannot be revoked.
async fn require_token(store: &Store, id: &CallerId) -> Result<CallerRow, ApiError> {
    let row = store.get_caller(id).await?;
    Ok(row.filter(|row| row.kind != CallerKind::LocalSocket).ok_or(Problem::UnknownToken)?)
}

fn require_scopes(caller: &Caller, scopes: &Scopes) -> Result<(), ApiError> {
    let missing = scopes.without(&caller.scopes);
    if missing.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(Problem::MissingScope, format!("a token cannot give scopes that it lacks: {missing}")))
}

fn to_api_error(error: StoreError) -> ApiError {
    if let StoreError::NameInUse(id) | StoreError::NameLooksAlike(id) = error {
        return ApiError::new(Problem::NameInUse, format!("it is {id}"));
    }
    if matches!(error, StoreError::CallerInvalid(_)) { Problem::UnknownToken.into() } else { error.into() }
}

fn to_token_view(row: CallerRow) -> TokenView {
    TokenView {
        id: row.id,
        kind: row.kind.as_str().to_owned(),
        role: row.role.as_str().to_owned(),
        name: row.name,
        scopes: row.scopes.iter().collect(),
        created_at: format_rfc3339(row.created_at_ms),
        expires_at: row.expires_at_ms.map(format_rfc3339),
        last_used_at: row.last_used_at_ms.map(format_rfc3339),
        revoked_at: row.revoked_at_ms.map(format_rfc3339),
    }
}
