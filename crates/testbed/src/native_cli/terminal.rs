//! A separate tmux server, whose screen is read as the agent reads it.
//!
//! As in a machine, the tool is not the terminal's first process: instead of the agent's runner, a shell starts it and writes its
//! exit code to a file.

use super::TerminalSetup;
use crate::eventually;
use anteroom_screen::ScreenSnapshot;
use anyhow::{Context, ensure};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    time::timeout,
};

const COMMAND_MS_MAX: u64 = 30_000;
const OUTPUT_S_MAX: u64 = 90;
const SESSION: &str = "cli";
/// Runs its arguments, then waits for the end of the terminal. Ctrl-C is for the tool alone.
const PANE: &str = "trap : INT; \"$@\"; echo $? > \"$EXIT_FILE\"; exec sleep infinity";
/// The same with a secret on the standard input, as the agent passes it.
const PANE_WITH_KEY: &str = "trap : INT; \"$@\" < \"$KEY_FILE\"; echo $? > \"$EXIT_FILE\"; exec sleep infinity";
const CONFIG: &str = "\
set -s escape-time 0
set -s exit-empty off
set -g status off
set -g default-terminal tmux-256color
set -g update-environment \"\"
";

#[derive(Debug)]
pub(super) struct Terminal {
    server: Child,
    socket: PathBuf,
    exit_file: PathBuf,
    env: BTreeMap<String, String>,
}

impl Terminal {
    /// Starts `argv` in a terminal of this size, with only this environment.
    pub(super) async fn start(
        dir: &Path,
        home: &Path,
        env: &BTreeMap<String, String>,
        argv: &[String],
        setup: &TerminalSetup,
    ) -> anyhow::Result<Self> {
        let (socket, config, exit_file) = (dir.join("tmux.sock"), dir.join("tmux.conf"), dir.join("exit"));
        fs::write(&config, CONFIG)?;
        let key_file = dir.join("key");
        let pane = match &setup.key {
            Some(key) => {
                fs::write(&key_file, format!("{key}\n"))?;
                PANE_WITH_KEY
            }
            None => PANE,
        };
        let mut server = Command::new("/usr/bin/tmux");
        server.args(["-u", "-D", "-S"]).arg(&socket).arg("-f").arg(&config);
        server.env_clear().envs(env).env("EXIT_FILE", &exit_file).env("KEY_FILE", &key_file);
        server.current_dir(home).kill_on_drop(true);
        let server = server.stdin(Stdio::null()).spawn().context("tmux")?;
        let terminal = Self { server, socket, exit_file, env: env.clone() };
        // tmux creates the socket's file before it listens on it.
        let listening = async || Ok(UnixStream::connect(&terminal.socket).await.ok().map(drop));
        eventually("tmux listens", Duration::from_millis(COMMAND_MS_MAX), listening).await?;
        let home = home.to_string_lossy();
        let (columns, rows) = (setup.columns.to_string(), setup.rows.to_string());
        let mut command = vec!["new-session", "-d", "-c", &home, "-s", SESSION, "-x", &columns, "-y", &rows];
        command.extend(["--", "/bin/sh", "-c", pane, "pane"]);
        command.extend(argv.iter().map(String::as_str));
        terminal.tmux(&command).await?;
        Ok(terminal)
    }

    /// Runs a tmux command and returns its output.
    async fn tmux(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut client = Command::new("/usr/bin/tmux");
        client.args(["-u", "-N", "-S"]).arg(&self.socket).args(args).env_clear().envs(&self.env).kill_on_drop(true);
        let done =
            timeout(Duration::from_millis(COMMAND_MS_MAX), client.output()).await.context("tmux takes too long")??;
        ensure!(done.status.success(), "tmux {}: {}", args[0], String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// The visible lines without trailing blanks. Lines that the terminal wrapped are joined.
    pub(super) async fn read_screen(&self) -> anyhow::Result<String> {
        let text = self.tmux(&["capture-pane", "-p", "-J", "-t", SESSION]).await?;
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        Ok(lines.join("\n").trim_end().to_owned())
    }

    /// The screen as the agent reads it.
    pub(super) async fn read_snapshot(&self) -> anyhow::Result<ScreenSnapshot> {
        let size = ["display-message", "-p", "-t", SESSION, "#{pane_width} #{pane_height} #{cursor_y}"];
        let size = self.tmux(&size).await?;
        let numbers: Vec<usize> = size.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let &[width, height, cursor_row] = &numbers[..] else { anyhow::bail!("tmux reports no size: {size:?}") };
        let text = self.tmux(&["capture-pane", "-p", "-e", "-J", "-t", SESSION]).await?;
        let captured: Vec<String> = text.lines().map(str::to_owned).collect();
        Ok(ScreenSnapshot::new(&captured, width, height, cursor_row))
    }

    /// The rows of the terminal. A line that the terminal wrapped is several rows.
    pub(super) async fn read_rows(&self) -> anyhow::Result<Vec<String>> {
        let text = self.tmux(&["capture-pane", "-p", "-t", SESSION]).await?;
        Ok(text.lines().map(|row| row.trim_end().to_owned()).collect())
    }

    pub(super) async fn paste(&self, text: &str) -> anyhow::Result<()> {
        self.tmux(&["set-buffer", "-b", "input", "--", text]).await?;
        self.tmux(&["paste-buffer", "-d", "-p", "-b", "input", "-t", SESSION]).await?;
        Ok(())
    }

    pub(super) async fn press(&self, key: &str) -> anyhow::Result<()> {
        self.tmux(&["send-keys", "-t", SESSION, key]).await?;
        Ok(())
    }

    /// The exit code, once the command has exited.
    pub(super) fn exit_code(&self) -> anyhow::Result<Option<i32>> {
        let recorded = fs::read_to_string(&self.exit_file).unwrap_or_default();
        if recorded.ends_with('\n') { Ok(Some(recorded.trim().parse()?)) } else { Ok(None) }
    }

    /// Stops the tmux server, which sends SIGHUP to the command.
    pub(super) async fn finish(mut self) -> anyhow::Result<()> {
        self.tmux(&["kill-server"]).await?;
        timeout(Duration::from_millis(COMMAND_MS_MAX), self.server.wait()).await.context("tmux does not end")??;
        Ok(())
    }
}

/// Runs a command without a terminal; returns its exit code and its output, both streams.
pub(super) async fn run_for_output(
    argv: &[String],
    home: &Path,
    env: &BTreeMap<String, String>,
) -> anyhow::Result<(Option<i32>, String)> {
    let (program, args) = argv.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env).current_dir(home).stdin(Stdio::null()).kill_on_drop(true);
    let done =
        timeout(Duration::from_secs(OUTPUT_S_MAX), command.output()).await.context("the command takes too long")??;
    let Output { status, stdout, stderr } = done;
    let text = [stdout, stderr].concat();
    Ok((status.code(), String::from_utf8_lossy(&text).into_owned()))
}
