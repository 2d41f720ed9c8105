//! The stand-in issuer of Gemini CLI: as a client uses it, then as the released tool does, here on this host.
//!
//! The tool's tests take it from the directory `ANTEROOM_TEST_CLIS`, or have npm install it once into `target/clis`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use anteroom_testbed::{
    GoogleIssuer, NativeCli, TestCa,
    google_issuer::Account,
    native_cli::{CredentialFile, InstalledTools, StartOptions, check_screen, descriptor},
};
use anteroom_wire::provider::{Provider, SettingsFile};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, StatusCode, header::LOCATION};
use regex_lite::Regex;
use reqwest::Url;
use serde_json::Value;
use sha2::{Digest, Sha256};

const SCREENS: &str = "gemini_cli-0.61.0";
const MANUAL: &str = "https://codeassist.google.com/authcode";
const PROMPT: &str = "Type your message or @path/to/file";

struct Rig {
    ca: TestCa,
    issuer: GoogleIssuer,
}

impl Rig {
    async fn new(account: Account) -> Self {
        let ca = TestCa::new().unwrap();
        let issuer = GoogleIssuer::start(&ca, account).await.unwrap();
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

    async fn exchange(&self, form: &[(&str, &str)]) -> (StatusCode, Value) {
        let form = Url::parse_with_params("https://form.test/", form).unwrap().query().unwrap().to_owned();
        let request = Request::post("https://oauth2.googleapis.com/token").body(form).unwrap();
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

    async fn tool(&self, clis: &InstalledTools, provider: Provider) -> NativeCli {
        let start =
            StartOptions { provider, clis, ca: self.ca.pem(), host_overrides: self.issuer.host_overrides(), env: &[] };
        NativeCli::start(start).await.unwrap()
    }

    /// The file is the tool's own, and holds what was issued.
    fn holds_the_canaries(&self, written: &CredentialFile) {
        assert_eq!((written.path.as_str(), written.mode), (".gemini/oauth_creds.json", 0o600));
        let canaries = self.issuer.canaries();
        assert_eq!(canaries.len(), 3);
        for canary in canaries {
            assert!(written.text.contains(&canary), "a token is not in the file");
        }
        let file: Value = serde_json::from_str(&written.text).unwrap();
        let mut keys: Vec<_> = file.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["access_token", "expiry_date", "id_token", "refresh_token", "scope", "token_type"]);
    }

    /// It asked for nothing that is not known or not let through.
    fn nothing_strange(&self, tool: &NativeCli) {
        assert_eq!(tool.denied_hosts(), Vec::<String>::new());
        assert_eq!(self.issuer.unknown_calls(), Vec::<String>::new(), "the tool asked for something new");
    }
}

/// The screen from the first line on that holds `words`. Above it is the tool's banner, which it draws in several ways.
fn from_line<'a>(words: &str, screen: &'a str) -> &'a str {
    let at = screen.find(words).unwrap_or_else(|| panic!("{words:?} is not on the screen:\n{screen}"));
    &screen[screen[..at].rfind('\n').map_or(0, |end| end + 1)..]
}

fn address(redirect: &str, challenge: &str) -> String {
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

fn brought<'a>(code: &'a str, redirect: &'a str) -> Vec<(&'a str, &'a str)> {
    let grant = ("grant_type", "authorization_code");
    vec![grant, ("code", code), ("client_id", "any"), ("client_secret", "any"), ("redirect_uri", redirect)]
}

#[tokio::test]
async fn displayed_code_is_exchanged_once_and_requires_pkce_verifier() {
    let rig = Rig::new(Account::Onboarded).await;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest("verifier"));
    let code = rig.code(&address(MANUAL, &challenge)).await;
    let with = |verifier| [brought(&code, MANUAL), vec![("code_verifier", verifier)]].concat();
    assert_eq!(rig.exchange(&brought(&code, MANUAL)).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(rig.exchange(&with("another")).await.0, StatusCode::BAD_REQUEST);
    let (status, tokens) = rig.exchange(&with("verifier")).await;
    assert_eq!(status, StatusCode::OK);
    for kind in ["access_token", "refresh_token", "id_token"] {
        assert!(rig.issuer.canaries().contains(&tokens[kind].as_str().unwrap().to_owned()), "{kind} can be looked for");
    }
    let (status, refused) = rig.exchange(&with("verifier")).await;
    assert_eq!((status, refused["error"].as_str()), (StatusCode::BAD_REQUEST, Some("invalid_grant")));
    let why = ["the verifier is missing", "the verifier does not fit the challenge", "code used twice"];
    assert_eq!(rig.issuer.rejections(), why);
    rig.issuer.finish().await;
}

