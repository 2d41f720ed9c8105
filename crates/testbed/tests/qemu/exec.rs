//! `anteroom exec` in a real machine.

use anteroom_store::Sha256Hex;
use anteroom_testbed::{QEMU_WAIT_TIMEOUT, TestConfig, TestServer, test_server::qemu::quick_provider};
use anteroom_wire::api::SessionStatus;
use std::process::Stdio;
use tokio::{io::AsyncWriteExt, time::timeout};

#[tokio::test]
async fn qemu_exec_passes_bytes_and_the_exit_code() {
    let server = TestServer::start(TestConfig::qemu(&quick_provider())).await.unwrap();
    let api = server.operator_client().unwrap();
    let id = api.start_session("quick").await.unwrap().session.id;
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let credential = view.credential.unwrap().id.to_string();
    let input: Vec<u8> = (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sent = Sha256Hex::of_bytes(&input);
    let mut command = server.anteroom_command().unwrap();
    let script = "test ! -t 1 && grep -q q-1 .quick/credential.json && tee /dev/stderr; exit 42";
    command.args(["exec", "--credential", &credential, "--", "sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = tokio::spawn(async move { stdin.write_all(&input).await });
    let done = timeout(QEMU_WAIT_TIMEOUT, child.wait_with_output()).await.unwrap().unwrap();
    feeding.await.unwrap().unwrap();
    assert_eq!(
        done.status.code(),
        Some(42),
        "{}",
        String::from_utf8_lossy(&done.stderr).chars().take(2_000).collect::<String>()
    );
    assert_eq!(Sha256Hex::of_bytes(&done.stdout), sent, "{} bytes", done.stdout.len());
    assert!(done.stderr.len() >= done.stdout.len(), "{} bytes", done.stderr.len());
    server.stop_and_check_leaks().await.unwrap();
}
