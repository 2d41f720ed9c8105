//! Completions load in the real shells, and man pages are read by the real formatter.

use anteroom_testbed::plain_process::built_program;
use std::{fs, path::Path, process::Output};
use tokio::process::Command;

fn anteroom() -> Command {
    Command::new(built_program("anteroom").unwrap())
}

async fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    let (out, errors) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr));
    assert!(status.success() && errors.is_empty(), "{command:?}: {status}\n{out}\n{errors}");
    out
}

/// Writes the completions of a shell to a file.
async fn completions(dir: &Path, shell: &str) -> String {
    let script = succeed(anteroom().args(["completions", shell])).await;
    let file = dir.join(shell);
    fs::write(&file, script).unwrap();
    file.display().to_string()
}

#[tokio::test]
async fn bash_completes_commands_and_options() {
    let dir = tempfile::tempdir().unwrap();
    let file = completions(dir.path(), "bash").await;
    let complete = r#"source "$0"; complete -p anteroom; words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        _anteroom anteroom "${@: -1}" "${@: -2:1}"; echo "${COMPREPLY[@]}"; }; words anteroom sess; words anteroom sessions watch --j"#;
    let out = succeed(Command::new("bash").args(["--norc", "-c", complete, &file])).await;
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].contains("_anteroom") && lines[1] == "sessions" && lines[2] == "--json", "{out}");
}

#[tokio::test]
async fn zsh_loads_the_completions() {
    let dir = tempfile::tempdir().unwrap();
    completions(dir.path(), "zsh").await;
    fs::rename(dir.path().join("zsh"), dir.path().join("_anteroom")).unwrap();
    let load = r#"fpath=("$1" $fpath); autoload -Uz compinit; compinit -u -d "$1/dump"; echo $_comps[anteroom]
        autoload +X _anteroom; whence -w _anteroom"#;
    let out = succeed(Command::new("zsh").args(["-f", "-c", load, "zsh"]).arg(dir.path())).await;
    assert_eq!(out, "_anteroom\n_anteroom: function\n");
}

#[tokio::test]
async fn fish_completes_commands_and_options() {
    let dir = tempfile::tempdir().unwrap();
    let file = completions(dir.path(), "fish").await;
    let complete = r#"source $argv[1]; complete -C "anteroom sess"; complete -C "anteroom sessions watch --js""#;
    let mut fish = Command::new("fish");
    fish.args(["--no-config", "-c", complete, &file]).env("HOME", dir.path()).env_remove("XDG_CONFIG_HOME");
    let out = succeed(&mut fish).await;
    assert!(out.contains("sessions\t") && out.contains("--json\t"), "{out}");
}

#[tokio::test]
async fn man_pages_are_formatted_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    succeed(anteroom().arg("man").arg(dir.path())).await;
    for (page, text) in [
        ("anteroom.1", "sessions"),
        ("anteroom-sessions-watch.1", "anteroom sessions watch"),
        ("anteroom-auth-login.1", "--token-file"),
    ] {
        let shown =
            succeed(Command::new("groff").args(["-man", "-Tascii", "-ww", "-P-c"]).arg(dir.path().join(page))).await;
        let plain: String = shown.replace("\u{8}", "");
        assert!(plain.contains(text) || plain.replace('\n', " ").contains(text), "{page}:\n{shown}");
    }
}
