//! Sessions behind a proxy that is not configured, behind one that inspects TLS, and on a host whose clock is wrong: what the diagnosis
//! names.

use crate::start_session_with;
use anteroom_testbed::{
    ApiClient, ForwardProxy, ProxyKind, Script, ScriptedProvider, Step, TestCa, TestConfig, TestServer, eventually,
    test_ca::TlsServer,
};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::TimelineEntry,
    diagnosis::{Diagnosis, Verdict},
};
use axum::{Router, routing::get};
use std::{path::Path, time::Duration};

const SOON: Duration = Duration::from_secs(30);
const HOST: &str = "auth.example";

/// An HTTPS server with the provider's name, and its authority.
struct Outside {
    ca: TestCa,
    server: TlsServer,
}

impl Outside {
    async fn start(ca: TestCa) -> Self {
        let router = Router::new().route("/", get(|| async { "hello" }));
        let server = TlsServer::start(&ca, &[HOST], router).await.unwrap();
        Self { ca, server }
    }

    async fn proxy(&self, kind: ProxyKind) -> ForwardProxy {
        ForwardProxy::start(kind, &self.ca, &self.server.host_overrides()).await.unwrap()
    }
}

/// A tool that requests its host over TLS, says what it got, and ends.
fn tool() -> ScriptedProvider {
    let steps = [Step::TlsGet { authority: format!("{HOST}:443") }, Step::Exit { code: 3 }];
    ScriptedProvider::new("scripted", Script::new(steps)).with_egress(HOST, 443)
}

fn behind(proxy: &ForwardProxy, trusted: Option<&Path>) -> TestConfig {
    let trusted = trusted.map(|file| format!("extra_ca_files = [{file:?}]\n")).unwrap_or_default();
    let settings = format!("[egress]\n{trusted}[egress.proxy]\nurl = {:?}\n", proxy.url);
    TestConfig::with_provider(tool()).with_settings(&settings)
}

/// What the tool printed last.
async fn last_lines(api: &ApiClient, id: &SessionId) -> String {
    api.wait_entry(id, TimelineKind::CliExited).await.unwrap().data["last_lines"].to_string()
}

/// The entry of the gate about the host's certificate.
async fn wait_refused(api: &ApiClient, id: &SessionId, reason: &str) -> TimelineEntry {
    let find = async || Ok(api.get_timeline(id).await?.into_iter().find(|entry| entry.data["reason"] == reason));
    eventually("the gate's entry about the certificate", SOON, find).await.unwrap()
}

async fn verdict_of(config: TestConfig, verdict: Verdict, reason: &str) -> Diagnosis {
    let (server, api, id) = start_session_with(config).await;
    let entry = wait_refused(&api, &id, reason).await;
    assert_eq!((&entry.data["host"], &entry.data["by"]), (&HOST.into(), &"tool".into()), "{entry:#?}");
    let found = api.wait_verdict(&id, verdict).await.unwrap();
    assert!(found.evidence.iter().any(|proof| proof.number == entry.number), "{found:#?}");
    server.stop_and_check_leaks().await.unwrap();
    found
}

#[tokio::test]
async fn r02_missing_proxy_is_named_and_each_kind_of_proxy_reaches_out() {
    let outside = Outside::start(TestCa::new().unwrap()).await;
    for kind in [ProxyKind::Http, ProxyKind::Socks, ProxyKind::Inspecting] {
        let proxy = outside.proxy(kind).await;
        // The name resolves only behind the proxy.
        let mut config = TestConfig::with_provider(tool());
        config.env.insert("HTTPS_PROXY".to_owned(), proxy.url.clone());
        let (server, api, id) = start_session_with(config).await;
        let found = api.wait_verdict(&id, Verdict::EgressUnreachable).await.unwrap();
        assert!(found.sentence.contains("HTTPS_PROXY in this server's environment"), "{kind:?}: {found:#?}");
        assert!(found.sentence.contains("egress.proxy.url"), "{kind:?}: {found:#?}");
        assert!(found.remedy.contains("[egress.proxy]"), "{kind:?}: {found:#?}");
        server.stop_and_check_leaks().await.unwrap();

        let (server, api, id) = start_session_with(behind(&proxy, Some(&proxy.ca_file))).await;
        let lines = last_lines(&api, &id).await;
        assert!(lines.contains("HTTP/1.1 200"), "{kind:?}: {lines}");
        server.stop_and_check_leaks().await.unwrap();
    }
}

#[tokio::test]
async fn r02_proxy_that_inspects_tls_is_named_with_its_authority_and_the_setting() {
    let outside = Outside::start(TestCa::new().unwrap()).await;
    let proxy = outside.proxy(ProxyKind::Inspecting).await;
    let found = verdict_of(behind(&proxy, None), Verdict::UnknownAuthority, "egress_unknown_authority").await;
    assert!(found.sentence.contains("CN=mitmproxy"), "{found:#?}");
    assert!(found.remedy.contains("egress.extra_ca_files"), "{found:#?}");
}

#[tokio::test]
async fn clock_outside_the_dates_of_a_certificate_is_named() {
    for (first, last) in [(2020, 2021), (2090, 2091)] {
        let outside = Outside::start(TestCa::new().unwrap().valid_in(first, last)).await;
        let config =
            TestConfig::with_provider(tool()).with_host_override(&format!("{HOST}:443"), outside.server.address());
        let found = verdict_of(config, Verdict::CertificateNotValidNow, "egress_certificate_dates").await;
        assert!(found.remedy.contains("clock"), "{found:#?}");
        assert!(found.sentence.contains("Authority of one test"), "{found:#?}");
    }
}

#[tokio::test]
async fn connection_that_a_tool_gives_up_is_no_fault_if_its_certificate_is_good() {
    let outside = Outside::start(TestCa::new().unwrap()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, outside.ca.pem()).unwrap();
    // The tool trusts no authority, and the gate does.
    let tool = tool().with_descriptor_key("env", serde_json::json!({ "SSL_CERT_FILE": "/nonexistent" }));
    let config = TestConfig::with_provider(tool)
        .with_host_override(&format!("{HOST}:443"), outside.server.address())
        .with_settings(&format!("[egress]\nextra_ca_files = [{file:?}]\n"));
    let server = TestServer::start(config).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    let lines = last_lines(&api, &id).await;
    assert!(lines.contains("UnknownIssuer"), "{lines}");
    // The tool's words are its own evidence.
    let found = api.wait_verdict(&id, Verdict::UnknownAuthority).await.unwrap();
    assert!(!found.sentence.contains("this server asked"), "{found:#?}");
    let timeline = api.get_timeline(&id).await.unwrap();
    assert!(timeline.iter().all(|entry| entry.kind != TimelineKind::EgressDenied), "{timeline:#?}");
    server.stop_and_check_leaks().await.unwrap();
}
