//! Sign-ins that go wrong in real machines, with the tools of the image: the diagnosis must name the cause. With
//! `ANTEROOM_RECORD_RUNS=1` each is written as a fixture, which the tests of the diagnosis evaluate (`docs/diagnosis.md`).
//!
//! Each cause runs once; three times with `./test --full` and when it is recorded.

mod by_their_words;
mod causes;
mod certificates;
mod closed_browser;
mod networks;
mod recorder;

use anteroom_demo::identity_provider::{DEMO_ISSUER, DemoIdp, DemoLimits};
use anteroom_testbed::{
    ApiClient, ClaudeIssuer, CodexIssuer, ForwardProxy, ProxyKind, Qemu, TestCa, TestConfig, TestServer,
    codex_issuer::DeviceCodeApproval, endurance::is_full_run, native_cli::load_descriptor,
};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{SessionView, StartRequest},
    provider::{EgressRule, Provider, SettingsFile},
};
use axum::{Router, response::Html, routing::get};
use recorder::{Run, is_recording};
use std::{collections::BTreeMap, net::SocketAddr};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A page that loads a picture from a host that no provider is granted.
const PAGE: &str = "<!doctype html><title>page</title><body>page<img src=\"http://tracker.example.test/t.gif\">";
const PAGE_HOST: &str = "page.example.test";
/// A host of a tool's own that no provider is granted, or that nothing listens at.
const TOOL_HOST: &str = "api.example.test";

/// How many runs of each cause.
fn rounds() -> u32 {
    if is_full_run() || is_recording() { 3 } else { 1 }
}

/// A server with these providers, and what their tools talk to.
pub(crate) struct World {
    pub(crate) server: TestServer<Qemu>,
    _codex: CodexIssuer,
    _claude: ClaudeIssuer,
    _proxy: Option<ForwardProxy>,
    /// The demo's identity provider.
    idp: SocketAddr,
    providers: BTreeMap<String, Provider>,
    stop: CancellationToken,
}

/// Where the hosts of the tools are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hosts {
    /// Stand-ins answer.
    Answer,
    /// Nothing listens at their addresses.
    RefuseConnections,
    /// They have no addresses of the configuration.
    ByName,
    /// Stand-ins answer, behind a proxy that inspects TLS and whose authority is not configured.
    BehindInspection,
    /// Stand-ins answer, with certificates that are not valid yet, as a host sees them whose clock is behind.
    ClockBehind,
}

/// The years in which the certificates of stand-ins are valid, as a host sees them whose clock is behind.
const CLOCK_BEHIND: (i32, i32) = (2090, 2091);

impl World {
    async fn start(hosts: Hosts, settings: &str, adapt: impl Fn(&mut BTreeMap<String, Provider>)) -> Self {
        let (mut ca, stop) = (TestCa::new().unwrap(), CancellationToken::new());
        if hosts == Hosts::ClockBehind {
            ca = ca.valid_in(CLOCK_BEHIND.0, CLOCK_BEHIND.1);
        }
        let codex = CodexIssuer::start_tls(&ca, DeviceCodeApproval::OnCommand).await.unwrap();
        let claude = ClaudeIssuer::start(&ca).await.unwrap();
        let mut overrides = codex.host_overrides();
        overrides.extend(claude.host_overrides());
        let idp = start_demo_idp(&stop).await;
        overrides.insert("id.anteroom.test:80".to_owned(), idp);
        overrides.insert(format!("{PAGE_HOST}:80"), start_page(&stop).await);
        overrides.insert(format!("{TOOL_HOST}:443"), closed_port());
        let (mut settings, mut behind) = (settings.to_owned(), None);
        match hosts {
            Hosts::Answer | Hosts::ClockBehind => {}
            Hosts::RefuseConnections => overrides.values_mut().for_each(|address| *address = closed_port()),
            Hosts::ByName => overrides.clear(),
            Hosts::BehindInspection => {
                let proxy = ForwardProxy::start(ProxyKind::Inspecting, &ca, &overrides).await.unwrap();
                settings.push_str(&format!("[egress.proxy]\nurl = {:?}\n", proxy.url));
                behind = Some(proxy);
                overrides.clear();
            }
        }
        let mut providers = providers(&ca);
        adapt(&mut providers);
        let mut table = toml::Table::new();
        table.insert("providers".to_owned(), toml::Value::try_from(&providers).unwrap());
        let config = TestConfig { host_overrides: overrides, ..TestConfig::qemu(&settings) };
        let server = TestServer::start(config.with_settings(&table.to_string())).await.unwrap();
        Self { server, _codex: codex, _claude: claude, _proxy: behind, idp, providers, stop }
    }

    pub(crate) fn provider(&self, id: &str) -> &Provider {
        &self.providers[id]
    }