#[tokio::test]
async fn loopback_callback_receives_code_and_state_and_token_identifies_user() {
    let rig = Rig::new(Account::Onboarded).await;
    let back = "http://127.0.0.1:1/oauth2callback";
    let (_, to, _) = rig.get(&address(back, ""), "").await;
    let to = Url::parse(&to).unwrap();
    let part = |key: &str| to.query_pairs().find(|(k, _)| k == key).unwrap().1.into_owned();
    assert_eq!((to.path(), part("state").as_str()), ("/oauth2callback", "the-state"));
    let code = part("code");
    let (status, tokens) = rig.exchange(&brought(&code, back)).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _, description) =
        rig.get("https://www.googleapis.com/oauth2/v2/userinfo", tokens["access_token"].as_str().unwrap()).await;
    assert!(status == StatusCode::OK && description.contains("ada@example.test"), "{description}");
    let (status, ..) = rig.get("https://www.googleapis.com/oauth2/v2/userinfo", "another").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let refresh = [("grant_type", "refresh_token"), ("client_secret", "any"), ("client_id", "any")];
    let refresh = [&refresh[..], &[("refresh_token", tokens["refresh_token"].as_str().unwrap())]].concat();
    let (status, renewed) = rig.exchange(&refresh).await;
    assert_eq!((status, renewed.get("refresh_token")), (StatusCode::OK, None));
    rig.issuer.finish().await;
}

