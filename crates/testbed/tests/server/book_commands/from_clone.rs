//! The blocks marked `sh from-clone` (README.md, docs/first_change.md, docs/providers.md): their lines run in order in a new clone, which
//! compiles everything. With `./test --full`. Packages, and what Cargo and npm have fetched, are those of the host; all else is the clone's.

use super::{Mark, documents_with_commands, repository};
use anteroom_testbed::{ApiClient, WAIT_MAX, eventually, plain_process::built_program};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// The longest time of a line: it compiles, or runs tests of machines on KVM.
const LINE_MAX: Duration = Duration::from_secs(7_200);
/// README.md is the last, since its `./test --kvm` compiles most.
const DOCUMENTS: [&str; 3] = ["docs/first_change.md", "docs/providers.md", "README.md"];
/// What a variable begins with that Cargo, the runner of this test or `./test` has set.
const OF_THIS_RUN: [&str; 7] =
    ["ANTEROOM_", "NEXTEST", "CARGO_BIN_EXE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_TARGET_", "LD_LIBRARY_PATH"];
/// Of the length that the tool's descriptor asks for.
const KEY: &str = "sk-ant-0123456789abcdefghij";

/// A new clone, and what its server and its programs write. It is deleted at the end.
struct Clone {
    directory: PathBuf,
    address: SocketAddr,
}

impl Clone {
    /// Below the directory of what is built, whose disk has room for it.
    async fn new() -> Self {
        let root = repository();
        assert!(root.join(".git").exists(), "{} is no clone: `git clone` makes one of it", root.display());
        let target = built_program("anteroom").unwrap().ancestors().nth(2).unwrap().to_owned();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let clone = Self { directory: target.join("clone"), address };
        clone.delete();
        fs::create_dir(&clone.directory).unwrap();
        let mut git = Command::new("git");
        git.args(["clone", "--quiet"]).arg(&root).arg(clone.source());
        assert!(git.status().await.unwrap().success(), "git clone");
        clone
    }

