//! External desktops over TLS: real servers with certificates of a test's authority, and every fault of a certificate.

use crate::{Fixture, connect_error, start, verdict, viewers::assert_sees_desktop, vnc_server};
use anteroom_testbed::{TestCa, TestConfig, TestServer, WAIT_MAX};
use anteroom_wire::api::{Health, HealthStatus};
use sha2::{Digest, Sha256};
use std::{net::SocketAddr, path::PathBuf};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// The certificate of a desktop, and files with it, its key and its authority.
pub(crate) struct Certified {
    ca_file: PathBuf,
    certificate_file: PathBuf,
    key_file: PathBuf,
    sha256: String,
}

impl Certified {
    pub(crate) fn new(fixture: &Fixture, names: &[&str], expired: bool) -> Self {
        let ca = TestCa::new().unwrap();
        let (certificate, key) = ca.issue(names, expired).unwrap();
        let write = |name: &str, text: &str| {
            let path = fixture.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        Self {
            ca_file: write("ca.pem", &ca.pem()),
            certificate_file: write("desk.pem", &certificate.pem()),
            key_file: write("desk.key", &key.serialize_pem()),
            sha256: hex::encode(Sha256::digest(certificate.der())),
        }
    }

    pub(crate) fn ca_setting(&self) -> String {
        format!("ca_file = {:?}", self.ca_file)
    }

    fn pin_setting(&self) -> String {
        format!("certificate_sha256 = '{}'", self.sha256)
    }

    /// The arguments of a VNC server with VeNCrypt.
    fn vnc_arguments(&self, security_type: &str) -> Vec<String> {
        let file = |path: &PathBuf| path.to_str().unwrap().to_owned();
        let arguments = ["-SecurityTypes", security_type, "-X509Cert", &file(&self.certificate_file)];
        let mut arguments = arguments.map(str::to_owned).to_vec();
        arguments.extend(["-X509Key".to_owned(), file(&self.key_file)]);
        arguments
    }

    /// The arguments of a VNC server with VeNCrypt that asks for a password inside TLS.
    pub(crate) fn vnc_arguments_with_password(&self, fixture: &Fixture) -> Vec<String> {
        let mut arguments = vnc_server::with_password(fixture);
        arguments.splice(..2, self.vnc_arguments("X509Vnc"));
        arguments
    }

    /// The options of a websockify with TLS alone.
    fn websockify_options(&self) -> Vec<String> {
        let file = |path: &PathBuf| path.to_str().unwrap().to_owned();
        vec!["--ssl-only".into(), "--cert".into(), file(&self.certificate_file), "--key".into(), file(&self.key_file)]
    }
}

/// A TLS proxy in front of a VNC server, as stunnel is one. Ends when dropped.
async fn tls_proxy(ca: &TestCa, target: SocketAddr) -> (SocketAddr, JoinSet<()>) {
    let acceptor = ca.acceptor(&["127.0.0.1"]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut desktop = TcpStream::connect(target).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut desktop).await;
                }
            });
        }
    });
    (at, tasks)
}

async fn assert_desktop_is_seen(fixture: &Fixture, desktop: &str, desk_settings: &str) {
    let server = fixture.start_server_with_desk(desktop, desk_settings).await;
    let api = server.backend_client().unwrap();
    let id = start(&api).await.session.id;
    assert_sees_desktop(&api, &id).await;
    assert_eq!(verdict(&api, &id).await.0, "waiting_for_user");
    server.stop_and_check_leaks().await.unwrap();
}

