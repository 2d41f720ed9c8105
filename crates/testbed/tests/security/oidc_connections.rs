//! The connections of people who signed in at an OpenID provider: what their start page requests.

use crate::{
    browser_client::Browser,
    fixture::Flags,
    oidc_fixture::{OidcServer, ROLES, new_issuer, oidc_settings},
};
use anteroom_testbed::{Script, ScriptedProvider, Step, WAIT_MAX, eventually};
use reqwest::Method;
use serde_json::{Value, json};

/// A tool that signs in at once, as this account, and confirms it.
fn provider(flags: &Flags) -> ScriptedProvider {
    let file = json!({ "token": "t", "user": "ada@example.test" }).to_string();
    let tool = Script::new([Step::write(ScriptedProvider::CREDENTIAL_PATH, file), flags.wait_step("never")]);
    let rules = json!({
        "paths": [ScriptedProvider::CREDENTIAL_PATH],
        "required": ["/token"],
        "account": { "pointer": "/user" },
    });
    ScriptedProvider::new("scripted", tool)
        .with_descriptor_key("credential", rules)
        .with_status(Script::new([Step::print_line("signed in")]), "signed in")
}

/// Waits until the session that a request has started is completed.
async fn wait_completed(browser: &Browser, (status, started): (u16, Value)) -> Value {
    assert_eq!(status, 202, "{started}");
    let path = format!("/api/auth/session/{}", started["session"]["id"].as_str().unwrap());
    let completed = async || {
        let session = browser.get_json(&path).await;
        Ok((session["status"] == "completed").then_some(session))
    };
    eventually("the session is completed", WAIT_MAX, completed).await.unwrap()
}

async fn credentials(browser: &Browser) -> Vec<Value> {
    browser.get_json("/api/credentials").await["credentials"].as_array().unwrap().clone()
}

#[tokio::test]
async fn oidc_person_lists_checks_downloads_and_removes_only_own_connections() {
    let (flags, issuer) = (Flags::new(), new_issuer().await);
    let confirmation = "[limits.browsers]\nconfirmation_ms_max = 3600000\n";
    let settings = format!("{}{ROLES}{confirmation}", oidc_settings(&flags, issuer.url(), &issuer));
    let provider = provider(&flags);
    let oidc = OidcServer::start_with_provider(issuer, flags, provider, &settings).await;
    let (ada, bob, olga) =
        (oidc.sign_in("a", "ada").await, oidc.sign_in("b", "bob").await, oidc.sign_in("c", "olga").await);
    let session = wait_completed(&ada, ada.post_json("/api/auth/start", json!({ "provider": "scripted" })).await).await;
    assert_eq!(session["credential"]["account"], "ada@example.test");
    let path = format!("/api/credentials/{}", session["credential"]["id"].as_str().unwrap());
    for (browser, count) in [(&ada, 1), (&bob, 0), (&olga, 1)] {
        let listed = credentials(browser).await;
        assert_eq!(listed.len(), count);
        assert!(
            listed.iter().all(|one| one["account"] == "ada@example.test" && one["health"] == "valid"),
            "{listed:?}"
        );
    }
    let check = json!({ "purpose": "check" });
    assert_eq!(bob.post_json(&format!("{path}/use"), check.clone()).await.0, 403);
    assert_eq!(bob.post_json(&format!("{path}/lease"), json!({})).await.0, 403);
    assert_eq!(bob.status(Method::DELETE, &path).await.0, 403);

    wait_completed(&ada, ada.post_json(&format!("{path}/use"), check).await).await;
    let checked = async || {
        let credential = ada.get_json(&path).await;
        let (checked, stored) = (credential["checked_at"].as_str().unwrap(), credential["stored_at"].as_str().unwrap());
        Ok((checked > stored).then(|| credential["health"].clone()))
    };
    assert_eq!(eventually("the check is recorded", WAIT_MAX, checked).await.unwrap(), "valid");

    oidc.server.set_clock_offset(3_700_000).await.unwrap();
    let (status, refused) = ada.post_json(&format!("{path}/lease"), json!({})).await;
    assert_eq!((status, refused["code"].as_str()), (403, Some("confirmation_required")));
    oidc.server.set_clock_offset(0).await.unwrap();
    let (status, lease) = ada.post_json(&format!("{path}/lease"), json!({})).await;
    assert_eq!((status, lease["files"][0]["path"].as_str()), (200, Some(ScriptedProvider::CREDENTIAL_PATH)), "{lease}");
    assert_eq!(ada.status(Method::DELETE, &path).await.0, 204);
    assert_eq!(credentials(&ada).await, Vec::<Value>::new());
    oidc.finish().await;
}
