//! The command line with a server on another host: a network namespace that is connected with the server's by one cable.
//!
//! ```text
//!  namespace of the test                             namespace of the client
//!  server (loopback) ◀── TLS proxy 10.77.0.1 ══ veth ══ 10.77.0.2: anteroom --server https://10.77.0.1:…
//! ```

use crate::{
    Flags,
    command_line::{CLI_MS_MAX, sign_in, text},
    network_namespace::{OtherHost, rerun_inside},
};
use anteroom_testbed::{TestCa, TestConfig, TestServer, plain_process::built_program};
use anteroom_wire::Secret;
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

const CONTENT: &str = "{\"token\": \"of the credential\"}";

/// A server behind a TLS proxy, and a host that reaches only the proxy.
struct Scene {
    flags: Flags,
    server: TestServer,
    url: String,
    host: OtherHost,
    /// The home of the user on the other host.
    home: tempfile::TempDir,
    proxy: JoinHandle<()>,
}

impl Scene {
    async fn start() -> Self {
        let host = OtherHost::start();
        let ca = TestCa::new().unwrap();
        let listener = TcpListener::bind((OtherHost::SERVER_ADDRESS, 0)).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let flags = Flags::new();
        let config = TestConfig::with_provider(flags.provider(CONTENT));
        let config = config.with_settings(&format!("public_url = '{url}'\n"));
        let server = TestServer::start(config).await.unwrap();
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("ca.pem"), ca.pem()).unwrap();
        let proxy = tokio::spawn(serve_tls(listener, ca, OtherHost::SERVER_ADDRESS, server.address().unwrap()));
        Self { flags, server, url, host, home, proxy }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs `anteroom` on the other host, as a user who has nothing of the server's host.
    async fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.host.command(&built_program("anteroom").unwrap());
        command.args(arguments).env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that does not read its input may have closed it.
        let _ = stdin.write_all(input).await;
        drop(stdin);
        timeout(Duration::from_millis(CLI_MS_MAX), child.wait_with_output()).await.unwrap().unwrap()
    }

    /// Runs `anteroom`, which must succeed; returns its standard output.
    async fn succeed(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments, b"").await;
        assert!(done.status.success(), "{arguments:?}: {}{}", text(&done.stdout), text(&done.stderr));
        text(&done.stdout)
    }

    /// Runs `anteroom`, which must fail with 1; returns its standard error.
    async fn fail(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments, b"").await;
        assert_eq!(done.status.code(), Some(1), "{arguments:?}: {}{}", text(&done.stdout), text(&done.stderr));
        text(&done.stderr)
    }

    async fn log_in(&self, name: &str, token: &Secret) {
        let arguments = ["auth", "login", &self.url, "--profile", name, "--cacert", "ca.pem", "--token-file", "-"];
        let done = self.run(&arguments, token.expose().as_bytes()).await;
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert!(!text(&done.stdout).contains(token.expose()), "the token is not printed");
    }

    async fn end(self) {
        self.proxy.abort();
        self.host.stop();
        self.server.stop_and_check_leaks().await.unwrap();
    }
}

