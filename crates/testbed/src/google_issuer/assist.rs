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

fn free_tier() -> Value {
    json!({
        "id": "free-tier", "name": "Gemini Code Assist for individuals", "description": "For one person",
        "userDefinedCloudaicompanionProject": false, "isDefault": true,
    })
}

fn standard_tier() -> Value {
    json!({
        "id": "standard-tier", "name": "Gemini Code Assist", "description": "For organisations",
        "userDefinedCloudaicompanionProject": true, "isDefault": true,
    })
}

/// The project that the tool has sent.
fn sent_project(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body["cloudaicompanionProject"].as_str().map(str::to_owned)
}

/// `:loadCodeAssist`: the account's tier and project, if there are any.
pub(super) fn load_code_assist(issuer: &IssuerState, account: Account, body: &[u8], bearer: &str) -> Response {
    let tier = if account == Account::Workspace { standard_tier() } else { free_tier() };
    let mut answer = json!({ "allowedTiers": [tier], "gcpManaged": false });
    let project = match account {
        Account::Onboarded => Some(PROJECT.to_owned()),
        Account::New => None,
        Account::Workspace => sent_project(body),
    };
    if let Some(project) = project {
        answer["currentTier"] = tier;
        answer["cloudaicompanionProject"] = project.into();
    }
    if_authenticated(issuer, bearer, answer)
}

/// `:onboardUser`: a long-running operation that is complete at once. It has no project for an account that must bring its own.
pub(super) fn onboard_user(issuer: &IssuerState, account: &mut Account, body: &[u8], bearer: &str) -> Response {
    let project = match account {
        Account::Workspace => sent_project(body),
        Account::Onboarded | Account::New => Some(PROJECT.to_owned()),
    };
    if *account == Account::New && issuer.has_issued_access_token(bearer) {
        *account = Account::Onboarded;
    }
    let response = match project {
        Some(project) => json!({ "cloudaicompanionProject": { "id": project, "name": project } }),
        None => json!({}),
    };
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
