//! The fake identity provider for Codex, with an HTTP client and with the released tool on this host, by every method of its
//! descriptor. The tool's screens are compared with `providers/fixtures/codex` (`ANTEROOM_WRITE_SCREENS=1` writes these files).
//!
//! The tool is in the directory `ANTEROOM_TEST_CLIS`, or npm installs it once into `target/clis`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use anteroom_testbed::{
    NativeCli, TestCa,
    codex_issuer::{CodexIssuer, DeviceCodeApproval},
    native_cli::{CredentialFile, PinnedTools, Recording, StartOptions, TerminalSetup, load_descriptor},
};
use anteroom_wire::provider::{Provider, SettingsFile};
use http::Request;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs::File};

async fn post(issuer: &CodexIssuer, path: &str, body: &str) -> (StatusCode, Value) {
    let client = Client::builder().no_proxy().build().unwrap();
    let response =
        client.post(format!("http://{}{path}", issuer.address())).body(body.to_owned()).send().await.unwrap();
    (response.status(), response.json().await.unwrap_or_default())
}

async fn poll(issuer: &CodexIssuer) -> (StatusCode, Value) {
    let (_, device) = post(issuer, "/api/accounts/deviceauth/usercode", "{}").await;
    assert_eq!(device["user_code"], issuer.user_code().as_str());
    let request = json!({ "device_auth_id": device["device_auth_id"], "user_code": device["user_code"] });
    post(issuer, "/api/accounts/deviceauth/token", &request.to_string()).await
}