/// Ends TLS and passes the bytes on, as a reverse proxy does.
pub(crate) async fn serve_tls(listener: TcpListener, ca: TestCa, name: &str, server: SocketAddr) {
    let acceptor = ca.acceptor(&[name]).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let (Ok(mut client), Ok(mut server)) = (acceptor.accept(stream).await, TcpStream::connect(server).await)
            else {
                return;
            };
            // The end of either connection is the end of both.
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

#[tokio::test]
async fn a_profile_keeps_an_operators_token_for_commands_on_another_host() {
    if !rerun_inside("remote_command_line::a_profile_keeps_an_operators_token_for_commands_on_another_host") {
        return;
    }
    let scene = Scene::start().await;
    let credential = sign_in(&scene.flags, &scene.server).await;
    scene.log_in("far", scene.server.operator_token()).await;
    let file = scene.path(".config/anteroom/auth.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(scene.succeed(&["status"]).await.contains(&scene.url));
    assert!(scene.succeed(&["auth", "status"]).await.contains("operator"));
    let sessions: serde_json::Value = serde_json::from_str(&scene.succeed(&["sessions", "--json"]).await).unwrap();
    let session = sessions["sessions"][0]["id"].as_str().unwrap().to_owned();
    for arguments in [&["sessions", &session][..], &["credentials", "show", &credential], &["logs", &session]] {
        let out = scene.succeed(arguments).await;
        assert!(!out.trim().is_empty(), "{arguments:?} prints something");
    }
    scene.succeed(&["bundle", &session]).await;
    assert!(scene.path(&format!("anteroom-{session}.tar.gz")).exists());
    let created = scene.succeed(&["token", "create", "of another host"]).await;
    fs::write(scene.path("new"), &created).unwrap();
    let me = scene.succeed(&["auth", "status", "--server", &scene.url, "--token", "new"]).await;
    assert!(me.contains("of another host (backend)"), "{me}");
    for (arguments, what) in
        [(&["--profile", "far", "serve"][..], "is the server"), (&["--server", &scene.url, "image", "show"], "images")]
    {
        let error = scene.fail(arguments).await;
        assert!(error.contains(what) && error.contains("Run it on the server's host"), "{error}");
    }
    scene.end().await;
}

#[tokio::test]
async fn a_backend_signs_in_and_uses_its_credential_from_another_host() {
    if !rerun_inside("remote_command_line::a_backend_signs_in_and_uses_its_credential_from_another_host") {
        return;
    }
    let scene = Scene::start().await;
    let [own, other] = [0, 1].map(|index: usize| scene.server.backend_tokens()[index].clone());
    scene.log_in("own", &own).await;
    scene.flags.set("go");
    let out = scene.succeed(&["login", "scripted", "--no-open", "--out", "credential.json"]).await;
    assert!(out.contains(&scene.url), "the link leads to the server's public address: {out}");
    assert_eq!(fs::read_to_string(scene.path("credential.json")).unwrap(), CONTENT);
    let list: serde_json::Value =
        serde_json::from_str(&scene.succeed(&["credentials", "list", "--json"]).await).unwrap();
    let credential = list["credentials"][0]["id"].as_str().unwrap();
    let cat = ["exec", "--credential", credential, "--", "sh", "-c", "cat .scripted/auth.json; exit 7"];
    let done = scene.run(&cat, b"").await;
    assert_eq!(done.status.code(), Some(7), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout).trim_end(), CONTENT);

    scene.log_in("other", &other).await;
    assert!(
        scene
            .fail(&["credentials", "show", credential])
            .await
            .contains("This belongs to another caller, or needs another role."),
        "another backend's"
    );
    let error = scene.fail(&["token", "list"]).await;
    assert!(error.contains("This belongs to another caller, or needs another role."), "operators only: {error}");
    scene.succeed(&["--profile", "own", "credentials", "show", credential]).await;
    scene.succeed(&["auth", "use", "own"]).await;
    scene.succeed(&["credentials", "show", credential]).await;
    let listed: serde_json::Value = serde_json::from_str(&scene.succeed(&["auth", "list", "--json"]).await).unwrap();
    assert_eq!((listed["current"].as_str(), listed["profiles"].as_array().unwrap().len()), (Some("own"), 2));
    assert!(!listed.to_string().contains(own.expose()));
    scene.succeed(&["auth", "logout"]).await;
    assert!(scene.fail(&["sessions"]).await.contains("anteroom auth login"), "there is no server on this host");
    assert!(!fs::read_to_string(scene.path(".config/anteroom/auth.toml")).unwrap().contains(own.expose()));
    scene.end().await;
}

#[tokio::test]
async fn a_token_is_sent_only_over_tls_to_a_trusted_server_and_refused_with_the_reason() {
    if !rerun_inside(
        "remote_command_line::a_token_is_sent_only_over_tls_to_a_trusted_server_and_refused_with_the_reason",
    ) {
        return;
    }
    let scene = Scene::start().await;
    fs::write(scene.path("token"), scene.server.operator_token().expose()).unwrap();
    fs::write(scene.path("wrong"), "ant_wrong").unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let plain = TcpListener::bind((OtherHost::SERVER_ADDRESS, 0)).await.unwrap();
    let plain_url = format!("http://{}", plain.local_addr().unwrap());
    let recorder = tokio::spawn(record(plain, Arc::clone(&seen)));
    for (arguments, reason) in [
        (&["--server", &scene.url, "--token-file", "token"][..], "UnknownIssuer"),
        (&["--server", &scene.url, "--token-file", "wrong", "--cacert", "ca.pem"], "does not accept the token"),
        (&["--server", &scene.url, "--cacert", "ca.pem"], "there is no token"),
        (&["--server", &plain_url, "--token-file", "token"], "has no TLS"),
        (&["--server", "https://10.77.0.1:1", "--token-file", "token"], "cannot be reached"),
        (&["--profile", "none"], "there is no profile"),
        (&["--token-file", "token"], "needs a server"),
    ] {
        let error = scene.fail(&[arguments, &["sessions"]].concat()).await;
        assert!(error.contains(reason), "{arguments:?}: {error}");
        assert!(!error.contains(scene.server.operator_token().expose()));
    }
    assert!(seen.lock().unwrap().is_empty(), "nothing was sent without TLS");
    recorder.abort();
    let mut with_variables = scene.host.command(&built_program("anteroom").unwrap());
    with_variables.arg("sessions").env_clear().env("HOME", scene.home.path());
    with_variables.env("ANTEROOM_SERVER", &scene.url).env("ANTEROOM_CACERT", scene.path("ca.pem"));
    with_variables.env("ANTEROOM_TOKEN", scene.server.operator_token().expose());
    assert!(with_variables.output().await.unwrap().status.success());
    scene.end().await;
}

/// Records what is sent to a port.
async fn record(listener: TcpListener, seen: Arc<Mutex<Vec<u8>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        let mut bytes = [0; 4096];
        let count = stream.try_read(&mut bytes).unwrap_or_default();
        seen.lock().unwrap().extend_from_slice(&bytes[..count]);
    }
}
