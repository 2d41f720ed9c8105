//! A server with what the examples of `--help` name, and the examples, which are those of docs/cli.md. Commands run on the server's host or
//! on another one.

use crate::{
    Flags,
    command_line::{CLI_MS_MAX, text},
    network_namespace::OtherHost,
    remote_command_line::serve_tls,
    webhook::{Inbox, Receiver, write_secret},
};
use anteroom_testbed::{
    Script, ScriptedProvider, Step, TestCa, TestConfig, TestServer, WAIT_MAX, eventually, plain_process::built_program,
};
use anteroom_wire::api::SessionStatus;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

/// Examples that do not run here, and why.
pub(crate) const NOT_RUN: &[(&str, &str)] = &[
    ("db export /var/backups", "no server may run: security/s17_move.rs"),
    ("db export moved.tar.gz", "no server may run: security/s17_move.rs"),
    ("db import moved.tar.gz", "no server may run: security/s17_move.rs"),
    ("host invite", "needs a cluster, which `hosts` has"),
    ("host join", "needs a cluster, which `hosts` has"),
    ("host drain host-2", "needs a cluster, which `hosts` has"),
    ("host drain host-2 --deadline 3600", "needs a cluster, which `hosts` has"),
    ("host undrain host-2", "needs a cluster, which `hosts` has"),
    ("host remove host-2", "needs a cluster, which `hosts` has"),
    ("host fence host-2 --i-saw-it-dead", "needs a cluster, which `hosts` has"),
    ("serve --demo", "it is the server; this server runs with its configuration"),
    ("serve --config anteroom.toml --listen 127.0.0.1:7060", "it is the server, at a fixed port"),
    ("doctor", "its exit code depends on this host: qemu/doctor.rs"),
    ("doctor --network claude_code", "it needs the Internet: networks.rs"),
    ("auth login https://anteroom.example", "it asks for the token on a terminal"),
    ("login codex --method device_code --qr", "it needs a tool with a device code: demo_methods.rs"),
    ("attach ses_ID", "it needs a terminal: exec_signals.rs"),
    ("credentials delete crd_ID --logout", "it asks on a terminal: terminal_output.rs"),
    ("erase --user u-17", "it asks on a terminal: terminal_output.rs"),
    ("sessions watch", "it follows without an end: terminal_output.rs"),
    ("top", "it follows without an end"),
    ("logs ses_ID --follow", "it follows without an end: operations/logs.rs"),
    ("audit tail --follow --action credential.", "it follows without an end: security/s10_audit.rs"),
    ("image build", "it builds an image"),
    ("image build --refresh", "it builds an image"),
    ("image show", "it needs an image"),
    ("image lock > image/packages.lock", "it needs an image"),
    ("image export anteroom-image.tar", "it needs an image: the machine crate's tests of archives"),
    ("image fetch anteroom-image.tar", "it needs an image: the machine crate's tests of archives"),
    ("image fetch anteroom-image.tar --sha256 HEX", "it needs an image: the machine crate's tests of archives"),
    ("backup /var/backups", "it writes to a directory of this host: security/s17_backup.rs"),
    (
        "restore /var/backups/anteroom-20260131T120000Z.tar.gz --state-dir /var/lib/anteroom",
        "it needs a backup: security/s17_backup.rs",
    ),
    ("image sbom > anteroom.cdx.json", "it needs an image: qemu/supply_chain.rs"),
    ("providers outdated", "it asks the npm registry"),
    ("keys accept-rows", "it works only without a server: security/s17_rows.rs"),
    ("bench start --count 10", "it measures virtual machines"),
];

/// What the placeholders of examples have in common.
const PLACEHOLDER: &str = "_01m8nxyvsgd3c01d4n19bvgvn1";

/// The examples of docs/cli.md without `anteroom`, by the path of their command.
pub(crate) fn examples() -> Vec<(String, Vec<String>)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let page = fs::read_to_string(page).unwrap();
    let sections = page.split("\n## anteroom ").skip(1).filter_map(|section| {
        let (path, rest) = section.split_once('\n').unwrap();
        let (examples, _) = rest.split_once("```text\n")?.1.split_once("```").unwrap();
        let examples = examples.lines().map(|line| line.strip_prefix("anteroom ").unwrap().replace(PLACEHOLDER, "_ID"));
        Some((path.to_owned(), examples.collect()))
    });
    sections.collect()
}

/// Where the standard output of a command goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink {
    Pipe,
    /// A device without space.
    Full,
    /// A pipe that its reader has closed.
    Closed,
}

/// A server with what the examples name.
pub(crate) struct Scene {
    flags: Flags,
    pub(crate) server: TestServer,
    inbox: Inbox,
    _receiver: Receiver,
    /// The home directory with which each example begins.
    template: tempfile::TempDir,
    names: u32,
    /// Where commands run; `None`: on the server's host.
    other: Option<Other>,
}

/// A host that reaches the server only through a TLS proxy.
struct Other {
    host: OtherHost,
    url: String,
    proxy: JoinHandle<()>,
}