/// The problem of a viewer and the detail on the timeline.
async fn dial_fault(fixture: &Fixture, desktop: &str, desk_settings: &str) -> (String, String) {
    let server = fixture.start_server_with_desk(desktop, desk_settings).await;
    let api = server.backend_client().unwrap();
    let id = start(&api).await.session.id;
    let (problem, data) = connect_error(&api, &id).await;
    assert_eq!(verdict(&api, &id).await.0, problem);
    server.stop_and_check_leaks().await.unwrap();
    (problem, data["detail"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn s32_desktop_is_seen_over_vencrypt() {
    let fixture = Fixture::new();
    let certified = Certified::new(&fixture, &["127.0.0.1"], false);
    let vnc = vnc_server::Vnc::start(&certified.vnc_arguments("X509None")).await;
    let desktop = format!("vencrypt://{}", vnc.at);
    assert_desktop_is_seen(&fixture, &desktop, &certified.ca_setting()).await;
    assert_desktop_is_seen(&fixture, &desktop, &certified.pin_setting()).await;
    vnc.end().await;
}

#[tokio::test]
async fn s32_desktop_is_seen_behind_websockify_with_tls() {
    let fixture = Fixture::new();
    let certified = Certified::new(&fixture, &["localhost", "127.0.0.1"], false);
    let vnc = vnc_server::Vnc::start(&[]).await;
    let websockify = vnc_server::Websockify::start_with(vnc.at, &certified.websockify_options()).await;
    for host in ["127.0.0.1", "localhost"] {
        let desktop = format!("wss://{host}:{}/", websockify.at.port());
        assert_desktop_is_seen(&fixture, &desktop, &certified.ca_setting()).await;
    }
    websockify.end().await;
    vnc.end().await;
}

#[tokio::test]
async fn s32_desktop_is_seen_behind_a_tls_proxy() {
    let fixture = Fixture::new();
    let ca = TestCa::new().unwrap();
    let ca_file = fixture.dir.path().join("ca.pem");
    std::fs::write(&ca_file, ca.pem()).unwrap();
    let vnc = vnc_server::Vnc::start(&[]).await;
    let (at, tasks) = tls_proxy(&ca, vnc.at).await;
    assert_desktop_is_seen(&fixture, &format!("vncs://{at}"), &format!("ca_file = {ca_file:?}")).await;
    drop(tasks);
    vnc.end().await;
}

/// The viewer gets the desktop's challenge, which came through TLS, and the desktop judges the answer.
#[tokio::test]
async fn s32_password_of_a_desktop_with_vencrypt_is_asked_for_inside_tls() {
    let fixture = Fixture::new();
    let certified = Certified::new(&fixture, &["127.0.0.1"], false);
    let vnc = vnc_server::Vnc::start(&certified.vnc_arguments_with_password(&fixture)).await;
    let server = fixture.start_server_with_desk(&format!("vencrypt://{}", vnc.at), &certified.ca_setting()).await;
    let api = server.backend_client().unwrap();
    let id = start(&api).await.session.id;
    let mut viewer = api.open_desktop_socket(&id).await.unwrap();
    let mut offer = [0; 14];
    timeout(WAIT_MAX, viewer.read_exact(&mut offer[..12])).await.unwrap().unwrap();
    viewer.write_all(b"RFB 003.008\n").await.unwrap();
    viewer.read_exact(&mut offer[12..]).await.unwrap();
    assert_eq!(&offer, b"RFB 003.008\n\x01\x02");
    viewer.write_all(b"\x02").await.unwrap();
    let mut challenge = [0; 16];
    timeout(WAIT_MAX, viewer.read_exact(&mut challenge)).await.unwrap().unwrap();
    assert_ne!(challenge, [0; 16]);
    viewer.write_all(&[7; 16]).await.unwrap();
    let mut result = [0; 4];
    timeout(WAIT_MAX, viewer.read_exact(&mut result)).await.unwrap().unwrap();
    assert_ne!(result, [0; 4], "a wrong password is rejected");
    drop(viewer);
    server.stop_and_check_leaks().await.unwrap();
    vnc.end().await;
}

#[tokio::test]
async fn s32_each_fault_of_a_certificate_is_named() {
    let fixture = Fixture::new();
    for (names, expired, expected) in [
        (["127.0.0.1"], true, "its certificate has expired"),
        (["desk.example"], false, "its certificate is for another host"),
    ] {
        let certified = Certified::new(&fixture, &names, expired);
        let vnc = vnc_server::Vnc::start(&certified.vnc_arguments("X509None")).await;
        let found = dial_fault(&fixture, &format!("vencrypt://{}", vnc.at), &certified.ca_setting()).await;
        assert_eq!(found, ("external_certificate".to_owned(), expected.to_owned()));
        vnc.end().await;
    }
    let certified = Certified::new(&fixture, &["127.0.0.1"], false);
    let vnc = vnc_server::Vnc::start(&[]).await;
    let websockify = vnc_server::Websockify::start_with(vnc.at, &certified.websockify_options()).await;
    let desktop = format!("wss://{}/", websockify.at);
    let unknown = ("external_certificate", "its certificate is signed by an unknown authority");
    let other_pin = format!("certificate_sha256 = '{}'", "00".repeat(32));
    let pinned = ("external_certificate", "its certificate is not the one with the configured certificate_sha256");
    for (desk_settings, (problem, detail)) in [("", unknown), (other_pin.as_str(), pinned)] {
        let found = dial_fault(&fixture, &desktop, desk_settings).await;
        assert_eq!(found, (problem.to_owned(), detail.to_owned()));
    }
    websockify.end().await;
    vnc.end().await;
}

#[tokio::test]
async fn s32_desktop_that_does_not_speak_tls_is_named() {
    let fixture = Fixture::new();
    let certified = Certified::new(&fixture, &["127.0.0.1"], false);
    let vnc = vnc_server::Vnc::start(&[]).await;
    let websockify = vnc_server::Websockify::start(vnc.at).await;
    for (desktop, detail) in [
        (format!("vncs://{}", vnc.at), "it does not speak TLS"),
        (format!("vencrypt://{}", vnc.at), "it does not offer VeNCrypt"),
        (format!("wss://{}/", websockify.at), "it closed during the TLS handshake"),
    ] {
        let found = dial_fault(&fixture, &desktop, &certified.ca_setting()).await;
        assert_eq!(found, ("external_no_tls".to_owned(), detail.to_owned()), "{desktop}");
    }
    websockify.end().await;
    vnc.end().await;
    // Anonymous TLS protects from readers, but anyone could answer.
    let vnc = vnc_server::Vnc::start(&["-SecurityTypes", "TLSNone"].map(str::to_owned)).await;
    let found = dial_fault(&fixture, &format!("vencrypt://{}", vnc.at), &certified.ca_setting()).await;
    assert_eq!(found, ("external_no_tls".to_owned(), "it offers neither X509None nor X509Vnc".to_owned()));
    vnc.end().await;
}

#[tokio::test]
async fn s32_unencrypted_desktop_on_another_host_needs_a_setting_and_is_reported() {
    let fixture = Fixture::new();
    let refused = fixture.machine("desk", "vnc://192.0.2.7", crate::TOKEN);
    let error = TestServer::start(TestConfig::with_providers([]).with_settings(&refused)).await.unwrap_err();
    assert!(format!("{error:#}").contains("on another host and not encrypted"), "{error:#}");

    let server = fixture.start_server_with_desk("vnc://192.0.2.7", "allow_unencrypted = true").await;
    let health: Health = server.operator_client().unwrap().get("/health").await.unwrap().parse().unwrap();
    let check = health.checks.iter().find(|check| check.name == "external_machines").expect("it is reported");
    assert_eq!(check.status, HealthStatus::Degraded);
    assert!(check.detail.contains("not encrypted: desk"), "{}", check.detail);
    server.stop_and_check_leaks().await.unwrap();
}
