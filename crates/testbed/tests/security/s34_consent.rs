//! A person learns who asks for the credential and agrees before they see the machine.

use crate::{browser_client::Browser, hostile_agent::HostileAgent};
use anteroom_testbed::ApiResponse;
use anteroom_wire::{
    TimelineKind,
    api::{ConsentStatus, ConsentView, StartResponse},
};
use reqwest::Method;
use serde_json::{Value, json};

/// A person's browser that opened the link of a session.
struct Viewer {
    browser: Browser,
    session: String,
}

impl Viewer {
    async fn open(agent: &HostileAgent, started: &StartResponse) -> Self {
        let mut browser = Browser::new(&agent.server, "a");
        let (_, token) = started.viewer_url.split_once("#login_token=").unwrap();
        assert_eq!(browser.log_in(token).await.status(), 204);
        Self { browser, session: started.session.id.to_string() }
    }

    async fn call(&self, method: Method, end: &str, body: Value) -> ApiResponse {
        let path = format!("/api/auth/session/{}{end}", self.session);
        let answer = self.browser.request(method, &path).json(&body).send().await.unwrap();
        ApiResponse { status: answer.status().as_u16(), text: answer.text().await.unwrap() }
    }
}

#[tokio::test]
async fn s34_a_viewer_sees_who_asks_and_must_agree_before_it_can_use_the_machine() {
    let agent = HostileAgent::start_server("").await;
    let started = agent.start_session(Some("https://build.acme.example:8443/done")).await;
    let view = &started.session;
    assert_eq!(view.owner_name, "a test's backend");
    assert_eq!(view.return_host.as_deref(), Some("build.acme.example:8443"));
    let viewer = Viewer::open(&agent, &started).await;
    let requested: ConsentView = viewer.call(Method::GET, "/consent", json!({})).await.parse().unwrap();
    assert_eq!(requested.status, ConsentStatus::Required);
    assert_eq!(
        requested.sentence,
        "a test's backend asks you to sign in to Scripted tool. a test's backend keeps your sign-in, encrypted, and can use \
         Scripted tool as you until one of you removes it. \
         After that you return to build.acme.example:8443."
    );
    for (end, body) in [
        ("/ticket", json!({ "purpose": "desktop" })),
        ("/ticket", json!({ "purpose": "desktop", "view_only": true })),
        ("/ticket", json!({ "purpose": "terminal" })),
        ("/paste", json!({ "text": "x" })),
        ("/code", json!({ "code": "x" })),
        ("/type", json!({ "text": "x" })),
        ("/open-url", json!({ "url": "https://a.example" })),
        ("/method", json!({ "method": "default" })),
    ] {
        let refused = viewer.call(Method::POST, end, body).await;
        assert_eq!((refused.status, refused.problem().unwrap().code.as_str()), (403, "consent_required"), "{end}");
    }
    // The owner cannot agree in the person's place.
    let own = format!("/api/auth/session/{}", view.id);
    let by_owner: ConsentView = agent.api.post(&format!("{own}/consent"), json!({})).await.unwrap().parse().unwrap();
    assert_eq!(by_owner.status, ConsentStatus::NotNeeded);
    assert_eq!(viewer.call(Method::POST, "/ticket", json!({ "purpose": "desktop" })).await.status, 403);
    let agreed: ConsentView = viewer.call(Method::POST, "/consent", json!({})).await.parse().unwrap();
    assert_eq!(agreed.status, ConsentStatus::Given);
    let again: ConsentView = viewer.call(Method::POST, "/consent", json!({})).await.parse().unwrap();
    assert_eq!(again.status, ConsentStatus::Given);
    for purpose in ["desktop", "terminal"] {
        assert_eq!(viewer.call(Method::POST, "/ticket", json!({ "purpose": purpose })).await.status, 200, "{purpose}");
    }
    let timeline = agent.api.get_timeline(&view.id).await.unwrap();
    let given: Vec<_> = timeline.iter().filter(|entry| entry.kind == TimelineKind::ConsentGiven).collect();
    assert_eq!(given.len(), 1, "recorded once: {given:?}");
    agent.end().await;
}

#[tokio::test]
async fn s34_backends_and_operators_act_for_themselves_and_are_not_asked() {
    let agent = HostileAgent::start_server("").await;
    let id = agent.start_session(None).await.session.id;
    for api in [agent.server.backend_client().unwrap(), agent.server.operator_client().unwrap()] {
        let answer = api.get(&format!("/api/auth/session/{id}/consent")).await.unwrap();
        assert_eq!(answer.parse::<ConsentView>().unwrap().status, ConsentStatus::NotNeeded);
        api.create_ticket(&id, "desktop").await.unwrap();
    }
    agent.end().await;
}