impl Other {
    async fn start(host: OtherHost, server: SocketAddr, listener: TcpListener, home: &Path) -> Self {
        let ca = TestCa::new().unwrap();
        fs::write(home.join("ca.pem"), ca.pem()).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let proxy = tokio::spawn(serve_tls(listener, ca, OtherHost::SERVER_ADDRESS, server));
        Self { host, url, proxy }
    }
}

impl Scene {
    /// Commands run on the server's host, with its configuration.
    pub(crate) async fn start() -> Self {
        let scene = Self::start_server("").await;
        scene.fill_template().await;
        scene
    }

    /// Commands run on another host, with an operator's token.
    pub(crate) async fn start_for_another_host() -> Self {
        let host = OtherHost::start();
        let listener = TcpListener::bind((OtherHost::SERVER_ADDRESS, 0)).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let mut scene = Self::start_server(&format!("public_url = '{url}'\n")).await;
        let address = scene.server.address().unwrap();
        scene.other = Some(Other::start(host, address, listener, scene.template.path()).await);
        scene.fill_template().await;
        scene
    }

    async fn start_server(settings: &str) -> Self {
        let (flags, inbox) = (Flags::new(), Inbox::default());
        let receiver = Receiver::start(&inbox).await;
        let rules = json!({
            "paths": [ScriptedProvider::CREDENTIAL_PATH], "required": ["/token"],
            "status_argv": ["sh", "-c", "echo Logged in"], "status_matches": "Logged in",
        });
        let scripted = flags.provider("{\"token\": \"x\"}").with_descriptor_key("credential", rules);
        let scripted = scripted.with_descriptor_key("logout_argv", json!(["true"]));
        let idle = ScriptedProvider::new("idle", Script::new([Step::print_line("Idle"), flags.wait_step("never")]));
        let secret = write_secret(&flags.path("webhook.secret"));
        let settings = format!(
            "{settings}[[webhook]]\nname = 'main'\nurl = 'http://{}/in'\nsecret_file = '{}'\n",
            receiver.address,
            secret.display()
        );
        let config = TestConfig::with_providers([scripted, idle]).with_settings(&settings);
        let server = TestServer::start(config).await.unwrap();
        let template = tempfile::tempdir().unwrap();
        let scene = Self { flags, server, inbox, _receiver: receiver, template, names: 0, other: None };
        scene.flags.set("go");
        scene
    }

    async fn fill_template(&self) {
        let home = self.template.path();
        for dir in [".codex", ".local/share/bash-completion/completions", ".config/fish/completions", "providers"] {
            fs::create_dir_all(home.join(dir)).unwrap();
        }
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let descriptor = fs::read_to_string(project.join("providers/examples/any_command.toml")).unwrap();
        for name in ["providers/my_tool.toml", "my_tool.toml"] {
            fs::write(home.join(name), descriptor.replace("\"any_command\"", "\"my_tool\"")).unwrap();
        }
        fs::write(home.join("screen.txt"), "Paste the code here:").unwrap();
        fs::write(home.join("report.txt"), "a report\n").unwrap();
        fs::write(home.join("token.txt"), self.server.operator_token().expose()).unwrap();
        fs::copy(self.server.config_file(), home.join("anteroom.toml")).unwrap();
        let login = format!("auth login {} --profile work --token-file token.txt", self.url());
        let done = self.run_in(home, &login, Sink::Pipe).await;
        assert!(done.status.success(), "{}", text(&done.stderr));
    }

    /// The server's address for those who run commands.
    fn url(&self) -> String {
        let local = || format!("http://{}", self.server.address().unwrap());
        self.other.as_ref().map_or_else(local, |other| other.url.clone())
    }

    /// A program that runs where commands run.
    pub(crate) fn command(&self, program: &Path, home: &Path) -> Command {
        let mut command = match &self.other {
            None => Command::new(program),
            Some(other) => {
                let mut command = other.host.command(program);
                command.env("ANTEROOM_SERVER", &other.url).env("ANTEROOM_CACERT", home.join("ca.pem"));
                command.env("ANTEROOM_TOKEN", self.server.operator_token().expose());
                // There is no registry.
                command.env("npm_config_fetch_retries", "0");
                command
            }
        };
        if self.other.is_none() {
            command.env("ANTEROOM_CONFIG", self.server.config_file());
        }
        let programs = built_program("anteroom").unwrap();
        let path = format!("{}:{}", programs.parent().unwrap().display(), std::env::var("PATH").unwrap());
        command.current_dir(home).env("HOME", home).env("PATH", path).env_remove("XDG_CONFIG_HOME");
        command.kill_on_drop(true);
        command
    }

    /// Starts a command line of a shell that begins with the words after `anteroom`.
    pub(crate) fn spawn(&self, home: &Path, line: &str, sink: Sink) -> Child {
        let mut command = self.command(Path::new("bash"), home);
        command.args(["-c", &format!("exec anteroom {line}")]).stdin(Stdio::null()).stderr(Stdio::piped());
        command.stdout(match sink {
            Sink::Pipe => Stdio::piped(),
            Sink::Full => File::options().write(true).open("/dev/full").unwrap().into(),
            Sink::Closed => std::io::pipe().unwrap().1.into(),
        });
        command.spawn().unwrap()
    }

