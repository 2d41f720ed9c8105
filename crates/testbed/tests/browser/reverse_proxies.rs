//! Real reverse proxies with TLS in front of the server, run with the files of `packaging/proxies`: the whole sign-in of the demo in a
//! browser, and each thing that a proxy does wrong, named on the page, on the timeline and by `anteroom doctor --public-url`.

mod bodies;
mod proxy;
mod sign_in_service;

use anteroom_demo::identity_provider::{DEMO_ISSUER, DemoIdp, DemoLimits};
use anteroom_testbed::{ApiClient, TestConfig, TestServer, WAIT_MAX, plain_process::built_program};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus, diagnosis::Verdict};
use proxy::{Kind, Proxy, Site};
use serde_json::{Value, json};
use sign_in_service::SignInService;
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// The longest time until a fault is named on the page.
const NAMED_MS_MAX: u64 = 10_000;
const SENTENCE_OF_BUFFERING: &str = "A reverse proxy in front of this server holds back live updates.";

/// A browser that `web/e2e/real/proxies.mjs` drives.
struct Browser {
    process: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    fn start(flags: &[String]) -> Self {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
        let mut command = Command::new("node");
        command.arg("e2e/real/proxies.mjs").current_dir(web).kill_on_drop(true);
        command.env("ANTEROOM_E2E_FLAGS", serde_json::to_string(flags).unwrap());
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("./test installs node");
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, input, lines: BufReader::new(output).lines() }
    }

    async fn run(&mut self, command: Value) -> Value {
        self.input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let line = timeout(2 * WAIT_MAX, self.lines.next_line()).await.expect("the script answers in time").unwrap();
        let found: Value = serde_json::from_str(&line.expect("the script failed; its error is above")).unwrap();
        assert_eq!(found["page_errors"], json!([]), "{command}");
        found
    }

    /// Waits for an element; the time counts.
    async fn named(&mut self, selector: &str) -> String {
        let found = self.run(json!({ "do": "wait", "selector": selector })).await;
        assert!(found["took_ms"].as_u64().unwrap() <= NAMED_MS_MAX, "{found}");
        found["text"].as_str().unwrap().to_owned()
    }

    async fn close(mut self) {
        drop(self.input);
        assert!(timeout(WAIT_MAX, self.process.wait()).await.expect("the script exits").unwrap().success());
    }
}

/// A server with the demo's tool, a proxy in front of it, and a browser.
struct Fixture {
    site: Site,
    server: TestServer,
    proxy: Proxy,
    browser: Browser,
    sign_in: Option<SignInService>,
    stop_issuer: CancellationToken,
}

impl Fixture {
    async fn start(kind: Kind, edits: &[(&str, &str)]) -> Self {
        let site = Site::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (issuer, stop_issuer) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(DemoIdp::new(DEMO_ISSUER, DemoLimits::default()).serve(listener, stop_issuer.clone()));
        let tool = built_program("anteroom-demo-cli").unwrap();
        let settings = format!(
            "public_url = '{}'\n[egress]\nextra_ca_files = [{:?}]\n[providers.demo]\nargv = [{tool:?}, 'login']\n\
             lanes = ['link', 'desktop', 'terminal']\ncredential = {{ status_argv = [{tool:?}, 'status'] }}\n",
            site.public_url(),
            site.ca_file(),
        );
        let config = TestConfig::with_clis(&["anteroom-demo"]).with_settings(&settings);
        let server = TestServer::start(config.with_host_override("id.anteroom.test:80", issuer)).await.unwrap();
        let sign_in = match kind {
            Kind::NginxAuthRequest => Some(SignInService::start().await),
            Kind::Nginx | Kind::Caddy | Kind::Haproxy => None,
        };
        let sign_in_address = sign_in.as_ref().map(|service| service.address);
        let proxy = site.start(kind, server.address().unwrap(), sign_in_address, edits).await;
        let browser = Browser::start(&[
            format!("--host-resolver-rules=MAP id.anteroom.test {issuer}"),
            format!("--ignore-certificate-errors-spki-list={}", site.key_hash),
        ]);
        Self { site, server, proxy, browser, sign_in, stop_issuer }
    }

