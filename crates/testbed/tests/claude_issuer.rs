//! The stand-in issuer of Claude Code: as a client uses it, then as the released tool does, here on this host.
//!
//! The tool's tests take it from the directory `ANTEROOM_TEST_CLIS`, or have npm install it once into `target/clis`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use anteroom_testbed::{
    ClaudeIssuer, NativeCli, TestCa,
    native_cli::{CredentialFile, InstalledTools, StartOptions, check_screen, descriptor},
};
use anteroom_wire::provider::{Provider, SettingsFile};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, StatusCode, header::LOCATION};
use reqwest::Url;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const SCREENS: &str = "claude_code-2.1.330";

/// The descriptor with the short form of the address on the terminal.
fn short_link() -> Provider {
    let mut provider = descriptor("claude_code").unwrap();
    provider.env.remove("CLAUDE_CODE_FULL_SIGN_IN_LINK").unwrap();
    provider
}

struct Rig {
    ca: TestCa,
    issuer: ClaudeIssuer,
}

impl Rig {
    async fn new() -> Self {
        let ca = TestCa::new().unwrap();
        let issuer = ClaudeIssuer::start(&ca).await.unwrap();
        Self { ca, issuer }
    }

    /// What a browser gets: status, where it is sent, the page.
    async fn get(&self, url: &str, bearer: &str) -> (StatusCode, String, String) {
        let request =
            Request::get(url).header("authorization", format!("Bearer {bearer}")).body(String::new()).unwrap();
        let answer = self.ca.request(self.issuer.address(), request).await.unwrap();
        let to = answer.headers().get(LOCATION).map_or("", |to| to.to_str().unwrap()).to_owned();
        (answer.status(), to, String::from_utf8_lossy(answer.body()).into_owned())
    }

    async fn exchange(&self, body: Value) -> (StatusCode, Value) {
        let request = Request::post("https://platform.claude.com/v1/oauth/token").body(body.to_string()).unwrap();
        let answer = self.ca.request(self.issuer.address(), request).await.unwrap();
        (answer.status(), serde_json::from_slice(answer.body()).unwrap())
    }

    /// The text of the page that shows a code, for the person who opened `url`.
    async fn code(&self, url: &str) -> String {
        let (status, to, page) = self.get(url, "").await;
        assert_eq!(status, StatusCode::FOUND, "{page}");
        let (_, _, page) = self.get(&to, "").await;
        page.split_once("id=\"text\">").unwrap().1.split_once("</pre>").unwrap().0.to_owned()
    }

    async fn tool(&self, clis: &InstalledTools, provider: Provider, env: &[(&str, &str)]) -> NativeCli {
        let start =
            StartOptions { provider, clis, ca: self.ca.pem(), host_overrides: self.issuer.host_overrides(), env };
        NativeCli::start(start).await.unwrap()
    }

