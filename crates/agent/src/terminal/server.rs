//! Keeps the tmux server running, with its session and a control client.

use super::{
    attach::tmux_command,
    handle::{TMUX_SESSION, Terminal},
    tmux::{self, TmuxRequest},
};
use crate::{
    desktop::display,
    log,
    platform::{
        backoff::RestartBackoff,
        child_output::ChildOutput,
        crash_loop::CrashTracker,
        environment::ExecutionEnvironment,
        process::{self, drop_privileges, find_program, input_pipe, output_pipe},
        process_table::ChildTty,
        program_supervisor::ProcessSupervisor,
    },
};
use anteroom_wire::agent::{Stage, TERMINAL_COLS, TERMINAL_ROWS};
use std::{
    io,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

const FIND_SOCKET_EVERY_MS: u64 = 20;
const RESTART_MS_MIN: u64 = 100;
const RESTART_MS_MAX: u64 = 5_000;
const STABLE_MS: u64 = 10_000;

/// tmux binds no key: everything that the user types goes to the tool.
///
/// The hooks: when a narrower client comes, tmux wraps the screen's lines and moves the top lines into the history even if the bottom of the
/// screen is empty. A taller window for a moment brings them back.
const CONFIG: &str = "\
set -s escape-time 0
set -s exit-empty off
set -s set-clipboard off
set -g prefix None
set -g prefix2 None
unbind-key -a
set -g status off
set -g mouse off
set -g remain-on-exit on
set -g detach-on-destroy off
set -g window-size latest
set -g aggressive-resize on
set -g history-limit 5000
set -g default-terminal tmux-256color
set -ga terminal-features xterm*:RGB:hyperlinks
set -g allow-rename off
set -g bell-action none
set -g update-environment \"\"
set-hook -g client-attached 'resize-window -y 400 ; set-option -w -u window-size'
set-hook -g client-resized 'resize-window -y 400 ; set-option -w -u window-size'
set-hook -g client-active 'resize-window -y 400 ; set-option -w -u window-size'
";

/// The tmux server.
pub(crate) struct TmuxServer<'a> {
    pub(crate) environment: &'a ExecutionEnvironment,
    pub(crate) supervisor: &'a ProcessSupervisor,
    pub(crate) terminal: &'a Terminal,
}

impl TmuxServer<'_> {
    /// Keeps the server and its session running, forever.
    pub(crate) async fn supervise_tmux(&self) {
        let mut requests = self.terminal.tmux_requests.lock().await;
        let mut backoff = RestartBackoff::new(
            Duration::from_millis(RESTART_MS_MIN),
            Duration::from_millis(RESTART_MS_MAX),
            Duration::from_millis(STABLE_MS),
        );
        let tracker = self.supervisor.crash_tracker("tmux", Stage::Terminal);
        loop {
            self.supervisor.readiness.record_attempt(Stage::Terminal);
            let started = Instant::now();
            let output = ChildOutput::default();
            let exit = self.run_once(&tracker, &output, &mut requests).await;
            self.terminal.control_client_attached.send_replace(false);
            tracker.record_exit(&exit, &output);
            tokio::time::sleep(backoff.next_delay(started.elapsed())).await;
        }
    }

    async fn run_once(
        &self,
        tracker: &CrashTracker,
        output: &ChildOutput,
        requests: &mut mpsc::Receiver<TmuxRequest>,
    ) -> io::Result<i32> {
        let environment = self.environment;
        std::fs::write(&environment.tmux_config, CONFIG)?;
        match std::fs::remove_file(&environment.tmux_socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut command = process::new_command(find_program("tmux", &environment.exec_search_path));
        // -D: stay in the foreground, so that the exit of the server is detected.
        command.arg("-u").arg("-D").arg("-S").arg(&environment.tmux_socket).arg("-f").arg(&environment.tmux_config);
        command.envs(environment.program_env(None)).current_dir(&environment.home);
        drop_privileges(&mut command, environment);
        let mut server = output.spawn(&self.supervisor.processes, &mut command)?;
        tracker.record_start();
        tokio::select! {
            code = server.wait() => Ok(code),
            error = self.run_control_clients(requests) => Err(error),
        }
    }

    /// Runs a control client, and another when it ends. Returns only with an error.
    async fn run_control_clients(&self, requests: &mut mpsc::Receiver<TmuxRequest>) -> io::Error {
        loop {
            if self.environment.tmux_socket.exists() {
                let ended = tokio::select! {
                    ended = self.run_control_client(requests) => ended,
                    () = self.track_readiness() => Ok(()),
                };
                self.terminal.control_client_attached.send_replace(false);
                if let Err(error) = ended {
                    log::write_line(&format!("tmux control client: {error}"));
                }
            }
            tokio::time::sleep(Duration::from_millis(FIND_SOCKET_EVERY_MS)).await;
        }
    }

    /// Reports the terminal as ready whenever client, pane and window are there.
    async fn track_readiness(&self) {
        let readiness = &self.supervisor.readiness;
        loop {
            let _ = self.terminal.control_client_attached.subscribe().wait_for(|attached| *attached).await;
            let _ = self.terminal.pane_connected.subscribe().wait_for(|connected| *connected).await;
            display::wait_terminal_window(self.environment, readiness).await;
            readiness.set_ready(Stage::Terminal);
            readiness.wait_lost(Stage::Terminal).await;
        }
    }

    async fn run_control_client(&self, requests: &mut mpsc::Receiver<TmuxRequest>) -> io::Result<()> {
        let terminal = self.terminal;
        let (stdin, mut input) = input_pipe()?;
        let (output, stdout) = output_pipe()?;
        let mut command = tmux_command(self.environment);
        command.arg("-C").args(["new-session", "-A", "-s", TMUX_SESSION]);
        command.args(["-x", &TERMINAL_COLS.to_string(), "-y", &TERMINAL_ROWS.to_string(), "--"]);
        // As two arguments, with which tmux uses no shell.
        command.arg(&self.environment.agent_exe).arg("pane");
        command.stdin(stdin).stdout(stdout).stderr(Stdio::null());
        let mut client = self.supervisor.processes.spawn(&mut command, ChildTty::None)?;
        drop(command); // closes its copies of the pipe ends
        tokio::select! {
            ended = tmux::run_control_mode(&mut input, output, requests, &terminal.control_client_attached, &terminal.changes) => ended,
            code = client.wait() => Err(io::Error::other(format!("ended with {code}"))),
        }
    }
}
