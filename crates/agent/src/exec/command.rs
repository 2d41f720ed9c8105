//! A command with pipes, in a process group of its own, or with a pseudo-terminal, in a session of its own.

use crate::{
    platform::{
        environment::ExecutionEnvironment,
        fd_stream::FdStream,
        process::{self, drop_privileges, find_program},
        process_table::{Child, ChildTty, ProcessGroup, ProcessTable},
    },
    sign_in::tool::ToolCommand,
    terminal::{
        attach::resize_pty,
        pane::{HANGUP_MS_MAX, TERMINATE_MS_MAX},
    },
};
use anteroom_wire::exec::{ExecSignal, ExecSize, ExecTty, TERM_CHARS_MAX};
use rustix::{
    fs::{Gid, Mode, OFlags, Uid},
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use std::{io, ops::RangeInclusive, os::fd::OwnedFd, process::Command, sync::Arc, time::Duration};
use tokio::net::unix::pipe;

/// Columns and rows of a terminal.
const SIZE: RangeInclusive<u16> = 1..=1000;
/// The capacity of the pipes of a command's output, bytes: fewer and larger reads.
const PIPE_BYTES: usize = 256 * 1024;
/// The terminal's type if the requested one cannot be a name.
const DEFAULT_TERM: &str = "xterm-256color";

/// A running command.
pub(super) struct ExecCommand {
    pub(super) child: Child,
    pub(super) control: CommandControl,
    pub(super) input: CommandInput,
    /// Standard output; with a terminal everything.
    pub(super) stdout: FdStream,
    /// Standard error; `None` with a terminal.
    pub(super) stderr: Option<FdStream>,
}

/// Sends signals and sizes to a command.
pub(super) struct CommandControl {
    group: ProcessGroup,
    pty: Option<Arc<OwnedFd>>,
}

/// Where a command's input is written.
pub(super) enum CommandInput {
    Pipe(pipe::Sender),
    Terminal(FdStream),
}

impl ExecCommand {
    /// Starts the program `argv` in the environment of `tool`.
    ///
    /// # Errors
    /// Those of fork and exec.
    pub(super) fn spawn(
        environment: &ExecutionEnvironment,
        processes: &ProcessTable,
        mut tool: ToolCommand,
        argv: &[String],
        tty: Option<&ExecTty>,
    ) -> io::Result<Self> {
        let [program, arguments @ ..] = argv else { return Err(io::ErrorKind::InvalidInput.into()) };
        match tty {
            Some(tty) => drop(tool.env.insert("TERM".to_owned(), terminal_type(&tty.term).to_owned())),
            None => ["TERM", "COLORTERM"].into_iter().for_each(|name| drop(tool.env.remove(name))),
        }
        let path = tool.env.get("PATH").map_or("", String::as_str);
        let mut command = process::new_command(find_program(program, path));
        command.args(arguments).envs(&tool.env).current_dir(&tool.dir);
        drop_privileges(&mut command, environment);
        match tty {
            Some(tty) => spawn_with_terminal(environment, processes, command, tty),
            None => spawn_with_pipes(environment, processes, command),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }
}

fn spawn_with_pipes(
    environment: &ExecutionEnvironment,
    processes: &ProcessTable,
    mut command: Command,
) -> io::Result<ExecCommand> {
    let (stdin, input) = process::input_pipe()?;
    let (output, stdout) = output_pipe()?;
    let (errors, stderr) = output_pipe()?;
    if let Some(id) = environment.user_id() {
        // Some programs open /dev/stdin or /dev/stdout again, for which the pipe must belong to the user.
        for end in [&stdin, &stdout, &stderr] {
            rustix::fs::fchown(end, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))?;
        }
    }
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    // The command holds the child's ends: with it they are closed here.
    let child = processes.spawn(&mut command, ChildTty::None)?;
    drop(command);
    Ok(ExecCommand {
        control: CommandControl { group: child.process_group(), pty: None },
        child,
        input: CommandInput::Pipe(input),
        stdout: output,
        stderr: Some(errors),
    })
}

/// A pipe from a command: the agent's end, then the command's.
fn output_pipe() -> io::Result<(FdStream, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // A user has a limit of such memory; the default capacity is enough.
    let _ = rustix::pipe::fcntl_setpipe_size(&read, PIPE_BYTES);
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((FdStream::new(Arc::new(read))?, write))
}

fn spawn_with_terminal(
    environment: &ExecutionEnvironment,
    processes: &ProcessTable,
    mut command: Command,
    tty: &ExecTty,
) -> io::Result<ExecCommand> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let pty = openpt(flags)?;
    grantpt(&pty).and_then(|()| unlockpt(&pty))?;
    resize_pty(&pty, clamp(tty.cols), clamp(tty.rows))?;
    let name = ptsname(&pty, Vec::new())?;
    let line = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    if let Some(id) = environment.user_id() {
        rustix::fs::fchown(&line, Some(Uid::from_raw(id)), None)?;
    }
    command.stdin(line.try_clone()?).stdout(line.try_clone()?).stderr(line);
    let child = processes.spawn(&mut command, ChildTty::Stdin)?;
    drop(command);
    rustix::io::ioctl_fionbio(&pty, true)?;
    let pty = Arc::new(pty);
    Ok(ExecCommand {
        input: CommandInput::Terminal(FdStream::new(Arc::new(pty.try_clone()?))?),
        stdout: FdStream::new(pty.clone())?,
        stderr: None,
        control: CommandControl { group: child.process_group(), pty: Some(pty) },
        child,
    })
}

