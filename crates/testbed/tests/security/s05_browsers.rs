//! Cookies: what they are worth without their browser, when they end, and what needs a fresh sign-in.

use crate::browser_client::{Browser, operator_login_token, status_of};
use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer, eventually};
use reqwest::{Client, Method, header};
use serde_json::{Value, json};
use std::time::Duration;

async fn start(settings: &str) -> TestServer {
    let provider = ScriptedProvider::new("scripted", Script::new([Step::print_line("Nothing to do")]));
    TestServer::start(TestConfig::with_provider(provider).with_settings(settings)).await.unwrap()
}

fn unauthenticated() -> (u16, String) {
    (401, "unauthenticated".to_owned())
}

#[tokio::test]
async fn s05_cookie_is_accepted_only_with_the_key_of_its_browser() {
    let server = start("").await;
    let browser = Browser::of_operator(&server, "a").await;
    assert_eq!(browser.status(Method::GET, "/api/me").await.0, 200);
    assert_eq!(browser.status(Method::POST, "/api/links").await.0, 200);
    let address = server.address().unwrap();
    let client = Client::builder().no_proxy().build().unwrap();
    let me = || client.get(format!("http://{address}/api/me"));
    let value = browser.cookie.split_once('=').unwrap().1;
    for (case, request) in [
        ("no key", me().header(header::COOKIE, &browser.cookie)),
        ("the former guard", me().header(header::COOKIE, &browser.cookie).header("x-anteroom", "1")),
        ("another key", me().header(header::COOKIE, &browser.cookie).header("x-anteroom", "b".repeat(64))),
        ("upper case", me().header(header::COOKIE, &browser.cookie).header("x-anteroom", "A".repeat(64))),
        ("as a bearer token", me().bearer_auth(value)),
        ("as a bearer token with the key", me().bearer_auth(value).header("x-anteroom", &browser.key)),
        ("the key as a bearer token", me().bearer_auth(&browser.key)),
        (
            "an API token as a cookie",
            me().header(header::COOKIE, format!("anteroom={}", server.operator_token().expose()))
                .header("x-anteroom", &browser.key),
        ),
    ] {
        assert_eq!(status_of(request).await, unauthenticated(), "{case}");
    }
    for key in ["", "1", &"A".repeat(64), &"a".repeat(63), &"a".repeat(65)] {
        let body = json!({ "login_token": operator_login_token(&server).await, "browser_key": key });
        let login = client.post(format!("http://{address}/api/login")).json(&body);
        assert_eq!(status_of(login).await, (400, "malformed".to_owned()), "{key:?}");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s05_cookies_have_the_host_prefix_over_tls_and_others_are_ignored() {
    let server = start("public_url = 'https://desk.example'\n").await;
    let mut browser = Browser::new(&server, "a");
    let response = browser.log_in(&operator_login_token(&server).await).await;
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("__Host-anteroom="), "{cookie}");
    for attribute in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(attribute), "{attribute} in {cookie}");
    }
    assert!(!cookie.to_ascii_lowercase().contains("domain"), "{cookie}");
    assert_eq!(browser.status(Method::GET, "/api/me").await.0, 200);
    // Another host of the domain can set a cookie with this name, but not with the prefix.
    browser.cookie = browser.cookie.trim_start_matches("__Host-").to_owned();
    assert_eq!(browser.status(Method::GET, "/api/me").await, unauthenticated());
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s05_browsers_sign_out_and_sign_each_other_out() {
    let server = start("").await;
    let (one, two) = (Browser::of_operator(&server, "a").await, Browser::of_operator(&server, "b").await);
    let listed = async |browser: &Browser| -> Vec<Value> {
        let response = browser.request(Method::GET, "/api/browsers").send().await.unwrap();
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        body["browsers"].as_array().unwrap().clone()
    };
    let browsers = listed(&one).await;
    assert_eq!(browsers.len(), 2, "{browsers:?}");
    assert!(!serde_json::to_string(&browsers).unwrap().contains(&one.key), "no key is shown");
    let other = browsers.iter().find(|browser| browser["is_current"] == false).unwrap();
    assert_eq!(other["address"], "127.0.0.1");
    let path = format!("/api/browsers/{}", other["id"].as_str().unwrap());
    assert_eq!(one.status(Method::DELETE, &path).await.0, 204);
    assert_eq!(two.status(Method::GET, "/api/me").await, unauthenticated());
    assert_eq!(listed(&one).await.len(), 1);

    let log_out = one.request(Method::POST, "/api/logout").json(&json!({})).send().await.unwrap();
    assert_eq!(log_out.status(), 204);
    let cookie = log_out.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("anteroom=;") && cookie.contains("Max-Age=0"), "{cookie}");
    assert_eq!(one.status(Method::GET, "/api/me").await, unauthenticated());
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s05_viewers_neither_see_nor_sign_out_other_browsers() {
    let server = start("").await;
    let operator = Browser::of_operator(&server, "a").await;
    let me: Value = {
        let response = operator.request(Method::GET, "/api/browsers").send().await.unwrap();
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    };
    let id = me["browsers"][0]["id"].as_str().unwrap();
    let started = server.backend_client().unwrap().start_session("scripted").await.unwrap();
    let mut viewer = Browser::new(&server, "b");
    viewer.log_in(started.viewer_url.split_once("#login_token=").unwrap().1).await;
    let own = viewer.request(Method::GET, "/api/browsers").send().await.unwrap().text().await.unwrap();
    assert!(own.contains("\"is_current\":true") && !own.contains(id), "{own}");
    let path = format!("/api/browsers/{id}");
    assert_eq!(viewer.status(Method::DELETE, &path).await, (403, "not_owner".to_owned()));
    let backend = server.backend_client().unwrap();
    assert_eq!(backend.call(Method::DELETE, &path, None).await.unwrap().status, 403);
    assert_eq!(operator.status(Method::GET, "/api/me").await.0, 200);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s05_new_sign_in_replaces_the_cookie_of_the_browser() {
    let server = start("").await;
    let mut browser = Browser::of_operator(&server, "a").await;
    let replaced = browser.cookie.clone();
    browser.log_in(&operator_login_token(&server).await).await;
    assert_eq!(browser.status(Method::GET, "/api/me").await.0, 200);
    browser.cookie = replaced;
    assert_eq!(browser.status(Method::GET, "/api/me").await, unauthenticated());
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s05_browser_that_is_not_used_is_signed_out() {
    let server = start("[limits.browsers]\nidle_ms_max = 1500\n").await;
    let browser = Browser::of_operator(&server, "a").await;
    assert_eq!(browser.status(Method::GET, "/api/me").await.0, 200);
    let signed_out = async || Ok((browser.status(Method::GET, "/api/me").await == unauthenticated()).then_some(()));
    eventually("the browser is signed out", Duration::from_secs(30), signed_out).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s05_leases_and_links_need_a_recent_sign_in_of_the_browser() {
    let server = start("[limits.browsers]\nconfirmation_ms_max = 1500\n").await;
    let mut browser = Browser::of_operator(&server, "a").await;
    assert_eq!(browser.status(Method::POST, "/api/links").await.0, 200);
    let refused = (403, "confirmation_required".to_owned());
    let is_refused = async || Ok((browser.status(Method::POST, "/api/links").await == refused).then_some(()));
    eventually("a link needs a confirmation", Duration::from_secs(30), is_refused).await.unwrap();
    let lease = "/api/credentials/crd_00000000000000000000000000/lease";
    assert_eq!(browser.status(Method::POST, lease).await, refused);
    assert_eq!(browser.status(Method::GET, "/api/credentials").await.0, 200, "reading needs none");
    // Tokens are not people.
    let api = server.operator_client().unwrap();
    assert_eq!(api.post(lease, json!({})).await.unwrap().problem().unwrap().code, "unknown_credential");
    browser.log_in(&operator_login_token(&server).await).await;
    assert_eq!(browser.status(Method::POST, "/api/links").await.0, 200, "after another sign-in");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s05_invitation_is_not_spent_by_looking_at_it() {
    let server = start("").await;
    let started = server.backend_client().unwrap().start_session("scripted").await.unwrap();
    let (page, login_token) = started.viewer_url.split_once("#login_token=").unwrap();
    let path = page.trim_start_matches(&server.base_url().unwrap()).to_owned();
    let scanner = Client::builder().no_proxy().build().unwrap();
    let address = server.address().unwrap();
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        for target in [path.as_str(), "/login", "/api/login", &format!("/api/login?login_token={login_token}")] {
            let request = scanner.request(method.clone(), format!("http://{address}{target}"));
            let response = request.header(header::USER_AGENT, "mail-scanner").send().await.unwrap();
            assert!(!response.headers().contains_key(header::SET_COOKIE), "{method} {target}");
        }
    }
    let mut person = Browser::new(&server, "c");
    assert_eq!(person.log_in(login_token).await.status(), 204);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s05_desktop_page_opens_by_navigation_which_sends_no_key() {
    let server = start("").await;
    let started = server.backend_client().unwrap().start_session("scripted").await.unwrap();
    let mut viewer = Browser::new(&server, "b");
    viewer.log_in(started.viewer_url.split_once("#login_token=").unwrap().1).await;
    let path = format!("/api/auth/session/{}/novnc", started.session.id);
    let url = format!("http://{}{path}", server.address().unwrap());
    let page = Client::builder().no_proxy().build().unwrap().get(url).header(header::COOKIE, &viewer.cookie);
    let page = page.send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(!page.text().await.unwrap().contains(started.session.id.as_str()), "the page is static");
    server.stop_and_check_leaks().await.unwrap();
}
