//! The methods of the demo in `anteroom serve --demo`: by hand on the pages of the server, and by a program.

use anteroom_testbed::{ApiClient, TestConfig, TestServer, plain_process::built_program};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{SessionStatus, SessionView, StartRequest},
    diagnosis::Verdict,
    situation::{PersonAction, Situation},
};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

/// A server with the demo, and a person's own browser without scripts.
pub(crate) struct Demo {
    pub(crate) server: TestServer,
    api: ApiClient,
    client: Client,
    pages: String,
}

impl Demo {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// With these additional settings.
    pub(crate) async fn start_with(more: &str) -> Self {
        let tool = built_program("anteroom-demo-cli").unwrap();
        let tool = tool.to_str().unwrap();
        let mut settings = format!(
            "[providers.demo]\nargv = [{tool:?}, 'login']\ncredential = {{ status_argv = [{tool:?}, 'status'] }}\n"
        );
        for (method, option) in
            [("link", "--no-browser"), ("device_code", "--device-code"), ("api_key", "--with-api-key")]
        {
            settings += &format!("[providers.demo.methods.{method}]\nargv = [{tool:?}, 'login', {option:?}]\n");
        }
        settings += more;
        let config = TestConfig { demo: true, ..TestConfig::with_clis(&["anteroom-demo"]).with_settings(&settings) };
        let server = TestServer::start(config).await.unwrap();
        let base = server.base_url().unwrap();
        let host = base.split_once("://").unwrap().1.split(':').next().unwrap().to_owned();
        let client = Client::builder().no_proxy().resolve(&host, server.address().unwrap()).build().unwrap();
        Self { api: server.backend_client().unwrap(), server, client, pages: format!("{base}/demo") }
    }

    async fn sign_in(&self, method: &str) -> SessionId {
        let request = StartRequest { method: Some(method.to_owned()), ..StartRequest::new("demo") };
        self.api.start_session_with(&request).await.unwrap().session.id
    }

    async fn wait(&self, id: &SessionId, what: &str, condition: impl Fn(&SessionView) -> bool) -> SessionView {
        self.api.wait_until(id, what, condition).await.unwrap()
    }

    /// The address that the tool shows to the person.
    async fn link(&self, id: &SessionId) -> String {
        let url = self.wait(id, "showing the address", |view| view.sign_in.url.is_some()).await.sign_in.url.unwrap();
        assert!(url.starts_with(&self.pages), "the person's own browser reaches it: {url}");
        url
    }

