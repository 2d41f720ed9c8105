//! The demo: the tool of the image, the server's demo identity provider, and the egress gate between them.

use anteroom_demo::identity_provider::{DEMO_ISSUER, DemoIdp, DemoLimits};
use anteroom_testbed::{ApiClient, TestConfig, TestServer, leaks::encoded_forms, plain_process::built_program};
use anteroom_wire::{
    Secret, SessionId, TimelineKind,
    api::{SessionStatus, SessionView},
};
use reqwest::{Client, StatusCode, redirect::Policy};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A browser without scripts that resolves the issuer's name to `issuer`.
pub(crate) struct Browser {
    client: Client,
    issuer: SocketAddr,
}

impl Browser {
    fn new(issuer: SocketAddr) -> Self {
        Self { client: Client::builder().redirect(Policy::none()).no_proxy().build().unwrap(), issuer }
    }

    fn here(&self, url: &str) -> String {
        url.replace(DEMO_ISSUER, &format!("http://{}", self.issuer))
    }

    async fn post(&self, path: &str, form: String) -> reqwest::Response {
        let request = self.client.post(self.here(&format!("{DEMO_ISSUER}{path}"))).body(form);
        request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap()
    }

    /// Signs in with a name, submits the decision and follows the redirect to the tool.
    pub(crate) async fn sign_in(&self, url: &str, decision: &str) -> StatusCode {
        let first = self.client.get(self.here(url)).send().await.unwrap().text().await.unwrap();
        let second =
            self.post("/authorize", format!("request={}&name=Ada", hidden(&first))).await.text().await.unwrap();
        let back = self.post("/consent", format!("request={}&decision={decision}", hidden(&second))).await;
        let back = back.headers()["location"].to_str().unwrap().to_owned();
        assert!(back.starts_with("http://127.0.0.1:") || back.starts_with("http://localhost:"), "{back}");
        self.client.get(back).send().await.unwrap().status()
    }
}

fn hidden(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"request\" value=\"").unwrap_or_else(|| panic!("no form: {page}"));
    rest.split_once('"').unwrap().0.to_owned()
}

/// A server with the demo tool, and an issuer with known tokens.
pub(crate) async fn start_demo(tokens: [&str; 2]) -> (TestServer, Browser, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (issuer, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let [access, refresh] = tokens.map(|token| Secret::new(token.to_owned()));
    let idp = DemoIdp::new(DEMO_ISSUER, DemoLimits::default()).with_fixed_tokens(access, refresh);
    tokio::spawn(idp.serve(listener, stop.clone()));
    let tool = built_program("anteroom-demo-cli").unwrap();
    let tool = tool.to_str().unwrap();
    let settings = format!(
        "[providers.demo]\nargv = [{tool:?}, 'login']\ncredential = {{ status_argv = [{tool:?}, 'status'] }}\n"
    );
    let config = TestConfig::with_clis(&["anteroom-demo"]).with_settings(&settings);
    let server = TestServer::start(config.with_host_override("id.anteroom.test:80", issuer)).await.unwrap();
    (server, Browser::new(issuer), stop)
}

fn url(view: &SessionView) -> String {
    view.sign_in.url.clone().unwrap()
}

/// A session of the demo whose person declined.
pub(crate) async fn denied_demo_session() -> (TestServer, ApiClient, SessionId, CancellationToken) {
    let (server, browser, stop) = start_demo(["demo_at_unused", "demo_rt_unused"]).await;
    let api = server.backend_client().unwrap();
    let id = api.start_session("demo").await.unwrap().session.id;
    let view = api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    browser.sign_in(&url(&view), "deny").await;
    (server, api, id, stop)
}

#[tokio::test]
async fn demo_sign_in_exposes_its_tokens_only_in_the_lease() {
    let tokens = ["demo_at_canary_5b1c7e93d0", "demo_rt_canary_f20a6d84c7"];
    let (server, browser, stop) = start_demo(tokens).await;
    let api = server.backend_client().unwrap();
    let id = api.start_session("demo").await.unwrap().session.id;
    let view = api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    assert!(browser.sign_in(&url(&view), "allow").await.is_success());
    let credential = api.wait_status(&id, SessionStatus::Completed).await.unwrap().credential.unwrap();
    assert_eq!(credential.account.as_deref(), Some("Ada"));
    let lease = api.lease_credential(&credential.id).await.unwrap();
    let file = String::from_utf8_lossy(lease.files[0].content.expose()).into_owned();
    let timeline = api.get_timeline(&id).await.unwrap();
    assert!(timeline.iter().any(|entry| entry.data.to_string().contains("id.anteroom.test")), "{timeline:#?}");
    while !server.list_machines().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for token in tokens {
        assert!(file.contains(token), "the lease contains it");
        assert_eq!(server.leak_scan().find_files_containing(token), Vec::<std::path::PathBuf>::new());
        let needles = encoded_forms(token);
        let leaked = api
            .recorded_responses()
            .iter()
            .any(|body| needles.iter().any(|needle| body.contains(&*String::from_utf8_lossy(needle))));
        assert!(!leaked, "an API response contains the token");
    }
    stop.cancel();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn denied_demo_consent_stores_no_credential() {
    let (server, api, id, stop) = denied_demo_session().await;
    let ended = api.wait_entry(&id, TimelineKind::CliExited).await.unwrap();
    assert_ne!(ended.data["code"], 0, "{ended:?}");
    assert_eq!(api.get_session(&id).await.unwrap().credential, None);
    assert_eq!(api.list_credentials().await.unwrap().credentials, []);
    stop.cancel();
    server.stop_and_check_leaks().await.unwrap();
}
