//! The real Codex CLI in a real machine.

use super::{arrived, browser, leased, not_in, nowhere, said_to_processes, the_session};
use anteroom_testbed::{CodexIssuer, QemuServer, codex_issuer::Approval, qemu_server::QEMU_WAIT_MAX};
use anteroom_wire::api::Status;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tokio::{io::AsyncReadExt, time::timeout};

/// The released tool, told to use the stand-in issuer under a name of its own; then the digest of the file that it wrote is
/// shown on its terminal, so that the test has it from another source than the agent.
pub(crate) const SETTINGS: &str = r#"
[providers.codex]
argv = ["sh", "-c", """
codex login --device-auth --experimental_issuer http://issuer.codex.test --experimental_client-id any
echo "WROTE:$(sha256sum "$HOME/.codex/auth.json" | cut -c1-64):"
sleep 600
"""]
egress = [{ host = "issuer.codex.test", ports = [80] }]
"#;

#[tokio::test]
async fn journey_codex_signs_in_by_device_code_and_page_shows_connected() {
    let issuer = CodexIssuer::start(Approval::OnCommand).await.unwrap();
    let answers = BTreeMap::from([("issuer.codex.test:80".to_owned(), issuer.address())]);
    let server = QemuServer::start(SETTINGS, &answers, false).await.unwrap();
    let api = server.operator().unwrap();
    let page = browser(&server, "codex.mjs");

    let id = the_session(&server).await;
    let mut terminal = api.terminal(&id).await.unwrap();
    let mut screen = Vec::new();
    read_until(&mut terminal, &mut screen, &issuer.user_code()).await;
    let is_machine = |(_, bytes): &(String, Vec<u8>)| bytes.windows(11).any(|part| part == b"qemu-system");
    assert!(said_to_processes(&server).iter().any(is_machine), "the machine's process is looked at");
    issuer.approve();
    read_until(&mut terminal, &mut screen, "WROTE:").await;
    // The tokens are in the machine now, which may end at any moment.
    let alive = said_to_processes(&server);
    while wrote(&screen).is_none_or(|digest| digest.len() != 64) {
        timeout(QEMU_WAIT_MAX, terminal.read_buf(&mut screen)).await.unwrap().unwrap();
    }
    api.wait_status(&id, Status::Completed).await.unwrap();
    arrived(page).await;

    let files = leased(&server, &id).await;
    let digest: String = Sha256::digest(files[0].content.expose()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(Some(digest.as_str()), wrote(&screen).as_deref(), "the leased bytes are the file that the tool wrote");
    assert_eq!((files[0].path.as_str(), files[0].mode & 0o777), (".codex/auth.json", 0o600));
    server.wait_machines_removed().await.unwrap();
    nowhere(&server, &id, &issuer.canaries()).await;
    issuer.canaries().iter().for_each(|secret| not_in(secret, &alive));
    assert!(issuer.unknown_calls().is_empty(), "the tool asked for something new: {:?}", issuer.unknown_calls());
    server.finish().await.unwrap();
}

async fn read_until(terminal: &mut (impl AsyncReadExt + Unpin), screen: &mut Vec<u8>, words: &str) {
    let shown = async {
        while !String::from_utf8_lossy(screen).contains(words) {
            let count = terminal.read_buf(screen).await.unwrap();
            assert!(count > 0, "the terminal ended before {words:?}:\n{}", String::from_utf8_lossy(screen));
        }
    };
    timeout(QEMU_WAIT_MAX, shown).await.unwrap_or_else(|_| panic!("the terminal never showed {words:?}"));
}

/// The digest on the screen: hex digits, whatever the terminal put between them.
fn wrote(screen: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(screen);
    let (digest, _) = text.split_once("WROTE:")?.1.split_once(':')?;
    Some(digest.chars().filter(char::is_ascii_hexdigit).collect())
}