    /// The file is the tool's own, and holds what was issued last.
    fn holds_the_canaries(&self, written: &CredentialFile) {
        assert_eq!((written.path.as_str(), written.mode), (".claude/.credentials.json", 0o600));
        let canaries = self.issuer.canaries();
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

    /// The tool ended well, wrote its file, says so itself, and asked for nothing that is not known or not let through.
    async fn signed_in(&self, clis: &InstalledTools, tool: &NativeCli) {
        assert_eq!(tool.wait_exit().await.unwrap(), 0, "{}", tool.screen().await.unwrap());
        self.holds_the_canaries(&tool.credential().await.unwrap());
        let (code, description) = tool.status(clis).await.unwrap();
        assert_eq!((code, description.contains("\"loggedIn\": true")), (Some(0), true), "{description}");
        assert_eq!(tool.denied_hosts(), Vec::<String>::new());
        assert_eq!(self.issuer.unknown_calls(), Vec::<String>::new(), "the tool asked for something new");
    }
}

fn sorted(mut keys: Vec<&str>) -> Vec<&str> {
    keys.sort_unstable();
    keys
}

fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

fn address(redirect: &str, verifier: &str) -> String {
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

fn brought(code: &str, redirect: &str, verifier: &str, state: &str) -> Value {
    json!({
        "grant_type": "authorization_code", "code": code, "client_id": "any", "redirect_uri": redirect,
        "code_verifier": verifier, "state": state,
    })
}

#[tokio::test]
async fn code_is_exchanged_once_and_only_by_its_requester() {
    let rig = Rig::new().await;
    let back = "http://localhost:1/callback";
    let (status, to, _) = rig.get(&address(back, "verifier"), "").await;
    assert_eq!(status, StatusCode::FOUND);
    let to = Url::parse(&to).unwrap();
    let part = |key: &str| to.query_pairs().find(|(k, _)| k == key).unwrap().1.into_owned();
    assert_eq!((to.port(), to.path(), part("state").as_str()), (Some(1), "/callback", "the-state"));
    let code = part("code");
    let wrong = [
        brought("another", back, "verifier", "the-state"),
        brought(&code, "http://localhost:2/callback", "verifier", "the-state"),
        brought(&code, back, "another", "the-state"),
        brought(&code, back, "verifier", "another"),
    ];
    for body in wrong {
        assert_eq!(rig.exchange(body.clone()).await.0, StatusCode::BAD_REQUEST, "{body}");
    }
    let (status, tokens) = rig.exchange(brought(&code, back, "verifier", "the-state")).await;
    assert_eq!(status, StatusCode::OK);
    for kind in ["access_token", "refresh_token"] {
        assert!(rig.issuer.canaries().contains(&tokens[kind].as_str().unwrap().to_owned()), "{kind} can be looked for");
    }
    assert_eq!(rig.exchange(brought(&code, back, "verifier", "the-state")).await.0, StatusCode::BAD_REQUEST);
    let why = ["unknown code", "another redirect_uri", "the verifier does not fit the challenge", "another state"];
    assert_eq!(rig.issuer.rejections(), [&why[..], &["code used twice"]].concat());
    let profile = "https://api.anthropic.com/api/oauth/profile";
    assert_eq!(rig.get(profile, tokens["access_token"].as_str().unwrap()).await.0, StatusCode::OK);
    assert_eq!(rig.get(profile, "another").await.0, StatusCode::UNAUTHORIZED);
    rig.issuer.finish().await;
}

#[tokio::test]
async fn authorize_url_without_loopback_callback_shows_code_on_a_page() {
    let rig = Rig::new().await;
    let manual = "https://platform.claude.com/oauth/code/callback";
    let text = rig.code(&address(manual, "verifier")).await;
    let (code, state) = text.split_once('#').unwrap();
    assert_eq!(state, "the-state");
    assert_eq!(rig.exchange(brought(code, manual, "verifier", state)).await.0, StatusCode::OK);
    let (status, ..) = rig.get(&address("https://elsewhere.test/", "verifier"), "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    rig.issuer.finish().await;
}

#[tokio::test]
async fn refresh_token_is_valid_once() {
    let rig = Rig::new().await;
    let back = "http://localhost:1/callback";
    let (_, to, _) = rig.get(&address(back, "verifier"), "").await;
    let code = Url::parse(&to).unwrap().query_pairs().find(|(key, _)| key == "code").unwrap().1.into_owned();
    let (_, first) = rig.exchange(brought(&code, back, "verifier", "the-state")).await;
    let again = json!({ "grant_type": "refresh_token", "refresh_token": first["refresh_token"], "client_id": "any" });
    let (status, second) = rig.exchange(again.clone()).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(rig.exchange(again).await.0, StatusCode::BAD_REQUEST);
    rig.issuer.finish().await;
}

#[tokio::test]
async fn unknown_requests_are_recorded_and_other_host_names_are_not_served() {
    let rig = Rig::new().await;
    assert_eq!(rig.get("https://api.anthropic.com/api/new?x=1", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(rig.issuer.unknown_calls(), ["GET api.anthropic.com/api/new"]);
    let request = Request::get("https://example.test/").body(String::new()).unwrap();
    assert!(rig.ca.request(rig.issuer.address(), request).await.is_err(), "the certificate is not for that name");
    let other_ca = TestCa::new().unwrap();
    let request = Request::get("https://claude.ai/").body(String::new()).unwrap();
    assert!(other_ca.request(rig.issuer.address(), request).await.is_err(), "another authority is not believed");
    rig.issuer.finish().await;
}

#[tokio::test]
async fn released_tool_signs_in_through_browser_callback() {
    let (rig, clis) = (Rig::new().await, InstalledTools::install().await.unwrap());
    let tool = rig.tool(&clis, short_link(), &[]).await;
    let screen = tool.wait_for("Paste code here if prompted >").await.unwrap();
    check_screen(SCREENS, "login-waits", &screen).unwrap();
    let opened = tool.opened_url().await.unwrap();
    let (_, back, _) = rig.get(&opened, "").await;
    let browser = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = browser.get(&back).send().await.unwrap();
    let sent_on = answer.headers().get("location").unwrap().to_str().unwrap().to_owned();
    assert_eq!(rig.get(&sent_on, "").await.0, StatusCode::OK, "the browser ends on a page of the provider");
    rig.signed_in(&clis, &tool).await;
    check_screen(SCREENS, "login-done", &tool.screen().await.unwrap()).unwrap();
    let calls = [
        "GET claude.com/cai/oauth/authorize",
        "POST platform.claude.com/v1/oauth/token",
        "GET api.anthropic.com/api/oauth/profile",
        "GET platform.claude.com/oauth/code/success",
        "GET api.anthropic.com/api/oauth/claude_cli/roles",
    ];
    assert_eq!(in_order(&rig.issuer.calls(), &calls), Ok(()));
    let written = tool.credential().await.unwrap();
    tool.finish().await.unwrap();
    good_in_another_home(&rig, &clis, written).await;
    rig.issuer.finish().await;
}

/// The bytes alone are a sign-in.
async fn good_in_another_home(rig: &Rig, clis: &InstalledTools, written: CredentialFile) {
    let mut provider = descriptor("claude_code").unwrap();
    provider.settings_files.push(SettingsFile { path: written.path, content: written.text });
    provider.argv = provider.credential.status_argv.clone();
    let tool = rig.tool(clis, provider, &[]).await;
    assert_eq!(tool.wait_exit().await.unwrap(), 0);
    assert!(tool.screen().await.unwrap().contains("\"loggedIn\": true"));
    tool.finish().await.unwrap();
}

/// Every call was made; those of the tool in this order (the browser's own come when they come).
fn in_order(made: &[String], wanted: &[&str]) -> Result<(), String> {
    let own = |call: &&str| call.contains("/v1/oauth/token") || call.contains("api.anthropic.com");
    let tools: Vec<_> = made.iter().map(String::as_str).filter(own).collect();
    let wanted_of_tool: Vec<_> = wanted.iter().copied().filter(own).collect();
    let all = wanted.iter().all(|call| made.iter().any(|made| made == call));
    if all && tools.starts_with(&wanted_of_tool) { Ok(()) } else { Err(format!("{made:?}")) }
}

#[tokio::test]
async fn callback_with_wrong_state_ends_released_tool() {
    let (rig, clis) = (Rig::new().await, InstalledTools::install().await.unwrap());
    let tool = rig.tool(&clis, short_link(), &[]).await;
    let opened = Url::parse(&tool.opened_url().await.unwrap()).unwrap();
    let back = opened.query_pairs().find(|(key, _)| key == "redirect_uri").unwrap().1.into_owned();
    tool.wait_for("Paste code here if prompted >").await.unwrap();
    let browser = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = browser.get(format!("{back}?code=any&state=another")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(tool.wait_exit().await.unwrap(), 1);
    check_screen(SCREENS, "login-another-state", &tool.screen().await.unwrap()).unwrap();
    assert!(tool.complete_credential().unwrap().is_none());
    tool.finish().await.unwrap();
    rig.issuer.finish().await;
}

#[tokio::test]
async fn released_tool_accepts_pasted_code_after_two_invalid_ones() {
    let (rig, clis) = (Rig::new().await, InstalledTools::install().await.unwrap());
    let tool = rig.tool(&clis, descriptor("claude_code").unwrap(), &[]).await;
    let screen = tool.wait_for("Paste code here if prompted >").await.unwrap();
    check_screen(SCREENS, "link-waits", &screen).unwrap();
    let link = tool.url_on(&screen).unwrap();
    let link = Url::parse(&link).unwrap();
    let back = link.query_pairs().find(|(key, _)| key == "redirect_uri").unwrap().1.into_owned();
    assert_eq!(back, "https://platform.claude.com/oauth/code/callback");
    tool.paste_and_enter("half-a-code").await.unwrap();
    check_screen(SCREENS, "link-half-a-code", &tool.wait_for("look like the full code").await.unwrap()).unwrap();
    tool.paste_and_enter("http://localhost:1/callback?code=any&state=any").await.unwrap();
    check_screen(SCREENS, "link-local-address", &tool.wait_for("only works in a browser").await.unwrap()).unwrap();
    tool.paste_and_enter(&rig.code(link.as_str()).await).await.unwrap();
    rig.signed_in(&clis, &tool).await;
    check_screen(SCREENS, "link-done", &tool.screen().await.unwrap()).unwrap();
    assert_eq!(rig.issuer.rejections(), Vec::<String>::new());
    tool.finish().await.unwrap();
    rig.issuer.finish().await;
}

#[tokio::test]
async fn short_url_on_terminal_leads_to_a_code() {
    let (rig, clis) = (Rig::new().await, InstalledTools::install().await.unwrap());
    let tool = rig.tool(&clis, short_link(), &[]).await;
    let screen = tool.wait_for("Paste code here if prompted >").await.unwrap();
    let link = tool.url_on(&screen).unwrap();
    assert!(link.starts_with("https://claude.ai/oauth/authorize?"), "{link}");
    tool.paste_and_enter(&rig.code(&link).await).await.unwrap();
    rig.signed_in(&clis, &tool).await;
    tool.finish().await.unwrap();
    rig.issuer.finish().await;
}

#[tokio::test]
async fn rejected_code_ends_released_tool() {
    let (rig, clis) = (Rig::new().await, InstalledTools::install().await.unwrap());
    let tool = rig.tool(&clis, descriptor("claude_code").unwrap(), &[]).await;
    tool.wait_for("Paste code here if prompted >").await.unwrap();
    tool.paste_and_enter("never-issued#any").await.unwrap();
    assert_eq!(tool.wait_exit().await.unwrap(), 1);
    check_screen(SCREENS, "link-refused", &tool.screen().await.unwrap()).unwrap();
    assert!(tool.complete_credential().unwrap().is_none());
    assert_eq!(rig.issuer.rejections(), ["unknown code"]);
    tool.finish().await.unwrap();
    rig.issuer.finish().await;
}

#[tokio::test]
async fn setup_token_shows_a_token_and_writes_no_credential() {
    let (rig, clis) = (Rig::new().await, InstalledTools::install().await.unwrap());
    let mut provider = descriptor("claude_code").unwrap();
    provider.argv = ["claude", "setup-token"].map(str::to_owned).to_vec();
    let tool = rig.tool(&clis, provider, &[]).await;
    let screen = tool.wait_for("Paste code here if prompted").await.unwrap();
    check_screen(SCREENS, "setup-token-waits", &screen).unwrap();
    // The program breaks its own lines: what stands between is taken out, as the agent's finder does.
    let opened = Url::parse(&tool.opened_url().await.unwrap()).unwrap();
    let link = tool.url_on(&screen.replace('\n', "")).unwrap();
    let state = |url: &Url| url.query_pairs().find(|(key, _)| key == "code_challenge").unwrap().1.into_owned();
    assert!(link.contains(&state(&opened)), "{link}");
    let pairs = opened.query_pairs().map(|(key, value)| {
        let manual = "https://platform.claude.com/oauth/code/callback".into();
        if key == "redirect_uri" { (key, manual) } else { (key, value) }
    });
    let manual = Url::parse_with_params("https://claude.com/cai/oauth/authorize", pairs).unwrap();
    tool.paste_and_enter(&rig.code(manual.as_str()).await).await.unwrap();
    assert_eq!(tool.wait_exit().await.unwrap(), 0, "{}", tool.screen().await.unwrap());
    let screen = tool.screen().await.unwrap();
    check_screen(SCREENS, "setup-token-done", &screen).unwrap();
    assert!(screen.contains(&rig.issuer.canaries()[0]), "the token is on the screen");
    assert!(tool.complete_credential().unwrap().is_none());
    assert_eq!((tool.denied_hosts(), rig.issuer.unknown_calls()), (Vec::new(), Vec::new()));
    tool.finish().await.unwrap();
    rig.issuer.finish().await;
}
