//! What people who signed in at an OpenID provider may do, and when their browsers are signed out.

use crate::{
    browser_client::Browser,
    oidc_fixture::{OidcServer, new_issuer},
};
use anteroom_testbed::oidc_issuer::{Decision, Person};
use anteroom_wire::api::StartRequest;
use reqwest::Method;
use serde_json::json;
use std::fs;

/// Starts a session in a browser and returns its path.
async fn start_session(browser: &Browser, request: &StartRequest) -> String {
    let (status, started) = browser.post_json("/api/auth/start", serde_json::to_value(request).unwrap()).await;
    assert_eq!(status, 202, "{started}");
    format!("/api/auth/session/{}", started["session"]["id"].as_str().unwrap())
}

#[tokio::test]
async fn oidc_invitations_and_commands_with_a_credential_need_a_fresh_confirmation() {
    let oidc = OidcServer::start("[limits.browsers]\nconfirmation_ms_max = 3600000\n").await;
    let browser = oidc.sign_in("a", "ada").await;
    let session = start_session(&browser, &StartRequest::new("scripted")).await;
    let (invitations, invitation) = (format!("{session}/invitations"), json!({ "name": "Henry" }));
    assert_eq!(browser.post_json(&invitations, invitation.clone()).await.0, 200, "the sign-in was just now");
    let command = json!({ "purpose": "exec", "argv": ["env"] });
    let uses = "/api/credentials/crd_00000000000000000000000000/use";
    assert_eq!(browser.post_json(uses, command.clone()).await.1["code"], "unknown_credential");
    oidc.server.set_clock_offset(3_700_000).await.unwrap();
    for (path, body) in [(invitations.as_str(), invitation), (uses, command)] {
        let (status, refused) = browser.post_json(path, body).await;
        assert_eq!((status, refused["code"].as_str()), (403, Some("confirmation_required")), "{path}");
    }
    let (_, checked) = browser.post_json(uses, json!({ "purpose": "check" })).await;
    assert_eq!(checked["code"], "unknown_credential", "a check does not show the credential");
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_sessions_of_a_person_have_the_subject_as_their_user() {
    let oidc = OidcServer::start("").await;
    let request = StartRequest { user_id: Some("bob".to_owned()), ..StartRequest::new("scripted") };
    for (key, subject, expected) in [("a", "ada", "ada"), ("b", "olga", "bob")] {
        let browser = oidc.sign_in(key, subject).await;
        let session = start_session(&browser, &request).await;
        assert_eq!(browser.get_json(&session).await["user_id"], expected, "only an operator names other users");
    }
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_sign_in_with_another_role_or_none_ends_the_browsers_with_the_former_role() {
    let oidc = OidcServer::start("").await;
    for groups in [&["people"][..], &[]] {
        oidc.issuer.set_person(Person::in_groups("pia", "Pia Example", &["operators"]));
        let former = oidc.sign_in("a", "pia").await;
        let other = oidc.sign_in("c", "olga").await;
        oidc.issuer.set_person(Person::in_groups("pia", "Pia Example", groups));
        let mut later = Browser::new(&oidc.server, "b");
        let back = oidc.authenticate(&later, Decision::SignIn("pia")).await;
        let _ = later.finish_sign_in(&back).await;
        assert_eq!(former.status(Method::GET, "/api/me").await, (401, "unauthenticated".to_owned()), "{groups:?}");
        assert_eq!(other.status(Method::GET, "/api/me").await.0, 200, "another person");
        let expected = if groups.is_empty() { 401 } else { 200 };
        assert_eq!(later.status(Method::GET, "/api/me").await.0, expected, "{groups:?}");
    }
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_people_of_a_provider_that_is_not_configured_any_more_are_signed_out() {
    let mut oidc = OidcServer::start("").await;
    let other_issuer = new_issuer().await;
    let person = oidc.sign_in("a", "ada").await;
    let operator = Browser::of_operator(&oidc.server, "b").await;
    let file = oidc.server.path().join("config.toml");
    let with_provider = fs::read_to_string(&file).unwrap();
    let mut settings: toml::Table = with_provider.parse().unwrap();
    assert!(settings.remove("oidc").is_some());
    let without_provider = settings.to_string();
    let replaced = with_provider.replace(oidc.issuer.url(), other_issuer.url());
    for (settings, expected) in [(without_provider, 401), (replaced, 401), (with_provider, 200)] {
        oidc.server.stop_server().await.unwrap();
        fs::write(&file, settings).unwrap();
        oidc.server.start_server().await.unwrap();
        // The server listens on another port.
        let same = |key: &str, browser: &Browser| {
            let mut same = Browser::new(&oidc.server, key);
            same.cookie.clone_from(&browser.cookie);
            same
        };
        assert_eq!(same("a", &person).status(Method::GET, "/api/me").await.0, expected);
        assert_eq!(same("b", &operator).status(Method::GET, "/api/me").await.0, 200, "a link names no provider");
    }
    oidc.finish().await;
}
