//! Changes of the audit trail are noticed, and what cannot be recorded is not revealed.

use crate::s10_audit::{Fixture, records, segment_files, trail_text};
use anteroom_testbed::TestServer;
use anteroom_wire::{CredentialId, api::SessionStatus};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

/// `anteroom audit verify --json`; returns the findings, and checks that the exit code agrees with them.
async fn verify(server: &TestServer) -> Vec<Value> {
    let mut command = server.anteroom_command().unwrap();
    let output = command.args(["audit", "verify", "--json"]).stdin(Stdio::null()).output().await.unwrap();
    let verification: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let findings = verification["findings"].as_array().unwrap().clone();
    assert_eq!(output.status.success(), findings.is_empty(), "{verification}");
    assert_eq!(verification["intact"], json!(findings.is_empty()));
    findings
}

fn kinds(findings: &[Value]) -> Vec<&str> {
    findings.iter().map(|finding| finding["kind"].as_str().unwrap()).collect()
}

/// Replaces the lines of the only file.
fn rewrite(server: &TestServer, change: impl FnOnce(&mut Vec<String>)) {
    let file = only_file(server);
    let mut lines: Vec<_> = fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect();
    change(&mut lines);
    fs::write(&file, lines.join("\n") + "\n").unwrap();
}

fn only_file(server: &TestServer) -> PathBuf {
    let files = segment_files(server);
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// A trail with some records.
async fn start_with_records() -> Fixture {
    let fixture = Fixture::start("[limits.audit]\nhead_every_ms = 50\n").await;
    let operator = fixture.server.operator_client().unwrap();
    for _ in 0..10 {
        assert_eq!(operator.post("/api/links", json!({})).await.unwrap().status, 200);
    }
    assert_eq!(kinds(&verify(&fixture.server).await), [""; 0]);
    fixture
}

#[tokio::test]
async fn s10_verify_names_the_place_of_every_change_without_a_server() {
    let mut fixture = start_with_records().await;
    fixture.server.stop_server().await.unwrap();
    let server = &fixture.server;
    assert_eq!(kinds(&verify(server).await), [""; 0], "a server that was stopped leaves an intact trail");
    for file in segment_files(server) {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let original = fs::read(only_file(server)).unwrap();
    let restore = || fs::write(only_file(server), &original).unwrap();

    rewrite(server, |lines| lines[4] = lines[4].replace("login_link.create", "login_link.cheate"));
    let found = verify(server).await;
    assert_eq!((kinds(&found), &found[0]["line"], &found[0]["from_seq"]), (vec!["changed"], &json!(5), &json!(5)));
    restore();
    rewrite(server, |lines| _ = lines.remove(4));
    let found = verify(server).await;
    assert_eq!((kinds(&found), &found[0]["from_seq"], &found[0]["to_seq"]), (vec!["removed"], &json!(5), &json!(5)));
    restore();
    rewrite(server, |lines| lines.swap(4, 5));
    assert_eq!(kinds(&verify(server).await), ["order"]);
    restore();
    rewrite(server, |lines| lines.truncate(lines.len() - 3));
    let found = verify(server).await;
    assert!(found.iter().all(|finding| finding["kind"] == "end_missing"), "{found:?}");
    assert!(!found.is_empty() && found[0]["to_seq"].as_u64().unwrap() - found[0]["from_seq"].as_u64().unwrap() == 2);
    restore();
    fs::remove_file(server.state_dir().join("audit/head.json")).unwrap();
    assert_eq!(kinds(&verify(server).await), ["head_missing"]);
    fixture.server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s10_older_copy_of_the_whole_trail_is_noticed_by_the_head_in_the_database() {
    let mut fixture = start_with_records().await;
    fixture.server.kill_server().await.unwrap();
    let (audit, copy) = (fixture.server.state_dir().join("audit"), fixture.server.path().join("copy"));
    copy_dir(&audit, &copy);
    fixture.server.start_server().await.unwrap();
    let operator = fixture.server.operator_client().unwrap();
    assert_eq!(operator.post("/api/links", json!({})).await.unwrap().status, 200);
    fixture.server.stop_server().await.unwrap();
    let last = records(&fixture.server).last().unwrap()["seq"].clone();
    fs::remove_dir_all(&audit).unwrap();
    copy_dir(&copy, &audit);
    let found = verify(&fixture.server).await;
    assert_eq!((kinds(&found), &found[0]["to_seq"]), (vec!["end_missing"], &last));
    assert!(found[0]["text"].as_str().unwrap().contains("the database"));
    // The next server does not use their numbers again, and the gap stays named.
    fixture.server.start_server().await.unwrap();
    let found = verify(&fixture.server).await;
    assert_eq!((kinds(&found), &found[0]["to_seq"]), (vec!["removed"], &last));
    assert!(trail_text(&fixture.server).contains("trail.recovered"));
    fixture.server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s10_forger_without_the_key_cannot_make_a_record() {
    let mut fixture = start_with_records().await;
    fixture.server.stop_server().await.unwrap();
    let server = &fixture.server;
    // What a program can do that knows the format: calculate all hashes again.
    rewrite(server, |lines| {
        let mut prev = String::new();
        for (index, line) in lines.iter_mut().enumerate() {
            let (content, tail) = line.split_once(",\"hash\":\"").unwrap();
            let mut content = content.to_owned();
            if index >= 4 {
                let before = content.split("\"prev\":\"").nth(1).unwrap()[..64].to_owned();
                content = content.replace(&before, &prev).replace("login_link.create", "session.start");
            }
            prev = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(content.as_bytes()));
            *line = format!("{content},\"hash\":\"{prev}{}", &tail[64..]);
        }
    });
    let found = verify(server).await;
    assert_eq!((found[0]["kind"].as_str(), &found[0]["from_seq"]), (Some("forged"), &json!(5)), "{found:?}");
    fixture.server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s10_trail_continues_after_a_kill_and_an_unfinished_line() {
    let mut fixture = start_with_records().await;
    for round in 0..3 {
        fixture.server.kill_server().await.unwrap();
        let before = records(&fixture.server).len();
        let file = segment_files(&fixture.server).pop().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}{{\"seq\":{}", before + 1)).unwrap();
        fixture.server.start_server().await.unwrap();
        let operator = fixture.server.operator_client().unwrap();
        assert_eq!(operator.post("/api/links", json!({})).await.unwrap().status, 200);
        assert_eq!(kinds(&verify(&fixture.server).await), [""; 0], "round {round}");
        let after = records(&fixture.server);
        assert!(after.len() > before && after[before]["action"] == "trail.recovered", "{}", after[before]);
    }
    fixture.server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s10_change_under_a_running_server_is_noticed_and_later_records_are_kept() {
    let fixture = start_with_records().await;
    let server = &fixture.server;
    let file = only_file(server);
    let (text, operator) = (fs::read_to_string(&file).unwrap(), server.operator_client().unwrap());
    let cut: Vec<_> = text.lines().take(5).collect();
    fs::remove_file(&file).unwrap();
    fs::write(&file, cut.join("\n") + "\n").unwrap();
    let found = verify(server).await;
    assert!(kinds(&found).iter().all(|kind| *kind == "end_missing"), "{found:?}");
    assert!(found.iter().any(|finding| finding["text"].as_str().unwrap().contains("the running server")), "{found:?}");
    assert_eq!(operator.post("/api/links", json!({})).await.unwrap().status, 200);
    let found = verify(server).await;
    assert_eq!((kinds(&found), &found[0]["from_seq"]), (vec!["removed"], &json!(6)), "{found:?}");
    assert!(trail_text(server).contains("trail.damaged"));
    fixture.server.stop_and_check_leaks().await.unwrap();
}

/// Signs in and returns the stored credential.
async fn stored_credential(fixture: &Fixture) -> CredentialId {
    let (api, started) = fixture.start_session().await;
    fs::write(fixture.dir.path().join("go"), "").unwrap();
    api.wait_status(&started.session.id, SessionStatus::Completed).await.unwrap().credential.unwrap().id
}

#[tokio::test]
async fn s10_secrets_are_not_revealed_while_the_trail_cannot_be_written_and_the_gap_is_recorded() {
    let fixture = Fixture::start("").await;
    let credential = stored_credential(&fixture).await;
    let server = &fixture.server;
    let (api, operator) = (server.backend_client().unwrap(), server.operator_client().unwrap());
    let (audit, away) = (server.state_dir().join("audit"), server.state_dir().join("audit.away"));
    fs::rename(&audit, &away).unwrap();
    let exec = json!({ "purpose": "exec", "argv": ["true"] });
    for (path, body) in [("lease", json!({})), ("use", exec)] {
        let refused = api.post(&format!("/api/credentials/{credential}/{path}"), body).await.unwrap();
        assert_eq!((refused.status, refused.problem().unwrap().code.as_str()), (503, "audit_unavailable"));
    }
    assert_eq!(operator.post("/api/links", json!({})).await.unwrap().status, 200, "what reveals no secret continues");
    let failures = operator.get("/metrics").await.unwrap().text;
    assert!(!failures.contains("anteroom_audit_write_failures_total 0"), "{failures}");
    fs::rename(&away, &audit).unwrap();
    api.lease_credential(&credential).await.unwrap();
    let records = records(server);
    let gap = records.iter().find(|record| record["action"] == "trail.gap").unwrap();
    let lost = gap["details"]["lost_by_action"].as_str().unwrap();
    assert!(lost.contains("credential.lease 2") && lost.contains("login_link.create 1"), "{lost}");
    assert_eq!(kinds(&verify(server).await), [""; 0]);
    fixture.server.stop_and_check_leaks().await.unwrap();
}
