//! The published clients (`clients/`): each is generated from the document, compiles, and signs in at a running server.

use crate::tools::{output, project, python_tools};
use anteroom_testbed::{TestConfig, TestServer, plain_process::built_program};
use std::{fs, path::Path};
use tokio::process::Command;

/// A server with the demo, whose tool signs in with an API key.
pub(crate) async fn start_demo(settings: &str) -> TestServer {
    let tool = built_program("anteroom-demo-cli").unwrap();
    let tool = tool.to_str().unwrap();
    let demo = format!(
        "[providers.demo]\nargv = [{tool:?}, 'login']\ncredential = {{ status_argv = [{tool:?}, 'status'] }}\n\
         [providers.demo.methods.api_key]\nargv = [{tool:?}, 'login', '--with-api-key']\n"
    );
    let config = TestConfig::with_clis(&["anteroom-demo"]).with_settings(&demo).with_settings(settings);
    TestServer::start(TestConfig { demo: true, ..config }).await.unwrap()
}

/// Generates and compiles both clients in a directory.
async fn build_clients(directory: &Path) {
    let tools = python_tools().await;
    let mut build = Command::new(project().join("clients/build.sh"));
    let printed = output(build.arg(directory).env("ANTEROOM_TEST_PYTHON_TOOLS", tools)).await;
    assert!(!printed.contains("WARNING"), "{printed}");
}

#[tokio::test]
async fn the_generated_clients_sign_in() {
    let directory = tempfile::tempdir().unwrap();
    let server = start_demo("").await;
    build_clients(directory.path()).await;
    let base = format!("http://{}", server.address().unwrap());
    let pages = format!("{base}/demo");
    let token = server.backend_tokens()[0].expose();
    let here = project().join("crates/testbed/tests/api");
    let mut python = Command::new(python_tools().await.join("python"));
    python.arg(here.join("sign_in.py")).args([&base, &pages]);
    python.env("PYTHONPATH", directory.path().join("python")).env("TOKEN", token);
    assert!(output(&mut python).await.contains("signed in as Ada"));
    let typescript = directory.path().join("typescript");
    let mut node = Command::new("node");
    node.arg(here.join("sign_in.mjs")).arg(typescript.join("dist/index.js"));
    node.arg(project().join("web/node_modules/ws/wrapper.mjs")).args([&base, &pages]).env("TOKEN", token);
    assert!(output(&mut node).await.contains("signed in as Ben"));
    // What the types permit.
    fs::copy(here.join("usage.ts"), typescript.join("src/usage.ts")).unwrap();
    let mut compiler = Command::new(project().join("web/node_modules/.bin/tsc"));
    output(compiler.arg("-p").arg(typescript.join("tsconfig.json"))).await;
    server.stop_and_check_leaks().await.unwrap();
}
