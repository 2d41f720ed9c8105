//! The released Codex CLI in a QEMU machine.

use super::{assert_not_in, assert_stored_nowhere, browser, lease, process_arguments, wait_session, wait_success};
use anteroom_testbed::{CodexIssuer, QEMU_WAIT_TIMEOUT, TestConfig, TestServer, codex_issuer::DeviceCodeApproval};
use anteroom_wire::api::SessionStatus;
use sha2::{Digest, Sha256};
use tokio::{io::AsyncReadExt, time::timeout};

/// The released tool, configured to use the fake issuer. Afterwards the terminal shows the digest of the file that the tool wrote, so
/// that the test gets it from another source than the agent.
pub(crate) const SETTINGS: &str = r#"
[providers.codex]
argv = ["sh", "-c", """
codex login --device-auth --experimental_issuer http://issuer.codex.test --experimental_client-id any
echo "WROTE:$(sha256sum "$HOME/.codex/auth.json" | cut -c1-64):"
sleep 600
"""]
sign_in_hosts = ["http://issuer.codex.test"]
egress = [{ host = "issuer.codex.test", ports = [80] }]
"#;

#[tokio::test]
async fn journey_codex_signs_in_by_device_code_and_page_shows_connected() {
    let issuer = CodexIssuer::start(DeviceCodeApproval::OnCommand).await.unwrap();
    let config = TestConfig::qemu(SETTINGS).with_host_override("issuer.codex.test:80", issuer.address());
    let server = TestServer::start(config).await.unwrap();
    let api = server.operator_client().unwrap();
    let page = browser(&server, "codex.mjs");

    let id = wait_session(&server).await;
    let mut terminal = api.open_terminal_socket(&id).await.unwrap();
    let mut screen = Vec::new();
    read_until(&mut terminal, &mut screen, &issuer.user_code()).await;
    let is_qemu = |(_, bytes): &(String, Vec<u8>)| bytes.windows(11).any(|part| part == b"qemu-system");
    assert!(process_arguments(&server).iter().any(is_qemu), "the machine's process is inspected");
    issuer.approve_device_code();
    read_until(&mut terminal, &mut screen, "WROTE:").await;
    // The tokens are in the machine now, and the machine may end at any time.
    let with_tokens = process_arguments(&server);
    while digest_on(&screen).is_none_or(|digest| digest.len() != 64) {
        timeout(QEMU_WAIT_TIMEOUT, terminal.read_buf(&mut screen)).await.unwrap().unwrap();
    }
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    wait_success(page).await;

    let files = lease(&server, &id).await;
    let digest = hex::encode(Sha256::digest(files[0].content.expose()));
    assert_eq!(
        Some(digest.as_str()),
        digest_on(&screen).as_deref(),
        "the leased bytes are the file that the tool wrote"
    );
    assert_eq!((files[0].path.as_str(), files[0].mode & 0o777), (".codex/auth.json", 0o600));
    server.wait_machines_removed().await.unwrap();
    assert_stored_nowhere(&server, &id, &issuer.issued_secrets()).await;
    issuer.issued_secrets().iter().for_each(|secret| assert_not_in(secret, &with_tokens));
    assert!(
        issuer.unknown_requests().is_empty(),
        "the tool sent a new kind of request: {:?}",
        issuer.unknown_requests()
    );
    server.stop_and_check_leaks().await.unwrap();
}

async fn read_until(terminal: &mut (impl AsyncReadExt + Unpin), screen: &mut Vec<u8>, text: &str) {
    let shown = async {
        while !String::from_utf8_lossy(screen).contains(text) {
            let count = terminal.read_buf(screen).await.unwrap();
            assert!(count > 0, "the terminal ended before {text:?}:\n{}", String::from_utf8_lossy(screen));
        }
    };
    timeout(QEMU_WAIT_TIMEOUT, shown).await.unwrap_or_else(|_| panic!("the terminal never showed {text:?}"));
}

/// The digest on the screen: the hex digits, without what the terminal inserted between them.
fn digest_on(screen: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(screen);
    let (digest, _) = text.split_once("WROTE:")?.1.split_once(':')?;
    Some(digest.chars().filter(char::is_ascii_hexdigit).collect())
}