    pub(crate) async fn run_in(&self, home: &Path, line: &str, sink: Sink) -> Output {
        let child = self.spawn(home, line, sink);
        timeout(Duration::from_millis(CLI_MS_MAX), child.wait_with_output()).await.unwrap().unwrap()
    }

    /// A home directory like the template.
    pub(crate) async fn home(&self) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-a").arg(self.template.path().join(".")).arg(home.path()).status().await;
        assert!(copied.unwrap().success());
        home
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.server.operator_client().unwrap().post(path, body).await.unwrap().parse().unwrap()
    }

    /// Signs in; returns the id of the credential.
    pub(crate) async fn new_credential(&self) -> String {
        let api = self.server.backend_client().unwrap();
        let session = api.start_session("scripted").await.unwrap().session.id;
        api.wait_status(&session, SessionStatus::Completed).await.unwrap().credential.unwrap().id.to_string()
    }

    pub(crate) async fn new_session(&self, provider: &str) -> String {
        self.server.backend_client().unwrap().start_session(provider).await.unwrap().session.id.to_string()
    }

    /// The command line of an example, with ids of things that exist.
    pub(crate) async fn prepare(&mut self, example: &str) -> String {
        self.names += 1;
        let mut line = example.replace("login demo", "login scripted").replace("login codex", "login scripted");
        line = line.replace("codex exec", "echo").replace("my-backend", &format!("backend-{}", self.names));
        line = line.replace("create laptop", &format!("create laptop-{}", self.names));
        line = line.replace("https://anteroom.example", &self.url());
        if line.contains("crd_ID") {
            line = line.replace("crd_ID", &self.new_credential().await);
        }
        if line.starts_with("keys retire") {
            let keys = self.post("/api/keys/rotate", json!({})).await;
            line = format!("keys retire {}", keys["keys"][0]["id"]);
            let operator = self.server.operator_client().unwrap();
            let rewrapped = async || {
                let report: Value = operator.get("/api/keys").await?.parse()?;
                Ok((report["records_to_rewrap"] == 0).then_some(()))
            };
            eventually("the records are rewrapped", WAIT_MAX, rewrapped).await.unwrap();
        }
        if line.contains("msg_ID") {
            line = line.replace("msg_ID", self.inbox.wait_messages(1).await[0].id());
        }
        if line.starts_with("token") && line.contains("cal_ID") {
            let created = self.post("/api/tokens", json!({ "name": format!("token-{}", self.names) })).await;
            line = line.replace("cal_ID", created["token"]["id"].as_str().unwrap());
        }
        if line.contains("ses_ID") {
            let session = self.new_session("idle").await;
            if line.starts_with("helpers end") {
                let body = json!({ "name": "Ada" });
                self.post(&format!("/api/auth/session/{session}/invitations"), body).await;
                let helpers = self.server.operator_client().unwrap();
                let helpers = helpers.get(&format!("/api/auth/session/{session}/helpers")).await.unwrap();
                let helpers: Value = helpers.parse().unwrap();
                line = line.replace("cal_ID", helpers["helpers"][0]["id"].as_str().unwrap());
            }
            if line.starts_with("sessions watch") {
                self.post(&format!("/api/auth/session/{session}/cancel"), json!({})).await;
            }
            line = line.replace("ses_ID", &session);
        }
        line
    }

    /// Runs `anteroom cp` with the session of a running `exec`.
    pub(crate) async fn copy(&self, example: &str) {
        let (home, credential) = (self.home().await, self.new_credential().await);
        let work = "mkdir -p work; echo {} > work/result.json; echo ready; cat";
        let mut exec = self.command(&built_program("anteroom").unwrap(), home.path());
        exec.args(["exec", "--credential", &credential, "--", "sh", "-c", work]);
        let mut exec = exec.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(exec.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
        let list = self.server.operator_client().unwrap().get("/api/sessions?state=active").await.unwrap();
        let list: Value = list.parse().unwrap();
        let sessions = list["sessions"].as_array().unwrap();
        let of_exec = sessions.iter().find(|session| session["credential_use"].is_object()).unwrap();
        let line = example.replace("ses_ID", of_exec["id"].as_str().unwrap());
        let done = self.run_in(home.path(), &line, Sink::Pipe).await;
        assert!(done.status.success(), "{line}: {}", text(&done.stderr));
        drop(exec.stdin.take());
        let end = timeout(Duration::from_millis(CLI_MS_MAX), exec.wait()).await.unwrap().unwrap();
        assert!(end.success(), "{end}");
    }

    /// Ends what examples have left behind on purpose.
    pub(crate) async fn end(self) {
        self.server.operator_client().unwrap().cancel_all_sessions().await.unwrap();
        self.server.wait_machines_removed().await.unwrap();
        if let Some(other) = self.other {
            other.proxy.abort();
            other.host.stop();
        }
        self.server.stop_and_check_leaks().await.unwrap();
    }
}

pub(crate) fn is_run(example: &str) -> bool {
    NOT_RUN.iter().all(|(line, _)| *line != example)
}