    /// Starts a session; returns its link too.
    async fn session(&self) -> (ApiClient, SessionId, String) {
        let api = self.server.backend_client().unwrap();
        let started = api.start_session("demo").await.unwrap();
        assert!(started.viewer_url.starts_with(&self.site.public_url()), "{}", started.viewer_url);
        (api, started.session.id, started.viewer_url)
    }

    /// Runs `anteroom doctor --public-url --json`: each step's name, with the cause if it failed.
    async fn doctor(&self) -> Vec<(String, String)> {
        let mut command = Command::new(built_program("anteroom").unwrap());
        command.arg("--config").arg(self.server.path().join("config.toml")).args(["doctor", "--public-url", "--json"]);
        let output =
            timeout(WAIT_MAX, command.stdin(Stdio::null()).kill_on_drop(true).output()).await.unwrap().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let report: Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        let steps = report["steps"].as_array().unwrap().iter().map(|step| {
            let found = step["failure"]["cause"].as_str().or(step["status"].as_str()).unwrap();
            (step["name"].as_str().unwrap().to_owned(), found.to_owned())
        });
        let steps: Vec<_> = steps.collect();
        let works = steps.iter().all(|(_, found)| found == "ok");
        assert_eq!(output.status.success(), works, "{report:#}");
        steps
    }

    /// The steps that failed.
    async fn doctor_failures(&self) -> Vec<(String, String)> {
        let mut steps = self.doctor().await;
        steps.retain(|(_, found)| found != "ok" && found != "skipped");
        steps
    }

    async fn close(self) {
        self.browser.close().await;
        self.proxy.stop().await;
        drop(self.sign_in);
        self.stop_issuer.cancel();
        self.server.stop_and_check_leaks().await.unwrap();
    }
}

fn failed(step: &str, cause: &str) -> Vec<(String, String)> {
    vec![(step.to_owned(), cause.to_owned())]
}

/// From the session's page to the stored credential, with a look at the desktop.
async fn complete_sign_in(fixture: &mut Fixture, api: &ApiClient, id: &SessionId) {
    let shown = fixture.browser.run(json!({ "do": "desktop" })).await;
    assert!(shown["colours"].as_u64().unwrap() >= 1, "{shown}");
    let end = fixture.browser.run(json!({ "do": "sign-in" })).await;
    assert_eq!(end["text"], "Connected");
    let view = api.wait_status(id, SessionStatus::Completed).await.unwrap();
    assert_eq!(view.credential.unwrap().account.as_deref(), Some("Ada"));
}

async fn signs_in_through(kind: Kind) {
    let mut fixture = Fixture::start(kind, &[]).await;
    let (api, id, link) = fixture.session().await;
    fixture.browser.run(json!({ "do": "open", "link": link })).await;
    fixture.browser.run(json!({ "do": "enter" })).await;
    complete_sign_in(&mut fixture, &api, &id).await;
    let timeline = api.get_timeline(&id).await.unwrap();
    assert!(timeline.iter().all(|entry| entry.kind != TimelineKind::ProxyFault), "{timeline:#?}");
    let steps = fixture.doctor().await;
    assert_eq!(steps.len(), 5);
    assert!(steps.iter().all(|(_, found)| found == "ok"), "{steps:?}");
    fixture.close().await;
}

#[tokio::test]
async fn whole_sign_in_works_through_nginx() {
    signs_in_through(Kind::Nginx).await;
}

#[tokio::test]
async fn whole_sign_in_works_through_caddy() {
    signs_in_through(Kind::Caddy).await;
}

#[tokio::test]
async fn whole_sign_in_works_through_haproxy() {
    signs_in_through(Kind::Haproxy).await;
}

