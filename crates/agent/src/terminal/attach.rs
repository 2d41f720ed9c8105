//! Attaches further clients to the tmux session: the desktop's terminal, and one for each web terminal.

use super::handle::{TMUX_SESSION, Terminal, TerminalError};
use crate::platform::{
    environment::ExecutionEnvironment,
    process::{self, drop_privileges, find_program},
    process_table::{Child, ChildTty, ProcessTable},
};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize},
};
use std::{io, os::fd::OwnedFd, process::Command, sync::Arc};

/// A client that is attached to the session in a new pseudo-terminal.
pub(crate) struct AttachedClient {
    /// The `tmux attach` process.
    pub(crate) process: Child,
    /// The controlling side of the pseudo-terminal.
    pub(crate) pty: Arc<OwnedFd>,
}

/// A tmux command that runs as the user, on this terminal's socket.
pub(super) fn tmux_command(environment: &ExecutionEnvironment) -> Command {
    let mut command = process::new_command(find_program("tmux", &environment.exec_search_path));
    command.arg("-u").arg("-N").arg("-S").arg(&environment.tmux_socket).arg("-f").arg(&environment.tmux_config);
    command.envs(environment.program_env(None)).current_dir(&environment.home);
    drop_privileges(&mut command, environment);
    command
}

/// The command line with which the desktop's terminal attaches.
pub(crate) fn attach_argv(environment: &ExecutionEnvironment) -> Vec<String> {
    let socket = environment.tmux_socket.to_string_lossy().into_owned();
    ["tmux", "-u", "-N", "-S", &socket, "attach-session", "-t", TMUX_SESSION].map(str::to_owned).to_vec()
}

/// Attaches a client of `cols` × `rows`.
pub(crate) fn attach_client(
    environment: &ExecutionEnvironment,
    processes: &ProcessTable,
    terminal: &Terminal,
    cols: u16,
    rows: u16,
) -> Result<AttachedClient, TerminalError> {
    if !*terminal.control_client_attached.borrow() {
        return Err(TerminalError::Down);
    }
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let pty = openpt(flags).map_err(io::Error::from)?;
    grantpt(&pty).and_then(|()| unlockpt(&pty)).map_err(io::Error::from)?;
    resize_pty(&pty, cols, rows)?;
    let name = ptsname(&pty, Vec::new()).map_err(io::Error::from)?;
    let open = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let tty = rustix::fs::open(&name, open, rustix::fs::Mode::empty()).map_err(io::Error::from)?;
    if let Some(id) = environment.user_id() {
        let id = rustix::fs::Uid::from_raw(id);
        rustix::fs::fchown(&tty, Some(id), None).map_err(io::Error::from)?;
    }
    // Raw mode before any input: input that arrives before tmux sets the mode would be echoed, and an end-of-file character lost.
    let mut modes = tcgetattr(&tty).map_err(io::Error::from)?;
    modes.make_raw();
    tcsetattr(&tty, OptionalActions::Now, &modes).map_err(io::Error::from)?;
    let mut command = tmux_command(environment);
    command.args(["attach-session", "-t", TMUX_SESSION]);
    command.stdin(tty.try_clone()?).stdout(tty.try_clone()?).stderr(tty);
    let process = processes.spawn(&mut command, ChildTty::Stdin)?;
    rustix::io::ioctl_fionbio(&pty, true).map_err(io::Error::from)?;
    Ok(AttachedClient { process, pty: Arc::new(pty) })
}

/// Sets the size of a client's pseudo-terminal; the kernel notifies the client.
pub(crate) fn resize_pty(pty: &OwnedFd, cols: u16, rows: u16) -> io::Result<()> {
    Ok(tcsetwinsize(pty, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 })?)
}
