//! The fake identity provider for Claude Code, with an HTTP client and with the released tool on this host.
//!
//! The tool is in the directory `ANTEROOM_TEST_CLIS`, or npm installs it once into `target/clis`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use anteroom_testbed::{
    ClaudeIssuer, NativeCli, TestCa,
    native_cli::{CredentialFile, PinnedTools, StartOptions, check_screen, load_descriptor},
};
use anteroom_wire::provider::{Provider, SettingsFile};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, StatusCode};
use reqwest::Url;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const SCREENS: &str = "claude_code-2.1.332";

/// The descriptor with the short URL on the terminal.
fn short_link() -> Provider {
    let mut provider = load_descriptor("claude_code").unwrap();
    provider.env.remove("CLAUDE_CODE_FULL_SIGN_IN_LINK").unwrap();
    provider
}

struct Fixture {
    ca: TestCa,
    issuer: ClaudeIssuer,
}

impl Fixture {
    async fn new() -> Self {
        let ca = TestCa::new().unwrap();
        let issuer = ClaudeIssuer::start(&ca).await.unwrap();
        Self { ca, issuer }
    }

    async fn get(&self, url: &str, bearer: &str) -> (StatusCode, String, String) {
        self.issuer.get(&self.ca, url, bearer).await.unwrap()
    }

    async fn code(&self, url: &str) -> String {
        self.issuer.code(&self.ca, url).await.unwrap()
    }

    async fn exchange(&self, body: Value) -> (StatusCode, Value) {
        let request = Request::post("https://platform.claude.com/v1/oauth/token").body(body.to_string()).unwrap();
        let answer = self.ca.request(self.issuer.address(), request).await.unwrap();
        (answer.status(), serde_json::from_slice(answer.body()).unwrap())
    }

    async fn tool(&self, clis: &PinnedTools, provider: Provider, env: &[(&str, &str)]) -> NativeCli {
        let start = StartOptions {
            provider,
            tools: clis,
            ca_pem: self.ca.pem(),
            host_overrides: self.issuer.host_overrides(),
            env,
        };
        NativeCli::start(start).await.unwrap()
    }

    /// Checks the path, mode and keys of the credential file, and that it contains the issued tokens.
    fn assert_contains_canaries(&self, written: &CredentialFile) {
        assert_eq!((written.path.as_str(), written.mode), (".claude/.credentials.json", 0o600));
        let canaries = self.issuer.issued_secrets();
        assert!(!canaries.is_empty());
        for canary in canaries {
            assert!(written.text.contains(&canary), "a token is not in the file");
        }
        let file: Value = serde_json::from_str(&written.text).unwrap();
        let keys: Vec<_> = file["claudeAiOauth"].as_object().unwrap().keys().map(String::as_str).collect();
        let known = [
            "accessToken",
            "accountUuid",
            "expiresAt",
            "organizationUuid",
            "rateLimitTier",
            "refreshToken",
            "refreshTokenExpiresAt",
            "scopes",
            "subscriptionType",
            "subscriptionTypeSource",
        ];
        assert_eq!(sorted(keys), known);
    }

    /// Checks that the tool exited with 0, wrote its file, reports that it is signed in, and sent only known and allowed requests.
    async fn assert_signed_in(&self, clis: &PinnedTools, tool: &NativeCli) {
        assert_eq!(tool.wait_exit().await.unwrap(), 0, "{}", tool.read_screen().await.unwrap());
        self.assert_contains_canaries(&tool.wait_credential().await.unwrap());
        let (code, output) = tool.run_status_command(clis).await.unwrap();
        assert_eq!((code, output.contains("\"loggedIn\": true")), (Some(0), true), "{output}");
        assert_eq!(tool.denied_targets(), Vec::<String>::new());
        assert_eq!(self.issuer.unknown_requests(), Vec::<String>::new(), "the tool sent a new kind of request");
    }
}

fn sorted(mut keys: Vec<&str>) -> Vec<&str> {
    keys.sort_unstable();
    keys
}

fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

fn authorize_url(redirect: &str, verifier: &str) -> String {
    let query = [
        ("code", "true"),
        ("client_id", "any"),
        ("response_type", "code"),
        ("redirect_uri", redirect),
        ("scope", "user:inference"),
        ("code_challenge", &challenge(verifier)),
        ("code_challenge_method", "S256"),
        ("state", "the-state"),
    ];
    Url::parse_with_params("https://claude.com/cai/oauth/authorize", query).unwrap().into()
}

