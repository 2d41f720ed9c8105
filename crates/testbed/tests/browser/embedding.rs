//! The session's page in a frame, a popup and a tab of another site: the backends in `examples/`, in a real browser.

use crate::keep_port;
use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, script::WriteMode};
use serde::Deserialize;
use std::{fs, path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// What `web/e2e/real/embedding.mjs` prints for each way to open the page.
#[derive(Debug, Deserialize)]
struct Opened {
    opened: String,
    /// The text of the example's status line at the end.
    status: String,
    /// The types of the messages that the example received.
    messages: Vec<String>,
    /// Attributes of the cookies for the session's page.
    cookies: Vec<String>,
    page_errors: Vec<String>,
}

/// A process that is ended with the test, and the address that it printed.
struct Backend {
    process: Child,
    url: String,
}

impl Backend {
    async fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the example starts");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = timeout(WAIT_MAX, lines.next_line()).await.expect("the example prints its address").unwrap().unwrap();
        Self { process, url }
    }
}

/// Starts a server whose tool signs in as soon as `signed_in` exists, and an example backend whose pages may embed it.
async fn start(dir: &Path, signed_in: &Path, example: impl FnOnce(&Path) -> Command) -> (TestServer, Backend) {
    let sign_in = Script::new([
        Step::print_line("Nothing to do"),
        Step::WaitForFile { path: signed_in.to_owned(), ms_max: 300_000 },
        Step::WriteFile {
            path: ScriptedProvider::CREDENTIAL_PATH.into(),
            content: r#"{"token":"signed-in-through-the-example"}"#.into(),
            mode: WriteMode::Truncate,
        },
    ]);
    let config = TestConfig::with_provider(ScriptedProvider::new("scripted", sign_in));
    let mut server = TestServer::start(config).await.unwrap();
    let token_file = dir.join("token");
    fs::write(&token_file, server.backend_tokens()[0].expose()).unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut command = example(&examples);
    command.env("ANTEROOM_URL", format!("http://{}", server.address().unwrap()));
    command.env("ANTEROOM_TOKEN_FILE", &token_file).env("PROVIDER", "scripted").env("PORT", "0");
    let backend = Backend::start(command).await;
    // The site's address is known only now.
    keep_port(&server);
    let (path, origin) = (server.path().join("config.toml"), backend.url.trim_end_matches('/'));
    let settings = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{settings}\n[http]\nframe_ancestors = ['{origin}']\n")).unwrap();
    server.stop_server().await.unwrap();
    server.start_server().await.unwrap();
    (server, backend)
}

async fn connect_everywhere(example: impl FnOnce(&Path) -> Command) {
    let dir = tempfile::tempdir().unwrap();
    let signed_in = dir.path().join("signed-in");
    let (server, mut backend) = start(dir.path(), &signed_in, example).await;
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let mut script = Command::new("node");
    script.arg("e2e/real/embedding.mjs").current_dir(web);
    script.env("ANTEROOM_E2E_SITE", &backend.url).env("ANTEROOM_E2E_SIGNED_IN", &signed_in);
    let script = script.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(4 * WAIT_MAX, script).await.expect("the script ends in time").unwrap();
    assert!(output.status.success(), "the script failed: {}", String::from_utf8_lossy(&output.stderr));
    let opened: Vec<Opened> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(opened.iter().map(|one| one.opened.as_str()).collect::<Vec<_>>(), ["frame", "popup", "page"]);
    for one in &opened {
        assert_eq!(one.status, format!("Connected: {}", ScriptedProvider::CREDENTIAL_PATH), "{one:?}");
        assert_eq!(one.page_errors, Vec::<String>::new(), "{one:?}");
        if one.opened != "page" {
            assert_eq!(one.messages.first().map(String::as_str), Some("anteroom.ready"), "{one:?}");
            assert_eq!(one.messages.iter().filter(|kind| *kind == "anteroom.done").count(), 1, "{one:?}");
        }
        let expected = if one.opened == "frame" { "None, partitioned, secure" } else { "Strict" };
        assert_eq!(one.cookies, [expected], "{one:?}");
    }
    backend.process.kill().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn example_backend_in_python_connects_a_tool_in_a_frame_a_popup_and_a_tab() {
    connect_everywhere(|examples| {
        let mut python = Command::new("python3");
        python.arg(examples.join("python/backend.py"));
        python
    })
    .await;
}

#[tokio::test]
async fn example_backend_in_typescript_connects_a_tool_in_a_frame_a_popup_and_a_tab() {
    let built = tempfile::tempdir().unwrap();
    connect_everywhere(|examples| {
        let (sources, web) = (examples.join("typescript"), Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web"));
        let mut esbuild = std::process::Command::new(web.join("node_modules/.bin/esbuild"));
        esbuild.args([sources.join("backend.ts"), sources.join("page.ts")]);
        let status = esbuild.arg(format!("--outdir={}", built.path().display())).arg("--log-level=warning").status();
        assert!(status.expect("esbuild starts: ./test installs it").success());
        fs::copy(sources.join("page.html"), built.path().join("page.html")).unwrap();
        // Node runs a file of this name as a module.
        fs::rename(built.path().join("backend.js"), built.path().join("backend.mjs")).unwrap();
        let mut node = Command::new("node");
        node.arg(built.path().join("backend.mjs"));
        node
    })
    .await;
}
