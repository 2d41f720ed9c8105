//! Code Assist: what the tool asks once it has a token.

use super::{Account, Office};
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
pub(super) fn loaded(office: &Office, bearer: &str) -> Response {
    let mut answer = json!({ "allowedTiers": [tier()], "gcpManaged": false });
    if office.account == Account::Onboarded {
        answer["currentTier"] = tier();
        answer["cloudaicompanionProject"] = PROJECT.into();
    }
    for_ours(office, bearer, answer)
}

/// `:onboardUser`: a long-running operation that is done at once.
pub(super) fn onboarded(office: &mut Office, bearer: &str) -> Response {
    if office.desk.is_ours(bearer) {
        office.account = Account::Onboarded;
    }
    let response = json!({ "cloudaicompanionProject": { "id": PROJECT, "name": PROJECT } });
    for_ours(office, bearer, json!({ "name": "operations/1", "done": true, "response": response }))
}

/// `:retrieveUserQuota`.
pub(super) fn quota(office: &Office, bearer: &str) -> Response {
    for_ours(office, bearer, json!({ "buckets": [] }))
}

/// `:listExperiments`.
pub(super) fn experiments(office: &Office, bearer: &str) -> Response {
    for_ours(office, bearer, json!({ "experimentIds": [], "flags": [] }))
}

fn for_ours(office: &Office, bearer: &str, answer: Value) -> Response {
    if office.desk.is_ours(bearer) {
        return Json(answer).into_response();
    }
    let error = json!({ "error": { "code": 401, "status": "UNAUTHENTICATED", "message": "unknown token" } });
    (StatusCode::UNAUTHORIZED, Json(error)).into_response()
}