#[tokio::test]
async fn tool_waits_for_approval_and_receives_tokens_once() {
    let issuer = CodexIssuer::start(DeviceCodeApproval::OnCommand).await.unwrap();
    assert_eq!(poll(&issuer).await.0, StatusCode::FORBIDDEN);
    issuer.approve_device_code();
    let (status, granted) = poll(&issuer).await;
    assert_eq!((status, issuer.poll_count()), (StatusCode::OK, 2));
    let form = format!("grant_type=authorization_code&code={}", granted["authorization_code"].as_str().unwrap());
    let (status, tokens) = post(&issuer, "/oauth/token", &form).await;
    assert_eq!(status, StatusCode::OK);
    for kind in ["id_token", "access_token", "refresh_token"] {
        assert!(issuer.issued_secrets().contains(&tokens[kind].as_str().unwrap().to_owned()), "{kind} is a canary");
    }
    assert_eq!(post(&issuer, "/oauth/token", &form).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn device_code_is_approved_after_configured_polls() {
    let issuer = CodexIssuer::start(DeviceCodeApproval::AfterPolls(2)).await.unwrap();
    assert_eq!(poll(&issuer).await.0, StatusCode::FORBIDDEN);
    assert_eq!(poll(&issuer).await.0, StatusCode::FORBIDDEN);
    assert_eq!(poll(&issuer).await.0, StatusCode::OK);
}

#[tokio::test]
async fn unknown_requests_are_recorded() {
    let issuer = CodexIssuer::start(DeviceCodeApproval::OnCommand).await.unwrap();
    assert_eq!(post(&issuer, "/api/new/thing?x=1", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(issuer.unknown_requests(), ["/api/new/thing"]);
}

const PACKAGE: &str = "@openai/codex";
const KEY: &str = "sk-recorded-0123456789abcdefghijklmnopqrstuvwxyz";
/// Recorded instead of the device code, which differs in each run.
const CODE: &str = "ABCD-12345";

/// The released tool and its issuer.
struct Fixture {
    ca: TestCa,
    issuer: CodexIssuer,
    clis: PinnedTools,
    provider: Provider,
}

/// The terminals in which each method is recorded, each with the suffix of the fixture's name.
fn terminals() -> [(TerminalSetup, &'static str); 2] {
    [(TerminalSetup::MACHINE, ""), (TerminalSetup::MINIMUM, "_80")]
}

impl Fixture {
    async fn new(method: &str) -> Self {
        let ca = TestCa::new().unwrap();
        let issuer = CodexIssuer::start_tls(&ca, DeviceCodeApproval::OnCommand).await.unwrap();
        let provider = load_descriptor("codex").unwrap().with_method(&method.to_owned().try_into().unwrap()).unwrap();
        Self { ca, issuer, clis: PinnedTools::install().await.unwrap(), provider }
    }

    /// Starts the tool in a terminal, and an empty recording.
    async fn start(&self, setup: &TerminalSetup, description: &str) -> (NativeCli, Recording) {
        let host_overrides = self.issuer.host_overrides();
        let tool = self.start_with(setup, host_overrides, self.provider.clone()).await;
        (tool, self.recording(setup, description, "against a fake of auth.openai.com"))
    }

    async fn start_with(
        &self,
        setup: &TerminalSetup,
        host_overrides: BTreeMap<String, std::net::SocketAddr>,
        provider: Provider,
    ) -> NativeCli {
        let start = StartOptions { provider, tools: &self.clis, ca_pem: self.ca.pem(), host_overrides, env: &[] };
        NativeCli::start_in(start, setup).await.unwrap()
    }

    fn recording(&self, setup: &TerminalSetup, description: &str, against: &str) -> Recording {
        let version = self.clis.installed_version(PACKAGE).unwrap();
        let recorded = format!(
            "by crates/testbed/tests/codex_issuer.rs from the npm package {PACKAGE}@{version}, in a terminal of {}x{}, {against}",
            setup.columns, setup.rows
        );
        let release = version.split('-').next().unwrap();
        assert_eq!(Some(release), self.provider.tested_version.as_deref());
        let mut recording = Recording::new(&self.provider, release, description, &recorded);
        recording.replace(&self.issuer.user_code(), CODE);
        recording
    }

    /// Checks that the tool exited with 0 and wrote its file, and that it sent only known requests; records its status output.
    async fn signed_in(
        &self,
        tool: NativeCli,
        mut recording: Recording,
        secrets: &[String],
        name: &str,
    ) -> CredentialFile {
        assert_eq!(tool.wait_exit().await.unwrap(), 0, "{}", tool.read_screen().await.unwrap());
        recording.record_screen(&tool).await.unwrap();
        let written = tool.wait_credential().await.unwrap();
        assert_eq!((written.path.as_str(), written.mode), (".codex/auth.json", 0o600));
        for secret in secrets {
            assert!(written.text.contains(secret), "a secret is not in the file");
        }
        recording.record_credential(&written).unwrap();
        let (exit, output) = tool.run_status_command(&self.clis).await.unwrap();
        assert_eq!(exit, Some(0), "{output}");
        recording.record_status(0, &output).unwrap();
        recording.forbid(secrets);
        assert_eq!(tool.denied_targets(), Vec::<String>::new());
        assert_eq!(self.issuer.unknown_requests(), Vec::<String>::new(), "the tool sent a new kind of request");
        tool.finish().await.unwrap();
        recording.check(name).unwrap();
        written
    }

    /// Checks that the tool exited with 1 and wrote no credential; records its status output.
    async fn failed(&self, tool: NativeCli, mut recording: Recording, name: &str) {
        assert_eq!(tool.wait_exit().await.unwrap(), 1, "{}", tool.read_screen().await.unwrap());
        recording.record_screen(&tool).await.unwrap();
        assert!(tool.read_complete_credential().unwrap().is_none());
        let (exit, output) = tool.run_status_command(&self.clis).await.unwrap();
        assert_eq!(exit, Some(1), "{output}");
        recording.record_status(1, &output).unwrap();
        tool.finish().await.unwrap();
        recording.check(name).unwrap();
    }

    /// Opens an authorize URL and returns the URL that the browser is redirected to.
    async fn authorize(&self, url: &str) -> String {
        let answer =
            self.ca.request(self.issuer.address(), Request::get(url).body(String::new()).unwrap()).await.unwrap();
        answer.headers().get("location").unwrap().to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn released_tool_signs_in_by_device_code_and_matches_recording() {
    for (setup, suffix) in terminals() {
        let fixture = Fixture::new("device_code").await;
        let (tool, mut recording) =
            fixture.start(&setup, "a URL and a one-time code, then the tool is signed in.").await;
        let screen = recording.record_when(&tool, "one-time code").await.unwrap();
        assert!(screen.contains(&fixture.issuer.user_code()), "{screen}");
        fixture.issuer.approve_device_code();
        tool.wait_for("Successfully").await.unwrap();
        fixture.signed_in(tool, recording, &fixture.issuer.issued_secrets(), &format!("device_code{suffix}")).await;
    }
}

#[tokio::test]
async fn rejected_or_unavailable_device_code_ends_released_tool_and_matches_recording() {
    let setup = TerminalSetup::MACHINE;
    let fixture = Fixture::new("device_code").await;
    let description = "the code expires while the tool waits (the fake answers 400; the tool itself waits 15 minutes).";
    let (tool, mut recording) = fixture.start(&setup, description).await;
    recording.record_when(&tool, "one-time code").await.unwrap();
    fixture.issuer.expire_device_code();
    fixture.failed(tool, recording, "device_code_refused").await;

    let tool = fixture.start_with(&setup, BTreeMap::new(), fixture.provider.clone()).await;
    let recording = fixture.recording(&setup, "no device code is available.", "with a proxy that answers 403");
    fixture.failed(tool, recording, "device_code_no_way_out").await;
}

/// Locks the port 1455 of this host, on which the tool waits for the browser.
async fn lock_callback_port() -> File {
    let path = std::env::temp_dir().join("anteroom-codex-1455.lock");
    // Without creating it: the file may be that of another user, in a directory in which such files are not opened to be created.
    let file = File::open(&path).or_else(|_| File::create(&path)).unwrap();
    tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await.unwrap().unwrap()
}

#[tokio::test]
async fn released_tool_signs_in_through_browser_and_matches_recording() {
    let _port = lock_callback_port().await;
    let browser = Client::builder().no_proxy().build().unwrap();
    for (setup, suffix) in terminals() {
        let fixture = Fixture::new("browser").await;
        let (tool, mut recording) =
            fixture.start(&setup, "a URL for a browser, which is redirected to port 1455.").await;
        let screen = recording.record_when(&tool, "remote or headless").await.unwrap();
        let link = tool.find_url(&screen).unwrap();
        assert_eq!(tool.wait_opened_url().await.unwrap(), link, "the screen shows the URL that the browser opens");
        if !suffix.is_empty() {
            recording.record_rows(&tool).await.unwrap();
        }
        let answer = browser.get(fixture.authorize(&link).await).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        tool.wait_for("Successfully").await.unwrap();
        fixture.signed_in(tool, recording, &fixture.issuer.issued_secrets(), &format!("browser{suffix}")).await;
    }
    let fixture = Fixture::new("browser").await;
    let (tool, mut recording) =
        fixture.start(&TerminalSetup::MACHINE, "the browser delivers a code that was never issued.").await;
    let screen = recording.record_when(&tool, "remote or headless").await.unwrap();
    let back = fixture.authorize(&tool.find_url(&screen).unwrap()).await;
    let (before, code) = back.split_once("code=").unwrap();
    let rest = code.split_once('&').unwrap().1;
    browser.get(format!("{before}code=never-issued&{rest}")).send().await.unwrap();
    fixture.failed(tool, recording, "browser_code_is_refused").await;
    assert_eq!(fixture.issuer.rejections(), ["unknown code"]);
}

#[tokio::test]
async fn released_tool_accepts_api_key_and_matches_recording() {
    for (setup, suffix) in terminals() {
        let fixture = Fixture::new("api_key").await;
        let setup = setup.with_key(KEY);
        let (tool, recording) = fixture.start(&setup, "a key on the standard input, which is not verified.").await;
        fixture.signed_in(tool, recording, &[KEY.to_owned()], &format!("api_key{suffix}")).await;
        assert_eq!(fixture.issuer.poll_count(), 0);
    }
}

#[tokio::test]
async fn unwritable_api_key_ends_released_tool_and_matches_recording() {
    let mut fixture = Fixture::new("api_key").await;
    fixture
        .provider
        .settings_files
        .push(SettingsFile { path: ".codex/auth.json/in-the-way".into(), content: String::new() });
    let setup = TerminalSetup::MACHINE.with_key(KEY);
    let (tool, mut recording) = fixture.start(&setup, "the key cannot be written: a directory is in its place.").await;
    recording.forbid(&[KEY.to_owned()]);
    fixture.failed(tool, recording, "api_key_cannot_be_kept").await;
}
