//! A server whose people sign in at the stand-in OpenID provider, and their browsers.

use crate::{browser_client::Browser, fixture::Flags};
use anteroom_testbed::{
    OidcIssuer, ScriptedProvider, TestConfig, TestServer,
    oidc_issuer::{Decision, Person},
};
use anteroom_wire::ProblemBody;
use reqwest::{Method, Response, Url};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt};

/// The roles of the groups.
pub(crate) const ROLES: &str = "[oidc.roles]\n'people' = 'user'\n'operators' = 'operator'\n'auditors' = 'auditor'\n";

/// A server with a provider. Ada and Bob are users, Olga is an operator.
pub(crate) struct OidcServer {
    pub(crate) issuer: OidcIssuer,
    pub(crate) server: TestServer,
    /// The client's secret, and the files for which tools wait.
    _flags: Flags,
}

impl OidcServer {
    /// `settings` are appended to those of the provider.
    pub(crate) async fn start(settings: &str) -> Self {
        Self::start_with(new_issuer().await, &format!("{ROLES}{settings}")).await
    }

    pub(crate) async fn start_with(issuer: OidcIssuer, settings: &str) -> Self {
        let flags = Flags::new();
        let settings = format!("{}{settings}", oidc_settings(&flags, issuer.url(), &issuer));
        Self::start_with_settings(issuer, flags, &settings).await
    }

    /// `settings` contain the table `[oidc]`.
    pub(crate) async fn start_with_settings(issuer: OidcIssuer, flags: Flags, settings: &str) -> Self {
        let provider = flags.idle_provider();
        Self::start_with_provider(issuer, flags, provider, settings).await
    }

    /// `settings` contain the table `[oidc]`.
    pub(crate) async fn start_with_provider(
        issuer: OidcIssuer,
        flags: Flags,
        provider: ScriptedProvider,
        settings: &str,
    ) -> Self {
        let config = TestConfig::with_provider(provider).with_settings(settings);
        let server = TestServer::start(config).await.unwrap();
        issuer.register_redirect_uri(&format!("{}/sign-in/callback", server.base_url().unwrap()));
        issuer.register_post_logout_redirect_uri(&format!("{}/", server.base_url().unwrap()));
        Self { issuer, server, _flags: flags }
    }

    /// A browser in which this person has signed in.
    pub(crate) async fn sign_in(&self, key_digit: &str, subject: &str) -> Browser {
        let mut browser = Browser::new(&self.server, key_digit);
        let back = self.authenticate(&browser, Decision::SignIn(subject)).await;
        assert_eq!(browser.finish_sign_in(&back).await.unwrap(), "signed_in");
        browser
    }

    /// Begins a sign-in and decides at the provider. Returns the address that the browser is sent back to.
    pub(crate) async fn authenticate(&self, browser: &Browser, decision: Decision<'_>) -> Url {
        self.issuer.decide(&browser.begin("sign-in").await.unwrap(), decision).await.unwrap()
    }

    /// Confirms in the browser of a person.
    pub(crate) async fn confirm(&self, browser: &mut Browser, subject: &str) -> Result<String, ProblemBody> {
        let url = browser.begin("confirm").await?;
        browser.finish_sign_in(&self.issuer.decide(&url, Decision::SignIn(subject)).await.unwrap()).await
    }

    pub(crate) async fn finish(self) {
        self.server.stop_and_check_leaks().await.unwrap();
    }
}

pub(crate) async fn new_issuer() -> OidcIssuer {
    let people = [
        Person::in_groups("ada", "Ada Example", &["people", "others"]),
        Person::in_groups("bob", "Bob Example", &["people"]),
        Person::in_groups("olga", "Olga Example", &["operators"]),
    ];
    OidcIssuer::start(people).await.unwrap()
}

/// The table `[oidc]`, with the client's secret in a file outside of the server's directory.
pub(crate) fn oidc_settings(flags: &Flags, issuer_url: &str, issuer: &OidcIssuer) -> String {
    let secret = flags.path("client_secret");
    fs::write(&secret, issuer.client_secret()).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let client = issuer.client_id();
    format!("[oidc]\nissuer = '{issuer_url}'\nclient_id = '{client}'\nclient_secret_file = '{}'\n", secret.display())
}

/// The parameters with which the provider sends a browser back, in the fragment or the query.
pub(crate) fn returned(back: &Url) -> Value {
    let encoded = back.fragment().or(back.query()).unwrap();
    let url = Url::parse(&format!("http://form.invalid/?{encoded}")).unwrap();
    Value::Object(url.query_pairs().map(|(key, value)| (key.into_owned(), value.into())).collect())
}

/// The problem of a refused request.
pub(crate) async fn problem(response: Response) -> ProblemBody {
    let (status, text) = (response.status(), response.text().await.unwrap());
    let problem: ProblemBody = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} {text}"));
    assert!(!problem.sentence.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
    assert_eq!(problem.problem().unwrap().http_status(), status.as_u16(), "{problem:?}");
    problem
}

impl Browser {
    /// Begins a `sign-in` or a `confirm` and returns the address of the provider.
    pub(crate) async fn begin(&self, purpose: &str) -> Result<String, ProblemBody> {
        let request = self.request(Method::POST, &format!("/api/oidc/{purpose}"));
        let response = request.json(&json!({ "browser_key": self.key })).send().await.unwrap();
        if response.status() != 200 {
            return Err(problem(response).await);
        }
        let begun: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        Ok(begun["authorization_url"].as_str().unwrap().to_owned())
    }

    /// Sends what the provider returned, as the page does, and keeps the cookie. Returns the outcome.
    pub(crate) async fn finish_sign_in(&mut self, back: &Url) -> Result<String, ProblemBody> {
        let mut body = returned(back);
        body["browser_key"] = self.key.clone().into();
        let response = self.request(Method::POST, "/api/oidc/callback").json(&body).send().await.unwrap();
        if response.status() != 200 {
            assert!(!response.headers().contains_key("set-cookie"), "a refused sign-in sets no cookie");
            return Err(problem(response).await);
        }
        self.keep_cookie(&response);
        let finished: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        Ok(finished["outcome"].as_str().unwrap().to_owned())
    }

    /// The body of a successful request.
    pub(crate) async fn get_json(&self, path: &str) -> Value {
        let response = self.request(Method::GET, path).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The answer to a request with a JSON body.
    pub(crate) async fn post_json(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.request(Method::POST, path).json(&body).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
    }
}
