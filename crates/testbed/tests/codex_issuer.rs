//! The stand-in issuer as the tool's device flow uses it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use anteroom_testbed::codex_issuer::{Approval, CodexIssuer};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

async fn post(issuer: &CodexIssuer, path: &str, body: &str) -> (StatusCode, Value) {
    let client = Client::builder().no_proxy().build().unwrap();
    let answer = client.post(format!("http://{}{path}", issuer.address())).body(body.to_owned()).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or_default())
}

async fn poll(issuer: &CodexIssuer) -> (StatusCode, Value) {
    let (_, device) = post(issuer, "/api/accounts/deviceauth/usercode", "{}").await;
    assert_eq!(device["user_code"], issuer.user_code().as_str());
    let asked = json!({ "device_auth_id": device["device_auth_id"], "user_code": device["user_code"] });
    post(issuer, "/api/accounts/deviceauth/token", &asked.to_string()).await
}

#[tokio::test]
async fn a_tool_waits_until_the_person_approves_and_gets_its_tokens_once() {
    let issuer = CodexIssuer::start(Approval::OnCommand).await.unwrap();
    assert_eq!(poll(&issuer).await.0, StatusCode::FORBIDDEN);
    issuer.approve();
    let (status, granted) = poll(&issuer).await;
    assert_eq!((status, issuer.polls()), (StatusCode::OK, 2));
    let form = format!("grant_type=authorization_code&code={}", granted["authorization_code"].as_str().unwrap());
    let (status, tokens) = post(&issuer, "/oauth/token", &form).await;
    assert_eq!(status, StatusCode::OK);
    for kind in ["id_token", "access_token", "refresh_token"] {
        assert!(issuer.canaries().contains(&tokens[kind].as_str().unwrap().to_owned()), "{kind} can be looked for");
    }
    assert_eq!(post(&issuer, "/oauth/token", &form).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn approval_after_some_polls_needs_nobody() {
    let issuer = CodexIssuer::start(Approval::AfterPolls(2)).await.unwrap();
    assert_eq!(poll(&issuer).await.0, StatusCode::FORBIDDEN);
    assert_eq!(poll(&issuer).await.0, StatusCode::FORBIDDEN);
    assert_eq!(poll(&issuer).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_request_that_a_codex_issuer_does_not_know_is_remembered() {
    let issuer = CodexIssuer::start(Approval::OnCommand).await.unwrap();
    assert_eq!(post(&issuer, "/api/new/thing?x=1", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(issuer.strangers(), ["/api/new/thing"]);
}
