//! The page of `codex login`: the browser comes back to the machine with a code.

use super::{Shared, desk};
use crate::code_flow::{Asked, chance, page, pairs};
use axum::{
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

/// `GET /oauth/authorize`.
pub(super) async fn authorize(State(shared): Shared, RawQuery(query): RawQuery) -> Response {
    let query = pairs(&query.unwrap_or_default());
    let mut desk = desk(&shared);
    if let Some(page) = desk.flow.asks(&query) {
        return page.into_response();
    }
    let granted = Asked::read(&query).and_then(|asked| {
        if !asked.is_loopback() {
            return Err("an unknown redirect_uri".to_owned());
        }
        if asked.challenge.is_none() {
            return Err("code_challenge is missing".to_owned());
        }
        let code = format!("ac_{}", chance(24).map_err(|error| error.to_string())?);
        let back = asked.back(&code, &[("scope", &asked.scope)])?;
        desk.flow.grant(code, asked);
        Ok(back)
    });
    match granted {
        Ok(back) => (StatusCode::FOUND, [(header::LOCATION, back)]).into_response(),
        Err(why) => {
            desk.flow.refusals.push(why.clone());
            (StatusCode::BAD_REQUEST, page("Authentication Error", &why)).into_response()
        }
    }
}

/// The page that asks is shown.
pub(super) async fn shown(State(shared): Shared) -> StatusCode {
    desk(&shared).flow.shown += 1;
    StatusCode::NO_CONTENT
}
