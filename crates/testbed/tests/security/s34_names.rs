//! Names of those who ask for a credential cannot be mistaken for others because of look-alike letters.

use crate::{idle_session::Idle, oidc_fixture::OidcServer};
use anteroom_testbed::oidc_issuer::Person;
use anteroom_wire::{Secret, api::ConsentView, api_tokens::CreatedToken};
use serde_json::json;

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
    assert_eq!(view.owner_name, "АСМЕ (in Cyrillic letters)");
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
