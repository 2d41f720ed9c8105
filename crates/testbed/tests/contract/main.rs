//! The contract with the released tools: every method and lane of `providers/*.toml`, in a real machine, against a stand-in issuer
//! that answers under the provider's names. A test signs in as a user would, compares the stored bytes with what the watch in the
//! machine saw, and asks the tool in a second machine whether it is signed in. Needs the image in `ANTEROOM_TEST_IMAGE`, and
//! `certutil` (libnss3-tools) for the machine's browser to believe the test's authority.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests"
)]

mod claude_code;
mod codex;
mod document;
mod second_machine;
mod gemini_cli;
mod user;
mod fixture;

use anteroom_testbed::{ApiClient, QemuServer, leaks::needles};
use anteroom_wire::{
    SessionId,
    agent::DeliveredFile,
    api::{SessionView, StartRequest, Status},
};
use document::Row;
use fixture::{Fixture, Seen};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// A sign-in under way.
struct Attempt {
    api: ApiClient,
    id: SessionId,
    method: String,
    since: Instant,
}

impl Attempt {
    /// Starts a session by a method; `None`: the preferred one.
    async fn start(fixture: &Fixture, method: Option<&str>) -> Self {
        let (api, since) = (fixture.server.operator().unwrap(), Instant::now());
        let request = StartRequest {
            provider: fixture.provider.id.to_string(),
            user_id: None,
            return_url: None,
            idempotency_key: None,
            machine: None,
            method: method.map(str::to_owned),
            renews: None,
        };
        let session = api.start_with(&request).await.unwrap().session;
        Self { api, id: session.id, method: session.method, since }
    }

    /// Waits for what the sign-in has to offer.
    async fn wait(&self, what: &str, wanted: impl Fn(&SessionView) -> bool) -> SessionView {
        let known = |view: &SessionView| wanted(view) || view.status.is_terminal();
        let view = self.api.wait_until(&self.id, what, known).await.unwrap();
        assert!(wanted(&view), "not {what}: {view:#?}");
        view
    }

    /// The address for the user's own browser.
    async fn link(&self) -> String {
        self.wait("at an address", |view| view.sign_in.url.is_some()).await.sign_in.url.unwrap()
    }

    /// The address for the machine's browser.
    async fn browser_link(&self) -> String {
        self.wait("at a browser's address", |view| view.sign_in.browser_url.is_some())
            .await
            .sign_in
            .browser_url
            .unwrap()
    }

    /// Waits until the tool asks this.
    async fn asked(&self, prompt: &str) {
        self.wait(prompt, |view| view.sign_in.prompt.as_ref().is_some_and(|open| open.id == prompt)).await;
    }

    /// Brings something to the tool; as what it was taken.
    async fn pastes(&self, text: &str) -> serde_json::Value {
        let answer = self.api.post(&format!("/api/auth/session/{}/paste", self.id), json!({ "text": text })).await;
        answer.unwrap().read().unwrap()
    }

    /// It is signed in: the stored bytes are those that the machine's file had, they lie nowhere else, and the tool agrees in
    /// another machine. Gives the row of the document.
    async fn succeeds(self, fixture: &Fixture, lane: &str, canaries: impl Fn() -> Vec<String>) {
        let view = self.wait("completed", |view| view.status == Status::Completed).await;
        let took = self.since.elapsed();
        let credential = view.credential.expect("a stored credential").id;
        let files = self.api.lease(&credential).await.unwrap().files;
        let stored: BTreeMap<_, _> = files.iter().map(|file| (file.path.clone(), seen(file))).collect();
        let there = fixture.reports.files(stored.len()).await;
        assert_eq!(stored, there, "the stored bytes are those of the files, each by its name: {:?}", fixture.reports.all());
        assert_eq!(stored.len(), files.len(), "each file once");
        assert_eq!((&files[0].path, files[0].mode & 0o777), (&fixture.provider.credential.paths[0], 0o600));
        let text = String::from_utf8_lossy(files[0].content.expose()).into_owned();
        let canaries = canaries();
        for canary in &canaries {
            assert!(text.contains(canary), "a token that was issued is not in the file");
            nowhere(&fixture.server, canary);
        }
        assert!(!canaries.is_empty(), "nothing was issued");
        fixture.server.wait_machines_removed().await.unwrap();
        let elsewhere = second_machine::verify(fixture, &self.api, &credential).await;
        Row { fixture, method: &self.method, lane, elsewhere, took }.note();
    }
}

/// A stored file as the watch in the machine tells of one.
fn seen(file: &DeliveredFile) -> Seen {
    let digest = Sha256::digest(file.content.expose()).iter().map(|b| format!("{b:02x}")).collect();
    (digest, format!("{:o}", file.mode & 0o777))
}

/// Not in a file of the server, nor among a process's arguments and environment.
fn nowhere(server: &QemuServer, secret: &str) {
    let files = server.leaks().files_with(secret);
    assert!(files.is_empty(), "a secret lies in {files:?}");
    for found in server.leaks().processes() {
        for place in ["cmdline", "environ"].map(|name| format!("/proc/{}/{name}", found.pid)) {
            let bytes = std::fs::read(&place).unwrap_or_default();
            let found = needles(secret).iter().any(|needle| bytes.windows(needle.len()).any(|part| part == needle));
            assert!(!found, "a secret stands in {place}");
        }
    }
}
