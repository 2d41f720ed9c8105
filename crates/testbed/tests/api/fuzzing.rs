//! schemathesis makes requests from the document, valid and invalid ones, and compares the answers with it.

use crate::{
    clients::start_demo,
    tools::{output, project, python_tools},
};
use anteroom_testbed::TestServer;
use anteroom_wire::Secret;
use tokio::process::Command;

/// Requests in both runs together, at least.
const CASES_MIN: u64 = 2_000;

/// Limits that no test reaches.
const NO_RATES: &str = "read change start lease ticket stream login bundle failed_identification";

/// Runs the phases "coverage" and "fuzzing" with this token. Returns the number of requests; there must be no failure.
async fn fuzz(server: &TestServer, token: &Secret, examples: &str, more: &[&str]) -> u64 {
    let mut run = Command::new(python_tools().await.join("schemathesis"));
    run.arg("--config-file").arg(project().join("crates/testbed/tests/api/schemathesis.toml"));
    run.arg("run").arg(project().join("web/openapi.json"));
    run.args(["--url", &format!("http://{}", server.address().unwrap())]);
    run.args(["--phases", "coverage,fuzzing", "--seed", "1", "--max-examples", examples]).args(more);
    let directory = tempfile::tempdir().unwrap();
    let printed = output(run.env("TOKEN", token.expose()).current_dir(directory.path())).await;
    let cases = printed.lines().find_map(|line| line.trim().split_once(" generated")?.0.parse().ok());
    cases.unwrap_or_else(|| panic!("no number of cases: {printed}"))
}

async fn fuzz_as_operator_and_backend(examples: &str) -> u64 {
    let rates = NO_RATES.split(' ').map(|class| format!("{class} = {{ per_s = 100000, burst = 100000 }}\n"));
    let server = start_demo(&format!("[limits.rates]\n{}", rates.collect::<String>())).await;
    // An operator's requests revoke the tokens that it lists, its own as well, so that operation comes last.
    let revoke = ["--exclude-operation-id", "revoke_token"];
    let operator = fuzz(&server, server.operator_token(), examples, &revoke).await;
    let backend = fuzz(&server, &server.backend_tokens()[0], examples, &[]).await;
    let last = ["--include-operation-id", "revoke_token"];
    let revoked = fuzz(&server, server.operator_token(), examples, &last).await;
    assert_eq!(server.anonymous_client().unwrap().get("/health").await.unwrap().status, 200);
    server.stop_and_check_leaks().await.unwrap();
    operator + backend + revoked
}

#[tokio::test]
async fn schemathesis_finds_no_difference_between_the_document_and_the_server() {
    let cases = fuzz_as_operator_and_backend("4").await;
    assert!(cases >= CASES_MIN, "{cases} requests");
}

/// With `./test --full` only: it takes minutes.
#[tokio::test]
async fn full_schemathesis_finds_no_difference_between_the_document_and_the_server() {
    let cases = fuzz_as_operator_and_backend("50").await;
    assert!(cases >= 4 * CASES_MIN, "{cases} requests");
}
