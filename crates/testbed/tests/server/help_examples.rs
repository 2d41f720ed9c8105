//! The examples of `--help` run, and each command that prints ends with an error, and leaves nothing, when its output cannot be written or
//! Ctrl-C stops it. The list of the commands is docs/cli.md, which is generated from their definition.

use crate::{
    Flags,
    command_line::{CLI_MS_MAX, text},
    webhook::{Inbox, Receiver, write_secret},
};
use anteroom_testbed::{
    Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, eventually, plain_process::built_program,
};
use anteroom_wire::api::SessionStatus;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Examples that do not run here, and why.
const NOT_RUN: &[(&str, &str)] = &[
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

/// Commands none of whose examples prints here.
const SILENT: &[&str] = &["cp", "man", "logs"];

/// What the placeholders of examples have in common.
const PLACEHOLDER: &str = "_01m8nxyvsgd3c01d4n19bvgvn1";

/// The examples of docs/cli.md without `anteroom`, by the path of their command.
fn examples() -> Vec<(String, Vec<String>)> {
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
enum Sink {
    Pipe,
    /// A device without space.
    Full,
    /// A pipe that its reader has closed.
    Closed,
}

/// A server with what the examples name.
struct Scene {
    flags: Flags,
    server: TestServer,
    inbox: Inbox,
    _receiver: Receiver,
    /// The home directory with which each example begins.
    template: tempfile::TempDir,
    names: u32,
}

impl Scene {
    async fn start() -> Self {
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
            "[[webhook]]\nname = 'main'\nurl = 'http://{}/in'\nsecret_file = '{}'\n",
            receiver.address,
            secret.display()
        );
        let config = TestConfig::with_providers([scripted, idle]).with_settings(&settings);
        let server = TestServer::start(config).await.unwrap();
        let template = tempfile::tempdir().unwrap();
        let scene = Self { flags, server, inbox, _receiver: receiver, template, names: 0 };
        scene.flags.set("go");
        scene.fill_template().await;
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
        let login =
            format!("auth login http://{} --profile work --token-file token.txt", self.server.address().unwrap());
        let done = self.run_in(home, &login, Sink::Pipe).await;
        assert!(done.status.success(), "{}", text(&done.stderr));
    }

    /// Starts a command line of a shell that begins with the words after `anteroom`.
    fn spawn(&self, home: &Path, line: &str, sink: Sink) -> Child {
        let mut command = Command::new("bash");
        let program = built_program("anteroom").unwrap();
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        command.args(["-c", &format!("exec anteroom {line}")]).current_dir(home).env("HOME", home).env("PATH", path);
        command.env("ANTEROOM_CONFIG", self.server.config_file()).env_remove("XDG_CONFIG_HOME");
        command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        command.stdout(match sink {
            Sink::Pipe => Stdio::piped(),
            Sink::Full => File::options().write(true).open("/dev/full").unwrap().into(),
            Sink::Closed => std::io::pipe().unwrap().1.into(),
        });
        command.spawn().unwrap()
    }

    async fn run_in(&self, home: &Path, line: &str, sink: Sink) -> Output {
        let child = self.spawn(home, line, sink);
        timeout(Duration::from_millis(CLI_MS_MAX), child.wait_with_output()).await.unwrap().unwrap()
    }

    /// A home directory like the template.
    async fn home(&self) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-a").arg(self.template.path().join(".")).arg(home.path()).status().await;
        assert!(copied.unwrap().success());
        home
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.server.operator_client().unwrap().post(path, body).await.unwrap().parse().unwrap()
    }

    /// Signs in; returns the id of the credential.
    async fn new_credential(&self) -> String {
        let api = self.server.backend_client().unwrap();
        let session = api.start_session("scripted").await.unwrap().session.id;
        api.wait_status(&session, SessionStatus::Completed).await.unwrap().credential.unwrap().id.to_string()
    }

    async fn new_session(&self, provider: &str) -> String {
        self.server.backend_client().unwrap().start_session(provider).await.unwrap().session.id.to_string()
    }

    /// The command line of an example, with ids of things that exist.
    async fn prepare(&mut self, example: &str) -> String {
        self.names += 1;
        let mut line = example.replace("login demo", "login scripted").replace("login codex", "login scripted");
        line = line.replace("codex exec", "echo").replace("my-backend", &format!("backend-{}", self.names));
        line = line.replace("create laptop", &format!("create laptop-{}", self.names));
        line = line.replace("https://anteroom.example", &format!("http://{}", self.server.address().unwrap()));
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
    async fn copy(&self, example: &str) {
        let (home, credential) = (self.home().await, self.new_credential().await);
        let work = "mkdir -p work; echo {} > work/result.json; echo ready; cat";
        let mut exec = Command::new(built_program("anteroom").unwrap());
        exec.args(["exec", "--credential", &credential, "--", "sh", "-c", work]);
        exec.env("ANTEROOM_CONFIG", self.server.config_file()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut exec = exec.kill_on_drop(true).spawn().unwrap();
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
    async fn end(self) {
        self.server.operator_client().unwrap().cancel_all_sessions().await.unwrap();
        self.server.wait_machines_removed().await.unwrap();
        self.server.stop_and_check_leaks().await.unwrap();
    }
}

fn is_run(example: &str) -> bool {
    NOT_RUN.iter().all(|(line, _)| *line != example)
}

#[tokio::test]
async fn examples_of_the_help_run() {
    let all = examples();
    for (line, reason) in NOT_RUN {
        assert!(all.iter().any(|(_, lines)| lines.iter().any(|known| known == line)), "docs/cli.md has no {line:?}");
        assert!(reason.len() > 15, "{line}");
    }
    let mut scene = Scene::start().await;
    for example in all.iter().flat_map(|(_, lines)| lines).filter(|line| is_run(line)) {
        if example.starts_with("cp ") {
            scene.copy(example).await;
            continue;
        }
        let (line, home) = (scene.prepare(example).await, scene.home().await);
        let done = scene.run_in(home.path(), &line, Sink::Pipe).await;
        // A session that was cancelled is one that did not complete.
        let expected = i32::from(line.starts_with("sessions watch"));
        assert_eq!(done.status.code(), Some(expected), "{line}: {}{}", text(&done.stdout), text(&done.stderr));
    }
    scene.end().await;
}

/// The first example of each command that runs here, without a file for its output.
fn printing_examples() -> BTreeMap<String, String> {
    let of_command = |(path, lines): (String, Vec<String>)| {
        let line = lines.into_iter().find(|line| is_run(line))?;
        Some((path, line.split(" > ").next().unwrap().to_owned()))
    };
    let mut found: BTreeMap<_, _> = examples().into_iter().filter_map(of_command).collect();
    found.retain(|path, _| !SILENT.contains(&path.as_str()));
    found
}

#[tokio::test]
async fn output_that_cannot_be_written_and_ctrl_c_end_every_command() {
    let mut scene = Scene::start().await;
    let commands = printing_examples();
    assert!(commands.len() > 30, "{commands:?}");
    for (number, (path, example)) in commands.iter().enumerate() {
        for sink in [Sink::Full, Sink::Closed] {
            let (line, home) = (scene.prepare(example).await, scene.home().await);
            let done = scene.run_in(home.path(), &line, sink).await;
            let errors = text(&done.stderr);
            let (code, reason) = match (sink, path.as_str()) {
                (_, "token create" | "token rotate") => (1, "could not be printed; revoke it"),
                (Sink::Closed, _) => (141, ""),
                (_, "exec") => (125, "No space left"),
                (..) => (1, "No space left"),
            };
            assert_eq!(done.status.code(), Some(code), "{sink:?} {line}: {errors}");
            assert!(errors.contains(reason), "{line}: {errors}");
        }
        // The moments are the subject of the test: before the command begins, while it runs, and when it is done.
        let (line, home) = (scene.prepare(example).await, scene.home().await);
        let mut child = scene.spawn(home.path(), &line, Sink::Pipe);
        tokio::time::sleep(Duration::from_millis((number as u64 % 10) * 15)).await;
        let _ = kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), Signal::INT);
        let end = timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap();
        let is_stopped = end.code() == Some(130) || end.signal() == Some(Signal::INT.as_raw());
        assert!(is_stopped || end.code() == Some(i32::from(path == "sessions watch")), "{line}: {end}");
    }
    let operator = scene.server.operator_client().unwrap();
    let nothing_left = async || {
        let active: Value = operator.get("/api/sessions?state=active").await?.parse()?;
        let mut sessions = active["sessions"].as_array().into_iter().flatten();
        Ok(sessions.all(|session| session["provider"] == "idle").then_some(()))
    };
    eventually("the sessions of stopped commands have ended", WAIT_MAX, nothing_left).await.unwrap();
    scene.end().await;
}
