//! What a sign-in at an OpenID provider leaves behind, and a server whose provider is down.

use crate::{
    browser_client::Browser,
    fixture::Flags,
    oidc_fixture::{OidcServer, ROLES, new_issuer, oidc_settings, returned},
    s10_audit::{records, trail_text},
};
use anteroom_testbed::{
    TestConfig, TestServer, WAIT_MAX, eventually,
    leaks::encoded_forms,
    oidc_issuer::{Decision, OidcFault},
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::path::PathBuf;

#[tokio::test]
async fn oidc_codes_tokens_and_secrets_are_in_no_log_database_or_trail() {
    let issuer = new_issuer().await;
    issuer.set_faults([OidcFault::QueryResponsesOnly]);
    let oidc = OidcServer::start_with(issuer, &format!("{ROLES}[log]\nlevel = 'trace'\n")).await;
    let mut browser = Browser::new(&oidc.server, "a");
    let back = oidc.authenticate(&browser, Decision::SignIn("ada")).await;
    // The browser requests the page with the code in its query.
    let path = format!("{}?{}", back.path(), back.query().unwrap());
    let page = browser.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert_eq!(page.headers()["referrer-policy"], "no-referrer");
    assert!(!page.text().await.unwrap().contains(returned(&back)["code"].as_str().unwrap()), "the page is static");
    assert_eq!(browser.finish_sign_in(&back).await.unwrap(), "signed_in");
    for fault in
        [OidcFault::AnotherNonce, OidcFault::ExpiredCode, OidcFault::TokenMalformed, OidcFault::ForgedSignature]
    {
        oidc.issuer.set_faults([fault]);
        let mut other = Browser::new(&oidc.server, "b");
        let back = oidc.authenticate(&other, Decision::SignIn("ada")).await;
        let problem = other.finish_sign_in(&back).await.unwrap_err();
        assert_nothing_issued(&oidc, &serde_json::to_string(&problem).unwrap());
    }
    oidc.confirm_fails_with_another_person(&mut browser).await;
    let mut secrets = oidc.issuer.issued_secrets();
    assert!(secrets.len() >= 10, "{} secrets", secrets.len());
    secrets.extend([browser.cookie.split_once('=').unwrap().1.to_owned(), browser.key.clone()]);
    for secret in &secrets {
        assert_eq!(oidc.server.leak_scan().find_files_containing(secret), Vec::<PathBuf>::new());
    }
    assert_nothing_issued(&oidc, &oidc.server.read_log());
    oidc.finish().await;
}

impl OidcServer {
    async fn confirm_fails_with_another_person(&self, browser: &mut Browser) {
        self.issuer.set_faults([]);
        assert_eq!(self.confirm(browser, "bob").await.unwrap_err().code, "other_person");
    }
}

/// Checks that a text contains no code, token or secret of the provider.
fn assert_nothing_issued(oidc: &OidcServer, text: &str) {
    for secret in oidc.issuer.issued_secrets() {
        for form in encoded_forms(&secret) {
            assert!(!text.contains(&*String::from_utf8_lossy(&form)), "a secret of the provider is in {text}");
        }
    }
}

/// Waits until the trail has a record of this action and outcome, and returns it.
async fn wait_record(server: &TestServer, action: &str, outcome: &str) -> Value {
    let found = async || {
        let mut records = records(server).into_iter();
        Ok(records.find(|record| record["action"] == action && record["outcome"] == outcome))
    };
    eventually(&format!("{action} {outcome}"), WAIT_MAX, found).await.unwrap()
}

#[tokio::test]
async fn oidc_sign_ins_confirmations_and_refusals_are_in_the_audit_trail() {
    let oidc = OidcServer::start("").await;
    let mut browser = oidc.sign_in("a", "olga").await;
    let login = wait_record(&oidc.server, "login", "ok").await;
    assert_eq!(login["peer"], "127.0.0.1");
    assert!(login.to_string().contains("olga") && login.to_string().contains(oidc.issuer.url()), "{login}");
    assert_eq!(oidc.confirm(&mut browser, "olga").await.unwrap(), "confirmed");
    let confirm = wait_record(&oidc.server, "confirm", "ok").await;
    assert_eq!(confirm["actor"], login["actor"], "{confirm}");
    browser.request(Method::POST, "/api/links").json(&json!({})).send().await.unwrap();
    let link = wait_record(&oidc.server, "login_link.create", "ok").await;
    assert_eq!(link["actor"], login["actor"], "{link}");
    browser.request(Method::POST, "/api/logout").json(&json!({})).send().await.unwrap();
    wait_record(&oidc.server, "sign_out", "ok").await;
    oidc.issuer.set_faults([OidcFault::AnotherNonce]);
    let mut other = Browser::new(&oidc.server, "b");
    let back = oidc.authenticate(&other, Decision::SignIn("ada")).await;
    other.finish_sign_in(&back).await.unwrap_err();
    let refused = wait_record(&oidc.server, "identification.failed", "id_token_invalid").await;
    assert_eq!(refused["peer"], "127.0.0.1");
    assert_nothing_issued(&oidc, &trail_text(&oidc.server));
    oidc.server.run_anteroom(&["audit", "verify"]).await.unwrap();
    oidc.finish().await;
}

#[tokio::test]
async fn oidc_server_runs_while_its_provider_is_down_and_reports_it() {
    let (issuer, flags) = (new_issuer().await, Flags::new());
    // Nothing listens on the port after the listener is dropped.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = oidc_settings(&flags, &format!("http://{closed}/tenant"), &issuer);
    let config = TestConfig::with_provider(flags.idle_provider()).with_settings(&format!("{settings}{ROLES}"));
    let server = TestServer::start(config).await.unwrap();
    let browser = Browser::new(&server, "a");
    assert_eq!(browser.begin("sign-in").await.unwrap_err().code, "issuer_unavailable");
    assert_eq!(browser.get_json("/api/oidc").await["end_session_url"], Value::Null);
    let health = server.operator_client().unwrap().get("/health").await.unwrap().text;
    assert!(health.contains("sign_in_provider"), "{health}");
    let operator = Browser::of_operator(&server, "b").await;
    assert_eq!(operator.status(Method::GET, "/api/me").await.0, 200, "links work");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn oidc_routes_of_a_server_without_a_provider_report_that_there_is_none() {
    let flags = Flags::new();
    let server = TestServer::start(TestConfig::with_provider(flags.idle_provider())).await.unwrap();
    let browser = Browser::new(&server, "a");
    assert_eq!(browser.begin("sign-in").await.unwrap_err().code, "oidc_not_configured");
    assert_eq!(browser.get_json("/api/oidc").await["issuer"], Value::Null);
    let page = Client::builder().no_proxy().build().unwrap();
    let page = page.get(format!("http://{}/sign-in/callback?code=a&state=b", server.address().unwrap()));
    assert_eq!(page.send().await.unwrap().status(), 200);
    server.stop_and_check_leaks().await.unwrap();
}
