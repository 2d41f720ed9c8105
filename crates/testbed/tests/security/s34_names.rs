//! Names of those who ask for a credential cannot be mistaken for others because of look-alike letters.

use crate::{
    browser_client::{Browser, operator_login_token},
    idle_session::Idle,
    oidc_fixture::OidcServer,
};
use anteroom_testbed::oidc_issuer::Person;
use anteroom_wire::{
    ProblemDetails, Secret,
    api::{ConsentView, StartResponse},
    api_tokens::CreatedToken,
};
use reqwest::Method;
use serde_json::json;

/// The login token of a session's link.
fn token_of(started: &StartResponse) -> &str {
    started.viewer_url.split_once("#login_token=").unwrap().1
}

#[tokio::test]
async fn s34_names_with_look_alike_letters_are_refused() {
    let idle = Idle::start("").await;
    let operator = idle.server.operator_client().unwrap();
    let invitations = format!("{}/invitations", idle.path());
    // One Cyrillic letter in a Latin word; mathematical letters; a Cyrillic word next to a Latin one.
    for name in ["AC\u{41c}E", "𝐀𝐂𝐌𝐄", "АСМЕ Inc"] {
        let answers = [
            operator.post("/api/tokens", json!({ "name": name })).await.unwrap(),
            idle.api.post(&invitations, json!({ "name": name })).await.unwrap(),
        ];
        for answer in answers {
            assert_eq!((answer.status, answer.problem().unwrap().code.as_str()), (400, "malformed"), "{name}");
        }
    }
    for name in ["ACME", "Zoë", "王小明", "Мария", "山田 Corp"] {
        let created = operator.post("/api/tokens", json!({ "name": name })).await.unwrap();
        assert_eq!(created.status, 201, "{name}: {}", created.text);
    }
    // All Cyrillic; another case; more blanks: of any role.
    for (name, role) in [("АСМЕ", "backend"), ("acme", "auditor"), (" ACME  ", "operator"), ("Zoё", "backend")] {
        let refused = operator.post("/api/tokens", json!({ "name": name, "role": role })).await.unwrap();
        let code = refused.problem().unwrap().code;
        assert!(matches!(code.as_str(), "name_in_use" | "malformed"), "{name}: {}", refused.text);
    }
    for name in ["ACME", "АСМЕ"] {
        let refused = idle.api.post(&invitations, json!({ "name": name })).await.unwrap();
        assert_eq!((refused.status, refused.problem().unwrap().code.as_str()), (400, "malformed"), "{name}");
    }
    idle.finish().await;
}

#[tokio::test]
async fn s34_a_name_that_looks_like_latin_letters_is_shown_with_its_script() {
    let idle = Idle::start("").await;
    let operator = idle.server.operator_client().unwrap();
    let created = operator.post("/api/tokens", json!({ "name": "АСМЕ" })).await.unwrap();
    let created: CreatedToken = created.parse().unwrap();
    let api = idle.server.client_with_token(&Secret::new(created.secret)).unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    let view: ConsentView = api.get(&format!("/api/auth/session/{id}/consent")).await.unwrap().parse().unwrap();
    assert_eq!(view.owner_name.as_deref(), Some("АСМЕ (in Cyrillic letters)"));
    assert!(view.sentence.starts_with("АСМЕ (in Cyrillic letters) asks you"), "{}", view.sentence);
    idle.finish().await;
}

#[tokio::test]
async fn s34_people_with_a_backends_name_or_with_look_alike_letters_are_shown_by_another_name() {
    let oidc = OidcServer::start("").await;
    let operator = oidc.server.operator_client().unwrap();
    assert_eq!(operator.post("/api/tokens", json!({ "name": "ACME" })).await.unwrap().status, 201);
    for (digit, subject, name) in [("a", "mallory", "АСМЕ"), ("b", "trudy", "ACME"), ("c", "eve", "AC\u{41c}E")] {
        oidc.issuer.set_person(Person::in_groups(subject, name, &["people"]));
        let browser = oidc.sign_in(digit, subject).await;
        assert_eq!(browser.get_json("/api/me").await["name"], subject, "{name}");
    }
    oidc.finish().await;
}

#[tokio::test]
async fn s34_an_owner_without_a_name_is_described_to_the_person() {
    let idle = Idle::start("").await;
    let operator = Browser::of_operator(&idle.server, "a").await;
    let request = operator.request(Method::POST, "/api/auth/start").json(&json!({ "provider": "scripted" }));
    let started: StartResponse = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!((started.session.owner_name.as_str(), &started.session.for_person.values.owner), ("operator", &None));
    assert!(started.session.policy_sentence.contains("for the person who runs this page"), "{:?}", started.session);
    let mut viewer = Browser::new(&idle.server, "b");
    assert_eq!(viewer.log_in(token_of(&started)).await.status(), 204);
    let consent = viewer.get_json(&format!("/api/auth/session/{}/consent", started.session.id)).await;
    let consent: ConsentView = serde_json::from_value(consent).unwrap();
    assert_eq!(consent.owner_name, None);
    let expected =
        "The person who runs this page asks you to sign in to Scripted tool. The person who runs this page keeps";
    assert!(consent.sentence.starts_with(expected), "{}", consent.sentence);
    idle.finish().await;
}

#[tokio::test]
async fn s34_a_used_link_names_its_owner_only_to_who_presents_it() {
    let idle = Idle::start("").await;
    let started = idle.api.start_session("scripted").await.unwrap();
    let used = token_of(&started).to_owned();
    let mut viewer = Browser::new(&idle.server, "a");
    assert_eq!(viewer.log_in(&used).await.status(), 204);
    let operators = operator_login_token(&idle.server).await;
    assert_eq!(Browser::new(&idle.server, "b").log_in(&operators).await.status(), 204);
    let invented = format!("login_{}", "0".repeat(used.len() - 6));
    let owner = started.session.owner_name.as_str();
    let named = format!("This link was used before or has expired. Go back to {owner} and start again.");
    let unnamed = "This link was used before or has expired. Go back to where you came from and start again.";
    for (token, name, sentence) in
        [(&used, Some(owner), named.as_str()), (&operators, None, unnamed), (&invented, None, unnamed)]
    {
        let answer = Browser::new(&idle.server, "c").log_in(token).await;
        assert_eq!(answer.status(), 401);
        let body: ProblemDetails = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!((body.problem.code.as_str(), &*body.problem.for_person), ("ticket_used", sentence));
        assert_eq!(body.owner.as_deref(), name);
    }
    // The browser that the link has signed in is not asked for it.
    assert_eq!(viewer.status(Method::GET, &format!("/api/auth/session/{}", started.session.id)).await.0, 200);
    idle.finish().await;
}
