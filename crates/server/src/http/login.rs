//! Login of users: redeem a login token, return the current caller, create a login link.

use super::{
    error_response::ErrorResponse,
    extract::{AuthenticatedCaller, Json},
};
use crate::{
    auth::{
        Auth,
        browsers::{self, BrowserInfo, PageContext},
        login_links::{self, RedeemedLink},
        require_own_origin,
    },
    peer::ClientAddress,
};
use anteroom_controller::{
    api_error::ApiError,
    caller::{Action, Caller, Resource},
    session::{context::SessionContext, helpers::notify_changed},
};
use anteroom_store::{Person, Role};
use anteroom_wire::{
    Problem, ProblemBody, Secret,
    api::{CurrentCaller, LoginRequest, ServerAddresses, SignInKind},
};
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

/// Redeems a single-use login token and sets a session cookie. 401: the token is unknown, used or expired.
#[utoipa::path(post, path = "/api/login", request_body = LoginRequest, responses(
    (status = 204, description = "The cookie is set."),
    (status = 401, description = "The login token is unknown, used or expired.", body = ProblemBody),
))]
pub(super) async fn log_in(
    State(auth): State<Auth>,
    State(context): State<SessionContext>,
    caller: Option<axum::Extension<Caller>>,
    address: ClientAddress,
    headers: HeaderMap,
    Json(request): Json<LoginRequest>,
) -> Result<Response, ErrorResponse> {
    require_own_origin(&auth, &headers)?;
    require_cookie_is_kept(&auth, &headers)?;
    let current = caller.as_ref().map(|caller| &caller.0);
    let mut browser = BrowserInfo::new(&request.browser_key, &headers, address.to_string())?;
    if request.embedded && auth.frames_permitted {
        browser.context = PageContext::Embedded;
    }
    let redeemed = login_links::redeem_login_token(&auth, &Secret::new(request.login_token), current, browser).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(RedeemedLink { cookie, role }) = redeemed {
        if let Role::Helper(session) = &role {
            notify_changed(&context, session);
        }
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Requires that a browser keeps the cookie: one with `Secure` is dropped where the page was not loaded over TLS, except on loopback.
fn require_cookie_is_kept(auth: &Auth, headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_dropped = host.is_some_and(|host| auth.addresses.is_https() && !auth.addresses.is_kept_secure(host));
    if !is_dropped {
        return Ok(());
    }
    let detail = format!(
        "browsers drop the cookie of {} at {:?}, which is not the host name of public_url: open the link there",
        auth.addresses.base_url(),
        host.unwrap_or_default()
    );
    Err(ApiError::new(Problem::CrossOrigin, detail))
}

/// Returns the role and name of the current caller, how its browser signed in, and for a viewer its session.
#[utoipa::path(get, operation_id = "get_current_caller", path = "/api/me", responses(
    (status = 200, description = "The caller.", body = CurrentCaller),
    (status = 401, description = "The caller is not authenticated.", body = ProblemBody),
))]
pub(super) async fn get_current_caller(
    State(auth): State<Auth>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
) -> Result<axum::Json<CurrentCaller>, ErrorResponse> {
    let browser = auth.store.get_browser(&caller.id).await?;
    let addresses = caller.require(Action::OperateServer, Resource::Server).is_ok().then(|| ServerAddresses {
        listen: auth.addresses.listening().to_string(),
        pages: auth.addresses.base_url().to_owned(),
    });
    let kind = |person: Option<Person>| if person.is_some() { SignInKind::Oidc } else { SignInKind::Link };
    Ok(axum::Json(CurrentCaller {
        role: caller.role.as_str().to_owned(),
        session: caller.role.session().cloned(),
        name: caller.name,
        sign_in: browser.map(|browser| kind(browser.person)),
        addresses,
    }))
}

/// A single-use login link for an operator.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LoginLink {
    /// The URL; its fragment contains the login token.
    pub url: String,
    /// Validity, seconds.
    pub expires_in_s: u64,
}

/// Creates a single-use login link for an operator. Operators only.
#[utoipa::path(post, path = "/api/links", responses(
    (status = 200, description = "The link.", body = LoginLink),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
))]
pub(super) async fn create_login_link(
    State(auth): State<Auth>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
) -> Result<axum::Json<LoginLink>, ErrorResponse> {
    browsers::require_confirmation(&auth, &caller).await?;
    let url = login_links::create_operator_login_link(&auth, &caller).await?;
    Ok(axum::Json(LoginLink { url, expires_in_s: auth.login_link_lifetime_ms / 1_000 }))
}