#[tokio::test]
async fn invalid_authorize_urls_are_rejected() {
    let rig = Rig::new(Account::Onboarded).await;
    let good = address(MANUAL, "");
    for bad in [
        address("https://elsewhere.test/", ""),
        address(MANUAL, "short"),
        good.replace("&state=the-state", ""),
        good.replace("access_type=offline", "access_type=online"),
    ] {
        assert_eq!(rig.get(&bad, "").await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(rig.issuer.rejections().len(), 4);
    assert_eq!(rig.get("https://www.googleapis.com/new?x=1", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(rig.issuer.unknown_calls(), ["GET www.googleapis.com/new"]);
    rig.issuer.finish().await;
}

#[tokio::test]
async fn released_tool_accepts_pasted_code_after_an_invalid_one() {
    let (rig, clis) = (Rig::new(Account::Onboarded).await, InstalledTools::install().await.unwrap());
    let tool = rig.tool(&clis, descriptor("gemini_cli").unwrap()).await;
    let screen = tool.wait_for("Enter the authorization code:").await.unwrap();
    check_screen(SCREENS, "link-waits", &screen).unwrap();
    let first = tool.url_on(&screen).unwrap();
    tool.paste_and_enter("never-issued").await.unwrap();
    let screen = tool.wait_for(r"(?s)Retrying.*Enter the authorization code:").await.unwrap();
    check_screen(SCREENS, "link-again", &screen).unwrap();
    let second = tool.url_on(&screen).unwrap();
    assert_ne!(first, second, "the second try has a key of its own");
    tool.paste_and_enter(&rig.code(&second).await).await.unwrap();
    let written = tool.credential().await.unwrap();
    rig.holds_the_canaries(&written);
    let screen = tool.wait_for(r"(?s)Type your message.*Auto \(Gemini").await.unwrap();
    check_screen(SCREENS, "link-done", from_line("? for shortcuts", &screen)).unwrap();
    rig.nothing_strange(&tool);
    assert_eq!(rig.issuer.rejections(), ["unknown code"]);
    let calls = rig.issuer.calls();
    let asked: Vec<_> =
        calls.iter().filter(|call| !call.starts_with("GET accounts") && !call.contains("authcode")).collect();
    let order = [
        "POST oauth2.googleapis.com/token",
        "POST oauth2.googleapis.com/token",
        "GET www.googleapis.com/oauth2/v2/userinfo",
        "POST cloudcode-pa.googleapis.com/v1internal:loadCodeAssist",
    ];
    assert_eq!(asked[..4], order);
    tool.finish().await.unwrap();
    good_in_another_home(&rig, &clis, written, "paste").await;
    rig.issuer.finish().await;
}

/// The bytes and the settings of a use are a sign-in: the tool asks whether the token is good, and nobody to sign in.
async fn good_in_another_home(rig: &Rig, clis: &InstalledTools, written: CredentialFile, came_by: &str) {
    let came_by = came_by.to_owned().try_into().unwrap();
    let mut provider = descriptor("gemini_cli").unwrap().in_use(&came_by).unwrap();
    provider.settings_files.push(SettingsFile { path: written.path, content: written.text });
    let tool = rig.tool(clis, provider).await;
    tool.wait_for(PROMPT).await.unwrap();
    assert!(rig.issuer.calls().contains(&"POST oauth2.googleapis.com/tokeninfo".to_owned()));
    rig.nothing_strange(&tool);
    tool.finish().await.unwrap();
}

#[tokio::test]
async fn new_account_is_set_up_after_released_tool_writes_credential() {
    let (rig, clis) = (Rig::new(Account::New).await, InstalledTools::install().await.unwrap());
    let tool = rig.tool(&clis, descriptor("gemini_cli").unwrap()).await;
    let screen = tool.wait_for("Enter the authorization code:").await.unwrap();
    let link = tool.url_on(&screen).unwrap();
    tool.paste_and_enter(&rig.code(&link).await).await.unwrap();
    rig.holds_the_canaries(&tool.credential().await.unwrap());
    tool.wait_for(PROMPT).await.unwrap();
    assert!(rig.issuer.calls().iter().any(|call| call.ends_with(":onboardUser")), "{:?}", rig.issuer.calls());
    rig.nothing_strange(&tool);
    tool.finish().await.unwrap();
    rig.issuer.finish().await;
}

#[tokio::test]
async fn two_rejected_codes_end_released_tool() {
    let (rig, clis) = (Rig::new(Account::Onboarded).await, InstalledTools::install().await.unwrap());
    let tool = rig.tool(&clis, descriptor("gemini_cli").unwrap()).await;
    tool.wait_for("Enter the authorization code:").await.unwrap();
    tool.paste_and_enter("never-issued").await.unwrap();
    tool.wait_for(r"(?s)Retrying.*Enter the authorization code:").await.unwrap();
    tool.paste_and_enter("nor-this").await.unwrap();
    assert_eq!(tool.wait_exit().await.unwrap(), 41);
    assert!(tool.screen().await.unwrap().contains("Failed to authenticate with user code."));
    assert!(tool.complete_credential().unwrap().is_none());
    tool.finish().await.unwrap();
    rig.issuer.finish().await;
}

#[tokio::test]
async fn released_tool_signs_in_through_browser_callback() {
    let (rig, clis) = (Rig::new(Account::Onboarded).await, InstalledTools::install().await.unwrap());
    let browser = "browser".to_owned().try_into().unwrap();
    let provider = descriptor("gemini_cli").unwrap().with_method(&browser).unwrap();
    let tool = rig.tool(&clis, provider).await;
    let screen = tool.wait_for(r"How would you like to authenticate for this project\?").await.unwrap();
    check_screen(SCREENS, "browser-which-way", from_line("╭", &screen)).unwrap();
    tool.press("Enter").await.unwrap();
    let screen = tool.wait_for(r"Do you want to continue\?").await.unwrap();
    check_screen(SCREENS, "browser-may-it-open", from_line("╭", &screen)).unwrap();
    tool.press("Enter").await.unwrap();
    let opened = tool.opened_url().await.unwrap();
    let screen = tool.wait_for("Press Esc or Ctrl\\+C to cancel").await.unwrap();
    check_screen(SCREENS, "browser-waits", from_line("Attempting to open", &screen)).unwrap();
    let pattern = descriptor("gemini_cli").unwrap().sign_in.url.unwrap();
    assert!(
        !Regex::new(&pattern).unwrap().is_match(&screen),
        "the address is shown in pieces: none of them is taken for it"
    );
    let (_, back, _) = rig.get(&opened, "").await;
    let browser = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = browser.get(&back).send().await.unwrap();
    let sent_on = answer.headers().get("location").unwrap().to_str().unwrap().to_owned();
    assert_eq!(rig.get(&sent_on, "").await.0, StatusCode::OK, "the browser ends on a page of the provider");
    let written = tool.credential().await.unwrap();
    rig.holds_the_canaries(&written);
    let screen = tool.wait_for("successfully signed in with Google").await.unwrap();
    check_screen(SCREENS, "browser-done", from_line("Attempting to open", &screen)).unwrap();
    rig.nothing_strange(&tool);
    tool.finish().await.unwrap();
    good_in_another_home(&rig, &clis, written, "browser").await;
    rig.issuer.finish().await;
}