    async fn sign_in(&self, provider: &str, method: Option<&str>) -> (ApiClient, SessionId) {
        let api = self.server.operator_client().unwrap();
        let request = StartRequest { method: method.map(str::to_owned), ..StartRequest::new(provider) };
        let id = api.start_session_with(&request).await.unwrap().session.id;
        (api, id)
    }

    /// Decides on a device code of the demo, as a program does.
    async fn decide_device(&self, user_code: &str, name: &str, decision: &str) {
        let answer =
            self.post_to_demo("decide", &format!("user_code={user_code}&name={name}&decision={decision}")).await;
        assert!(answer.contains("allowed"), "{answer}");
    }

    /// Sends a form to the demo's identity provider; returns the answer.
    async fn post_to_demo(&self, path: &str, form: &str) -> String {
        let request = reqwest::Client::new().post(format!("http://{}/{path}", self.idp)).body(form.to_owned());
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.send().await.unwrap().text().await.unwrap()
    }

    /// The page of the demo's identity provider at this address.
    async fn get_from_demo(&self, url: &str) -> String {
        let url = url.replace(DEMO_ISSUER, &format!("http://{}", self.idp));
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    async fn close(self) {
        self.stop.cancel();
        self.server.stop_and_check_leaks().await.unwrap();
    }
}

/// Whether the tool has shown something to act on.
fn has_instructions(view: &SessionView) -> bool {
    view.sign_in.url.is_some() || view.sign_in.browser_url.is_some() || view.sign_in.device_code.is_some()
}

/// An address on which nothing listens: the port was free a moment ago.
fn closed_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn start_demo_idp(stop: &CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // A code that is not entered expires at once, and there is time to enter one.
    let limits = DemoLimits { device_s_max: 20, ..DemoLimits::default() };
    tokio::spawn(DemoIdp::new(DEMO_ISSUER, limits).serve(listener, stop.clone()));
    address
}

async fn start_page(stop: &CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), stop.clone());
    let router = Router::new().fallback(get(|| async { Html(PAGE) }));
    tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await });
    address
}

/// The demo, Codex, and a tool of one's own, which may reach the page.
fn providers(ca: &TestCa) -> BTreeMap<String, Provider> {
    let mut codex = load_descriptor("codex").unwrap();
    let file = SettingsFile { path: ".ca.pem".to_owned(), content: ca.pem() };
    codex.settings_files.push(file.clone());
    for method in codex.methods.values_mut() {
        method.settings_files.iter_mut().for_each(|files| files.push(file.clone()));
    }
    codex.env.insert("CODEX_CA_CERTIFICATE".to_owned(), "/home/user/.ca.pem".to_owned());
    let mut claude = load_descriptor("claude_code").unwrap();
    claude.id = "claude".parse().unwrap();
    ca.trusted_by(&mut claude, "NODE_EXTRA_CA_CERTS");
    let mut all = BTreeMap::from([
        ("codex".to_owned(), codex),
        ("demo".to_owned(), load_descriptor("demo").unwrap()),
        ("own".to_owned(), own_tool(&["sh", "-i"])),
        ("claude".to_owned(), claude),
    ]);
    for provider in all.values_mut() {
        provider.egress.push(EgressRule { host: PAGE_HOST.to_owned(), ports: vec![80], reason: String::new() });
    }
    all
}

/// A provider whose tool is this command.
fn own_tool(argv: &[&str]) -> Provider {
    let text = anteroom_testbed::test_server::qemu::command_provider("own", argv);
    let table: toml::Table = text.parse().unwrap();
    let mut provider = table["providers"]["own"].clone();
    provider.as_table_mut().unwrap().insert("id".to_owned(), "own".into());
    provider.try_into().unwrap()
}

/// Adds a copy of the provider `of` as `id`, changed by `change`.
fn add_copy(providers: &mut BTreeMap<String, Provider>, of: &str, id: &str, change: impl FnOnce(&mut Provider)) {
    let mut provider = providers[of].clone();
    provider.id = id.parse().unwrap();
    change(&mut provider);
    providers.insert(id.to_owned(), provider);
}

/// Waits until the tool has shown something to act on.
async fn wait_instructions(api: &ApiClient, id: &SessionId) -> SessionView {
    api.wait_until(id, "showing what to do", has_instructions).await.unwrap()
}

/// Waits until the tool has shown an address whose code is pasted; returns it. What the tool opens by itself comes before.
async fn wait_link(api: &ApiClient, id: &SessionId) -> String {
    let view = api.wait_until(id, "showing an address", |view| view.sign_in.url.is_some()).await.unwrap();
    view.sign_in.url.unwrap()
}

/// Waits until the tool runs.
async fn wait_running(api: &ApiClient, id: &SessionId) {
    api.wait_entry(id, TimelineKind::CliStarted).await.unwrap();
}
