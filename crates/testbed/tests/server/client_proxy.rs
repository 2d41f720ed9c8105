//! The command line behind a proxy: the server has a name that only the proxy knows.
//!
//! ```text
//!  anteroom --server https://anteroom.test:… ─▶ tinyproxy or Dante ─▶ NameProxy ─▶ TLS ─▶ server
//! ```

use crate::{
    Flags,
    command_line::{CLI_MS_MAX, sign_in, text},
    remote_command_line::serve_tls,
};
use anteroom_testbed::{ForwardProxy, ProxyKind, TestCa, TestConfig, TestServer, plain_process::built_program};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, net::TcpListener, process::Command, time::timeout};

const NAME: &str = "anteroom.test";

/// Runs `anteroom` in this home, with these variables and this input.
async fn run(home: &Path, variables: &[(&str, &str)], arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(built_program("anteroom").unwrap());
    command.args(arguments).env_clear().env("HOME", home).current_dir(home).envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that does not read its input may have closed it.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    timeout(Duration::from_millis(CLI_MS_MAX), child.wait_with_output()).await.unwrap().unwrap()
}

#[tokio::test]
async fn commands_and_streams_go_through_the_proxy_of_the_environment() {
    let (ca, flags, home) = (TestCa::new().unwrap(), Flags::new(), tempfile::tempdir().unwrap());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("https://{NAME}:{}", address.port());
    let config = TestConfig::with_provider(flags.provider("{\"token\": \"x\"}"));
    let server = TestServer::start(config.with_settings(&format!("public_url = '{url}'\n"))).await.unwrap();
    let credential = sign_in(&flags, &server).await;
    let hosts = BTreeMap::from([(format!("{NAME}:{}", address.port()), address)]);
    let connect_proxy = ForwardProxy::start(ProxyKind::Http, &ca, &hosts).await.unwrap();
    let socks_proxy = ForwardProxy::start(ProxyKind::Socks, &ca, &hosts).await.unwrap();
    fs::write(home.path().join("ca.pem"), ca.pem()).unwrap();
    fs::write(home.path().join("token"), server.operator_token().expose()).unwrap();
    let tls = tokio::spawn(serve_tls(listener, ca, NAME, server.address().unwrap()));
    let far = ["--server", &url, "--cacert", "ca.pem", "--token-file", "token"];
    let run_far = async |variables: &[(&str, &str)], arguments: &[&str], input: &[u8]| {
        run(home.path(), variables, &[&far, arguments].concat(), input).await
    };
    for (variable, proxy) in [("HTTPS_PROXY", &connect_proxy), ("all_proxy", &socks_proxy)] {
        let variables = [(variable, proxy.url.as_str())];
        let listed = run_far(&variables, &["sessions"], b"").await;
        assert!(listed.status.success() && text(&listed.stdout).contains("ses_"), "{variable}: {listed:?}");
        // A WebSocket.
        let counted = run_far(&variables, &["exec", "--credential", &credential, "--", "wc", "-c"], b"seven.\n").await;
        assert_eq!(text(&counted.stdout).trim(), "7", "{variable}: {}", text(&counted.stderr));
        assert!(!proxy.targets().is_empty(), "{variable}: the proxy was used");
    }
    let port_one = "http://someone:SECRET@127.0.0.1:1";
    let broken = run_far(&[("https_proxy", port_one)], &["sessions"], b"").await;
    let error = text(&broken.stderr);
    assert!(error.contains("the proxy http://127.0.0.1:1 of the environment") && !error.contains("SECRET"), "{error}");
    let unsupported = text(&run_far(&[("HTTPS_PROXY", "socks4://127.0.0.1:1")], &["sessions"], b"").await.stderr);
    assert!(unsupported.contains("is not supported") || unsupported.contains("cannot be reached"), "{unsupported}");
    let direct = run_far(&[("HTTPS_PROXY", port_one), ("NO_PROXY", NAME)], &["sessions"], b"").await;
    let error = text(&direct.stderr);
    assert!(error.contains("cannot be reached") && !error.contains("the proxy"), "{error}");
    let here = format!("http://{}", server.address().unwrap());
    let near = ["--server", &here, "--token-file", "token", "sessions"];
    let near = run(home.path(), &[("HTTP_PROXY", port_one), ("ALL_PROXY", port_one)], &near, b"").await;
    // The server knows only its public name, so it refuses this one: but it was asked without the proxy.
    assert!(!text(&near.stderr).contains("the proxy http://127"), "{near:?}");
    tls.abort();
    server.stop_and_check_leaks().await.unwrap();
}
