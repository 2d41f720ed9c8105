//! The commands in the documents work: those of a chapter run in order in one shell, against a server with the demo.

use super::demo_methods;
use anteroom_testbed::{WAIT_MAX, plain_process::built_program};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{process::Command, time::timeout};

/// Blocks that are marked `sh not-run`, by document, with the reason.
const NOT_RUN: [(&str, usize, &str); 8] = [
    ("README.md", 1, "`./up` installs packages, and `./test` runs this test"),
    ("docs/external_machines.md", 1, "they change /etc"),
    ("docs/first_change.md", 2, "they install the test runner and compile the programs of this test"),
    ("docs/install.md", 4, "they install the package or run a container; `package` and `container` do the same"),
    ("docs/kvm.md", 3, "they load modules, change groups, install a program, and run every test of machines"),
    ("docs/operations.md", 1, "it replaces the database of a stopped server"),
    ("docs/postgresql.md", 1, "they change the host; a test signs in with such a database"),
    ("docs/providers.md", 1, "it compiles, and needs a package that was fetched before"),
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// README.md and the documents, with the text of their blocks of commands and whether each is to be run.
fn documents_with_commands() -> Vec<(String, Vec<(bool, String)>)> {
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
            let Some(info) = line.strip_prefix("```").filter(|info| info.split(' ').next() == Some("sh")) else {
                continue;
            };
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((info != "sh not-run", body.join("\n")));
        }
        (file.strip_prefix(&root).unwrap().display().to_string(), blocks)
    };
    files.into_iter().map(read).filter(|(_, blocks)| !blocks.is_empty()).collect()
}

#[test]
fn documents_explain_which_commands_are_not_run() {
    let documents = documents_with_commands();
    let not_run: Vec<(&str, usize)> = documents
        .iter()
        .map(|(file, blocks)| (file.as_str(), blocks.iter().filter(|(runs, _)| !runs).count()))
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(not_run, NOT_RUN.map(|(file, count, _)| (file, count)));
}

/// Answers the questions for PINs.
const SOFTHSM: &str = "#!/bin/sh\nexec /usr/bin/softhsm2-util --so-pin 5678 --pin 1234 \"$@\"\n";
/// A file that Demo's tool could have written.
const CREDENTIAL: &str = r#"{"access_token": "a", "refresh_token": "r", "expires_at": 4102444800, "account": "Ada"}"#;
const AGENT_TOKEN: &str = "agent-token-of-the-documents-0123456789abcdef";

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
    let token = tempfile::NamedTempFile::new().unwrap();
    fs::write(token.path(), AGENT_TOKEN).unwrap();
    let desk =
        format!("[external_machines.desk]\ndesktop = 'vnc://127.0.0.1:1'\nagent_token_file = {:?}\n", token.path());
    let demo = demo_methods::Demo::start_with(&desk).await;
    let address = demo.server.address().unwrap().to_string();
    let programs = built_program("anteroom").unwrap().parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut documents = 0;
    for (file, blocks) in documents_with_commands() {
        let commands: Vec<String> = blocks
            .into_iter()
            .filter(|(runs, _)| *runs)
            .map(|(_, text)| text.replace("127.0.0.1:7060", &address))
            .map(|text| text.replace("https://anteroom.example", &format!("http://{address}")))
            .collect();
        if commands.is_empty() {
            continue;
        }
        documents += 1;
        let home = tempfile::tempdir().unwrap();
        prepare(&file, home.path(), &demo).await;
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &commands.join("\n")]).current_dir(home.path()).env("HOME", home.path());
        shell
            .env("PATH", format!("{}:{path}", home.path().join("bin").display()))
            .env("ANTEROOM_CONFIG", demo.server.config_file());
        shell.env("SOFTHSM2_CONF", home.path().join("softhsm2.conf"));
        shell.env_remove("http_proxy").env_remove("https_proxy").stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(WAIT_MAX, shell.output()).await.unwrap_or_else(|_| panic!("{file}: no end")).unwrap();
        let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{file}: {}\n{printed}\n{errors}", output.status);
    }
    assert!(documents >= 4, "only {documents} documents have commands");
    demo.server.stop_and_check_leaks().await.unwrap();
}
