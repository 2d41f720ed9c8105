//! The fake identity provider for Gemini CLI, with an HTTP client and with the released tool on this host.
//!
//! The tool is in the directory `ANTEROOM_TEST_CLIS`, or npm installs it once into `target/clis`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use anteroom_testbed::{
    GoogleIssuer, NativeCli, TestCa,
    google_issuer::Account,
    native_cli::{CredentialFile, PinnedTools, StartOptions, check_screen, load_descriptor},
};
use anteroom_wire::provider::{Provider, SettingsFile};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, StatusCode};
use regex_lite::Regex;
use reqwest::Url;
use serde_json::Value;
use sha2::{Digest, Sha256};

const SCREENS: &str = "gemini_cli-0.61.0";
const MANUAL: &str = "https://codeassist.google.com/authcode";
const PROMPT: &str = "Type your message or @path/to/file";

struct Fixture {
    ca: TestCa,
    issuer: GoogleIssuer,
}

impl Fixture {
    async fn new(account: Account) -> Self {
        let ca = TestCa::new().unwrap();
        let issuer = GoogleIssuer::start(&ca, account).await.unwrap();
        Self { ca, issuer }
    }

    async fn get(&self, url: &str, bearer: &str) -> (StatusCode, String, String) {
        self.issuer.get(&self.ca, url, bearer).await.unwrap()
    }

    async fn code(&self, url: &str) -> String {
        self.issuer.code(&self.ca, url).await.unwrap()
    }

    async fn exchange(&self, form: &[(&str, &str)]) -> (StatusCode, Value) {
        let form = Url::parse_with_params("https://form.test/", form).unwrap().query().unwrap().to_owned();
        let request = Request::post("https://oauth2.googleapis.com/token").body(form).unwrap();
        let answer = self.ca.request(self.issuer.address(), request).await.unwrap();
        (answer.status(), serde_json::from_slice(answer.body()).unwrap())
    }

    async fn tool(&self, clis: &PinnedTools, provider: Provider) -> NativeCli {
        let start = StartOptions {
            provider,
            tools: clis,
            ca_pem: self.ca.pem(),
            host_overrides: self.issuer.host_overrides(),
            env: &[],
        };
        NativeCli::start(start).await.unwrap()
    }

    /// Checks the path, mode and keys of the credential file, and that it contains the issued tokens.
    fn assert_contains_canaries(&self, written: &CredentialFile) {
        assert_eq!((written.path.as_str(), written.mode), (".gemini/oauth_creds.json", 0o600));
        let canaries = self.issuer.issued_secrets();
        assert_eq!(canaries.len(), 3);
        for canary in canaries {
            assert!(written.text.contains(&canary), "a token is not in the file");
        }
        let file: Value = serde_json::from_str(&written.text).unwrap();
        let mut keys: Vec<_> = file.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["access_token", "expiry_date", "id_token", "refresh_token", "scope", "token_type"]);
    }

    /// Checks that the tool sent only known and allowed requests.
    fn assert_only_known_requests(&self, tool: &NativeCli) {
        assert_eq!(tool.denied_targets(), Vec::<String>::new());
        assert_eq!(self.issuer.unknown_requests(), Vec::<String>::new(), "the tool sent a new kind of request");
    }
}

/// The screen from the first line with `text` on. The tool's banner above it varies.
fn from_line<'a>(text: &str, screen: &'a str) -> &'a str {
    let at = screen.find(text).unwrap_or_else(|| panic!("{text:?} is not on the screen:\n{screen}"));
    &screen[screen[..at].rfind('\n').map_or(0, |end| end + 1)..]
}

fn authorize_url(redirect: &str, challenge: &str) -> String {
    let mut query = vec![
        ("client_id", "any"),
        ("response_type", "code"),
        ("access_type", "offline"),
        ("redirect_uri", redirect),
        ("scope", "email profile"),
        ("state", "the-state"),
    ];
    if !challenge.is_empty() {
        query.extend([("code_challenge", challenge), ("code_challenge_method", "S256")]);
    }
    Url::parse_with_params("https://accounts.google.com/o/oauth2/v2/auth", query).unwrap().into()
}

fn token_request<'a>(code: &'a str, redirect: &'a str) -> Vec<(&'a str, &'a str)> {
    let grant = ("grant_type", "authorization_code");
    vec![grant, ("code", code), ("client_id", "any"), ("client_secret", "any"), ("redirect_uri", redirect)]
}

