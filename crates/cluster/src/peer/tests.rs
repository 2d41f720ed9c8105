use super::*;
use anteroom_wire::HostId;
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const DAY_MS: u64 = 24 * 3_600 * 1_000;

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

fn host(number: u8) -> HostId {
    HostId::from_parts(1, [number; 10])
}

fn identity(authority: &Authority, host: &HostId, issued_at_ms: u64) -> PeerIdentity {
    identity_that_trusts(authority, authority, host, issued_at_ms)
}

fn identity_that_trusts(trusted: &Authority, authority: &Authority, host: &HostId, issued_at_ms: u64) -> PeerIdentity {
    let dir = TempDir::new().unwrap();
    let files = IdentityFiles::in_state_dir(dir.path());
    let key = new_peer_key().unwrap();
    let chain = authority.issue(&key.request_pem, host, issued_at_ms, CERTIFICATE_LIFETIME_S).unwrap();
    files.write(&key.key_pem, &chain, trusted.certificate_pem()).unwrap();
    files.read().unwrap()
}

/// Whether a byte passes in both directions.
async fn connects(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> bool {
    let (near, far) = duplex(16 * 1_024);
    let accepted = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        stream.shutdown().await
    };
    let connected = async {
        let name = ServerName::try_from("host.invalid").unwrap();
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.write_u8(7).await?;
        stream.read_u8().await
    };
    let (accepted, connected) = tokio::join!(accepted, connected);
    accepted.is_ok() && connected.is_ok_and(|byte| byte == 7)
}

#[tokio::test]
async fn hosts_of_one_authority_connect_and_others_do_not() {
    let (ours, theirs, now) = (Authority::create(now_ms()).unwrap(), Authority::create(now_ms()).unwrap(), now_ms());
    let tls = |authority: &Authority, number, at| PeerTls::new(identity(authority, &host(number), at));
    let (one, two) = (tls(&ours, 1, now), tls(&ours, 2, now));
    let accept = || two.accept_hosts().unwrap();
    assert!(connects(one.connect_to(&host(2), ALPN_HTTP2).unwrap(), accept()).await);
    let other_name = one.connect_to(&host(3), ALPN_HTTP2).unwrap();
    assert!(!connects(other_name, accept()).await, "the certificate is another host's");
    let foreign = PeerTls::new(identity_that_trusts(&ours, &theirs, &host(1), now));
    assert!(!connects(foreign.connect_to(&host(2), ALPN_HTTP2).unwrap(), accept()).await, "a foreign client");
    let foreign = foreign.accept_hosts().unwrap();
    assert!(!connects(one.connect_to(&host(1), ALPN_HTTP2).unwrap(), foreign).await, "a foreign server");
    let expired = tls(&ours, 1, now - 31 * DAY_MS);
    assert!(!connects(expired.connect_to(&host(2), ALPN_HTTP2).unwrap(), accept()).await, "an expired client");
    let expired = tls(&ours, 2, now - 31 * DAY_MS).accept_hosts().unwrap();
    assert!(!connects(one.connect_to(&host(2), ALPN_HTTP2).unwrap(), expired).await, "an expired server");
    let joining = JoinTls::connect(&ours.fingerprint()).unwrap();
    assert!(!connects(joining, accept()).await, "no certificate");
}

#[tokio::test]
async fn a_machine_that_joins_talks_only_to_the_authority_of_its_invitation() {
    let (ours, theirs) = (Authority::create(now_ms()).unwrap(), Authority::create(now_ms()).unwrap());
    let host = PeerTls::new(identity(&ours, &host(1), now_ms()));
    let accept = || host.accept_joining().unwrap();
    assert!(connects(JoinTls::connect(&ours.fingerprint()).unwrap(), accept()).await);
    assert!(!connects(JoinTls::connect(&theirs.fingerprint()).unwrap(), accept()).await);
}

#[test]
fn an_invitation_is_valid_for_15_minutes_at_its_authority() {
    let (ours, theirs) = (Authority::create(now_ms()).unwrap(), Authority::create(now_ms()).unwrap());
    let url = "https://h1.example:7061".to_owned();
    let text = Invitation::new(&ours, [7; 10], 1_000, url.clone()).to_text();
    let read = Invitation::parse(&format!(" {}\n", *text)).unwrap();
    assert_eq!((read.authority, read.peer_url), (ours.fingerprint(), url));
    let secret = InvitationSecret::parse(&read.secret.to_text()).unwrap();
    let end = 1_000 + INVITATION_S_MAX * 1_000;
    assert_eq!(secret.check(&ours, end - 1), Some((hex::encode([7; 10]), end)));
    assert_eq!(secret.check(&ours, end), None, "ended");
    assert_eq!(secret.check(&theirs, 2_000), None, "another authority's");
    let reopened = Authority::open(ours.certificate_pem(), &ours.key_pem()).unwrap();
    assert!(secret.check(&reopened, 2_000).is_some(), "the authority of another host of the cluster");
    for broken in ["", "arj_", &text[..text.len() / 4], &text[4..], "arj_AQ", "arj_!!"] {
        assert!(Invitation::parse(broken).is_err(), "{broken:?}");
    }
    assert!(!format!("{read:?}", read = Invitation::parse(&text).unwrap()).contains(&*read_secret(&text)));
}

fn read_secret(text: &str) -> zeroize::Zeroizing<String> {
    Invitation::parse(text).unwrap().secret.to_text()
}

#[test]
fn a_request_decides_nothing_but_the_key() {
    let authority = Authority::create(now_ms()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["host.example".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    let chain = authority.issue(&request, &host(9), now_ms(), CERTIFICATE_LIFETIME_S).unwrap();
    let own = rustls::pki_types::pem::PemObject::from_pem_slice(chain.as_bytes()).unwrap();
    assert_eq!(host_of(&own), Some(host(9)));
    let (_, parsed) = x509_parser::parse_x509_certificate(&own).unwrap();
    assert!(!parsed.is_ca());
    let (begin, end) = certificate_validity(&own).unwrap();
    assert!(end - begin >= 30 * DAY_MS && end - begin < 31 * DAY_MS);
    assert!(authority.issue("nothing", &host(9), now_ms(), CERTIFICATE_LIFETIME_S).is_err());
    assert!(authority.issue(&"x".repeat(5_000), &host(9), now_ms(), CERTIFICATE_LIFETIME_S).is_err());
}

#[test]
fn identity_names_the_file_that_is_wrong() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let files = IdentityFiles::in_state_dir(dir.path());
    assert!(files.read().is_err_and(|error| error.to_string().contains("certificate.pem")));
    let authority = Authority::create(now_ms()).unwrap();
    let (key, other) = (new_peer_key().unwrap(), new_peer_key().unwrap());
    let chain = authority.issue(&key.request_pem, &host(1), now_ms(), CERTIFICATE_LIFETIME_S).unwrap();
    files.write(&other.key_pem, &chain, authority.certificate_pem()).unwrap();
    assert!(files.read().is_err_and(|error| error.to_string().contains("not the certificate's")));
    files.write(&key.key_pem, &chain, authority.certificate_pem()).unwrap();
    assert_eq!(files.read().unwrap().host, host(1));
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(files.read().is_err_and(|error| error.to_string().contains("0600")));
}
