//! The released tools where a proxy is the only way out: real proxies between the egress gate and the issuers, and machines that are
//! configured by the server's settings alone. Three of the nine pairs run by default, all with `./test --full`.

use super::{
    SignIn,
    user::{User, grants_on_the_desktop},
};
use anteroom_testbed::{
    ClaudeIssuer, CodexIssuer, ForwardProxy, GoogleIssuer, ProxyKind as Kind, Qemu, TestCa, TestConfig, TestServer,
    codex_issuer::DeviceCodeApproval, google_issuer::Account,
};
use anteroom_wire::{TimelineKind, api::SessionStatus};
use std::{collections::BTreeMap, net::SocketAddr};

/// A server behind a proxy, and the person's own browser, which needs none.
struct Network {
    server: TestServer<Qemu>,
    proxy: ForwardProxy,
    user: User,
}

impl Network {
    async fn open(kind: Kind, ca: TestCa, hosts: BTreeMap<String, SocketAddr>) -> Self {
        let proxy = ForwardProxy::start(kind, &ca, &hosts).await.unwrap();
        let settings =
            format!("[egress]\nextra_ca_files = [{:?}]\n[egress.proxy]\nurl = {:?}\n", proxy.ca_file, proxy.url);
        let server = TestServer::start(TestConfig::qemu(&settings)).await.unwrap();
        Self { server, proxy, user: User { ca, host_overrides: hosts } }
    }

    /// Checks that the sign-in completed with the tokens of the issuer, through the proxy alone.
    async fn succeeded(self, sign_in: SignIn, issued: Vec<String>) {
        let view = sign_in.wait("completed", |view| view.status == SessionStatus::Completed).await;
        println!("signed in after {:.0} s", sign_in.started.elapsed().as_secs_f32());
        let files = sign_in.api.lease_credential(&view.credential.unwrap().id).await.unwrap().files;
        let text = String::from_utf8_lossy(files[0].content.expose()).into_owned();
        assert!(!issued.is_empty(), "nothing was issued");
        assert!(issued.iter().any(|token| text.contains(token)), "an issued token is in the file");
        let timeline = sign_in.api.get_timeline(&sign_in.id).await.unwrap();
        let allowed: Vec<_> = timeline.iter().filter(|entry| entry.kind == TimelineKind::EgressAllowed).collect();
        assert!(!allowed.is_empty() && allowed.iter().all(|entry| entry.data["way"] == "proxy"), "{allowed:#?}");
        assert!(!self.proxy.targets().is_empty());
        self.server.stop_and_check_leaks().await.unwrap();
    }
}

/// By device code; through the inspecting proxy with the machine's browser, which must accept its certificates too.
async fn codex(kind: Kind) {
    let ca = TestCa::new().unwrap();
    let issuer = CodexIssuer::start_tls(&ca, DeviceCodeApproval::OnCommand).await.unwrap();
    issuer.require_consent();
    let network = Network::open(kind, ca, issuer.host_overrides()).await;
    let method = (kind == Kind::Inspecting).then_some("browser");
    let sign_in = SignIn::start_at(&network.server, "codex", method).await;
    if method.is_some() {
        sign_in.browser_link().await;
        let seen = || issuer.consent_view_count() > 0;
        grants_on_the_desktop(&sign_in.api, &sign_in.id, seen, || issuer.issued_code_count() > 0).await;
    } else {
        sign_in.wait("showing a device code", |view| view.sign_in.device_code.is_some()).await;
        issuer.approve_device_code();
    }
    sign_in.wait("completed", |view| view.status == SessionStatus::Completed).await;
    let issued = issuer.issued_secrets();
    network.succeeded(sign_in, issued).await;
}

async fn claude_code(kind: Kind) {
    let ca = TestCa::new().unwrap();
    let issuer = ClaudeIssuer::start(&ca).await.unwrap();
    issuer.require_consent();
    let network = Network::open(kind, ca, issuer.host_overrides()).await;
    let sign_in = SignIn::start_at(&network.server, "claude_code", None).await;
    paste_code(&network, &sign_in).await;
    let issued = issuer.issued_secrets();
    network.succeeded(sign_in, issued).await;
}

async fn gemini_cli(kind: Kind) {
    let ca = TestCa::new().unwrap();
    let issuer = GoogleIssuer::start(&ca, Account::Onboarded).await.unwrap();
    issuer.require_consent();
    let network = Network::open(kind, ca, issuer.host_overrides()).await;
    let sign_in = SignIn::start_at(&network.server, "gemini_cli", None).await;
    paste_code(&network, &sign_in).await;
    let issued = issuer.issued_secrets();
    network.succeeded(sign_in, issued).await;
}

/// The person opens the link in their own browser and pastes the code that its last page shows.
async fn paste_code(network: &Network, sign_in: &SignIn) {
    let code = network.user.open(&sign_in.link().await).await.text();
    sign_in.wait_prompt("paste_code").await;
    assert_eq!(sign_in.paste(&code).await["interpreted_as"], "prompt");
    sign_in.wait("completed", |view| view.status == SessionStatus::Completed).await;
}

#[tokio::test]
async fn qemu_codex_signs_in_through_an_inspecting_proxy() {
    codex(Kind::Inspecting).await;
}

#[tokio::test]
async fn qemu_claude_code_signs_in_through_a_socks_proxy() {
    claude_code(Kind::Socks).await;
}

#[tokio::test]
async fn qemu_gemini_cli_signs_in_through_an_http_proxy() {
    gemini_cli(Kind::Http).await;
}

/// The other pairs.
mod full {
    use super::{Kind, claude_code, codex, gemini_cli};

    #[tokio::test]
    async fn qemu_codex_signs_in_through_an_http_proxy() {
        codex(Kind::Http).await;
    }

    #[tokio::test]
    async fn qemu_codex_signs_in_through_a_socks_proxy() {
        codex(Kind::Socks).await;
    }

    #[tokio::test]
    async fn qemu_claude_code_signs_in_through_an_http_proxy() {
        claude_code(Kind::Http).await;
    }

    #[tokio::test]
    async fn qemu_claude_code_signs_in_through_an_inspecting_proxy() {
        claude_code(Kind::Inspecting).await;
    }

    #[tokio::test]
    async fn qemu_gemini_cli_signs_in_through_a_socks_proxy() {
        gemini_cli(Kind::Socks).await;
    }

    #[tokio::test]
    async fn qemu_gemini_cli_signs_in_through_an_inspecting_proxy() {
        gemini_cli(Kind::Inspecting).await;
    }
}