fn clamp(size: u16) -> u16 {
    size.clamp(*SIZE.start(), *SIZE.end())
}

fn terminal_type(requested: &str) -> &str {
    let is_name = (1..=TERM_CHARS_MAX).contains(&requested.len())
        && requested.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._+".contains(&b));
    if is_name { requested } else { DEFAULT_TERM }
}

impl CommandControl {
    /// Sets the size of the terminal, if there is one; the kernel notifies its foreground processes.
    pub(super) fn resize(&self, size: ExecSize) {
        if let Some(pty) = &self.pty {
            let _ = resize_pty(pty, clamp(size.width), clamp(size.height));
        }
    }

    /// Sends a signal to the terminal's foreground processes, or to the command's process group.
    pub(super) fn signal(&self, signal: ExecSignal) {
        let signal = kernel_signal(signal);
        let foreground = self.pty.as_ref().and_then(|pty| rustix::termios::tcgetpgrp(pty).ok());
        match foreground {
            Some(group) => drop(rustix::process::kill_process_group(group, signal)),
            None => self.group.signal(signal),
        }
    }

    /// Ends the command: SIGHUP, then SIGTERM, then SIGKILL. Returns its exit code.
    pub(super) async fn hang_up(&self, child: &mut Child) -> i32 {
        for (signals, ms_max) in
            [(&[ExecSignal::Hup, ExecSignal::Cont][..], HANGUP_MS_MAX), (&[ExecSignal::Term][..], TERMINATE_MS_MAX)]
        {
            for signal in signals {
                self.signal(*signal);
                self.group.signal(kernel_signal(*signal));
            }
            if let Ok(code) = tokio::time::timeout(Duration::from_millis(ms_max), child.wait()).await {
                return code;
            }
        }
        self.group.signal(Signal::KILL);
        child.wait().await
    }
}

fn kernel_signal(signal: ExecSignal) -> Signal {
    match signal {
        ExecSignal::Hup => Signal::HUP,
        ExecSignal::Int => Signal::INT,
        ExecSignal::Quit => Signal::QUIT,
        ExecSignal::Usr1 => Signal::USR1,
        ExecSignal::Usr2 => Signal::USR2,
        ExecSignal::Term => Signal::TERM,
        ExecSignal::Cont => Signal::CONT,
        ExecSignal::Tstp => Signal::TSTP,
        ExecSignal::Winch => Signal::WINCH,
    }
}