#[tokio::test]
async fn displayed_code_is_exchanged_once_and_requires_pkce_verifier() {
    let fixture = Fixture::new(Account::Onboarded).await;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest("verifier"));
    let code = fixture.code(&authorize_url(MANUAL, &challenge)).await;
    let with = |verifier| [token_request(&code, MANUAL), vec![("code_verifier", verifier)]].concat();
    assert_eq!(fixture.exchange(&token_request(&code, MANUAL)).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(fixture.exchange(&with("another")).await.0, StatusCode::BAD_REQUEST);
    let (status, tokens) = fixture.exchange(&with("verifier")).await;
    assert_eq!(status, StatusCode::OK);
    for kind in ["access_token", "refresh_token", "id_token"] {
        assert!(
            fixture.issuer.issued_secrets().contains(&tokens[kind].as_str().unwrap().to_owned()),
            "{kind} is a canary"
        );
    }
    let (status, rejection) = fixture.exchange(&with("verifier")).await;
    assert_eq!((status, rejection["error"].as_str()), (StatusCode::BAD_REQUEST, Some("invalid_grant")));
    let reasons = ["the verifier is missing", "the verifier does not fit the challenge", "code used twice"];
    assert_eq!(fixture.issuer.rejections(), reasons);
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn loopback_callback_receives_code_and_state_and_token_identifies_user() {
    let fixture = Fixture::new(Account::Onboarded).await;
    let back = "http://127.0.0.1:1/oauth2callback";
    let (_, to, _) = fixture.get(&authorize_url(back, ""), "").await;
    let to = Url::parse(&to).unwrap();
    let part = |key: &str| to.query_pairs().find(|(k, _)| k == key).unwrap().1.into_owned();
    assert_eq!((to.path(), part("state").as_str()), ("/oauth2callback", "the-state"));
    let code = part("code");
    let (status, tokens) = fixture.exchange(&token_request(&code, back)).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _, output) =
        fixture.get("https://www.googleapis.com/oauth2/v2/userinfo", tokens["access_token"].as_str().unwrap()).await;
    assert!(status == StatusCode::OK && output.contains("ada@example.test"), "{output}");
    let (status, ..) = fixture.get("https://www.googleapis.com/oauth2/v2/userinfo", "another").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let refresh = [("grant_type", "refresh_token"), ("client_secret", "any"), ("client_id", "any")];
    let refresh = [&refresh[..], &[("refresh_token", tokens["refresh_token"].as_str().unwrap())]].concat();
    let (status, renewed) = fixture.exchange(&refresh).await;
    assert_eq!((status, renewed.get("refresh_token")), (StatusCode::OK, None));
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn invalid_authorize_urls_are_rejected() {
    let fixture = Fixture::new(Account::Onboarded).await;
    let good = authorize_url(MANUAL, "");
    for bad in [
        authorize_url("https://elsewhere.test/", ""),
        authorize_url(MANUAL, "short"),
        good.replace("&state=the-state", ""),
        good.replace("access_type=offline", "access_type=online"),
    ] {
        assert_eq!(fixture.get(&bad, "").await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(fixture.issuer.rejections().len(), 4);
    assert_eq!(fixture.get("https://www.googleapis.com/new?x=1", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(fixture.issuer.unknown_requests(), ["GET www.googleapis.com/new"]);
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn released_tool_accepts_pasted_code_after_an_invalid_one() {
    let (fixture, clis) = (Fixture::new(Account::Onboarded).await, PinnedTools::install().await.unwrap());
    let tool = fixture.tool(&clis, load_descriptor("gemini_cli").unwrap()).await;
    let screen = tool.wait_for("Enter the authorization code:").await.unwrap();
    check_screen(SCREENS, "link-waiting", &screen).unwrap();
    let first = tool.find_url(&screen).unwrap();
    tool.paste_and_enter("never-issued").await.unwrap();
    let screen = tool.wait_for(r"(?s)Retrying.*Enter the authorization code:").await.unwrap();
    check_screen(SCREENS, "link-retry", &screen).unwrap();
    let second = tool.find_url(&screen).unwrap();
    assert_ne!(first, second, "the second attempt has another PKCE challenge");
    tool.paste_and_enter(&fixture.code(&second).await).await.unwrap();
    let written = tool.wait_credential().await.unwrap();
    fixture.assert_contains_canaries(&written);
    let screen = tool.wait_for(r"(?s)Type your message.*Auto \(Gemini").await.unwrap();
    check_screen(SCREENS, "link-done", from_line("? for shortcuts", &screen)).unwrap();
    fixture.assert_only_known_requests(&tool);
    assert_eq!(fixture.issuer.rejections(), ["unknown code"]);
    let calls = fixture.issuer.requests();
    let by_tool: Vec<_> =
        calls.iter().filter(|call| !call.starts_with("GET accounts") && !call.contains("authcode")).collect();
    let order = [
        "POST oauth2.googleapis.com/token",
        "POST oauth2.googleapis.com/token",
        "GET www.googleapis.com/oauth2/v2/userinfo",
        "POST cloudcode-pa.googleapis.com/v1internal:loadCodeAssist",
    ];
    assert_eq!(by_tool[..4], order);
    tool.finish().await.unwrap();
    assert_valid_in_another_home(&fixture, &clis, written, "paste").await;
    fixture.issuer.stop().await;
}

/// Checks that the credential file, with the settings of a credential use, signs the tool in: it verifies the token and does not ask
/// the user to sign in.
async fn assert_valid_in_another_home(fixture: &Fixture, clis: &PinnedTools, written: CredentialFile, method: &str) {
    let method = method.to_owned().try_into().unwrap();
    let mut provider = load_descriptor("gemini_cli").unwrap().with_method_for_use(&method).unwrap();
    provider.settings_files.push(SettingsFile { path: written.path, content: written.text });
    let tool = fixture.tool(clis, provider).await;
    tool.wait_for(PROMPT).await.unwrap();
    assert!(fixture.issuer.requests().contains(&"POST oauth2.googleapis.com/tokeninfo".to_owned()));
    fixture.assert_only_known_requests(&tool);
    tool.finish().await.unwrap();
}

#[tokio::test]
async fn new_account_is_set_up_after_released_tool_writes_credential() {
    let (fixture, clis) = (Fixture::new(Account::New).await, PinnedTools::install().await.unwrap());
    let tool = fixture.tool(&clis, load_descriptor("gemini_cli").unwrap()).await;
    let screen = tool.wait_for("Enter the authorization code:").await.unwrap();
    let link = tool.find_url(&screen).unwrap();
    tool.paste_and_enter(&fixture.code(&link).await).await.unwrap();
    fixture.assert_contains_canaries(&tool.wait_credential().await.unwrap());
    tool.wait_for(PROMPT).await.unwrap();
    assert!(
        fixture.issuer.requests().iter().any(|call| call.ends_with(":onboardUser")),
        "{:?}",
        fixture.issuer.requests()
    );
    fixture.assert_only_known_requests(&tool);
    tool.finish().await.unwrap();
    fixture.issuer.stop().await;
}

/// Signs the released tool in with the account of an organisation, until it shows why it does not work with it.
async fn refused_workspace_account(fixture: &Fixture, clis: &PinnedTools) -> (CredentialFile, String) {
    let tool = fixture.tool(clis, load_descriptor("gemini_cli").unwrap()).await;
    let screen = tool.wait_for("Enter the authorization code:").await.unwrap();
    tool.paste_and_enter(&fixture.code(&tool.find_url(&screen).unwrap()).await).await.unwrap();
    let written = tool.wait_credential().await.unwrap();
    let screen = tool.wait_for("(?s)This account requires setting.*Use Enter to select").await.unwrap();
    fixture.assert_only_known_requests(&tool);
    tool.finish().await.unwrap();
    (written, screen)
}

#[tokio::test]
async fn r07_workspace_account_needs_a_project_which_released_tool_reads_from_the_file_of_the_setting() {
    let (fixture, clis) = (Fixture::new(Account::Workspace).await, PinnedTools::install().await.unwrap());
    let (written, screen) = refused_workspace_account(&fixture, &clis).await;
    check_screen(SCREENS, "workspace-refused", from_line("╭", &screen)).unwrap();
    let provider = load_descriptor("gemini_cli").unwrap();
    let rule = |pattern: &Option<String>| Regex::new(pattern.as_ref().unwrap()).unwrap();
    let why = rule(&provider.sign_in.failed).captures(&screen).expect("a refusal")[1].trim().to_owned();
    assert!(why.starts_with("This account requires setting the GOOGLE_CLOUD_PROJECT"), "{why}");
    assert!(!rule(&provider.sign_in.done).is_match(&screen), "the credential does not count as usable");
    assert!(provider.settings[0].is_needed(&why));

    for method in ["paste", "browser"] {
        let values = [("google_cloud_project".to_owned(), "my-project-123".to_owned())].into();
        let method = method.to_owned().try_into().unwrap();
        let mut given = provider.with_method_for_use(&method).unwrap().with_settings(&values);
        let CredentialFile { path, text, .. } = &written;
        given.settings_files.push(SettingsFile { path: path.clone(), content: text.clone() });
        let done = rule(&given.sign_in.done);
        let tool = fixture.tool(&clis, given).await;
        let screen = tool.wait_for(PROMPT).await.unwrap();
        assert!(done.is_match(&screen));
        fixture.assert_only_known_requests(&tool);
        tool.finish().await.unwrap();
    }
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn r07_account_without_project_is_usable_at_most_a_moment_after_its_credential_was_written() {
    let (fixture, clis) = (Fixture::new(Account::Onboarded).await, PinnedTools::install().await.unwrap());
    let provider = load_descriptor("gemini_cli").unwrap();
    let done = provider.sign_in.done.clone().unwrap();
    let tool = fixture.tool(&clis, provider).await;
    let screen = tool.wait_for("Enter the authorization code:").await.unwrap();
    tool.paste_and_enter(&fixture.code(&tool.find_url(&screen).unwrap()).await).await.unwrap();
    tool.wait_credential().await.unwrap();
    let written = std::time::Instant::now();
    tool.wait_for(&done).await.unwrap();
    let waited = written.elapsed();
    println!("usable {} ms after the credential was written", waited.as_millis());
    assert!(waited < std::time::Duration::from_secs(15), "{waited:?}");
    tool.finish().await.unwrap();
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn two_rejected_codes_end_released_tool() {
    let (fixture, clis) = (Fixture::new(Account::Onboarded).await, PinnedTools::install().await.unwrap());
    let tool = fixture.tool(&clis, load_descriptor("gemini_cli").unwrap()).await;
    tool.wait_for("Enter the authorization code:").await.unwrap();
    tool.paste_and_enter("never-issued").await.unwrap();
    tool.wait_for(r"(?s)Retrying.*Enter the authorization code:").await.unwrap();
    tool.paste_and_enter("nor-this").await.unwrap();
    assert_eq!(tool.wait_exit().await.unwrap(), 41);
    assert!(tool.read_screen().await.unwrap().contains("Failed to authenticate with user code."));
    assert!(tool.read_complete_credential().unwrap().is_none());
    tool.finish().await.unwrap();
    fixture.issuer.stop().await;
}

#[tokio::test]
async fn released_tool_signs_in_through_browser_callback() {
    let (fixture, clis) = (Fixture::new(Account::Onboarded).await, PinnedTools::install().await.unwrap());
    let browser = "browser".to_owned().try_into().unwrap();
    let provider = load_descriptor("gemini_cli").unwrap().with_method(&browser).unwrap();
    let tool = fixture.tool(&clis, provider).await;
    let screen = tool.wait_for(r"How would you like to authenticate for this project\?").await.unwrap();
    check_screen(SCREENS, "browser-method-prompt", from_line("╭", &screen)).unwrap();
    tool.press("Enter").await.unwrap();
    let screen = tool.wait_for(r"Do you want to continue\?").await.unwrap();
    check_screen(SCREENS, "browser-open-prompt", from_line("╭", &screen)).unwrap();
    tool.press("Enter").await.unwrap();
    let opened = tool.wait_opened_url().await.unwrap();
    let screen = tool.wait_for("Press Esc or Ctrl\\+C to cancel").await.unwrap();
    check_screen(SCREENS, "browser-waiting", from_line("Attempting to open", &screen)).unwrap();
    let pattern = load_descriptor("gemini_cli").unwrap().sign_in.url.unwrap();
    assert!(!Regex::new(&pattern).unwrap().is_match(&screen), "the URL is shown in pieces, and none of them matches");
    let (_, back, _) = fixture.get(&opened, "").await;
    let browser = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let response = browser.get(&back).send().await.unwrap();
    let redirect = response.headers().get("location").unwrap().to_str().unwrap().to_owned();
    assert_eq!(fixture.get(&redirect, "").await.0, StatusCode::OK, "the browser ends on a page of the provider");
    let written = tool.wait_credential().await.unwrap();
    fixture.assert_contains_canaries(&written);
    let screen = tool.wait_for("successfully signed in with Google").await.unwrap();
    check_screen(SCREENS, "browser-done", from_line("Attempting to open", &screen)).unwrap();
    fixture.assert_only_known_requests(&tool);
    tool.finish().await.unwrap();
    assert_valid_in_another_home(&fixture, &clis, written, "browser").await;
    fixture.issuer.stop().await;
}
