//! The terminal: a tmux server of its own, whose screen is read as the agent reads it.
//!
//! The tool is not the terminal's first process, as it is not in a machine: a shell stands where the agent's pane would,
//! and notes the exit code in a file.

use super::Seat;
use anteroom_screen::ScreenSnapshot;
use anyhow::{Context, ensure};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    time::timeout,
};

const ASK_MS_MAX: u64 = 30_000;
const SOCKET_EVERY_MS: u64 = 20;
const OUTPUT_S_MAX: u64 = 90;
const SESSION: &str = "cli";
/// Runs its arguments, then waits for the end of the terminal. Ctrl-C is for the tool alone.
const PANE: &str = "trap : INT; \"$@\"; echo $? > \"$EXIT_FILE\"; exec sleep infinity";
/// The same with a secret on the standard input, as the agent gives it.
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
    /// Starts `argv` in a terminal of this size, with this environment and no other.
    pub(super) async fn start(
        dir: &Path,
        home: &Path,
        env: &BTreeMap<String, String>,
        argv: &[String],
        seat: &Seat,
    ) -> anyhow::Result<Self> {
        let (socket, config, exit_file) = (dir.join("tmux.sock"), dir.join("tmux.conf"), dir.join("exit"));
        fs::write(&config, CONFIG)?;
        let key_file = dir.join("key");
        let pane = match &seat.key {
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
        let by = Instant::now() + Duration::from_millis(ASK_MS_MAX);
        // Its file is there before anybody listens on it.
        while UnixStream::connect(&terminal.socket).await.is_err() {
            ensure!(Instant::now() < by, "tmux does not listen");
            tokio::time::sleep(Duration::from_millis(SOCKET_EVERY_MS)).await;
        }
        let place = home.to_string_lossy();
        let (columns, rows) = (seat.columns.to_string(), seat.rows.to_string());
        let mut ask = vec!["new-session", "-d", "-c", &place, "-s", SESSION, "-x", &columns, "-y", &rows];
        ask.extend(["--", "/bin/sh", "-c", pane, "pane"]);
        ask.extend(argv.iter().map(String::as_str));
        terminal.ask(&ask).await?;
        Ok(terminal)
    }

    async fn ask(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut client = Command::new("/usr/bin/tmux");
        client.args(["-u", "-N", "-S"]).arg(&self.socket).args(args).env_clear().envs(&self.env).kill_on_drop(true);
        let done = timeout(Duration::from_millis(ASK_MS_MAX), client.output()).await.context("tmux is slow")??;
        ensure!(done.status.success(), "tmux {}: {}", args[0], String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// The visible lines, those joined that the terminal wrapped, without trailing blanks.
    pub(super) async fn screen(&self) -> anyhow::Result<String> {
        let text = self.ask(&["capture-pane", "-p", "-J", "-t", SESSION]).await?;
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        Ok(lines.join("\n").trim_end().to_owned())
    }

    /// The screen as the agent takes it in.
    pub(super) async fn look(&self) -> anyhow::Result<ScreenSnapshot> {
        let size = ["display-message", "-p", "-t", SESSION, "#{pane_width} #{pane_height} #{cursor_y}"];
        let size = self.ask(&size).await?;
        let numbers: Vec<usize> = size.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let &[width, height, cursor_row] = &numbers[..] else { anyhow::bail!("tmux tells no size: {size:?}") };
        let text = self.ask(&["capture-pane", "-p", "-e", "-J", "-t", SESSION]).await?;
        let captured: Vec<String> = text.lines().map(str::to_owned).collect();
        Ok(ScreenSnapshot::new(&captured, width, height, cursor_row))
    }

    /// The rows as they are, a line that the terminal wrapped in several.
    pub(super) async fn rows(&self) -> anyhow::Result<Vec<String>> {
        let text = self.ask(&["capture-pane", "-p", "-t", SESSION]).await?;
        Ok(text.lines().map(|row| row.trim_end().to_owned()).collect())
    }

    pub(super) async fn paste(&self, text: &str) -> anyhow::Result<()> {
        self.ask(&["set-buffer", "-b", "input", "--", text]).await?;
        self.ask(&["paste-buffer", "-d", "-p", "-b", "input", "-t", SESSION]).await?;
        Ok(())
    }

    pub(super) async fn press(&self, key: &str) -> anyhow::Result<()> {
        self.ask(&["send-keys", "-t", SESSION, key]).await?;
        Ok(())
    }

    /// The exit code, once the command has ended by itself.
    pub(super) fn exit(&self) -> anyhow::Result<Option<i32>> {
        let noted = fs::read_to_string(&self.exit_file).unwrap_or_default();
        if noted.ends_with('\n') { Ok(Some(noted.trim().parse()?)) } else { Ok(None) }
    }

    /// Ends the command by the hang-up of its terminal, then the server.
    pub(super) async fn finish(mut self) -> anyhow::Result<()> {
        self.ask(&["kill-server"]).await?;
        timeout(Duration::from_millis(ASK_MS_MAX), self.server.wait()).await.context("tmux does not end")??;
        Ok(())
    }
}

/// Runs a command to its end, without a terminal: exit code and both streams.
pub(super) async fn output(
    argv: &[String],
    home: &Path,
    env: &BTreeMap<String, String>,
) -> anyhow::Result<(Option<i32>, String)> {
    let (program, args) = argv.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env).current_dir(home).stdin(Stdio::null()).kill_on_drop(true);
    let done = timeout(Duration::from_secs(OUTPUT_S_MAX), command.output()).await.context("the command is slow")??;
    let Output { status, stdout, stderr } = done;
    let text = [stdout, stderr].concat();
    Ok((status.code(), String::from_utf8_lossy(&text).into_owned()))
}
