//! People confirm at the OpenID provider before leases, links and tokens.

use crate::{
    browser_client::Browser,
    oidc_fixture::{OidcServer, returned},
};
use anteroom_testbed::{
    WAIT_MAX, eventually,
    oidc_issuer::{Decision, OidcFault, Person},
};
use reqwest::{Method, Url};
use serde_json::json;

/// A confirmation is soon needed. The provider reports whole seconds.
const SOON: &str = "[limits.browsers]\nconfirmation_ms_max = 3000\n";

fn confirmation_required() -> (u16, String) {
    (403, "confirmation_required".to_owned())
}

/// Waits until the browser of an operator needs a confirmation.
async fn wait_confirmation_required(browser: &Browser) {
    let required =
        async || Ok((browser.status(Method::POST, "/api/links").await == confirmation_required()).then_some(()));
    eventually("a link needs a confirmation", WAIT_MAX, required).await.unwrap();
}

#[tokio::test]
async fn oidc_confirmation_asks_the_person_again_and_permits_links_and_leases() {
    let oidc = OidcServer::start("[limits.browsers]\nconfirmation_ms_max = 3600000\n").await;
    let mut browser = oidc.sign_in("a", "olga").await;
    assert_eq!(browser.status(Method::POST, "/api/links").await.0, 200, "the sign-in was just now");
    oidc.server.set_clock_offset(3_700_000).await.unwrap();
    assert_eq!(browser.status(Method::POST, "/api/links").await, confirmation_required());
    let lease = "/api/credentials/crd_00000000000000000000000000/lease";
    assert_eq!(browser.status(Method::POST, lease).await, confirmation_required());
    let token = browser.post_json("/api/tokens", json!({ "name": "a", "role": "operator" })).await;
    assert_eq!((token.0, token.1["code"].as_str()), (403, Some("confirmation_required")));
    assert_eq!(browser.status(Method::GET, "/api/sessions").await.0, 200, "reading needs none");
    oidc.server.set_clock_offset(0).await.unwrap();
    oidc.finish_confirmation(&mut browser).await;
    oidc.finish().await;
}

impl OidcServer {
    /// Confirms and checks what the provider was asked.
    async fn finish_confirmation(&self, browser: &mut Browser) {
        let url = Url::parse(&browser.begin("confirm").await.unwrap()).unwrap();
        let parameter =
            |key: &str| url.query_pairs().find(|(name, _)| name == key).map(|(_, value)| value.into_owned());
        assert_eq!((parameter("prompt").as_deref(), parameter("max_age").as_deref()), (Some("login"), Some("0")));
        let back = self.issuer.decide(url.as_str(), Decision::SignIn("olga")).await.unwrap();
        assert_eq!(browser.finish_sign_in(&back).await.unwrap(), "confirmed");
        assert_eq!(browser.status(Method::POST, "/api/links").await.0, 200);
    }
}

#[tokio::test]
async fn oidc_confirmation_that_is_due_is_met_by_authenticating_again() {
    let oidc = OidcServer::start(SOON).await;
    let mut browser = oidc.sign_in("a", "olga").await;
    wait_confirmation_required(&browser).await;
    let confirmed = async || {
        assert_eq!(oidc.confirm(&mut browser, "olga").await.unwrap(), "confirmed");
        // On a busy host the confirmation may be over before it is used.
        Ok((browser.status(Method::POST, "/api/links").await.0 == 200).then_some(()))
    };
    eventually("a link is created after a confirmation", WAIT_MAX, confirmed).await.unwrap();
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_confirmation_by_another_person_or_without_authentication_is_refused() {
    let oidc = OidcServer::start(SOON).await;
    oidc.issuer.set_person(Person::in_groups("oscar", "Oscar Example", &["operators"]));
    let mut browser = oidc.sign_in("a", "olga").await;
    wait_confirmation_required(&browser).await;
    assert_eq!(oidc.confirm(&mut browser, "oscar").await.unwrap_err().code, "other_person");
    assert_eq!(browser.status(Method::POST, "/api/links").await, confirmation_required());
    let not_fresh = [
        &[OidcFault::OldAuthTime][..],
        &[OidcFault::NoAuthTime],
        &[OidcFault::RecentAuthTime],
        // The clock makes up for the age of the authentication.
        &[OidcFault::RecentAuthTime, OidcFault::ClockAhead],
    ];
    for faults in not_fresh {
        oidc.issuer.set_faults(faults.iter().copied());
        assert_eq!(oidc.confirm(&mut browser, "olga").await.unwrap_err().code, "confirmation_not_fresh", "{faults:?}");
        assert_eq!(browser.status(Method::POST, "/api/links").await, confirmation_required());
    }
    oidc.issuer.set_faults([]);
    assert_eq!(browser.get_json("/api/me").await["name"], "Olga Example", "still signed in");
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_confirmation_at_a_provider_whose_clock_is_ahead_or_that_dates_tokens_back_is_accepted() {
    for fault in [OidcFault::ClockAhead, OidcFault::BackdatedIdToken] {
        let oidc = OidcServer::start("").await;
        oidc.issuer.set_faults([fault]);
        let mut browser = oidc.sign_in("a", "olga").await;
        assert_eq!(oidc.confirm(&mut browser, "olga").await.unwrap(), "confirmed", "{fault:?}");
        assert_eq!(browser.status(Method::POST, "/api/links").await.0, 200, "{fault:?}");
        oidc.finish().await;
    }
}

#[tokio::test]
async fn oidc_confirmation_after_a_change_of_the_role_signs_the_browser_out() {
    for groups in [&["people"][..], &[]] {
        let oidc = OidcServer::start("").await;
        let mut browser = oidc.sign_in("a", "olga").await;
        oidc.issuer.set_person(Person::in_groups("olga", "Olga Example", groups));
        let code = oidc.confirm(&mut browser, "olga").await.unwrap_err().code;
        assert!(matches!(code.as_str(), "role_changed" | "no_role"), "{groups:?}: {code}");
        assert_eq!(browser.status(Method::GET, "/api/me").await, (401, "unauthenticated".to_owned()), "{groups:?}");
        oidc.finish().await;
    }
}

#[tokio::test]
async fn oidc_confirmation_is_only_for_the_browser_that_is_signed_in() {
    let oidc = OidcServer::start("").await;
    let mut browser = oidc.sign_in("a", "olga").await;
    let url = browser.begin("confirm").await.unwrap();
    let back = oidc.issuer.decide(&url, Decision::SignIn("olga")).await.unwrap();
    let mut body = returned(&back);
    body["browser_key"] = browser.key.clone().into();
    let mut without_cookie = Browser::new(&oidc.server, "a");
    let (status, refused) = without_cookie.post_json("/api/oidc/callback", body).await;
    assert_eq!(status, 401, "{refused}");
    assert_eq!(without_cookie.finish_sign_in(&back).await.unwrap_err().problem().unwrap().http_status(), 401);
    let of_link = Browser::of_operator(&oidc.server, "b").await;
    assert_eq!(of_link.begin("confirm").await.unwrap_err().code, "not_a_browser");
    assert_eq!(Browser::new(&oidc.server, "c").begin("confirm").await.unwrap_err().code, "unauthenticated");
    assert_eq!(oidc.confirm(&mut browser, "olga").await.unwrap(), "confirmed");
    oidc.finish().await;
}
