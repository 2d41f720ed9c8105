//! Tests of the provider over HTTP, as the demo tool and a browser without scripts use it.

use super::*;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Client, Response, StatusCode, redirect::Policy};
use serde_json::Value;
use sha2::{Digest, Sha256};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const REDIRECT: &str = "http://127.0.0.1:4711/callback";

struct TestProvider {
    url: String,
    client: Client,
    shutdown: CancellationToken,
}

impl Drop for TestProvider {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl TestProvider {
    async fn new() -> Self {
        Self::serve(DemoIdp::new(DEMO_ISSUER, DemoLimits::default())).await
    }

    async fn serve(idp: DemoIdp) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        tokio::spawn(idp.serve(listener, shutdown.clone()));
        Self { url, client: Client::builder().redirect(Policy::none()).no_proxy().build().unwrap(), shutdown }
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    async fn post(&self, path: &str, form: &str) -> Response {
        let request = self.client.post(format!("{}{path}", self.url));
        request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned()).send().await.unwrap()
    }

    /// Goes through both pages and returns the address of the final redirect.
    async fn decide(&self, decision: &str) -> String {
        let first = self.get(&authorize_path(&[])).await;
        assert_eq!(first.status(), StatusCode::OK);
        let request = request_field(&first.text().await.unwrap());
        let second = self.post("/authorize", &format!("request={request}&name=Ada+%3Cb%3E")).await;
        assert_eq!(second.status(), StatusCode::OK);
        let page = second.text().await.unwrap();
        assert!(page.contains("Ada &lt;b&gt;"), "{page}");
        let response = self.post("/consent", &format!("request={}&decision={decision}", request_field(&page))).await;
        assert_eq!(response.status(), StatusCode::FOUND);
        response.headers()["location"].to_str().unwrap().to_owned()
    }

    async fn code(&self) -> String {
        let location = self.decide("allow").await;
        location.strip_prefix(&format!("{REDIRECT}?code=")).unwrap().strip_suffix("&state=st%20ate").unwrap().to_owned()
    }

    async fn exchange(&self, code: &str, changes: &[(&str, &str)]) -> (StatusCode, Value) {
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", "demo"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        let answer = self.post("/token", &query(&fields, changes)).await;
        (answer.status(), answer.json().await.unwrap())
    }
}

/// `fields` overridden by `changes`, URL-encoded.
fn query(fields: &[(&str, &str)], changes: &[(&str, &str)]) -> String {
    let changed = |name: &str| changes.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
    let pairs: Vec<_> = fields.iter().map(|(name, value)| (*name, changed(name).unwrap_or(value))).collect();
    reqwest::Url::parse_with_params("http://a/", pairs).unwrap().query().unwrap().to_owned()
}

fn authorize_path(changes: &[(&str, &str)]) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let fields = [
        ("response_type", "code"),
        ("client_id", "demo"),
        ("redirect_uri", REDIRECT),
        ("state", "st ate"),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ];
    format!("/authorize?{}", query(&fields, changes))
}

