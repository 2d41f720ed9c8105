//! The commands in the documents work: those of a chapter run in order in one shell, against a server with the demo, in a mount namespace
//! where /etc and /usr/local/bin are copies and `sudo` runs what it is given. Blocks marked `sh one-by-one` end differently on each host;
//! those marked `sh in-package` run in the test of the package (`qemu/package.rs`), `sh with-podman` in the one of the OCI image
//! (`operations/packaging/full/podman.rs`), those that set up services in [`services`], and those for a new clone in [`from_clone`].

mod from_clone;
mod services;

use super::{
    demo_methods,
    network_namespace::{raise_loopback_inside, rerun_inside},
};
use anteroom_testbed::{WAIT_MAX, plain_process::built_program};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{process::Command, time::timeout};

/// Blocks that run elsewhere or line by line, by document.
const MARKED: [(&str, Mark, usize); 9] = [
    ("README.md", Mark::FromClone, 1),
    ("docs/cluster.md", Mark::OnHosts, 1),
    ("docs/first_change.md", Mark::FromClone, 2),
    ("docs/install.md", Mark::InPackage, 3),
    ("docs/install.md", Mark::WithPodman, 1),
    ("docs/kvm.md", Mark::OneByOne, 1),
    ("docs/kvm.md", Mark::WithoutKvm, 1),
    ("docs/postgresql.md", Mark::WithDatabase, 3),
    ("docs/providers.md", Mark::FromClone, 1),
];

/// How a block of commands is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    InOrder,
    OneByOne,
    InPackage,
    WithDatabase,
    OnHosts,
    WithoutKvm,
    FromClone,
    WithPodman,
}

impl Mark {
    fn of(info: &str) -> Option<Self> {
        match info {
            "sh" => Some(Self::InOrder),
            "sh one-by-one" => Some(Self::OneByOne),
            "sh in-package" => Some(Self::InPackage),
            "sh with-database" => Some(Self::WithDatabase),
            "sh on-hosts" => Some(Self::OnHosts),
            "sh without-kvm" => Some(Self::WithoutKvm),
            "sh from-clone" => Some(Self::FromClone),
            "sh with-podman" => Some(Self::WithPodman),
            _ if info.split(' ').next() == Some("sh") => panic!("unknown mark: {info}"),
            _ => None,
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// README.md and the documents, with the text of their blocks of commands and how each is run.
fn documents_with_commands() -> Vec<(String, Vec<(Mark, String)>)> {
    let root = repository();
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "md"));
    files.push(root.join("README.md"));
    files.sort();
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let mut blocks = Vec::new();
        let mut lines = text.lines().map(str::trim_start);
        while let Some(line) = lines.next() {
            let Some(info) = line.strip_prefix("```") else { continue };
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.extend(Mark::of(info).map(|mark| (mark, body.join("\n"))));
        }
        (file.strip_prefix(&root).unwrap().display().to_string(), blocks)
    };
    files.into_iter().map(read).filter(|(_, blocks)| !blocks.is_empty()).collect()
}

#[test]
fn documents_mark_where_each_block_of_commands_is_run() {
    let mut found = Vec::new();
    for (file, blocks) in documents_with_commands() {
        for (_, mark, _) in MARKED {
            let count = blocks.iter().filter(|(of_block, _)| *of_block == mark).count();
            let row = (file.clone(), mark, count);
            if count > 0 && !found.contains(&row) {
                found.push(row);
            }
        }
    }
    let expected = MARKED.map(|(file, mark, count)| (file.to_owned(), mark, count));
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(expected.iter().all(|row| found.contains(row)), "{found:?}");
    let whole = fs::read_to_string(repository().join(".ci/run")).unwrap();
    assert!(whole.ends_with("\nexec ./test\n"), "README.md has `./test`, which runs this test, and which is run so");
}

/// Answers the questions for PINs.
const SOFTHSM: &str = "#!/bin/sh\nexec /usr/bin/softhsm2-util --so-pin 5678 --pin 1234 \"$@\"\n";
/// A file that Demo's tool could have written.
const CREDENTIAL: &str = r#"{"access_token": "a", "refresh_token": "r", "expires_at": 4102444800, "account": "Ada"}"#;
const AGENT_TOKEN: &str = "agent-token-of-the-documents-0123456789abcdef";

