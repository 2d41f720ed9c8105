//! API tokens: scopes, names, expiry, rotation with an overlap, last use, and the command line.

use crate::fixture::start_idle;
use anteroom_testbed::{TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    Secret,
    api_tokens::{CreatedToken, TokenList},
};
use serde_json::json;

async fn list(server: &TestServer) -> TokenList {
    serde_json::from_str(&server.run_anteroom(&["token", "list", "--json"]).await.unwrap()).unwrap()
}

#[tokio::test]
async fn s26_token_has_the_scopes_and_the_end_that_it_was_created_with() {
    let (_flags, server) = start_idle("").await;
    let create = ["token", "create", "scraper", "--operator", "--scope", "metrics", "--expires", "90d"];
    let secret = Secret::new(server.run_anteroom(&create).await.unwrap().trim().to_owned());
    let scraper = server.client_with_token(&secret).unwrap();
    assert_eq!(scraper.get("/metrics").await.unwrap().status, 200);
    let rejected = scraper.get("/api/sessions").await.unwrap();
    assert_eq!((rejected.status, rejected.problem().unwrap().code.as_str()), (403, "missing_scope"));
    for (args, reason) in [
        (&["token", "create", "scraper", "--operator"][..], "Another valid token"),
        (&["token", "create", "x", "--scope", "operate"], "scopes of the role backend"),
        (&["token", "create", "x", "--scope", "root"], "unknown scope"),
        (&["token", "create", "x", "--expires", "1 year"], "expected a number with a unit"),
        (&["token", "create", ""], "name must have"),
    ] {
        let error = server.run_anteroom(args).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{args:?}: {error}");
    }
    server.run_anteroom(&["token", "create", "scraper"]).await.expect("the name is free for another role");
    let listed = async || {
        let token =
            list(&server).await.tokens.into_iter().find(|token| token.name == "scraper" && token.role == "operator");
        Ok(token.filter(|token| token.last_used_at.is_some()))
    };
    let token = eventually("the last use is listed", WAIT_MAX, listed).await.unwrap();
    let tokens = server.operator_client().unwrap();
    let counted: TokenList = tokens.get("/api/tokens?role=backend&limit=1&count=true").await.unwrap().parse().unwrap();
    let all: TokenList = tokens.get("/api/tokens?role=backend").await.unwrap().parse().unwrap();
    assert_eq!((counted.tokens.len(), counted.total, all.total), (1, Some(all.tokens.len() as u64), None));
    assert_eq!((token.kind.as_str(), token.scopes.len(), token.expires_at.is_some()), ("api_token", 1, true));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s26_token_cannot_make_itself_more_powerful() {
    let (_flags, server) = start_idle("").await;
    let operator = server.operator_client().unwrap();
    let request = json!({ "name": "limited", "role": "operator", "scopes": ["operate"] });
    let limited: CreatedToken = operator.post("/api/tokens", request).await.unwrap().parse().unwrap();
    let full: CreatedToken =
        operator.post("/api/tokens", json!({ "name": "full", "role": "operator" })).await.unwrap().parse().unwrap();
    let limited = server.client_with_token(&Secret::new(limited.secret)).unwrap();
    let rotate = format!("/api/tokens/{}/rotate", full.token.id);
    for (path, body) in [
        ("/api/tokens", json!({ "name": "more", "role": "operator" })),
        ("/api/tokens", json!({ "name": "more", "role": "backend" })),
        (rotate.as_str(), json!({ "overlap_s": 60 })),
    ] {
        let rejected = limited.post(path, body).await.unwrap();
        assert_eq!((rejected.status, rejected.problem().unwrap().code.as_str()), (403, "missing_scope"), "{path}");
    }
    // A login link of the token gives a cookie with the token's scopes.
    let link: serde_json::Value = limited.post("/api/links", json!({})).await.unwrap().parse().unwrap();
    let cookie = crate::s11_revocation::redeem(&server, link["url"].as_str().unwrap()).await;
    assert_eq!(crate::s11_revocation::get_with_cookie(&server, "/api/leaks", &cookie).await, 200);
    assert_eq!(crate::s11_revocation::get_with_cookie(&server, "/api/sessions", &cookie).await, 403);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s26_rotated_token_has_the_same_account_and_the_old_one_ends_after_the_overlap() {
    let (_flags, server) = start_idle("").await;
    let operator = server.operator_client().unwrap();
    let old: CreatedToken = operator.post("/api/tokens", json!({ "name": "backend" })).await.unwrap().parse().unwrap();
    let old_api = server.client_with_token(&Secret::new(old.secret)).unwrap();
    let session = old_api.start_session("scripted").await.unwrap().session.id;
    let id = old.token.id.to_string();
    let secret = server.run_anteroom(&["token", "rotate", &id, "--overlap", "1h"]).await.unwrap();
    let new_api = server.client_with_token(&Secret::new(secret.trim().to_owned())).unwrap();
    for api in [&old_api, &new_api] {
        api.get_session(&session).await.expect("both tokens own the session");
    }
    let error = server.run_anteroom(&["token", "rotate", &id]).await.unwrap_err().to_string();
    assert!(error.contains("Another valid token"), "a token has one successor: {error}");
    let successor =
        list(&server).await.tokens.into_iter().find(|token| token.name == "backend" && token.expires_at.is_none());
    let rotated = server.run_anteroom(&["token", "rotate", successor.unwrap().id.as_str(), "--overlap", "0s"]).await;
    let newest = server.client_with_token(&Secret::new(rotated.unwrap().trim().to_owned())).unwrap();
    newest.get_session(&session).await.unwrap();
    assert_eq!(new_api.get("/api/me").await.unwrap().status, 401, "it ended at once");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s26_command_line_creates_tokens_without_a_server_only_while_none_holds_the_state_directory() {
    let (_flags, mut server) = start_idle("").await;
    server.stop_server().await.unwrap();
    let secret = Secret::new(server.run_anteroom(&["token", "create", "offline"]).await.unwrap().trim().to_owned());
    server.start_server().await.unwrap();
    assert_eq!(server.client_with_token(&secret).unwrap().get("/api/me").await.unwrap().status, 200);
    std::fs::remove_file(server.state_dir().join("anteroom.sock")).unwrap();
    let error = server.run_anteroom(&["token", "create", "second"]).await.unwrap_err().to_string();
    assert!(error.contains("another server runs"), "{error}");
    server.stop_and_check_leaks().await.unwrap();
}
