//! The service behind nginx's `auth_request`, as oauth2-proxy is one: it signs a person in with a form and sends the browser back.

use axum::{
    Router,
    extract::Query,
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use std::net::SocketAddr;
use tokio::{net::TcpListener, task::JoinHandle};

const COOKIE: &str = "company_sign_in=yes";

#[derive(Debug)]
pub(crate) struct SignInService {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

#[derive(Debug, Deserialize)]
struct Back {
    rd: String,
}

impl SignInService {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/oauth2/auth", get(check))
            .route("/oauth2/sign_in", get(show_form))
            .route("/oauth2/callback", get(sign_in));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, task }
    }
}

impl Drop for SignInService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn check(headers: HeaderMap) -> StatusCode {
    let cookies = headers.get(header::COOKIE).and_then(|cookies| cookies.to_str().ok()).unwrap_or_default();
    if cookies.contains(COOKIE) { StatusCode::ACCEPTED } else { StatusCode::UNAUTHORIZED }
}

/// nginx does not encode `&` in `$request_uri`, so the rest of the query belongs to the address as well.
async fn show_form(uri: axum::http::Uri) -> Html<String> {
    let back = uri.query().and_then(|query| query.strip_prefix("rd=")).unwrap_or("/").replace('&', "&amp;");
    Html(format!(
        "<title>Company sign-in</title><form action=/oauth2/callback><input type=hidden name=rd value=\"{back}\">\
         <button id=company>Sign in</button></form>"
    ))
}

async fn sign_in(Query(back): Query<Back>) -> Response {
    let headers = [(header::LOCATION, back.rd), (header::SET_COOKIE, format!("{COOKIE}; Path=/; Secure; HttpOnly"))];
    (StatusCode::FOUND, headers).into_response()
}