/// Runs the user that it is given as the one who runs the test.
const SUDO: &str = "#!/bin/sh\nif [ \"$1\" = -u ]; then shift 2; fi\nexec \"$@\"\n";
/// Arguments: a copy of /etc, a directory for /usr/local/bin, and the commands.
const OWN_ETC: &str =
    "set -e; mount --bind \"$1\" /etc; mount --bind \"$2\" /usr/local/bin; exec bash -euo pipefail -c \"$3\"";

/// Whether this process may make mount namespaces. If it is not root, this runs the test `name` again as root of a user namespace, in which
/// its server runs as well: one outside would refuse its commands.
fn may_mount(name: &str) -> bool {
    if !rustix::process::geteuid().is_root() && !rerun_inside(name) {
        return false;
    }
    raise_loopback_inside();
    true
}

/// A shell that runs commands in a mount namespace of its own, and its directories.
struct OwnEtc {
    dir: tempfile::TempDir,
}

impl OwnEtc {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        let mut copy = Command::new("cp");
        // What only root reads is left out for others.
        copy.args(["--archive", "/etc"]).arg(dir.path()).stderr(Stdio::null()).status().await.unwrap();
        Self { dir }
    }

    fn shell(&self, commands: &str) -> Command {
        self.shell_by(Command::new("unshare"), commands)
    }

    /// `shell`: `unshare`, or a command that runs it with the arguments that follow.
    fn shell_by(&self, mut shell: Command, commands: &str) -> Command {
        shell.args(["--mount", "bash", "-c", OWN_ETC, "bash"]);
        shell.arg(self.dir.path().join("etc")).arg(self.dir.path().join("bin")).arg(commands);
        shell.stdin(Stdio::null()).kill_on_drop(true);
        shell
    }
}

