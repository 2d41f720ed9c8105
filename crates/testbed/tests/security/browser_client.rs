//! A browser, as the server sees it: a cookie, a key and the headers of a page.

use anteroom_testbed::{TestServer, WAIT_MAX};
use reqwest::{Client, Method, RequestBuilder, Response, header};
use serde_json::{Value, json};

/// A browser with a key, signed in or not.
pub(crate) struct Browser {
    client: Client,
    /// The server's address, as a URL.
    server: String,
    /// The base of the server's links.
    pub(crate) base: String,
    /// The key that its pages send.
    pub(crate) key: String,
    /// `NAME=VALUE`; empty: not signed in.
    pub(crate) cookie: String,
}

impl Browser {
    /// A browser that is not signed in. `key_digit` is repeated as its key.
    pub(crate) fn new(server: &TestServer, key_digit: &str) -> Self {
        Self {
            client: Client::builder().no_proxy().timeout(WAIT_MAX).build().unwrap(),
            server: format!("http://{}", server.address().unwrap()),
            base: server.base_url().unwrap(),
            key: key_digit.repeat(64),
            cookie: String::new(),
        }
    }

    /// A browser in which a fresh operator's link was used.
    pub(crate) async fn of_operator(server: &TestServer, key_digit: &str) -> Self {
        let mut browser = Self::new(server, key_digit);
        let response = browser.log_in(&operator_login_token(server).await).await;
        assert_eq!(response.status(), 204);
        browser
    }

    /// Redeems a login token and keeps the cookie.
    pub(crate) async fn log_in(&mut self, login_token: &str) -> Response {
        let body = json!({ "login_token": login_token, "browser_key": self.key });
        let response = self.request(Method::POST, "/api/login").json(&body).send().await.unwrap();
        self.keep_cookie(&response);
        response
    }

    /// Keeps the cookie of a response, if there is one.
    pub(crate) fn keep_cookie(&mut self, response: &Response) {
        if let Some(cookie) = response.headers().get(header::SET_COOKIE) {
            self.cookie = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        }
    }

    /// A request as a page sends it.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method.clone(), format!("{}{path}", self.server));
        let request = request.header("x-anteroom", &self.key);
        let request = if method == Method::GET { request } else { request.header(header::ORIGIN, &self.base) };
        if self.cookie.is_empty() { request } else { request.header(header::COOKIE, &self.cookie) }
    }

    /// The status and the problem's code, if there is one.
    pub(crate) async fn status(&self, method: Method, path: &str) -> (u16, String) {
        status_of(self.request(method, path).json(&json!({}))).await
    }
}

/// Sends a request and returns the status and the problem's code, if there is one.
pub(crate) async fn status_of(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

/// The login token of a fresh operator's link.
pub(crate) async fn operator_login_token(server: &TestServer) -> String {
    let link: Value = server.operator_client().unwrap().post("/api/links", json!({})).await.unwrap().parse().unwrap();
    link["url"].as_str().unwrap().split_once("#login_token=").unwrap().1.to_owned()
}
