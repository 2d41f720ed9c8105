//! The demo's methods in a real machine, by a program, as docs/demo.md describes them: neither a page nor an account is needed.

use anteroom_testbed::{ApiClient, Qemu, TestConfig, TestServer};
use anteroom_wire::{
    SessionId,
    api::{SessionStatus, SessionView, StartRequest},
};
use reqwest::Client;
use serde_json::{Value, json};

struct Demo {
    server: TestServer<Qemu>,
    api: ApiClient,
}

impl Demo {
    async fn sign_in(&self, method: &str) -> SessionId {
        let request = StartRequest { method: Some(method.to_owned()), ..StartRequest::new("demo") };
        self.api.start_session_with(&request).await.unwrap().session.id
    }

    async fn wait(&self, id: &SessionId, what: &str, condition: impl Fn(&SessionView) -> bool) -> SessionView {
        self.api.wait_until(id, what, condition).await.unwrap()
    }

    /// Posts a form to the identity provider of the demo.
    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Value {
        let base = self.server.base_url().unwrap();
        let host = base.split_once("://").unwrap().1.split(':').next().unwrap().to_owned();
        let client = Client::builder().no_proxy().resolve(&host, self.server.address().unwrap()).build().unwrap();
        let body = reqwest::Url::parse_with_params("http://form.test", form).unwrap().query().unwrap().to_owned();
        let request = client.post(format!("{base}/demo/{path}")).body(body);
        let response = request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    async fn paste(&self, id: &SessionId, prompt: &str, text: &str) {
        self.wait(id, prompt, |view| view.sign_in.prompt.as_ref().is_some_and(|open| open.id == prompt)).await;
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

#[tokio::test]
async fn qemu_demo_link_device_code_and_api_key_by_a_program() {
    let server = TestServer::start(TestConfig { demo: true, ..TestConfig::qemu("") }).await.unwrap();
    let demo = Demo { api: server.operator_client().unwrap(), server };
    let id = demo.sign_in("link").await;
    let url = demo.wait(&id, "showing the address", |view| view.sign_in.url.is_some()).await.sign_in.url.unwrap();
    let decided = demo.post("decide", &[("url", &url), ("name", "Ada"), ("decision", "allow")]).await;
    demo.paste(&id, "code", decided["code"].as_str().unwrap()).await;
    assert!(demo.stored(&id, "Ada").await["refresh_token"].is_string());

    let id = demo.sign_in("device_code").await;
    let code = demo.wait(&id, "showing a code", |view| view.sign_in.device_code.is_some()).await.sign_in.device_code;
    demo.post("decide", &[("user_code", &code.unwrap()), ("name", "Ben"), ("decision", "allow")]).await;
    assert!(demo.stored(&id, "Ben").await["refresh_token"].is_string());

    let id = demo.sign_in("api_key").await;
    let key = demo.post("keys", &[("name", "Cleo")]).await["key"].as_str().unwrap().to_owned();
    demo.paste(&id, "key_entry", &key).await;
    assert_eq!(demo.stored(&id, "Cleo").await["access_token"], key.as_str());
    demo.server.stop_and_check_leaks().await.unwrap();
}
