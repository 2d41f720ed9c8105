//! Code Assist: what the tool asks once it has a token.

use super::Account;
use crate::code_flow::Desk;
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

const PROJECT: &str = "example-project";

fn tier() -> Value {
    json!({
        "id": "free-tier", "name": "Gemini Code Assist for individuals", "description": "For one person",
        "userDefinedCloudaicompanionProject": false, "isDefault": true,
    })
}

/// `:loadCodeAssist`: the person's tier and project, if there are any.
pub(super) fn loaded(desk: &Desk, account: Account, bearer: &str) -> Response {
    let mut answer = json!({ "allowedTiers": [tier()], "gcpManaged": false });
    if account == Account::Onboarded {
        answer["currentTier"] = tier();
        answer["cloudaicompanionProject"] = PROJECT.into();
    }
    for_ours(desk, bearer, answer)
}

/// `:onboardUser`: a long-running operation that is done at once.
pub(super) fn onboarded(desk: &Desk, account: &mut Account, bearer: &str) -> Response {
    if desk.is_ours(bearer) {
        *account = Account::Onboarded;
    }
    let response = json!({ "cloudaicompanionProject": { "id": PROJECT, "name": PROJECT } });
    for_ours(desk, bearer, json!({ "name": "operations/1", "done": true, "response": response }))
}

/// `:retrieveUserQuota`.
pub(super) fn quota(desk: &Desk, bearer: &str) -> Response {
    for_ours(desk, bearer, json!({ "buckets": [] }))
}

/// `:listExperiments`.
pub(super) fn experiments(desk: &Desk, bearer: &str) -> Response {
    for_ours(desk, bearer, json!({ "experimentIds": [], "flags": [] }))
}

fn for_ours(desk: &Desk, bearer: &str, answer: Value) -> Response {
    if desk.is_ours(bearer) {
        return Json(answer).into_response();
    }
    let error = json!({ "error": { "code": 401, "status": "UNAUTHENTICATED", "message": "unknown token" } });
    (StatusCode::UNAUTHORIZED, Json(error)).into_response()
}
