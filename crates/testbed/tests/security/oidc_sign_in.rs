//! People who sign in at an OpenID provider: their roles, their browsers and what they see of one another.

use crate::{
    browser_client::Browser,
    oidc_fixture::{OidcServer, ROLES, new_issuer},
};
use anteroom_testbed::oidc_issuer::{Decision, OidcFault, Person};
use anteroom_wire::api::StartRequest;
use reqwest::{Method, Url};
use serde_json::{Value, json};

fn unauthenticated() -> (u16, String) {
    (401, "unauthenticated".to_owned())
}

/// Starts a session in a browser and returns its path.
async fn start_session(browser: &Browser) -> String {
    let request = serde_json::to_value(StartRequest::new("scripted")).unwrap();
    let (status, started) = browser.post_json("/api/auth/start", request).await;
    assert_eq!(status, 202, "{started}");
    format!("/api/auth/session/{}", started["session"]["id"].as_str().unwrap())
}

async fn session_ids(browser: &Browser) -> Vec<String> {
    let list = browser.get_json("/api/sessions").await;
    let sessions = list["sessions"].as_array().unwrap().iter();
    sessions.map(|session| session["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn oidc_people_have_the_role_of_their_groups() {
    let oidc = OidcServer::start("").await;
    for (number, (groups, role)) in [
        (json!(["people"]), "user"),
        (json!(["others", "auditors"]), "auditor"),
        (json!(["people", "operators"]), "operator"),
        (json!("people"), "user"),
    ]
    .into_iter()
    .enumerate()
    {
        let subject = format!("person-{number}");
        oidc.issuer.set_person(Person::with_claims(&subject, "Pia Example", json!({ "groups": groups })));
        let browser = oidc.sign_in("a", &subject).await;
        let me = browser.get_json("/api/me").await;
        assert_eq!((&me["role"], &me["name"], &me["sign_in"]), (&json!(role), &json!("Pia Example"), &json!("oidc")));
        let links = browser.status(Method::POST, "/api/links").await.0;
        let audit = browser.status(Method::GET, "/api/audit").await.0;
        let expected = match role {
            "operator" => (200, 200),
            "auditor" => (403, 200),
            _ => (403, 403),
        };
        assert_eq!((links, audit), expected, "{role}");
    }
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_people_without_a_role_are_refused() {
    let oidc = OidcServer::start("").await;
    for claims in [
        json!({}),
        json!({ "groups": [] }),
        json!({ "groups": null }),
        json!({ "groups": ["strangers", "PEOPLE", "people ", ""] }),
        json!({ "groups": "people,operators" }),
        json!({ "groups": { "people": true } }),
        json!({ "roles": ["people"] }),
        json!({ "groups": [["people"]] }),
    ] {
        oidc.issuer.set_person(Person::with_claims("eve", "Eve Example", claims.clone()));
        let mut browser = Browser::new(&oidc.server, "e");
        let back = oidc.authenticate(&browser, Decision::SignIn("eve")).await;
        assert_eq!(browser.finish_sign_in(&back).await.unwrap_err().code, "no_role", "{claims}");
        assert_eq!(browser.status(Method::GET, "/api/me").await, unauthenticated());
    }
    // Access that was taken away at the provider.
    assert_eq!(oidc.sign_in("a", "ada").await.get_json("/api/me").await["role"], "user");
    oidc.issuer.set_person(Person::in_groups("ada", "Ada Example", &[]));
    let mut browser = Browser::new(&oidc.server, "b");
    let back = oidc.authenticate(&browser, Decision::SignIn("ada")).await;
    assert_eq!(browser.finish_sign_in(&back).await.unwrap_err().code, "no_role");
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_default_role_and_groups_claim_are_settings() {
    let settings = format!("default_role = 'user'\ngroups_claim = 'memberOf'\n{ROLES}");
    let oidc = OidcServer::start_with(new_issuer().await, &settings).await;
    assert_eq!(oidc.sign_in("a", "olga").await.get_json("/api/me").await["role"], "user", "`groups` is not read");
    oidc.issuer.set_person(Person::with_claims("olga", "Olga", json!({ "memberOf": ["operators"] })));
    assert_eq!(oidc.sign_in("b", "olga").await.get_json("/api/me").await["role"], "operator");
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_authorization_request_has_state_nonce_and_s256_challenge_and_no_secret() {
    let oidc = OidcServer::start("").await;
    let browser = Browser::new(&oidc.server, "a");
    let urls = [browser.begin("sign-in").await.unwrap(), browser.begin("sign-in").await.unwrap()];
    let [one, two] = urls.map(|url| Url::parse(&url).unwrap());
    let parameter = |url: &Url, key: &str| {
        let found = url.query_pairs().find(|(name, _)| name == key);
        found.unwrap_or_else(|| panic!("{key} is not in {url}")).1.into_owned()
    };
    assert!(one.as_str().starts_with(oidc.issuer.url()), "{one}");
    assert_eq!(parameter(&one, "response_type"), "code");
    assert_eq!(parameter(&one, "code_challenge_method"), "S256");
    assert_eq!(parameter(&one, "redirect_uri"), format!("{}/sign-in/callback", browser.base));
    for random in ["state", "nonce", "code_challenge"] {
        let (first, second) = (parameter(&one, random), parameter(&two, random));
        assert!(first.len() >= 22 && first != second, "{random}: {first} {second}");
    }
    let secret = oidc.issuer.client_secret();
    for secret in [browser.key.as_str(), secret.split('+').next_back().unwrap()] {
        assert!(!one.as_str().contains(secret), "{one}");
    }
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_cookie_is_bound_to_the_browser_and_has_the_host_prefix_over_tls() {
    for (settings, name, secure) in
        [("", "anteroom=", false), ("public_url = 'https://desk.example'\n", "__Host-anteroom=", true)]
    {
        let issuer = new_issuer().await;
        let flags = crate::fixture::Flags::new();
        let own = crate::oidc_fixture::oidc_settings(&flags, issuer.url(), &issuer);
        let oidc = OidcServer::start_with_settings(issuer, flags, &format!("{settings}{own}{ROLES}")).await;
        let browser = Browser::new(&oidc.server, "a");
        let back = oidc.authenticate(&browser, Decision::SignIn("ada")).await;
        let mut body = crate::oidc_fixture::returned(&back);
        body["browser_key"] = browser.key.clone().into();
        let response = browser.request(Method::POST, "/api/oidc/callback").json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.starts_with(name) && cookie.contains("; Secure") == secure, "{cookie}");
        for attribute in ["; Path=/", "; HttpOnly", "; SameSite=Strict"] {
            assert!(cookie.contains(attribute), "{attribute} in {cookie}");
        }
        let mut thief = Browser::new(&oidc.server, "b");
        thief.cookie = cookie.split(';').next().unwrap().to_owned();
        assert_eq!(thief.status(Method::GET, "/api/me").await, unauthenticated(), "the cookie with another key");
        oidc.finish().await;
    }
}

#[tokio::test]
async fn oidc_person_signs_out_here_and_at_the_provider() {
    let oidc = OidcServer::start("").await;
    let (one, two) = (oidc.sign_in("a", "ada").await, oidc.sign_in("b", "ada").await);
    let out = one.request(Method::POST, "/api/logout").json(&json!({})).send().await.unwrap();
    assert_eq!(out.status(), 204);
    assert_eq!(one.status(Method::GET, "/api/me").await, unauthenticated());
    assert_eq!(two.status(Method::GET, "/api/me").await.0, 200, "the other browser stays signed in");
    let public = one.get_json("/api/oidc").await;
    assert_eq!(public["issuer"], oidc.issuer.url());
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let ended = client.get(public["end_session_url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(ended.headers()["location"].to_str().unwrap(), format!("{}/", one.base));
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_person_sees_the_same_sessions_in_two_browsers_and_another_person_does_not() {
    let oidc = OidcServer::start("").await;
    let (one, two) = (oidc.sign_in("a", "ada").await, oidc.sign_in("b", "ada").await);
    let (other, operator) = (oidc.sign_in("c", "bob").await, oidc.sign_in("d", "olga").await);
    let session = start_session(&one).await;
    let own = vec![session.rsplit('/').next().unwrap().to_owned()];
    for (browser, expected) in [(&one, own.clone()), (&two, own.clone()), (&other, vec![]), (&operator, own)] {
        assert_eq!(session_ids(browser).await, expected);
    }
    assert_eq!(two.status(Method::GET, &session).await.0, 200);
    for (method, path) in [
        (Method::GET, ""),
        (Method::GET, "/events"),
        (Method::GET, "/diagnosis"),
        (Method::GET, "/screen"),
        (Method::GET, "/credentials"),
        (Method::POST, "/cancel"),
        (Method::POST, "/restart"),
        (Method::POST, "/ticket"),
        (Method::POST, "/invitations"),
    ] {
        let (status, code) = other.status(method.clone(), &format!("{session}{path}")).await;
        assert!(matches!(status, 400 | 403 | 404) && !code.is_empty(), "{method} {path}: {status} {code}");
        assert!(status != 400 || code == "malformed", "{method} {path}: {code}");
    }
    let (status, ticket) = other.post_json(&format!("{session}/ticket"), json!({ "purpose": "desktop" })).await;
    assert!(matches!(status, 403 | 404), "{status} {ticket}");
    assert_eq!(two.status(Method::POST, &format!("{session}/cancel")).await.0, 200);
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_person_lists_and_ends_only_own_browsers() {
    let oidc = OidcServer::start("").await;
    let (one, two) = (oidc.sign_in("a", "ada").await, oidc.sign_in("b", "ada").await);
    let other = oidc.sign_in("c", "bob").await;
    let listed = async |browser: &Browser| -> Vec<Value> {
        browser.get_json("/api/browsers").await["browsers"].as_array().unwrap().clone()
    };
    assert_eq!((listed(&one).await.len(), listed(&other).await.len()), (2, 1));
    let of_two = listed(&one).await.into_iter().find(|browser| browser["is_current"] == false).unwrap();
    let path = format!("/api/browsers/{}", of_two["id"].as_str().unwrap());
    let refused = other.request(Method::DELETE, &path).send().await.unwrap().status().as_u16();
    assert!(matches!(refused, 403 | 404), "{refused}");
    assert_eq!(two.status(Method::GET, "/api/me").await.0, 200);
    assert_eq!(one.request(Method::DELETE, &path).send().await.unwrap().status(), 204);
    assert_eq!(two.status(Method::GET, "/api/me").await, unauthenticated());
    assert_eq!(other.status(Method::GET, "/api/me").await.0, 200);
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_new_signing_key_of_the_provider_is_fetched() {
    let oidc = OidcServer::start("").await;
    oidc.sign_in("a", "ada").await;
    oidc.issuer.rotate_key();
    oidc.sign_in("b", "ada").await;
    assert_eq!(oidc.issuer.count_requests("GET /keys"), 2);
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_provider_without_fragment_responses_is_supported() {
    let issuer = new_issuer().await;
    issuer.set_faults([OidcFault::QueryResponsesOnly]);
    let oidc = OidcServer::start_with(issuer, ROLES).await;
    let mut browser = Browser::new(&oidc.server, "a");
    let back = oidc.authenticate(&browser, Decision::SignIn("ada")).await;
    assert!(back.fragment().is_none() && back.query().is_some(), "{back}");
    assert_eq!(browser.finish_sign_in(&back).await.unwrap(), "signed_in");
    oidc.finish().await;
}
