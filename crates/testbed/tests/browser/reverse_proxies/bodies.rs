//! The largest body that the server accepts passes each proxy. A larger one is 413 with the server's sentence. Above
//! 1 MiB nginx answers itself.

use super::proxy::{Kind, Site};
use anteroom_testbed::{TestConfig, TestServer, WAIT_MAX};
use serde_json::Value;
use std::fs;
use tokio::{process::Command, time::timeout};

const BODY_BYTES_MAX: usize = 65_536;
const NGINX_BYTES_MAX: usize = 1 << 20;

/// Starts a session with a body of this length; returns the status and the body of the answer.
async fn start_session(site: &Site, token: &str, bytes: usize) -> (u16, String) {
    let body = site.path("body");
    let start = r#"{"provider": "demo"}"#;
    fs::write(&body, start.to_owned() + &" ".repeat(bytes - start.len())).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--write-out", "\n%{http_code}", "--cacert"]).arg(site.ca_file());
    curl.args(["--header", "Content-Type: application/json", "--header"]).arg(format!("Authorization: Bearer {token}"));
    curl.arg("--data-binary").arg(format!("@{}", body.display())).arg(format!("{}/api/auth/start", site.public_url()));
    let output = timeout(WAIT_MAX, curl.kill_on_drop(true).output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (answer, status) = text.rsplit_once('\n').unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    (status.parse().unwrap_or_else(|_| panic!("{bytes} bytes: {text}{error}")), answer.to_owned())
}

async fn check(kind: Kind) {
    let site = Site::new();
    let settings = format!("public_url = '{}'\n", site.public_url());
    let config = TestConfig::with_clis(&["anteroom-demo"]).with_settings(&settings);
    let server = TestServer::start(config).await.unwrap();
    let proxy = site.start(kind, server.address().unwrap(), None, &[]).await;
    let token = server.backend_tokens()[0].expose().to_owned();

    let (status, answer) = start_session(&site, &token, BODY_BYTES_MAX).await;
    assert_eq!(status, 202, "{kind:?}: {answer}");
    for bytes in [BODY_BYTES_MAX + 1, NGINX_BYTES_MAX, NGINX_BYTES_MAX + 1] {
        let (status, answer) = start_session(&site, &token, bytes).await;
        assert_eq!(status, 413, "{kind:?}, {bytes} bytes: {answer}");
        if kind == Kind::Nginx && bytes > NGINX_BYTES_MAX {
            continue;
        }
        let problem: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(problem["code"], "too_large", "{kind:?}, {bytes} bytes: {answer}");
        assert!(answer.contains("The body is larger than this server accepts."), "{answer}");
    }
    proxy.stop().await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn bodies_up_to_the_limit_pass_and_larger_ones_are_refused_by_name() {
    for kind in [Kind::Nginx, Kind::Caddy, Kind::Haproxy] {
        check(kind).await;
    }
}
