//! The contract with the released tools: every method and lane of `providers/*.toml`, in a QEMU machine, with a fake identity
//! provider under the real host names. A test signs in as a user does, compares the stored bytes with those that a reporter in the
//! machine has read, and checks in a second machine that the tool is signed in. Needs the image in `ANTEROOM_TEST_IMAGE`, and
//! `certutil` (libnss3-tools), so that the machine's browser trusts the test's certificate authority.

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
mod fixture;
mod gemini_cli;
mod proxies;
mod second_machine;
mod user;

use anteroom_machine::{Layer, LayerStatus};
use anteroom_testbed::{ApiClient, QEMU_WAIT_TIMEOUT, Qemu, TestServer, eventually, leaks::encoded_forms};
use anteroom_wire::{
    SessionId,
    agent::DeliveredFile,
    api::{SessionStatus, SessionView, StartRequest},
};
use document::Row;
use fixture::{FileDigest, Fixture};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// A session that is signing in.
struct SignIn {
    api: ApiClient,
    id: SessionId,
    method: String,
    started: Instant,
}

impl SignIn {
    /// Starts a session by a method; `None`: the preferred one.
    async fn start(fixture: &Fixture, method: Option<&str>) -> Self {
        Self::start_at(&fixture.server, fixture.provider.id.as_str(), method).await
    }

    /// Starts a session of a provider on this server.
    async fn start_at(server: &TestServer<Qemu>, provider: &str, method: Option<&str>) -> Self {
        let (api, started) = (server.operator_client().unwrap(), Instant::now());
        let request = StartRequest { method: method.map(str::to_owned), ..StartRequest::new(provider) };
        let session = api.start_session_with(&request).await.unwrap().session;
        Self { api, id: session.id, method: session.method, started }
    }

    /// Waits until the session meets a condition.
    async fn wait(&self, what: &str, condition: impl Fn(&SessionView) -> bool) -> SessionView {
        let decided = |view: &SessionView| condition(view) || view.status.is_ended();
        let view = self.api.wait_until(&self.id, what, decided).await.unwrap();
        assert!(condition(&view), "not {what}: {view:#?}");
        view
    }

    /// The URL for the user's browser.
    async fn link(&self) -> String {
        self.wait("showing a URL", |view| view.sign_in.url.is_some()).await.sign_in.url.unwrap()
    }

    /// The URL for the machine's browser.
    async fn browser_link(&self) -> String {
        self.wait("opening a URL in the browser", |view| view.sign_in.browser_url.is_some())
            .await
            .sign_in
            .browser_url
            .unwrap()
    }

    /// Waits until the tool shows this prompt.
    async fn wait_prompt(&self, prompt: &str) {
        self.wait(prompt, |view| view.sign_in.prompt.as_ref().is_some_and(|open| open.id == prompt)).await;
    }

    /// Pastes a text; returns how it was interpreted.
    async fn paste(&self, text: &str) -> serde_json::Value {
        let answer = self.api.post(&format!("/api/auth/session/{}/paste", self.id), json!({ "text": text })).await;
        answer.unwrap().parse().unwrap()
    }

    /// Checks that the sign-in completed: the stored bytes equal those of the file in the machine, no secret is stored elsewhere, and
    /// the tool is signed in in a second machine. Checks or writes the row of the document.
    async fn succeeds(self, fixture: &Fixture, lane: &str, canaries: impl Fn() -> Vec<String>) {
        let view = self.wait("completed", |view| view.status == SessionStatus::Completed).await;
        let took = self.started.elapsed();
        let credential = view.credential.expect("a stored credential").id;
        let files = self.api.lease_credential(&credential).await.unwrap().files;
        let stored: BTreeMap<_, _> = files.iter().map(|file| (file.path.clone(), digest(file))).collect();
        let in_machine = fixture.reporter.files(stored.len()).await;
        assert_eq!(
            stored,
            in_machine,
            "the stored bytes equal those of the files in the machine: {:?}",
            fixture.reporter.all()
        );
        assert_eq!(stored.len(), files.len(), "each file is stored once");
        assert_eq!((&files[0].path, files[0].mode & 0o777), (&fixture.provider.credential.paths[0], 0o600));
        let text = String::from_utf8_lossy(files[0].content.expose()).into_owned();
        let canaries = canaries();
        for canary in &canaries {
            assert!(text.contains(canary), "an issued token is not in the file");
            assert_stored_nowhere(&fixture.server, canary);
        }
        assert!(!canaries.is_empty(), "nothing was issued");
        fixture.server.wait_machines_removed().await.unwrap();
        assert_nothing_needed_was_denied(&fixture.server).await;
        let second_machine = second_machine::verify(fixture, &self.api, &credential).await;
        Row { fixture, method: &self.method, lane, second_machine, took }.check();
    }
}

/// The digest of a stored file, as the reporter in the machine prints it.
fn digest(file: &DeliveredFile) -> FileDigest {
    let digest = hex::encode(Sha256::digest(file.content.expose()));
    (digest, format!("{:o}", file.mode & 0o777))
}

/// Checks that the machine was confined and that its VMM made no system call in the whole sign-in that its confinement denies.
async fn assert_nothing_needed_was_denied(server: &TestServer<Qemu>) {
    let written = async || Ok(server.receipts().pop());
    let receipt = eventually("the machine's receipt is written", QEMU_WAIT_TIMEOUT, written).await.unwrap();
    assert_eq!(receipt.denied_system_calls, BTreeMap::new(), "{:?}", receipt.cause);
    assert_eq!(receipt.confinement.get(&Layer::SystemCalls), Some(&LayerStatus::On), "{:?}", receipt.confinement);
}

/// Checks that the secret is in no file of the server and in no process's arguments or environment.
fn assert_stored_nowhere(server: &TestServer<Qemu>, secret: &str) {
    let files = server.leak_scan().find_files_containing(secret);
    assert!(files.is_empty(), "a secret is in {files:?}");
    for found in server.leak_scan().find_processes() {
        for path in ["cmdline", "environ"].map(|name| format!("/proc/{}/{name}", found.pid)) {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let found =
                encoded_forms(secret).iter().any(|needle| bytes.windows(needle.len()).any(|part| part == needle));
            assert!(!found, "a secret is in {path}");
        }
    }
}