#[tokio::test]
async fn r10_link_that_lost_its_fragment_at_the_sign_in_of_a_proxy_can_be_pasted_or_opened_again() {
    let mut fixture = Fixture::start(Kind::NginxAuthRequest, &[]).await;
    let (api, id, link) = fixture.session().await;
    let token = link.split_once("#login_token=").unwrap().1.to_owned();
    fixture.browser.run(json!({ "do": "open", "link": link })).await;
    fixture.browser.run(json!({ "do": "company" })).await;
    let text = fixture.browser.named("[data-problem=link_without_fragment]").await;
    assert!(text.contains("Its last part was lost on the way") && text.contains("open it once more"), "{text}");
    fixture.browser.run(json!({ "do": "paste-link", "link": link })).await;
    fixture.browser.run(json!({ "do": "wait", "selector": "[data-action=agree]" })).await;
    let lost = api.wait_entry(&id, TimelineKind::ProxyFault).await.unwrap();
    assert_eq!(lost.data["reason"], "link_without_fragment", "{lost:#?}");
    assert_eq!(fixture.doctor_failures().await, failed("page", "link_without_fragment"));

    // In another browser: after the proxy's sign-in the same link works when it is opened again.
    let (api, id, link) = fixture.session().await;
    fixture.browser.run(json!({ "do": "open", "link": link })).await;
    fixture.browser.run(json!({ "do": "company" })).await;
    fixture.browser.named("[data-problem=link_without_fragment]").await;
    fixture.browser.run(json!({ "do": "open-again", "link": link })).await;
    fixture.browser.run(json!({ "do": "enter" })).await;
    complete_sign_in(&mut fixture, &api, &id).await;
    let logged = fixture.site.logged_requests();
    assert!(logged.contains("/dashboard/remote-cli/auth?session="), "{logged}");
    assert!(!logged.contains(&token) && !logged.contains("login_token"), "a login token is in the proxy's log");
    fixture.close().await;
}

#[tokio::test]
async fn r20_proxy_that_does_not_pass_upgrade_is_named() {
    let edits = [(
        "        proxy_set_header Upgrade $http_upgrade;\n        proxy_set_header Connection $connection_upgrade;\n",
        "",
    )];
    let mut fixture = Fixture::start(Kind::Nginx, &edits).await;
    let (api, id, link) = fixture.session().await;
    fixture.browser.run(json!({ "do": "open", "link": link })).await;
    fixture.browser.run(json!({ "do": "enter" })).await;
    fixture.browser.run(json!({ "do": "wait", "selector": "#tab-desktop" })).await;
    fixture.browser.run(json!({ "do": "open-desktop" })).await;
    let text = fixture.browser.named("#panel-desktop .overlay[data-connection=stopped] strong").await;
    assert!(text.contains("does not pass WebSockets on") || text.contains("does not let it through"), "{text}");
    let rejected = api.wait_entry(&id, TimelineKind::ViewerRejected).await.unwrap();
    assert_eq!(rejected.data["reason"], "proxy_without_upgrade");
    api.wait_verdict(&id, Verdict::ProxyWithoutUpgrade).await.unwrap();
    assert_eq!(fixture.doctor_failures().await, failed("WebSocket", "proxy_without_upgrade"));
    fixture.close().await;
}

