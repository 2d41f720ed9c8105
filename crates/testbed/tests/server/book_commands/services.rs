//! The blocks that set up services: a database (`sh with-database`), two hosts of a cluster (`sh on-hosts`), and what `./test --kvm` says
//! on a host without KVM (`sh without-kvm`). Each line runs by itself, where it belongs.

mod cluster;
mod database;

use super::{Mark, OwnEtc, SUDO, documents_with_commands, repository, write_program};
use anteroom_testbed::{WAIT_MAX, plain_process::built_program, serve::LaunchConfig};
use anteroom_wire::Secret;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// Starts, restarts or stops the server of this host's /etc.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -e
cd /etc/anteroom
if [ -e pid ]; then
  kill "$(cat pid)"
  while kill -0 "$(cat pid)" 2>/dev/null; do sleep 0.05; done
  rm pid
fi
if [ "$1" = stop ]; then exit; fi
: > ready
setsid anteroom-testbed serve < launch.json > ready 2>> log &
echo $! > pid
until grep -q address ready; do
  kill -0 $! || { tail -n 20 log >&2; exit 1; }
  sleep 0.05
done
"#;

/// The blocks of a document with this mark.
fn blocks_of<const COUNT: usize>(file: &str, mark: Mark) -> [String; COUNT] {
    let (_, blocks) = documents_with_commands().into_iter().find(|(found, _)| found == file).unwrap();
    let blocks = blocks.into_iter().filter(|(found, _)| *found == mark).map(|(_, block)| block);
    blocks.collect::<Vec<_>>().try_into().unwrap_or_else(|blocks| panic!("{file}: {blocks:?}"))
}

/// A host: its /etc with the configuration of its server, and its directories.
struct Host {
    etc: OwnEtc,
    home: tempfile::TempDir,
}

impl Host {
    /// `settings`: after those of every host.
    async fn new(settings: &str) -> Self {
        let host = Self { etc: OwnEtc::new().await, home: tempfile::tempdir().unwrap() };
        for (program, text) in [("sudo", SUDO), ("systemctl", SYSTEMCTL)] {
            write_program(&host.home.path().join("bin").join(program), text);
        }
        let [state, cache, providers] = ["state", "cache", "providers"].map(|name| host.home.path().join(name));
        fs::create_dir(&providers).unwrap();
        let common = format!(
            "listen = '127.0.0.1:0'\nstate_dir = {state:?}\ncache_dir = {cache:?}\nproviders_dir = {providers:?}\n{settings}"
        );
        let directory = host.directory();
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("anteroom.toml"), common).unwrap();
        let launch = LaunchConfig {
            config: "/etc/anteroom/anteroom.toml".into(),
            limits: anteroom_controller::limits::ServerLimits::default(),
            tool_versions: [].into(),
            operators: vec![Secret::new("op-token-of-the-documents-0123456789abcdef".to_owned())],
            backends: Vec::new(),
            demo: false,
            ready_ms_max: 60_000,
            faults: anteroom_testbed::plain_process::InjectedFaults::default(),
        };
        fs::write(directory.join("launch.json"), serde_json::to_vec(&launch).unwrap()).unwrap();
        host
    }

    /// Its /etc/anteroom.
    fn directory(&self) -> PathBuf {
        self.etc.dir.path().join("etc/anteroom")
    }

    /// Replaces a file of /etc by what `change` makes of it.
    fn change(&self, name: &str, change: impl Fn(String) -> String) {
        let path = self.etc.dir.path().join("etc").join(name);
        fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
    }

    /// Runs a line in a directory with this standard input, by a command that is `unshare` or runs it; returns what it printed, and whether
    /// it succeeded.
    async fn run(&self, unshare: Command, at: &Path, line: &str, input: &str) -> (bool, String) {
        let mut shell = self.etc.shell_by(unshare, line);
        let programs = built_program("anteroom").unwrap();
        let own = self.home.path().join("bin");
        let paths = [own.as_path(), programs.parent().unwrap(), Path::new("/usr/sbin"), Path::new("/sbin")];
        let path = paths.map(|path| path.display().to_string()).join(":") + ":" + &std::env::var("PATH").unwrap();
        shell.env("PATH", path).env("HOME", self.home.path()).env("USER", "root").current_dir(at);
        for name in ["http_proxy", "https_proxy", "ANTEROOM_CONFIG"] {
            shell.env_remove(name);
        }
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        // A command that reads nothing may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
        let output =
            timeout(WAIT_MAX, child.wait_with_output()).await.unwrap_or_else(|_| panic!("{line}: no end")).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory().join("log")).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.directory().join("pid")).ok().and_then(|text| text.trim().parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { return };
        // It may have ended.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// A host without KVM: nothing of /dev is there.
#[tokio::test]
async fn tests_of_kvm_say_what_is_missing_on_a_host_without_it() {
    let name = "book_commands::services::tests_of_kvm_say_what_is_missing_on_a_host_without_it";
    if !super::may_mount(name) {
        return;
    }
    let [block] = blocks_of("docs/kvm.md", Mark::WithoutKvm);
    let mut shell = Command::new("unshare");
    shell.args([
        "--mount",
        "bash",
        "-c",
        "mount -t tmpfs none /dev; exec bash -euo pipefail -c \"$1\"",
        "bash",
        &block,
    ]);
    let output =
        timeout(WAIT_MAX, shell.current_dir(repository()).stdin(Stdio::null()).output()).await.unwrap().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "there is no KVM");
    for part in ["KVM does not boot Linux here: there is no /dev/kvm", "docs/kvm.md"] {
        assert!(errors.contains(part), "{errors}");
    }
}