    async fn get(&self, url: &str) -> String {
        let response = self.client.get(url).header("accept", "text/html").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{url}");
        response.text().await.unwrap()
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> (StatusCode, String) {
        let body = reqwest::Url::parse_with_params("http://form.test", form).unwrap().query().unwrap().to_owned();
        let request = self.client.post(format!("{}/{path}", self.pages)).body(body).header("accept", "text/html");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let response = request.send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn paste(&self, id: &SessionId, prompt: &str, text: &str) {
        let is_open = |view: &SessionView| view.sign_in.prompt.as_ref().is_some_and(|open| open.id == prompt);
        self.wait(id, prompt, is_open).await;
        let answer = self.api.post(&format!("/api/auth/session/{id}/paste"), json!({ "text": text })).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// Waits for the end of the sign-in; returns the credential's file.
    async fn stored(&self, id: &SessionId, account: &str) -> Value {
        let meta = self.api.wait_status(id, SessionStatus::Completed).await.unwrap().credential.unwrap();
        assert_eq!(meta.account.as_deref(), Some(account));
        let lease = self.api.lease_credential(&meta.id).await.unwrap();
        serde_json::from_slice(lease.files[0].content.expose()).unwrap()
    }
}

fn hidden(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"request\" value=\"").unwrap_or_else(|| panic!("no form: {page}"));
    rest.split_once('"').unwrap().0.to_owned()
}

/// The value that a page shows to copy.
fn shown_value(page: &str) -> String {
    let (_, rest) = page.split_once("<code id=\"value\">").unwrap_or_else(|| panic!("no value: {page}"));
    rest.split_once('<').unwrap().0.to_owned()
}

#[tokio::test]
async fn demo_methods_are_usable_by_hand_on_the_servers_pages() {
    let demo = Demo::start().await;
    // A link and the code that the last page shows.
    let id = demo.sign_in("link").await;
    let page = demo.get(&demo.link(&id).await).await;
    let request = hidden(&page);
    let (_, wrong) = demo.post("authorize", &[("request", &request), ("name", "wrong-password")]).await;
    assert!(wrong.contains("role=\"alert\"") && wrong.contains("password is wrong"), "{wrong}");
    let (_, page) = demo.post("authorize", &[("request", &request), ("name", "Ada")]).await;
    let (_, page) = demo.post("consent", &[("request", &hidden(&page)), ("decision", "allow")]).await;
    demo.paste(&id, "code", &shown_value(&page)).await;
    demo.stored(&id, "Ada").await;
    // A device code.
    let id = demo.sign_in("device_code").await;
    assert!(demo.get(&demo.link(&id).await).await.contains("Enter your code"));
    let code = demo.wait(&id, "showing a code", |view| view.sign_in.device_code.is_some()).await.sign_in.device_code;
    let code = code.unwrap().to_lowercase();
    let (status, page) = demo.post("device", &[("user_code", "bbbb-bbbb"), ("name", "Ben")]).await;
    assert!(status == StatusCode::BAD_REQUEST && page.contains("not valid"), "{page}");
    let (_, page) = demo.post("device", &[("user_code", &code), ("name", "Ben")]).await;
    assert!(page.contains("Allow access?"), "{page}");
    let (_, page) = demo.post("device", &[("user_code", &code), ("name", "Ben"), ("decision", "allow")]).await;
    assert!(page.contains("You are done"), "{page}");
    demo.stored(&id, "Ben").await;
    // An API key.
    let id = demo.sign_in("api_key").await;
    assert!(demo.get(&format!("{}/key", demo.pages)).await.contains("Make an API key"));
    let (_, page) = demo.post("key", &[("name", "Cleo")]).await;
    let key = shown_value(&page);
    demo.paste(&id, "key_entry", &key).await;
    assert_eq!(demo.stored(&id, "Cleo").await["access_token"], key);
    demo.server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn demo_methods_are_usable_by_a_program() {
    let demo = Demo::start().await;
    let decide = async |fields: &[(&str, &str)]| {
        let (status, body) = demo.post("decide", fields).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let id = demo.sign_in("link").await;
    let link = demo.link(&id).await;
    let decided = decide(&[("url", &link), ("name", "Ada"), ("decision", "allow")]).await;
    demo.paste(&id, "code", decided["code"].as_str().unwrap()).await;
    demo.stored(&id, "Ada").await;

    let id = demo.sign_in("device_code").await;
    let code = demo.wait(&id, "showing a code", |view| view.sign_in.device_code.is_some()).await.sign_in.device_code;
    let decided = decide(&[("user_code", &code.unwrap()), ("name", "Ben"), ("decision", "allow")]).await;
    assert_eq!(decided["allowed"], true);
    demo.stored(&id, "Ben").await;

    let id = demo.sign_in("api_key").await;
    let (status, body) = demo.post("keys", &[("name", "Cleo")]).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let key = serde_json::from_str::<Value>(&body).unwrap()["key"].as_str().unwrap().to_owned();
    demo.paste(&id, "key_entry", &key).await;
    demo.stored(&id, "Cleo").await;
    assert_eq!(demo.server.leak_scan().find_files_containing(&key), Vec::<std::path::PathBuf>::new());
    demo.server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn demo_accounts_deny_forbid_device_codes_and_ask_for_a_project() {
    let demo = Demo::start().await;
    for (name, decision) in [("workspace", "allow"), ("deny", "allow"), ("Ada", "deny")] {
        let id = demo.sign_in("device_code").await;
        let view = demo.wait(&id, "showing a code", |view| view.sign_in.device_code.is_some()).await;
        let code = view.sign_in.device_code.unwrap();
        let (_, body) = demo.post("decide", &[("user_code", &code), ("name", name), ("decision", decision)]).await;
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["allowed"], false, "{name}");
        let (verdict, situation, first, words) = if name == "workspace" {
            (
                Verdict::AccountRefused,
                Situation::AccountRefused,
                PersonAction::ChangeMethod,
                "does not let this account",
            )
        } else {
            (Verdict::SignInDeclined, Situation::Declined, PersonAction::RestartTool, "declined at the provider")
        };
        let found = demo.api.wait_verdict(&id, verdict).await.unwrap();
        assert!(found.sentence.contains(words), "{}", found.sentence);
        let view = demo.wait(&id, "why", |view| view.for_person.situation == situation).await;
        assert_eq!(view.for_person.actions.first(), Some(&first), "{name}");
        demo.api.cancel_session(&id).await.unwrap();
    }
    // A person who declines on the pages pastes that.
    let id = demo.sign_in("link").await;
    demo.link(&id).await;
    demo.paste(&id, "code", "access_denied").await;
    demo.api.wait_entry(&id, TimelineKind::CliExited).await.unwrap();
    demo.api.wait_verdict(&id, Verdict::SignInDeclined).await.unwrap();
    // A workspace account is usable only with a project.
    let id = demo.sign_in("link").await;
    let link = demo.link(&id).await;
    let (_, body) = demo.post("decide", &[("url", &link), ("name", "Workspace"), ("decision", "allow")]).await;
    let decided: Value = serde_json::from_str(&body).unwrap();
    demo.paste(&id, "code", decided["code"].as_str().unwrap()).await;
    demo.paste(&id, "project", "my-project-1").await;
    assert_eq!(demo.stored(&id, "Workspace").await["project"], "my-project-1");
    demo.server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn demo_pages_exist_only_with_the_demo() {
    let server = TestServer::start(TestConfig::with_clis(&["anteroom-demo"])).await.unwrap();
    for path in ["/demo/device", "/demo/authorize?response_type=code", "/demo/decide"] {
        let answer = server.anonymous_client().unwrap().get(path).await.unwrap();
        assert_eq!(answer.status, 404, "{path}: {}", answer.text);
    }
    server.stop_and_check_leaks().await.unwrap();
}