#[tokio::test]
async fn proxy_that_holds_back_updates_is_named() {
    // The server's header switches buffering off where the proxy heeds it.
    let mut fixture = Fixture::start(Kind::Nginx, &[("proxy_buffering off;", "proxy_buffering on;")]).await;
    assert_eq!(fixture.doctor_failures().await, []);
    fixture.proxy.stop().await;
    let edits = [("proxy_buffering off;", "proxy_buffering on;\n        proxy_ignore_headers X-Accel-Buffering;")];
    fixture.proxy = fixture.site.start(Kind::Nginx, fixture.server.address().unwrap(), None, &edits).await;
    let (api, id, link) = fixture.session().await;
    fixture.browser.run(json!({ "do": "open", "link": link })).await;
    fixture.browser.run(json!({ "do": "enter" })).await;
    let text = fixture.browser.named("[data-fault=proxy_buffers]").await;
    assert!(text.contains("holds them back"), "{text}");
    let held_back = api.wait_entry(&id, TimelineKind::ProxyFault).await.unwrap();
    assert_eq!(held_back.data["reason"], "proxy_buffers");
    assert!(held_back.sentence.contains(SENTENCE_OF_BUFFERING), "{held_back:#?}");
    let found = api.wait_verdict(&id, Verdict::ProxyFault).await.unwrap();
    assert!(found.sentence.contains(SENTENCE_OF_BUFFERING), "{found:#?}");
    assert_eq!(fixture.doctor_failures().await, failed("live updates", "proxy_buffers"));
    // The sign-in works nevertheless: the page asks every few seconds.
    complete_sign_in(&mut fixture, &api, &id).await;
    fixture.close().await;
}

#[tokio::test]
async fn proxy_that_sends_another_host_is_named() {
    let edits = [("proxy_set_header Host $http_host;", "proxy_set_header Host backend.internal;")];
    let mut fixture = Fixture::start(Kind::Nginx, &edits).await;
    let (_, _, link) = fixture.session().await;
    let page = fixture.browser.run(json!({ "do": "open", "link": link })).await;
    assert_eq!(page["status"], 421, "{page}");
    let text = page["text"].as_str().unwrap();
    assert!(text.contains("This is not the server's address"), "{text}");
    assert_eq!(fixture.doctor_failures().await, failed("page", "wrong_host"));
    fixture.close().await;
}

#[tokio::test]
async fn proxy_that_refuses_large_requests_is_named() {
    let mut fixture = Fixture::start(Kind::Nginx, &[("client_max_body_size 1m;", "client_max_body_size 1k;")]).await;
    let (api, id, link) = fixture.session().await;
    fixture.browser.run(json!({ "do": "open", "link": link })).await;
    fixture.browser.run(json!({ "do": "enter" })).await;
    fixture.browser.run(json!({ "do": "wait", "selector": "#paste-code" })).await;
    let callback = format!("http://127.0.0.1:1/callback?code={}", "x".repeat(2_000));
    fixture.browser.run(json!({ "do": "paste", "text": callback })).await;
    let text = fixture.browser.named("[data-problem=proxy_body_limit]").await;
    assert!(text.contains("too large for something on the way"), "{text}");
    let refused = api.wait_entry(&id, TimelineKind::ProxyFault).await.unwrap();
    assert_eq!(refused.data["reason"], "proxy_body_limit");
    api.wait_verdict(&id, Verdict::ProxyFault).await.unwrap();
    assert_eq!(fixture.doctor_failures().await, failed("large request", "proxy_body_limit"));
    fixture.close().await;
}

#[tokio::test]
async fn r47_quiet_connections_stay_open_behind_a_proxy_that_ends_idle_ones_after_ten_seconds() {
    let mut fixture = Fixture::start(Kind::Nginx, &[("proxy_read_timeout 60s;", "proxy_read_timeout 10s;")]).await;
    let (api, id, link) = fixture.session().await;
    fixture.browser.run(json!({ "do": "open", "link": link })).await;
    fixture.browser.run(json!({ "do": "enter" })).await;
    fixture.browser.run(json!({ "do": "desktop" })).await;
    // Longer than two of the proxy's timeouts.
    tokio::time::sleep(Duration::from_secs(22)).await;
    let state = fixture.browser.run(json!({ "do": "desktop-state" })).await;
    assert_eq!(state["covers"], json!([]), "the desktop was not interrupted");
    let timeline = api.get_timeline(&id).await.unwrap();
    let joined = timeline.iter().filter(|entry| entry.kind == TimelineKind::ViewerJoined).count();
    assert_eq!(joined, 1, "{timeline:#?}");
    fixture.close().await;
}
