//! A caller, browser or link that was changed in the database is not accepted, is named, and stops nothing else.

use crate::{
    browser_client::{Browser, operator_login_token},
    s10_audit::records,
    s17_tampering::execute_sql,
    stored_credentials::start_server,
};
use anteroom_store::Sha256Hex;
use anteroom_testbed::{ApiClient, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{Secret, api::Health, api_tokens::CreatedToken};
use reqwest::Method;
use serde_json::json;

/// Status and code of an answer to a request that every valid token may make.
async fn answer_to(api: &ApiClient) -> (u16, String) {
    let answer = api.get("/api/providers").await.unwrap();
    (answer.status, answer.problem().map(|problem| problem.code).unwrap_or_default())
}

async fn create_token(server: &TestServer, name: &str) -> CreatedToken {
    let request = json!({ "name": name, "role": "backend", "expires_in_s": 3_600 });
    server.operator_client().unwrap().post("/api/tokens", request).await.unwrap().parse().unwrap()
}

fn client(server: &TestServer, token: &CreatedToken) -> ApiClient {
    server.client_with_token(&Secret::new(token.secret.clone())).unwrap()
}

fn refused() -> (u16, String) {
    (403, "caller_tampered".to_owned())
}

/// Waits until `/health`, the log and the audit trail name the row.
pub(crate) async fn wait_named(server: &TestServer, table: &str, row: &str) {
    let named = async || {
        let health: Health = server.operator_client()?.get("/health").await?.parse()?;
        let rows = health.checks.iter().find(|check| check.name == "rows").unwrap();
        let log = server.read_log();
        let is_logged = log.lines().any(|line| line.contains("row_tampered") && line.contains(row));
        let is_recorded = records(server).iter().any(|record| {
            record["action"] == "row.tampered" && record["details"]["table"] == table && record["details"]["row"] == row
        });
        Ok((rows.detail.contains("changed outside of this server and") && is_logged && is_recorded).then_some(()))
    };
    eventually("health, log and audit trail name the row", WAIT_MAX, named).await.unwrap();
}

#[tokio::test]
async fn s17_caller_that_was_changed_in_the_database_is_refused_and_named_and_the_others_continue() {
    let (_flags, mut server) = start_server("").await;
    let other = create_token(&server, "other").await;
    let operator = "(SELECT id FROM callers WHERE role = 'operator' AND kind = 'api_token')";
    let mut changed = Vec::new();
    for (number, edit) in [
        "role = 'operator'",
        "scopes = 'start read lease operate metrics audit'",
        "expires_at_ms = 9999999999999",
        "expires_at_ms = NULL",
        &format!("account_id = {operator}"),
        &format!("parent_id = {operator}"),
        "name = 'another'",
        "created_at_ms = 1",
    ]
    .into_iter()
    .enumerate()
    {
        let token = create_token(&server, &format!("token {number}")).await;
        assert_eq!(answer_to(&client(&server, &token)).await.0, 200);
        execute_sql(&server, &format!("UPDATE callers SET {edit} WHERE id = '{}'", token.token.id)).await;
        assert_eq!(answer_to(&client(&server, &token)).await, refused(), "{edit}");
        changed.push(token);
    }
    // A revocation that is removed, the hash of another secret, and a copied row with it.
    let revoked = create_token(&server, "revoked").await;
    let revoke = format!("/api/tokens/{}/revoke", revoked.token.id);
    assert_eq!(server.operator_client().unwrap().post(&revoke, json!({})).await.unwrap().status, 200);
    execute_sql(&server, &format!("UPDATE callers SET revoked_at_ms = NULL WHERE id = '{}'", revoked.token.id)).await;
    assert_eq!(answer_to(&client(&server, &revoked)).await, refused());
    let known = |digit: &str| {
        Secret::new(format!("{}{}", revoked.secret.split_once('_').unwrap().0.to_owned() + "_", digit.repeat(64)))
    };
    let hash = |secret: &Secret| Sha256Hex::of_secret(secret).as_str().to_owned();
    let (stolen, inserted) = (known("1"), known("2"));
    let victim = create_token(&server, "victim").await;
    execute_sql(
        &server,
        &format!("UPDATE callers SET token_hash = '{}' WHERE id = '{}'", hash(&stolen), victim.token.id),
    )
    .await;
    assert_eq!(answer_to(&server.client_with_token(&stolen).unwrap()).await, refused());
    execute_sql(
        &server,
        &format!(
            "INSERT INTO callers SELECT 'cal_00000000000000000000000009', kind, role, name, '{}', session_id, scopes, account_id, parent_id, \
             created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms, mac FROM callers WHERE id = {operator}",
            hash(&inserted)
        ),
    )
    .await;
    assert_eq!(answer_to(&server.client_with_token(&inserted).unwrap()).await, refused());
    for token in changed.iter().chain([&revoked, &victim]) {
        wait_named(&server, "callers", token.token.id.as_str()).await;
    }
    let failed = records(&server).into_iter().filter(|record| record["action"] == "identification.failed");
    assert!(failed.into_iter().any(|record| record["outcome"] == "caller_tampered"));
    assert_eq!(answer_to(&client(&server, &other)).await.0, 200, "the others continue");

    // Behind a stopped server.
    server.stop_server().await.unwrap();
    execute_sql(&server, &format!("UPDATE callers SET scopes = 'read' WHERE id = '{}'", other.token.id)).await;
    server.start_server().await.unwrap();
    wait_named(&server, "callers", other.token.id.as_str()).await;
    assert_eq!(answer_to(&client(&server, &other)).await, refused());
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s17_links_and_browsers_that_were_inserted_or_changed_in_the_database_are_refused() {
    let (_flags, server) = start_server("").await;
    let mut browser = Browser::of_operator(&server, "a").await;
    let status = async |browser: &Browser| browser.status(Method::GET, "/api/me").await;
    assert_eq!(status(&browser).await.0, 200);
    for (edit, back) in [
        ("confirmed_at_ms = confirmed_at_ms + 1", "confirmed_at_ms = confirmed_at_ms - 1"),
        ("last_used_at_ms = last_used_at_ms + 1", "last_used_at_ms = last_used_at_ms - 1"),
        ("issuer = 'https://id.example.org', subject = '7'", "issuer = NULL, subject = NULL"),
    ] {
        execute_sql(&server, &format!("UPDATE browsers SET {edit}")).await;
        assert_eq!(status(&browser).await, refused(), "{edit}");
        execute_sql(&server, &format!("UPDATE browsers SET {back}")).await;
        assert_eq!(status(&browser).await.0, 200, "{back}");
    }
    execute_sql(
        &server,
        &format!("UPDATE browsers SET key_hash = '{}'", Sha256Hex::of_bytes("b".repeat(64).as_bytes()).as_str()),
    )
    .await;
    browser.key = "b".repeat(64);
    assert_eq!(status(&browser).await, refused(), "the key of another browser");

    // An operator's link that the server did not make, and one of its own with a later end.
    let mut stranger = Browser::new(&server, "c");
    let token = "login_".to_owned() + &"5".repeat(64);
    let insert = format!(
        "INSERT INTO login_tokens (hash, kind, name, expires_at_ms) VALUES ('{}', 'operator', 'Eve', 9999999999999)",
        Sha256Hex::of_bytes(token.as_bytes()).as_str()
    );
    execute_sql(&server, &insert).await;
    assert_eq!(stranger.log_in(&token).await.status(), 403);
    let real = operator_login_token(&server).await;
    execute_sql(&server, "UPDATE login_tokens SET expires_at_ms = expires_at_ms + 1").await;
    assert_eq!(stranger.log_in(&real).await.status(), 403);
    let mut other = Browser::new(&server, "d");
    assert_eq!(other.log_in(&operator_login_token(&server).await).await.status(), 204, "other links continue");
    assert_eq!(status(&other).await.0, 200);
    server.stop_and_check_leaks().await.unwrap();
}