fn request_field(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"request\" value=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_sign_in_issues_tokens_and_userinfo_returns_the_name() {
    let provider = TestProvider::new().await;
    let (status, tokens) = provider.exchange(&provider.code().await, &[]).await;
    assert_eq!(status, StatusCode::OK, "{tokens}");
    let access = tokens["access_token"].as_str().unwrap();
    assert!(access.starts_with("demo_at_") && tokens["refresh_token"].as_str().unwrap().starts_with("demo_rt_"));
    let userinfo = provider.client.get(format!("{}/userinfo", provider.url)).bearer_auth(access).send().await.unwrap();
    assert_eq!(userinfo.json::<Value>().await.unwrap()["name"], "Ada <b>");
    assert_eq!(provider.get("/userinfo").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn deny_redirects_with_access_denied() {
    let provider = TestProvider::new().await;
    assert_eq!(provider.decide("deny").await, format!("{REDIRECT}?error=access_denied&state=st%20ate"));
}

#[tokio::test]
async fn a_code_is_redeemed_once_and_only_with_matching_parameters() {
    let provider = TestProvider::new().await;
    for change in [
        ("client_id", "another"),
        ("redirect_uri", "http://127.0.0.1:4711/other"),
        ("code_verifier", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("code_verifier", "short"),
        ("code", "demo_code_unknown"),
    ] {
        let code = provider.code().await;
        let (status, body) = provider.exchange(&code, &[change]).await;
        assert_eq!((status, body["error"].as_str()), (StatusCode::BAD_REQUEST, Some("invalid_grant")), "{change:?}");
    }
    let code = provider.code().await;
    assert_eq!(provider.exchange(&code, &[]).await.0, StatusCode::OK);
    assert_eq!(provider.exchange(&code, &[]).await.1["error"], "invalid_grant");
}

#[tokio::test]
async fn a_refresh_token_is_accepted_only_from_its_client() {
    let provider = TestProvider::new().await;
    let (_, tokens) = provider.exchange(&provider.code().await, &[]).await;
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let response =
        provider.post("/token", &format!("grant_type=refresh_token&client_id=demo&refresh_token={refresh}")).await;
    assert_eq!(response.status(), StatusCode::OK);
    let other =
        provider.post("/token", &format!("grant_type=refresh_token&client_id=other&refresh_token={refresh}")).await;
    assert_eq!(other.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn invalid_redirect_uris_and_client_ids_do_not_redirect() {
    let provider = TestProvider::new().await;
    for change in
        [("redirect_uri", "https://evil.example/"), ("redirect_uri", ""), ("client_id", "a b"), ("client_id", "")]
    {
        let answer = provider.get(&authorize_path(&[change])).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{change:?}");
        assert!(answer.text().await.unwrap().contains("This sign-in cannot continue"));
    }
    let twice = format!("{}&client_id=demo", authorize_path(&[]));
    assert_eq!(provider.get(&twice).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn other_request_errors_redirect_with_an_error_code() {
    let provider = TestProvider::new().await;
    for (change, error) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("state", ""), "invalid_request"),
    ] {
        let answer = provider.get(&authorize_path(&[change])).await;
        assert_eq!(answer.status(), StatusCode::FOUND, "{change:?}");
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        assert!(location.starts_with(&format!("{REDIRECT}?error={error}&")), "{location}");
    }
}

#[tokio::test]
async fn pages_are_small_without_scripts_and_usable_with_the_keyboard() {
    let provider = TestProvider::new().await;
    let first = provider.get(&authorize_path(&[])).await;
    let policy = first.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && policy.contains("http://127.0.0.1:*"), "{policy}");
    let first = first.text().await.unwrap();
    let second =
        provider.post("/authorize", &format!("request={}&name=Ada", request_field(&first))).await.text().await.unwrap();
    for page in [&first, &second] {
        assert!(page.len() < 2_500 && !page.contains("<script") && page.contains("autofocus"), "{page}");
    }
    assert!(first.contains("<label for=\"name\">"));
    assert!(second.contains("background:#0a7d33;color:#fff") && second.contains(">Allow</button>"));
}

#[tokio::test]
async fn a_consent_form_works_once_and_only_after_the_sign_in_form() {
    let provider = TestProvider::new().await;
    let first = request_field(&provider.get(&authorize_path(&[])).await.text().await.unwrap());
    let nameless = provider.post("/consent", &format!("request={first}&decision=allow")).await;
    assert_eq!(nameless.status(), StatusCode::BAD_REQUEST);
    let first = request_field(&provider.get(&authorize_path(&[])).await.text().await.unwrap());
    let second =
        request_field(&provider.post("/authorize", &format!("request={first}&name=Ada")).await.text().await.unwrap());
    let allow = format!("request={second}&decision=allow");
    assert_eq!(provider.post("/consent", &allow).await.status(), StatusCode::FOUND);
    assert_eq!(provider.post("/consent", &allow).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn metadata_names_the_endpoints_of_the_issuer() {
    let provider = TestProvider::new().await;
    let metadata: Value = provider.get("/.well-known/oauth-authorization-server").await.json().await.unwrap();
    assert_eq!(metadata["issuer"], DEMO_ISSUER);
    assert_eq!(metadata["token_endpoint"], format!("{DEMO_ISSUER}/token"));
    assert_eq!(metadata["code_challenge_methods_supported"], serde_json::json!(["S256"]));
}

#[tokio::test]
async fn fixed_tokens_are_issued_unchanged() {
    let idp = DemoIdp::new(DEMO_ISSUER, DemoLimits::default());
    let provider = TestProvider::serve(
        idp.with_fixed_tokens(Secret::new("demo_at_canary".into()), Secret::new("demo_rt_canary".into())),
    )
    .await;
    let (_, tokens) = provider.exchange(&provider.code().await, &[]).await;
    assert_eq!(
        (tokens["access_token"].as_str(), tokens["refresh_token"].as_str()),
        (Some("demo_at_canary"), Some("demo_rt_canary"))
    );
}

#[tokio::test]
async fn entries_and_body_size_are_bounded() {
    let idp = DemoIdp::new(DEMO_ISSUER, DemoLimits { entries_max: 3, ..DemoLimits::default() });
    let provider = TestProvider::serve(idp).await;
    for _ in 0..3 {
        assert_eq!(provider.get(&authorize_path(&[])).await.status(), StatusCode::OK);
    }
    assert_eq!(provider.get(&authorize_path(&[])).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(provider.post("/token", &"x".repeat(20_000)).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn device_code_is_pending_until_its_person_decides_and_valid_once() {
    let provider = TestProvider::new().await;
    let asked = provider.post("/device_authorization", "client_id=demo&scope=profile").await;
    let asked: Value = asked.json().await.unwrap();
    let poll = async || {
        let code = asked["device_code"].as_str().unwrap();
        let form = format!("grant_type=urn:ietf:params:oauth:grant-type:device_code&client_id=demo&device_code={code}");
        let answer = provider.post("/token", &form).await;
        (answer.status(), answer.json::<Value>().await.unwrap())
    };
    assert_eq!(poll().await.1["error"], "authorization_pending");
    let user_code = asked["user_code"].as_str().unwrap();
    let decide = format!("user_code={user_code}&name=Ada&decision=allow");
    assert_eq!(provider.post("/decide", &decide).await.status(), StatusCode::OK);
    assert_eq!(provider.post("/decide", &decide).await.status(), StatusCode::BAD_REQUEST, "a code is used once");
    let (status, tokens) = poll().await;
    assert!(status == StatusCode::OK && tokens["access_token"].is_string(), "{tokens}");
    assert_eq!(poll().await.1["error"], "expired_token");
}

#[tokio::test]
async fn device_code_expires_and_device_requests_are_bounded() {
    let limits = DemoLimits { device_s_max: 0, entries_max: 2, ..DemoLimits::default() };
    let provider = TestProvider::serve(DemoIdp::new(DEMO_ISSUER, limits)).await;
    let asked: Value = provider.post("/device_authorization", "client_id=demo").await.json().await.unwrap();
    let code = asked["device_code"].as_str().unwrap();
    let form = format!("grant_type=urn:ietf:params:oauth:grant-type:device_code&client_id=demo&device_code={code}");
    assert_eq!(provider.post("/token", &form).await.json::<Value>().await.unwrap()["error"], "expired_token");

    let limits = DemoLimits { entries_max: 2, ..DemoLimits::default() };
    let provider = TestProvider::serve(DemoIdp::new(DEMO_ISSUER, limits)).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(provider.post("/device_authorization", "client_id=demo").await.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 503]);
}

#[tokio::test]
async fn tokens_of_the_slow_account_come_late() {
    let limits = DemoLimits { slow_ms: 300, ..DemoLimits::default() };
    let provider = TestProvider::serve(DemoIdp::new(DEMO_ISSUER, limits)).await;
    let asked: Value = provider.post("/device_authorization", "client_id=demo").await.json().await.unwrap();
    let [device, user] = ["device_code", "user_code"].map(|name| asked[name].as_str().unwrap());
    provider.post("/decide", &format!("user_code={user}&name=slow&decision=allow")).await;
    let form = format!("grant_type=urn:ietf:params:oauth:grant-type:device_code&client_id=demo&device_code={device}");
    let started = std::time::Instant::now();
    assert_eq!(provider.post("/token", &form).await.status(), StatusCode::OK);
    assert!(started.elapsed() >= Duration::from_millis(300));
}
