//! Through a host that does not hold the session nothing is lost or changed: input and output of a command, files, events, a lease.

use crate::{
    Flags,
    command_line::{CLI_MS_MAX, cli_command, run_cli, text},
    exec_streams::RunningExec,
    hosts::{join, start_with, wait_hosts},
    postgres::own_server::OwnServer,
};
use anteroom_controller::{limits::PeerLimits, random};
use anteroom_store::Sha256Hex;
use anteroom_testbed::TestServer;
use anteroom_wire::{Secret, SessionId, api::SessionStatus, hosts::HostState};
use std::{
    fs,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, time::timeout};

const BYTES: usize = 10_000_000;
const BYTES_OF_CREDENTIAL: usize = 20_000;

fn random_bytes(count: usize) -> Vec<u8> {
    (0..count / 50).flat_map(|_| random::random_bytes::<50>()).collect()
}

/// The ids and data of a session's events until it ends.
async fn read_events(server: &TestServer, token: &Secret, session: &SessionId) -> Vec<(u64, String)> {
    let url = format!("http://{}/api/auth/session/{session}/events", server.address().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(url).bearer_auth(token.expose()).header("accept", "text/event-stream");
    let text = request.header("last-event-id", "0").send().await.unwrap().text().await.unwrap();
    let event = |event: &str| {
        let field =
            |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned());
        Some((field("id:")?.parse().unwrap(), field("data:")?))
    };
    text.split("\n\n").filter_map(event).collect()
}

/// Runs a shell script in the session's machine.
async fn exec(server: &TestServer, session: &str, script: &str, input: Vec<u8>) -> Output {
    let mut command = cli_command(server, &["exec", "--session", session, "--", "sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = tokio::spawn(async move { stdin.write_all(&input).await });
    let done = timeout(Duration::from_millis(CLI_MS_MAX), child.wait_with_output()).await.unwrap().unwrap();
    feeding.await.unwrap().unwrap();
    done
}

async fn copy_file_both_ways(server: &TestServer, session: &str, home: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (here, back) = (dir.path().join("file"), dir.path().join("back"));
    let bytes = random_bytes(BYTES);
    fs::write(&here, &bytes).unwrap();
    let in_machine = format!("{session}:{home}/copied");
    for (from, to) in [(here.to_str().unwrap(), &*in_machine), (&in_machine, back.to_str().unwrap())] {
        let done = run_cli(server, &["cp", from, to]).await;
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    assert_eq!(Sha256Hex::of_bytes(&fs::read(&back).unwrap()), Sha256Hex::of_bytes(&bytes));
}

#[tokio::test]
async fn commands_files_events_and_a_lease_pass_through_another_host_unchanged_on_postgres() {
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    // With this level commands write no log lines to standard error.
    let log = "[log]\nlevel = 'info'\n";
    let (first, _) = start_with(&postgres, &flags, keys.path(), "first", log, PeerLimits::default()).await;
    let (mut second, _) = start_with(&postgres, &flags, keys.path(), "second", log, PeerLimits::default()).await;
    join(&first.operator_client().unwrap(), &mut second).await;
    let token = first.backend_tokens()[0].clone();
    let (api, other) = (first.backend_client().unwrap(), second.client_with_token(&token).unwrap());
    wait_hosts(&second.client_with_token(first.operator_token()).unwrap(), HostState::Answers, 2).await;

    let sign_in = api.start_session("scripted").await.unwrap().session.id;
    let ended = async {
        other.wait_until(&sign_in, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
        flags.set("go");
        other.wait_status(&sign_in, SessionStatus::Completed).await.unwrap().credential.unwrap().id
    };
    let (direct, through, credential) =
        tokio::join!(read_events(&first, &token, &sign_in), read_events(&second, &token, &sign_in), ended);
    assert!(direct.len() > 5, "{direct:?}");
    assert_eq!(direct, through);
    assert!(through.iter().zip(1..).all(|((id, _), expected)| *id == expected), "{through:?}");

    let id = credential.to_string();
    let mut main = RunningExec::start(&first, &["exec", "--credential", &id, "--", "sh", "-c", "pwd; cat"]);
    let home = main.wait_line("/").await;
    let session = main.session(&first).await;
    let input = random_bytes(BYTES);
    let sent = Sha256Hex::of_bytes(&input);
    let done = exec(&second, &session, "tee /dev/stderr; exit 9", input).await;
    assert_eq!(done.status.code(), Some(9), "{:?}", done.stderr.get(..500));
    assert_eq!((done.stdout.len(), done.stderr.len()), (BYTES, BYTES));
    assert_eq!((Sha256Hex::of_bytes(&done.stdout), Sha256Hex::of_bytes(&done.stderr)), (sent.clone(), sent));
    copy_file_both_ways(&second, &session, &home).await;

    let content = format!("{{\"token\": \"{}\"}}", hex::encode(random_bytes(BYTES_OF_CREDENTIAL)));
    let written = exec(&second, &session, &format!("cat > {home}/.scripted/auth.json"), content.clone().into()).await;
    assert!(written.status.success(), "{}", text(&written.stderr));
    assert_eq!(main.wait_exit().await, Some(0));
    other.wait_status(&session.parse().unwrap(), SessionStatus::Completed).await.unwrap();
    let lease = other.lease_credential(&credential).await.unwrap();
    assert!(lease.files[0].content.expose() == content.as_bytes(), "{} bytes", lease.files[0].content.expose().len());
    second.stop_and_check_leaks().await.unwrap();
    first.stop_and_check_leaks().await.unwrap();
}
