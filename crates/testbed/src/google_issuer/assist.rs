//! The requests to Code Assist that the tool sends once it has a token.

use super::Account;
use crate::code_flow::IssuerState;
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

/// `:loadCodeAssist`: the account's tier and project, if there are any.
pub(super) fn load_code_assist(issuer: &IssuerState, account: Account, bearer: &str) -> Response {
    let mut answer = json!({ "allowedTiers": [tier()], "gcpManaged": false });
    if account == Account::Onboarded {
        answer["currentTier"] = tier();
        answer["cloudaicompanionProject"] = PROJECT.into();
    }
    if_authenticated(issuer, bearer, answer)
}

/// `:onboardUser`: a long-running operation that is complete at once.
pub(super) fn onboard_user(issuer: &IssuerState, account: &mut Account, bearer: &str) -> Response {
    if issuer.has_issued_access_token(bearer) {
        *account = Account::Onboarded;
    }
    let response = json!({ "cloudaicompanionProject": { "id": PROJECT, "name": PROJECT } });
    if_authenticated(issuer, bearer, json!({ "name": "operations/1", "done": true, "response": response }))
}

/// `:retrieveUserQuota`.
pub(super) fn get_quota(issuer: &IssuerState, bearer: &str) -> Response {
    if_authenticated(issuer, bearer, json!({ "buckets": [] }))
}

/// `:listExperiments`.
pub(super) fn list_experiments(issuer: &IssuerState, bearer: &str) -> Response {
    if_authenticated(issuer, bearer, json!({ "experimentIds": [], "flags": [] }))
}

fn if_authenticated(issuer: &IssuerState, bearer: &str, answer: Value) -> Response {
    if issuer.has_issued_access_token(bearer) {
        return Json(answer).into_response();
    }
    let error = json!({ "error": { "code": 401, "status": "UNAUTHENTICATED", "message": "unknown token" } });
    (StatusCode::UNAUTHORIZED, Json(error)).into_response()
}
