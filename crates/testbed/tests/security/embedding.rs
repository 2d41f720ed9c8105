//! Frames and popups of other sites: only of listed origins, only the session's page, with a cookie for that frame alone.

use crate::browser_client::{Browser, operator_login_token, status_of};
use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer};
use reqwest::{Method, Response, header};
use serde_json::json;

const LISTED: &str = "[http]\nframe_ancestors = ['https://app.example', 'http://localhost:8081']\n";
const SESSION_PAGE: &str = "/dashboard/remote-cli/auth";

async fn start(settings: &str) -> TestServer {
    let provider = ScriptedProvider::new("scripted", Script::new([Step::print_line("Nothing to do")]));
    TestServer::start(TestConfig::with_provider(provider).with_settings(settings)).await.unwrap()
}

/// The sites that may show the page in a frame, and its opener policy.
async fn embedding_of(browser: &Browser, path: &str) -> (String, String) {
    let response = browser.request(Method::GET, path).send().await.unwrap();
    let value =
        |name: &str| response.headers().get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect();
    let policies: Vec<String> = value("content-security-policy");
    let [policy] = policies.as_slice() else { panic!("{path}: {policies:?}") };
    let directive = policy.split("; ").find_map(|directive| directive.strip_prefix("frame-ancestors "));
    (directive.unwrap_or_default().to_owned(), value("cross-origin-opener-policy").join(","))
}

/// Redeems a login token in a frame.
async fn log_in_embedded(browser: &Browser, login_token: &str) -> Response {
    let body = json!({ "login_token": login_token, "browser_key": browser.key, "embedded": true });
    browser.request(Method::POST, "/api/login").json(&body).send().await.unwrap()
}

fn set_cookie(response: &Response) -> String {
    response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn frames_are_permitted_only_to_listed_origins_and_only_of_the_session_page() {
    let none = ("'none'".to_owned(), "same-origin".to_owned());
    for (settings, of_session_page) in [
        ("", none.clone()),
        (LISTED, ("https://app.example http://localhost:8081".to_owned(), "unsafe-none".to_owned())),
    ] {
        let server = start(settings).await;
        let browser = Browser::new(&server, "a");
        assert_eq!(embedding_of(&browser, SESSION_PAGE).await, of_session_page);
        for path in [
            "/",
            "/login",
            "/sign-in/callback",
            "/dashboard/remote-cli",
            "/api/auth/session/ses_00000000000000000000000000/novnc",
            "/api/me",
            "/health",
            "/nothing",
        ] {
            assert_eq!(embedding_of(&browser, path).await, none, "{path} with {settings:?}");
        }
        server.stop_and_check_leaks().await.unwrap();
    }
}

#[tokio::test]
async fn cookie_of_a_frame_is_partitioned_and_only_of_a_session() {
    for (settings, embedded) in [("", false), (LISTED, true)] {
        let server = start(settings).await;
        let started = server.backend_client().unwrap().start_session("scripted").await.unwrap();
        let (_, login_token) = started.viewer_url.split_once("#login_token=").unwrap();
        let mut viewer = Browser::new(&server, "a");
        let response = log_in_embedded(&viewer, login_token).await;
        let cookie = set_cookie(&response);
        let ending = if embedded { "; SameSite=None; Secure; Partitioned" } else { "; SameSite=Strict" };
        assert!(cookie.ends_with(ending) && cookie.contains("; HttpOnly"), "{cookie}");
        viewer.keep_cookie(&response);

        // As everywhere: not without the key, and not from a page of another site, not even of a listed one.
        let path = format!("/api/auth/session/{}", started.session.id);
        assert_eq!(viewer.status(Method::GET, &path).await.0, 200);
        let (client, url) = (reqwest::Client::new(), format!("http://{}{path}", server.address().unwrap()));
        let without_key = client.get(&url).header(header::COOKIE, &viewer.cookie);
        assert_eq!(status_of(without_key).await, (401, "unauthenticated".to_owned()));
        let foreign = client.post(format!("{url}/cancel")).header(header::COOKIE, &viewer.cookie).json(&json!({}));
        let foreign = foreign.header(header::ORIGIN, "https://app.example").header("x-anteroom", &viewer.key);
        assert_eq!(status_of(foreign).await, (403, "cross_origin".to_owned()));

        let operator = log_in_embedded(&Browser::new(&server, "b"), &operator_login_token(&server).await).await;
        assert!(set_cookie(&operator).ends_with("; SameSite=Strict"), "{}", set_cookie(&operator));

        let log_out = viewer.request(Method::POST, "/api/logout").json(&json!({})).send().await.unwrap();
        assert_eq!(log_out.status(), 204);
        let removed: Vec<_> =
            log_out.headers().get_all(header::SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect();
        assert!(removed.iter().all(|cookie| cookie.contains("; Max-Age=0")), "{removed:?}");
        assert_eq!(removed.iter().filter(|cookie| cookie.ends_with("; Partitioned")).count(), usize::from(embedded));
        server.stop_and_check_leaks().await.unwrap();
    }
}