fn token_request(code: &str, redirect: &str, verifier: &str, state: &str) -> Value {
    json!({
        "grant_type": "authorization_code", "code": code, "client_id": "any", "redirect_uri": redirect,
        "code_verifier": verifier, "state": state,
    })
}

#[tokio::test]
async fn code_is_exchanged_once_and_only_by_its_requester() {
    let fixture = Fixture::new().await;
    let back = "http://localhost:1/callback";
    let (status, to, _) = fixture.get(&authorize_url(back, "verifier"), "").await;
    assert_eq!(status, StatusCode::FOUND);
    let to = Url::parse(&to).unwrap();
    let part = |key: &str| to.query_pairs().find(|(k, _)| k == key).unwrap().1.into_owned();
    assert_eq!((to.port(), to.path(), part("state").as_str()), (Some(1), "/callback", "the-state"));
    let code = part("code");
    let wrong = [
        token_request("another", back, "verifier", "the-state"),
        token_request(&code, "http://localhost:2/callback", "verifier", "the-state"),
        token_request(&code, back, "another", "the-state"),
        token_request(&code, back, "verifier", "another"),
    ];
    for body in wrong {
        assert_eq!(fixture.exchange(body.clone()).await.0, StatusCode::BAD_REQUEST, "{body}");
    }
    let (status, tokens) = fixture.exchange(token_request(&code, back, "verifier", "the-state")).await;
    assert_eq!(status, StatusCode::OK);
    for kind in ["access_token", "refresh_token"] {
        assert!(
            fixture.issuer.issued_secrets().contains(&tokens[kind].as_str().unwrap().to_owned()),
            "{kind} is a canary"
        );
    }
    assert_eq!(fixture.exchange(token_request(&code, back, "verifier", "the-state")).await.0, StatusCode::BAD_REQUEST);
    let reasons = ["unknown code", "another redirect_uri", "the verifier does not fit the challenge", "another state"];
    assert_eq!(fixture.issuer.rejections(), [&reasons[..], &["code used twice"]].concat());
    let profile = "https://api.anthropic.com/api/oauth/profile";
    assert_eq!(fixture.get(profile, tokens["access_token"].as_str().unwrap()).await.0, StatusCode::OK);
    assert_eq!(fixture.get(profile, "another").await.0, StatusCode::UNAUTHORIZED);
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn authorize_url_without_loopback_callback_shows_code_on_a_page() {
    let fixture = Fixture::new().await;
    let manual = "https://platform.claude.com/oauth/code/callback";
    let text = fixture.code(&authorize_url(manual, "verifier")).await;
    let (code, state) = text.split_once('#').unwrap();
    assert_eq!(state, "the-state");
    assert_eq!(fixture.exchange(token_request(code, manual, "verifier", state)).await.0, StatusCode::OK);
    let (status, ..) = fixture.get(&authorize_url("https://elsewhere.test/", "verifier"), "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn refresh_token_is_valid_once() {
    let fixture = Fixture::new().await;
    let back = "http://localhost:1/callback";
    let (_, to, _) = fixture.get(&authorize_url(back, "verifier"), "").await;
    let code = Url::parse(&to).unwrap().query_pairs().find(|(key, _)| key == "code").unwrap().1.into_owned();
    let (_, first) = fixture.exchange(token_request(&code, back, "verifier", "the-state")).await;
    let again = json!({ "grant_type": "refresh_token", "refresh_token": first["refresh_token"], "client_id": "any" });
    let (status, second) = fixture.exchange(again.clone()).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(fixture.exchange(again).await.0, StatusCode::BAD_REQUEST);
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn unknown_requests_are_recorded_and_other_host_names_are_not_served() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.get("https://api.anthropic.com/api/new?x=1", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(fixture.issuer.unknown_requests(), ["GET api.anthropic.com/api/new"]);
    let request = Request::get("https://example.test/").body(String::new()).unwrap();
    assert!(
        fixture.ca.request(fixture.issuer.address(), request).await.is_err(),
        "the certificate is not for that name"
    );
    let other_ca = TestCa::new().unwrap();
    let request = Request::get("https://claude.ai/").body(String::new()).unwrap();
    assert!(other_ca.request(fixture.issuer.address(), request).await.is_err(), "another authority is not trusted");
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn released_tool_signs_in_through_browser_callback() {
    let (fixture, clis) = (Fixture::new().await, PinnedTools::install().await.unwrap());
    let tool = fixture.tool(&clis, short_link(), &[]).await;
    let screen = tool.wait_for("Paste code here if prompted >").await.unwrap();
    check_screen(SCREENS, "login-waiting", &screen).unwrap();
    let opened = tool.wait_opened_url().await.unwrap();
    let (_, back, _) = fixture.get(&opened, "").await;
    let browser = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let response = browser.get(&back).send().await.unwrap();
    let redirect = response.headers().get("location").unwrap().to_str().unwrap().to_owned();
    assert_eq!(fixture.get(&redirect, "").await.0, StatusCode::OK, "the browser ends on a page of the provider");
    fixture.assert_signed_in(&clis, &tool).await;
    check_screen(SCREENS, "login-done", &tool.read_screen().await.unwrap()).unwrap();
    let calls = [
        "GET claude.com/cai/oauth/authorize",
        "POST platform.claude.com/v1/oauth/token",
        "GET api.anthropic.com/api/oauth/profile",
        "GET platform.claude.com/oauth/code/success",
        "GET api.anthropic.com/api/oauth/claude_cli/roles",
    ];
    assert_eq!(in_order(&fixture.issuer.requests(), &calls), Ok(()));
    let written = tool.wait_credential().await.unwrap();
    tool.finish().await.unwrap();
    assert_valid_in_another_home(&fixture, &clis, written).await;
    fixture.issuer.stop().await;
}

/// Checks that the credential file alone signs the tool in, in a new home directory.
async fn assert_valid_in_another_home(fixture: &Fixture, clis: &PinnedTools, written: CredentialFile) {
    let mut provider = load_descriptor("claude_code").unwrap();
    provider.settings_files.push(SettingsFile { path: written.path, content: written.text });
    provider.argv = provider.credential.status_argv.clone();
    let tool = fixture.tool(clis, provider, &[]).await;
    assert_eq!(tool.wait_exit().await.unwrap(), 0);
    assert!(tool.read_screen().await.unwrap().contains("\"loggedIn\": true"));
    tool.finish().await.unwrap();
}

/// Checks that every call was made, and that the tool's calls were made in this order. The browser's calls have no fixed order.
fn in_order(made: &[String], wanted: &[&str]) -> Result<(), String> {
    let by_tool = |call: &&str| call.contains("/v1/oauth/token") || call.contains("api.anthropic.com");
    let tools: Vec<_> = made.iter().map(String::as_str).filter(by_tool).collect();
    let wanted_of_tool: Vec<_> = wanted.iter().copied().filter(by_tool).collect();
    let all = wanted.iter().all(|call| made.iter().any(|made| made == call));
    if all && tools.starts_with(&wanted_of_tool) { Ok(()) } else { Err(format!("{made:?}")) }
}

#[tokio::test]
async fn callback_with_wrong_state_ends_released_tool() {
    let (fixture, clis) = (Fixture::new().await, PinnedTools::install().await.unwrap());
    let tool = fixture.tool(&clis, short_link(), &[]).await;
    let opened = Url::parse(&tool.wait_opened_url().await.unwrap()).unwrap();
    let back = opened.query_pairs().find(|(key, _)| key == "redirect_uri").unwrap().1.into_owned();
    tool.wait_for("Paste code here if prompted >").await.unwrap();
    let browser = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = browser.get(format!("{back}?code=any&state=another")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(tool.wait_exit().await.unwrap(), 1);
    check_screen(SCREENS, "login-wrong-state", &tool.read_screen().await.unwrap()).unwrap();
    assert!(tool.read_complete_credential().unwrap().is_none());
    tool.finish().await.unwrap();
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn released_tool_accepts_pasted_code_after_two_invalid_ones() {
    let (fixture, clis) = (Fixture::new().await, PinnedTools::install().await.unwrap());
    let tool = fixture.tool(&clis, load_descriptor("claude_code").unwrap(), &[]).await;
    let screen = tool.wait_for("Paste code here if prompted >").await.unwrap();
    check_screen(SCREENS, "link-waiting", &screen).unwrap();
    let link = tool.find_url(&screen).unwrap();
    let link = Url::parse(&link).unwrap();
    let back = link.query_pairs().find(|(key, _)| key == "redirect_uri").unwrap().1.into_owned();
    assert_eq!(back, "https://platform.claude.com/oauth/code/callback");
    tool.paste_and_enter("half-a-code").await.unwrap();
    check_screen(SCREENS, "link-incomplete-code", &tool.wait_for("look like the full code").await.unwrap()).unwrap();
    tool.paste_and_enter("http://localhost:1/callback?code=any&state=any").await.unwrap();
    check_screen(SCREENS, "link-loopback-url", &tool.wait_for("only works in a browser").await.unwrap()).unwrap();
    tool.paste_and_enter(&fixture.code(link.as_str()).await).await.unwrap();
    fixture.assert_signed_in(&clis, &tool).await;
    check_screen(SCREENS, "link-done", &tool.read_screen().await.unwrap()).unwrap();
    assert_eq!(fixture.issuer.rejections(), Vec::<String>::new());
    tool.finish().await.unwrap();
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn short_url_on_terminal_leads_to_a_code() {
    let (fixture, clis) = (Fixture::new().await, PinnedTools::install().await.unwrap());
    let tool = fixture.tool(&clis, short_link(), &[]).await;
    let screen = tool.wait_for("Paste code here if prompted >").await.unwrap();
    let link = tool.find_url(&screen).unwrap();
    assert!(link.starts_with("https://claude.ai/oauth/authorize?"), "{link}");
    tool.paste_and_enter(&fixture.code(&link).await).await.unwrap();
    fixture.assert_signed_in(&clis, &tool).await;
    tool.finish().await.unwrap();
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn rejected_code_ends_released_tool() {
    let (fixture, clis) = (Fixture::new().await, PinnedTools::install().await.unwrap());
    let tool = fixture.tool(&clis, load_descriptor("claude_code").unwrap(), &[]).await;
    tool.wait_for("Paste code here if prompted >").await.unwrap();
    tool.paste_and_enter("never-issued#any").await.unwrap();
    assert_eq!(tool.wait_exit().await.unwrap(), 1);
    check_screen(SCREENS, "link-code-rejected", &tool.read_screen().await.unwrap()).unwrap();
    assert!(tool.read_complete_credential().unwrap().is_none());
    assert_eq!(fixture.issuer.rejections(), ["unknown code"]);
    tool.finish().await.unwrap();
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn setup_token_shows_a_token_and_writes_no_credential() {
    let (fixture, clis) = (Fixture::new().await, PinnedTools::install().await.unwrap());
    let mut provider = load_descriptor("claude_code").unwrap();
    provider.argv = ["claude", "setup-token"].map(str::to_owned).to_vec();
    let tool = fixture.tool(&clis, provider, &[]).await;
    let screen = tool.wait_for("Paste code here if prompted").await.unwrap();
    check_screen(SCREENS, "setup-token-waiting", &screen).unwrap();
    // The program wraps its lines itself. The line breaks are removed, as in the agent.
    let opened = Url::parse(&tool.wait_opened_url().await.unwrap()).unwrap();
    let link = tool.find_url(&screen.replace('\n', "")).unwrap();
    let state = |url: &Url| url.query_pairs().find(|(key, _)| key == "code_challenge").unwrap().1.into_owned();
    assert!(link.contains(&state(&opened)), "{link}");
    let pairs = opened.query_pairs().map(|(key, value)| {
        let manual = "https://platform.claude.com/oauth/code/callback".into();
        if key == "redirect_uri" { (key, manual) } else { (key, value) }
    });
    let manual = Url::parse_with_params("https://claude.com/cai/oauth/authorize", pairs).unwrap();
    tool.paste_and_enter(&fixture.code(manual.as_str()).await).await.unwrap();
    assert_eq!(tool.wait_exit().await.unwrap(), 0, "{}", tool.read_screen().await.unwrap());
    let screen = tool.read_screen().await.unwrap();
    check_screen(SCREENS, "setup-token-done", &screen).unwrap();
    assert!(screen.contains(&fixture.issuer.issued_secrets()[0]), "the token is on the screen");
    assert!(tool.read_complete_credential().unwrap().is_none());
    assert_eq!((tool.denied_targets(), fixture.issuer.unknown_requests()), (Vec::new(), Vec::new()));
    tool.finish().await.unwrap();
    fixture.issuer.stop().await;
}
