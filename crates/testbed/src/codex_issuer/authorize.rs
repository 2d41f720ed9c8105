//! The authorize page of `codex login`. It redirects the browser to the tool with a code.

use super::Shared;
use crate::code_flow::{AuthorizationRequest, html_page, parse_form, random_hex};
use axum::{
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

/// `GET /oauth/authorize`.
pub(super) async fn get_authorize_page(State(shared): Shared, RawQuery(query): RawQuery) -> Response {
    let query = parse_form(&query.unwrap_or_default());
    let mut device_flow = shared.lock();
    if let Some(page) = device_flow.issuer.consent_prompt(&query) {
        return page.into_response();
    }
    let granted = AuthorizationRequest::parse(&query).and_then(|authorization| {
        if !authorization.is_loopback() {
            return Err("an unknown redirect_uri".to_owned());
        }
        if authorization.challenge.is_none() {
            return Err("code_challenge is missing".to_owned());
        }
        let code = format!("ac_{}", random_hex(24).map_err(|error| error.to_string())?);
        let back = authorization.redirect_url(&code, &[("scope", &authorization.scope)])?;
        device_flow.issuer.issue_code(code, authorization);
        Ok(back)
    });
    match granted {
        Ok(back) => (StatusCode::FOUND, [(header::LOCATION, back)]).into_response(),
        Err(why) => {
            device_flow.issuer.rejections.push(why.clone());
            (StatusCode::BAD_REQUEST, html_page("Authentication Error", &why)).into_response()
        }
    }
}

/// A browser displays the consent page; with a query, one that a program drives.
pub(super) async fn record_consent_shown(State(shared): Shared, RawQuery(query): RawQuery) -> StatusCode {
    shared.lock().issuer.consent_views += u32::from(query.is_none());
    StatusCode::NO_CONTENT
}