/// A stand-in for the release of Firecracker, with its digest.
async fn write_release(home: &Path) {
    let release = "v1.16.1-x86_64";
    let dir = home.join(format!("release-{release}"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(format!("firecracker-{release}")), "#!/bin/sh\necho Firecracker v1.16.1\n").unwrap();
    let pack = format!(
        "tar -czf firecracker-{release}.tgz release-{release} && rm -r release-{release} && \
         sha256sum firecracker-{release}.tgz > firecracker-{release}.tgz.sha256.txt"
    );
    let packed = Command::new("sh").args(["-c", &pack]).current_dir(home).status().await.unwrap();
    assert!(packed.success());
}

/// Puts into a home directory what the commands of a document expect there.
async fn prepare(file: &str, home: &Path, demo: &demo_methods::Demo) {
    let write = |name: &str, content: &[u8], mode: u32| {
        let path = home.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    match file {
        "docs/keys.md" => {
            write("bin/softhsm2-util", SOFTHSM.as_bytes(), 0o755);
            write("KEY_FILE", &[7; 32], 0o600);
            fs::create_dir(home.join("tokens")).unwrap();
            let tokens = format!("directories.tokendir = {}\n", home.join("tokens").display());
            write("softhsm2.conf", tokens.as_bytes(), 0o600);
        }
        "docs/kvm.md" => write_release(home).await,
        "docs/operations.md" => {
            let backup = home.join("before.tar.gz");
            let mut made = demo.server.anteroom_command().unwrap();
            assert!(made.arg("backup").arg(&backup).status().await.unwrap().success());
            fs::create_dir(home.join("STATE_DIR")).unwrap();
            let database = "tar -xzOf before.tar.gz anteroom.db > STATE_DIR/anteroom.db.before-migration-N";
            let taken = Command::new("sh").args(["-c", database]).current_dir(home).status().await.unwrap();
            assert!(taken.success());
        }
        "docs/external_machines.md" => {
            write("desk.token", AGENT_TOKEN.as_bytes(), 0o600);
            write(".codex/auth.json", CREDENTIAL.as_bytes(), 0o600);
            let body = json!({ "provider": "demo", "machine": "desk" });
            let started = demo.server.backend_client().unwrap().post("/api/auth/start", body).await.unwrap();
            assert_eq!(started.status, 202, "{}", started.text);
        }
        _ => {}
    }
}

#[tokio::test]
async fn commands_in_the_documents_run() {
    if !may_mount("book_commands::commands_in_the_documents_run") {
        return;
    }
    let token = tempfile::NamedTempFile::new().unwrap();
    fs::write(token.path(), AGENT_TOKEN).unwrap();
    let desk =
        format!("[external_machines.desk]\ndesktop = 'vnc://127.0.0.1:1'\nagent_token_file = {:?}\n", token.path());
    let demo = demo_methods::Demo::start_with(&desk).await;
    let address = demo.server.address().unwrap().to_string();
    let programs = built_program("anteroom").unwrap().parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let (mut documents, etc) = (0, OwnEtc::new().await);
    for (file, blocks) in documents_with_commands() {
        let commands: Vec<String> = blocks
            .into_iter()
            .filter(|(mark, _)| *mark == Mark::InOrder)
            .map(|(_, text)| text.replace("127.0.0.1:7060", &address))
            .map(|text| text.replace("https://anteroom.example", &format!("http://{address}")))
            .collect();
        if commands.is_empty() {
            continue;
        }
        documents += 1;
        let home = tempfile::tempdir().unwrap();
        prepare(&file, home.path(), &demo).await;
        write_program(&home.path().join("bin/sudo"), SUDO);
        let mut shell = etc.shell(&commands.join("\n"));
        shell.current_dir(home.path()).env("HOME", home.path()).env("USER", "root");
        shell
            .env("PATH", format!("{}:{path}", home.path().join("bin").display()))
            .env("ANTEROOM_CONFIG", demo.server.config_file());
        shell.env("SOFTHSM2_CONF", home.path().join("softhsm2.conf"));
        shell.env_remove("http_proxy").env_remove("https_proxy");
        let output = timeout(WAIT_MAX, shell.output()).await.unwrap_or_else(|_| panic!("{file}: no end")).unwrap();
        let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{file}: {}\n{printed}\n{errors}", output.status);
    }
    assert!(documents >= 6, "only {documents} documents have commands");
    let token = fs::read_to_string(etc.dir.path().join("etc/anteroom/desk.token")).unwrap();
    assert_eq!(token.trim().len(), 48, "the token of external_machines.md");
    assert!(etc.dir.path().join("bin/firecracker").metadata().unwrap().permissions().mode() & 0o111 != 0, "kvm.md");
    demo.server.stop_and_check_leaks().await.unwrap();
}

fn write_program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Whether the host has KVM decides how these end: each does what kvm.md says, or names what is missing.
#[tokio::test]
async fn commands_that_ask_a_host_for_kvm_answer_or_say_what_is_missing() {
    if !may_mount("book_commands::commands_that_ask_a_host_for_kvm_answer_or_say_what_is_missing") {
        return;
    }
    let (_, blocks) = documents_with_commands().into_iter().find(|(file, _)| file == "docs/kvm.md").unwrap();
    let (_, block) = blocks.into_iter().find(|(mark, _)| *mark == Mark::OneByOne).unwrap();
    let (etc, home) = (OwnEtc::new().await, tempfile::tempdir().unwrap());
    write_program(&home.path().join("bin/sudo"), SUDO);
    let programs = built_program("anteroom").unwrap();
    let path = format!("{}:{}", home.path().join("bin").display(), programs.parent().unwrap().display());
    let path = format!("{path}:/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap());
    let mut run = Vec::new();
    for line in block.lines().filter(|line| !line.starts_with('#')) {
        let mut shell = etc.shell(&format!("groupadd -f kvm; {line}"));
        shell.env("PATH", &path).env("HOME", home.path()).env("USER", "root").current_dir(home.path());
        let output = timeout(WAIT_MAX, shell.output()).await.unwrap_or_else(|_| panic!("{line}: no end")).unwrap();
        let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let (done, code) = (output.status.success(), output.status.code());
        let is_right = match line.split(' ').take(2).collect::<Vec<_>>()[..] {
            ["grep", _] => printed.trim().parse::<u32>().is_ok_and(|found| done == (found > 0)),
            ["sudo", "modprobe"] => done || errors.contains("modprobe"),
            ["ls", _] => done == Path::new("/dev/kvm").exists() && (done || errors.contains("No such file")),
            ["sudo", "usermod"] => {
                let groups = fs::read_to_string(etc.dir.path().join("etc/group")).unwrap();
                let joined = groups.lines().any(|group| group.starts_with("kvm:") && group.ends_with("root"));
                // Root of a user namespace cannot give the copy of /etc/gshadow to its group.
                (done && joined) || errors.contains("gshadow")
            }
            ["anteroom", "doctor"] => [Some(0), Some(1), Some(3)].contains(&code) && printed.contains("KVM"),
            _ => panic!("a new line: {line}"),
        };
        assert!(is_right, "{line}: {code:?}\n{printed}\n{errors}");
        run.push(line);
    }
    assert_eq!(run.len(), 5, "{run:?}");
}
