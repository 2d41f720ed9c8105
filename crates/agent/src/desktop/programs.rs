//! The programs of a machine's display: Xtigervnc, openbox, and an xterm that shows the tool's terminal.

use super::display::TERMINAL_NAME;
use crate::{
    platform::{
        environment::{DISPLAY, ExecutionEnvironment, RunMode},
        process::{self, drop_privileges, find_program},
        program_supervisor::SupervisedProgram,
    },
    terminal::attach::attach_argv,
};
use anteroom_wire::agent::Stage;
use std::{process::Command, sync::Arc};

/// The programs to keep running; none in process mode.
pub(crate) fn desktop_services(environment: &Arc<ExecutionEnvironment>) -> Vec<SupervisedProgram> {
    let RunMode::Machine { width, height, .. } = environment.mode else { return Vec::new() };
    let env = environment.clone();
    let display_server = move || display_server(&env, width, height);
    let env = environment.clone();
    let window_manager = move || user_command(&env, "openbox");
    let env = environment.clone();
    let xterm = move || {
        let mut command = user_command(&env, "xterm");
        command.args(["-name", TERMINAL_NAME, "-T", "Terminal", "-maximized"]);
        // Fonts and colours are in the image's .Xdefaults.
        command.arg("-e").args(attach_argv(&env));
        command
    };
    let service = |name, stage, needs, command| SupervisedProgram { name, stage, needs, command };
    vec![
        service("Xtigervnc", Stage::Display, None, Box::new(display_server)),
        service("openbox", Stage::WindowManager, Some(Stage::Display), Box::new(window_manager)),
        service("xterm", Stage::Terminal, Some(Stage::WindowManager), Box::new(xterm)),
    ]
}

fn display_server(environment: &ExecutionEnvironment, width: u16, height: u16) -> Command {
    let socket = environment.rfb_socket.clone().unwrap_or_default();
    let mut command = user_command(environment, "Xtigervnc");
    command.arg(DISPLAY).arg("-rfbunixpath").arg(socket).args(["-rfbunixmode", "0600", "-rfbport", "-1"]);
    command.args(["-SecurityTypes", "None", "-AlwaysShared", "-nolisten", "tcp", "-ac", "-noreset"]);
    // The agent is the only client: a few viewers that leave before the end of the handshake must not block all others.
    command.arg("-UseBlacklist=0");
    // A text that is only selected stays in the machine; one that is copied goes to the viewers.
    command.arg("-SendPrimary=0");
    command.args(["-depth", "24", "-geometry", &format!("{width}x{height}"), "-desktop", "Anteroom"]);
    command
}

fn user_command(environment: &ExecutionEnvironment, program: &str) -> Command {
    let mut command = process::new_command(find_program(program, &environment.exec_search_path));
    command.envs(environment.program_env(None)).current_dir(&environment.home);
    drop_privileges(&mut command, environment);
    command
}