    fn delete(&self) {
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory).unwrap();
        }
    }

    /// The clone itself.
    fn source(&self) -> PathBuf {
        self.directory.join("anteroom")
    }

    /// What the last line printed.
    fn printed(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.join("printed")).unwrap()).into_owned()
    }

    fn start(&self, line: &str) -> Child {
        eprintln!("$ {line}");
        self.command(line).spawn().unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let printed = File::create(self.directory.join("printed")).unwrap();
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", line]).current_dir(self.source()).kill_on_drop(true).process_group(0);
        shell.stdin(Stdio::null()).stdout(printed.try_clone().unwrap()).stderr(printed);
        for (name, _) in std::env::vars_os() {
            if OF_THIS_RUN.iter().any(|start| name.to_string_lossy().starts_with(start)) || name == "CARGO" {
                shell.env_remove(name);
            }
        }
        for (name, own) in [("STATE", "state"), ("CACHE", "cache"), ("CONFIG", "config")] {
            shell.env(format!("XDG_{name}_HOME"), self.directory.join(own));
        }
        let programs = self.directory.join("programs");
        let path = format!("{}:{}", programs.join("bin").display(), std::env::var("PATH").unwrap());
        shell.env("CARGO_INSTALL_ROOT", programs).env("CARGO_INCREMENTAL", "0").env("PATH", path);
        shell
    }

    /// Runs a line to its end; returns whether it succeeded.
    async fn try_line(&self, line: &str) -> bool {
        let mut child = self.start(line);
        let status = timeout(LINE_MAX, child.wait()).await.unwrap_or_else(|_| panic!("{line}: {}", self.printed()));
        status.unwrap().success()
    }

    async fn run(&self, line: &str) {
        assert!(self.try_line(line).await, "{line}: {}", self.printed());
    }

    /// Waits until a line that runs has printed what `find` finds.
    async fn wait_printed<T>(&self, child: &mut Child, limit: Duration, find: impl Fn(&str) -> Option<T>) -> T {
        let found = async || {
            let printed = self.printed();
            let found = find(&printed);
            anyhow::ensure!(found.is_some() || child.try_wait()?.is_none(), "it has ended");
            Ok(found)
        };
        let found = eventually("what it prints", limit, found).await;
        found.unwrap_or_else(|error| panic!("{error}\n{}", self.printed()))
    }

    /// `./up`: the server answers, and Ctrl-C ends all.
    async fn serve(&self, line: &str) {
        eprintln!("$ {line}");
        let mut shell = self.command(line);
        // The directory keeps it from the configuration of a service that is installed on this host.
        shell.env("ANTEROOM_STATE_DIR", self.directory.join("state/anteroom"));
        let mut child = shell.env("ANTEROOM_LISTEN", self.address.to_string()).spawn().unwrap();
        let link =
            |printed: &str| printed.split_whitespace().find(|word| word.contains("login_token=")).map(str::to_owned);
        let link = self.wait_printed(&mut child, LINE_MAX, link).await;
        assert!(link.contains(&format!(":{}/", self.address.port())), "{link}");
        let api = ApiClient::new(self.address, format!("http://{}", self.address), None, WAIT_MAX).unwrap();
        let health = api.get("/health").await.unwrap();
        assert_eq!(health.status, 200, "{}", health.text);
        let group = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process_group(group, Signal::INT).unwrap();
        let status = timeout(WAIT_MAX, child.wait()).await.unwrap_or_else(|_| panic!("{}", self.printed())).unwrap();
        assert!(status.success(), "{line}: {status}\n{}", self.printed());
        let ended = async || Ok(self.processes().is_empty().then_some(()));
        let ended = eventually("no process is left", WAIT_MAX, ended).await;
        ended.unwrap_or_else(|error| panic!("{error}: {:?}", self.processes()));
    }

    /// The command lines of processes whose program, working directory or arguments are in the clone's directory.
    fn processes(&self) -> Vec<String> {
        let own = self.directory.to_str().unwrap();
        let all = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
        let found = all.filter_map(|process| {
            let arguments = String::from_utf8_lossy(&fs::read(process.join("cmdline")).ok()?).replace('\0', " ");
            let at = |name: &str| fs::read_link(process.join(name)).is_ok_and(|path| path.starts_with(own));
            (at("exe") || at("cwd") || arguments.contains(own)).then_some(arguments)
        });
        found.collect()
    }

    /// `./test --kvm`: the tests of machines pass where KVM boots Linux; elsewhere it says what is missing.
    async fn test_kvm(&self, line: &str) {
        let passed = self.try_line(line).await;
        let printed = self.printed();
        let refused = printed.contains("KVM does not boot Linux here: ") && printed.contains("docs/kvm.md");
        eprintln!("{}", if passed { "the tests on KVM passed" } else { "KVM does not boot Linux here" });
        assert!(passed || refused, "{line}: {printed}");
    }

    /// A person gives the tool a key in its terminal.
    async fn record(&self, line: &str) {
        let mut child = self.start(line);
        let socket = |printed: &str| {
            let attach = printed.lines().find_map(|line| line.strip_prefix("tmux -S ")?.strip_suffix(" attach"));
            attach.map(PathBuf::from)
        };
        let socket = self.wait_printed(&mut child, LINE_MAX, socket).await;
        let shown =
            async || Ok(tmux(&socket, &["capture-pane", "-p"]).await.contains("Enter your API key").then_some(()));
        eventually("the tool asks", WAIT_MAX, shown).await.unwrap();
        tmux(&socket, &["send-keys", "-l", KEY]).await;
        tmux(&socket, &["send-keys", "Enter"]).await;
        let status = timeout(WAIT_MAX, child.wait()).await.unwrap_or_else(|_| panic!("{}", self.printed())).unwrap();
        let printed = self.printed();
        assert!(status.success() && !printed.contains("credential: none"), "{printed}");
        let written = fs::canonicalize(printed.lines().last().unwrap()).unwrap();
        assert_eq!(
            written,
            fs::canonicalize(self.source()).unwrap().join("providers/fixtures/opencode/anthropic.screen")
        );
        let recorded = fs::read_to_string(written).unwrap();
        assert!(recorded.matches("[[screens]]").count() >= 3 && recorded.contains("expect.done = true"), "{recorded}");
        assert!(!recorded.contains(KEY), "{recorded}");
        self.run("./target/debug/anteroom providers test opencode").await;
    }
}

/// What tmux prints.
async fn tmux(socket: &Path, arguments: &[&str]) -> String {
    let output = Command::new("tmux").arg("-S").arg(socket).args(arguments).output().await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn full_commands_for_a_clone_run_in_a_new_one() {
    let clone = Clone::new().await;
    let documents = documents_with_commands();
    let mut run = 0;
    for file in DOCUMENTS {
        let (_, blocks) = documents.iter().find(|(name, _)| name == file).unwrap();
        let blocks = blocks.iter().filter(|(mark, _)| *mark == Mark::FromClone);
        for line in blocks.flat_map(|(_, block)| block.lines()) {
            match line.split('#').next().unwrap().trim() {
                "./up" | "./up --demo" => clone.serve(line).await,
                // It runs this test.
                "./test" => {}
                "./test --kvm" => clone.test_kvm(line).await,
                command if command.contains("record_screens") => clone.record(line).await,
                _ => clone.run(line).await,
            }
            run += 1;
        }
        if file == "docs/first_change.md" {
            clone.run("git diff --exit-code && test -z \"$(git status --porcelain)\"").await;
        }
    }
    assert_eq!(run, 11);
    clone.delete();
}
