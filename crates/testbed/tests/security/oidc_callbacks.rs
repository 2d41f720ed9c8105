//! Answers of an OpenID provider that come twice, late, from another browser or in great numbers.

use crate::{
    browser_client::{Browser, status_of},
    oidc_fixture::{OidcServer, ROLES, returned},
};
use anteroom_testbed::oidc_issuer::Decision;
use reqwest::{Method, header};
use serde_json::{Value, json};

const NO_RATE: &str = "[limits.rates.login]\nper_s = 10000\nburst = 100000\n";
const MINUTE_MS: i64 = 60_000;

#[tokio::test]
async fn oidc_answer_of_the_provider_is_used_once() {
    let oidc = OidcServer::start("").await;
    let mut browser = Browser::new(&oidc.server, "a");
    let back = oidc.authenticate(&browser, Decision::SignIn("ada")).await;
    assert_eq!(browser.finish_sign_in(&back).await.unwrap(), "signed_in");
    assert_eq!(browser.finish_sign_in(&back).await.unwrap_err().code, "sign_in_expired");
    assert_eq!(browser.status(Method::GET, "/api/me").await.0, 200, "the first sign-in remains");
    assert_eq!(oidc.issuer.count_requests("POST /token"), 1);
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_two_requests_at_once_with_one_answer_sign_in_one_browser() {
    let oidc = OidcServer::start("").await;
    for key in ["a", "b", "c"] {
        let (mut one, mut two) = (Browser::new(&oidc.server, key), Browser::new(&oidc.server, key));
        let back = oidc.authenticate(&one, Decision::SignIn("ada")).await;
        let (first, second) = tokio::join!(one.finish_sign_in(&back), two.finish_sign_in(&back));
        let refused = match (first, second) {
            (Ok(_), Err(problem)) | (Err(problem), Ok(_)) => problem.code,
            both => panic!("{both:?}"),
        };
        assert_eq!(refused, "sign_in_expired");
    }
    assert_eq!(oidc.issuer.count_requests("POST /token"), 3);
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_answer_is_accepted_only_from_the_browser_that_began() {
    let oidc = OidcServer::start("").await;
    let mut browser = Browser::new(&oidc.server, "a");
    // A page that leads a victim's browser to the attacker's answer must not sign the victim in as the attacker, and a
    // program that reads the answer must not be signed in.
    let back = oidc.authenticate(&browser, Decision::SignIn("ada")).await;
    let mut victim = oidc.sign_in("b", "bob").await;
    assert_eq!(victim.finish_sign_in(&back).await.unwrap_err().code, "sign_in_expired");
    assert_eq!(victim.get_json("/api/me").await["name"], "Bob Example");
    assert_eq!(Browser::new(&oidc.server, "c").finish_sign_in(&back).await.unwrap_err().code, "sign_in_expired");
    assert_eq!(oidc.issuer.count_requests("POST /token"), 1, "the code is not used up");
    assert_eq!(browser.finish_sign_in(&back).await.unwrap(), "signed_in");
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_code_of_another_sign_in_is_refused() {
    let oidc = OidcServer::start("").await;
    let mut browser = Browser::new(&oidc.server, "a");
    let stolen = oidc.authenticate(&Browser::new(&oidc.server, "b"), Decision::SignIn("bob")).await;
    let own = oidc.authenticate(&browser, Decision::SignIn("ada")).await;
    let (stolen, own_answer) = (returned(&stolen), returned(&own));
    let code = |answer: &Value| answer["code"].as_str().unwrap().to_owned();
    let injected = own.as_str().replace(&code(&own_answer), &code(&stolen)).parse().unwrap();
    assert_eq!(browser.finish_sign_in(&injected).await.unwrap_err().code, "code_rejected");
    assert!(oidc.issuer.rejections().contains(&"the verifier does not fit the challenge".to_owned()));
    assert_eq!(browser.finish_sign_in(&own).await.unwrap_err().code, "sign_in_expired", "the state is used up");
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_sign_in_must_be_finished_within_ten_minutes() {
    let oidc = OidcServer::start("").await;
    let (mut slow, mut late) = (Browser::new(&oidc.server, "a"), Browser::new(&oidc.server, "b"));
    let in_time = oidc.authenticate(&slow, Decision::SignIn("ada")).await;
    let too_late = oidc.authenticate(&late, Decision::SignIn("ada")).await;
    oidc.server.set_clock_offset(9 * MINUTE_MS).await.unwrap();
    assert_eq!(slow.finish_sign_in(&in_time).await.unwrap(), "signed_in");
    oidc.server.set_clock_offset(11 * MINUTE_MS).await.unwrap();
    assert_eq!(late.finish_sign_in(&too_late).await.unwrap_err().code, "sign_in_expired");
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_flood_of_begun_sign_ins_drops_only_those_of_its_own_network() {
    let proxied = format!("{ROLES}{NO_RATE}");
    let issuer = crate::oidc_fixture::new_issuer().await;
    let flags = crate::fixture::Flags::new();
    let own = crate::oidc_fixture::oidc_settings(&flags, issuer.url(), &issuer);
    let settings = format!("trusted_proxies = ['127.0.0.1/32']\n{own}{proxied}");
    let oidc = OidcServer::start_with_settings(issuer, flags, &settings).await;
    let mut victim = Browser::new(&oidc.server, "a");
    let victims = oidc.authenticate(&victim, Decision::SignIn("ada")).await;
    let flooder = Browser::new(&oidc.server, "f");
    let begin = async || {
        let request = flooder.request(Method::POST, "/api/oidc/sign-in").header("x-forwarded-for", "203.0.113.7");
        let response = request.json(&json!({ "browser_key": flooder.key })).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let begun: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        begun["authorization_url"].as_str().unwrap().to_owned()
    };
    let first = begin().await;
    let mut last = String::new();
    for _ in 0..250 {
        last = begin().await;
    }
    let finish = async |url: &str| {
        let back = oidc.issuer.decide(url, Decision::SignIn("bob")).await.unwrap();
        let mut body = returned(&back);
        body["browser_key"] = flooder.key.clone().into();
        let request = flooder.request(Method::POST, "/api/oidc/callback").header("x-forwarded-for", "203.0.113.7");
        status_of(request.json(&body)).await
    };
    assert_eq!(finish(&first).await, (401, "sign_in_expired".to_owned()), "the flooder's oldest is dropped");
    assert_eq!(finish(&last).await.0, 200);
    assert_eq!(victim.finish_sign_in(&victims).await.unwrap(), "signed_in");
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_malformed_and_foreign_requests_are_refused() {
    let oidc = OidcServer::start("").await;
    let mut browser = Browser::new(&oidc.server, "a");
    let back = oidc.authenticate(&browser, Decision::SignIn("ada")).await;
    let valid = {
        let mut body = returned(&back);
        body["browser_key"] = browser.key.clone().into();
        body
    };
    let with = |key: &str, value: Value| {
        let mut body = valid.clone();
        body[key] = value;
        body
    };
    let without = |key: &str| {
        let mut body = valid.clone();
        body.as_object_mut().unwrap().remove(key);
        body
    };
    for (case, body) in [
        ("no key", without("browser_key")),
        ("a short key", with("browser_key", "a".into())),
        ("no state", without("state")),
        ("neither code nor error", without("code")),
        ("code and error", with("error", "access_denied".into())),
        ("a state that is no text", with("state", json!(["a"]))),
        ("a list", json!([valid])),
    ] {
        let request = browser.request(Method::POST, "/api/oidc/callback").json(&body);
        assert_eq!(status_of(request).await, (400, "malformed".to_owned()), "{case}");
    }
    let begin = json!({ "browser_key": browser.key });
    for (path, body) in [("/api/oidc/callback", &valid), ("/api/oidc/sign-in", &begin)] {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let post = || client.post(format!("http://{}{path}", oidc.server.address().unwrap()));
        let foreign = post().header(header::ORIGIN, "https://elsewhere.test").json(body);
        assert_eq!(status_of(foreign).await, (403, "cross_origin".to_owned()), "{path} from another site");
        let text = post().header(header::CONTENT_TYPE, "text/plain").body(body.to_string());
        let status = text.send().await.unwrap().status().as_u16();
        assert!(matches!(status, 400 | 415), "{path} as text, which pages of other sites can send: {status}");
        assert_eq!(browser.request(Method::GET, path).send().await.unwrap().status(), 405, "{path}");
    }
    assert_eq!(oidc.issuer.count_requests("POST /token"), 0);
    assert_eq!(browser.finish_sign_in(&back).await.unwrap(), "signed_in", "none of them used the state up");
    oidc.finish().await;
}
