//! Sign-in of people with the OpenID provider: begin, finish, confirm.

use super::{
    error_response::ErrorResponse,
    extract::{AuthenticatedCaller, Json},
};
use crate::{
    app::App,
    auth::{browsers::BrowserInfo, people, require_own_origin},
    peer::ClientAddress,
};
use anteroom_controller::{
    api_error::ApiError,
    caller::Caller,
    oidc::{AuthorizationAnswer, AuthorizationResult, Finished, Oidc, RequestingBrowser},
};
use anteroom_wire::{
    Problem, ProblemBody,
    api::{OidcAnswer, OidcOutcome, OidcProvider, OidcRequest, OidcResult, OidcStart},
};
use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

/// Where the page sends the provider's answer.
pub(super) const CALLBACK_PATH: &str = "/api/oidc/callback";

fn provider(app: &App) -> Result<&Oidc, ApiError> {
    app.oidc.as_deref().ok_or_else(|| Problem::OidcNotConfigured.into())
}

fn requesting(app: &App, browser: &BrowserInfo, address: ClientAddress) -> RequestingBrowser {
    let host = app.store.holder().map(|own| own.host);
    RequestingBrowser { key: browser.key.clone(), network: address.limited_network(), host }
}

/// Returns the OpenID provider with which people sign in, if there is one.
#[utoipa::path(get, operation_id = "get_oidc_provider", path = "/api/oidc", responses(
    (status = 200, description = "The provider.", body = OidcProvider),
))]
pub(super) async fn get_oidc_provider(State(app): State<App>) -> axum::Json<OidcProvider> {
    let oidc = app.oidc.as_deref();
    axum::Json(OidcProvider {
        issuer: oidc.map(|oidc| oidc.issuer().to_owned()),
        end_session_url: oidc.and_then(Oidc::end_session_url),
    })
}

/// Begins a sign-in with the OpenID provider. The browser goes to the returned address; only the browser with this key can finish it.
#[utoipa::path(post, operation_id = "begin_oidc_sign_in", path = "/api/oidc/sign-in", request_body = OidcRequest, responses(
    (status = 200, description = "The address of the provider.", body = OidcStart),
    (status = 404, description = "No provider is configured.", body = ProblemBody),
    (status = 503, description = "The provider does not answer.", body = ProblemBody),
))]
pub(super) async fn begin_oidc_sign_in(
    State(app): State<App>,
    address: ClientAddress,
    headers: HeaderMap,
    Json(request): Json<OidcRequest>,
) -> Result<axum::Json<OidcStart>, ErrorResponse> {
    require_own_origin(&app.auth, &headers)?;
    let browser = BrowserInfo::new(&request.browser_key, &headers, address.to_string())?;
    let authorization_url = provider(&app)?.begin_sign_in(requesting(&app, &browser, address)).await?;
    Ok(axum::Json(OidcStart { authorization_url }))
}

/// Begins a confirmation: the person who signed this browser in authenticates again at the OpenID provider.
#[utoipa::path(post, operation_id = "begin_oidc_confirmation", path = "/api/oidc/confirm", request_body = OidcRequest, responses(
    (status = 200, description = "The address of the provider.", body = OidcStart),
    (status = 401, description = "The caller is not authenticated.", body = ProblemBody),
    (status = 403, description = "The caller did not sign in with the provider.", body = ProblemBody),
    (status = 503, description = "The provider does not answer.", body = ProblemBody),
))]
pub(super) async fn begin_oidc_confirmation(
    State(app): State<App>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    address: ClientAddress,
    headers: HeaderMap,
    Json(request): Json<OidcRequest>,
) -> Result<axum::Json<OidcStart>, ErrorResponse> {
    let browser = BrowserInfo::new(&request.browser_key, &headers, address.to_string())?;
    let row = app.store.get_browser(&caller.id).await?;
    let signed_in = row.filter(|row| row.key == browser.key).and_then(|row| row.person);
    let Some(person) = signed_in.filter(|person| app.oidc.as_ref().is_some_and(|oidc| oidc.issuer() == person.issuer))
    else {
        let detail = "only a browser that signed in with the identity provider confirms with it; use a new login link";
        return Err(ApiError::new(Problem::NotABrowser, detail).into());
    };
    let authorization_url =
        provider(&app)?.begin_confirmation(caller.id, person, requesting(&app, &browser, address)).await?;
    Ok(axum::Json(OidcStart { authorization_url }))
}

/// Finishes a sign-in or confirmation with the provider's answer. A sign-in sets the cookie.
#[utoipa::path(post, operation_id = "finish_oidc", path = "/api/oidc/callback", request_body = OidcAnswer, responses(
    (status = 200, description = "The browser is signed in, or the person is confirmed.", body = OidcOutcome),
    (status = 401, description = "It was not begun in this browser, is used or has expired, or the ID token is not valid.", body = ProblemBody),
    (status = 403, description = "The provider or this server refuses the person.", body = ProblemBody),
    (status = 502, description = "The provider answered with an error.", body = ProblemBody),
    (status = 503, description = "The provider does not answer.", body = ProblemBody),
))]
pub(super) async fn finish_oidc(
    State(app): State<App>,
    caller: Option<Extension<Caller>>,
    address: ClientAddress,
    headers: HeaderMap,
    Json(request): Json<OidcAnswer>,
) -> Result<Response, ErrorResponse> {
    require_own_origin(&app.auth, &headers)?;
    let browser = BrowserInfo::new(&request.browser_key, &headers, address.to_string())?;
    let oidc = provider(&app)?;
    let finished = oidc.finish(answer(request)?, &browser.key).await?;
    let current = caller.as_ref().map(|Extension(caller)| caller);
    match finished {
        Finished::SignIn(identity) => {
            let cookie = people::sign_in(&app.auth, identity, browser, current).await?;
            let outcome = axum::Json(OidcOutcome { outcome: OidcResult::SignedIn });
            Ok(([(header::SET_COOKIE, cookie)], outcome).into_response())
        }
        Finished::Confirmation { caller, identity, confirmed_at_ms } => {
            let current = current.ok_or(Problem::Unauthenticated)?;
            people::confirm(&app.auth, current, identity, &caller, confirmed_at_ms).await?;
            Ok(axum::Json(OidcOutcome { outcome: OidcResult::Confirmed }).into_response())
        }
    }
}

/// The provider's answer in the request: a code or an error.
fn answer(request: OidcAnswer) -> Result<AuthorizationAnswer, ApiError> {
    let OidcAnswer { state, code, error, error_description, iss, .. } = request;
    let result = match (code, error) {
        (Some(code), None) => AuthorizationResult::Code(code),
        (None, Some(code)) => AuthorizationResult::Error { code, description: error_description },
        (Some(_), Some(_)) | (None, None) => {
            return Err(ApiError::new(Problem::Malformed, "an answer has either a code or an error"));
        }
    };
    Ok(AuthorizationAnswer { state, issuer: iss, result })
}
