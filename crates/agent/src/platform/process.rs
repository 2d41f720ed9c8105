//! Building commands for child processes. [`super::process_table`] starts them.

use super::environment::ExecutionEnvironment;
use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};
use tokio::net::unix::pipe;

/// Exit code reported for a command that could not be started, as a shell reports it.
pub(crate) const EXIT_CODE_NOT_STARTED: i32 = 127;
/// Exit code reported for a file that cannot be executed, as a shell reports it.
pub(crate) const EXIT_CODE_NOT_EXECUTABLE: i32 = 126;

/// A command for `program` with an empty environment. No shell is involved.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place of the agent that makes commands; ProcessTable starts them"
)]
pub(crate) fn new_command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env_clear();
    command
}

/// The program's file, searched in `path` as a shell does. If it is not found, the name itself, so that starting it fails with
/// that name.
pub(crate) fn find_program(name: &str, path: &str) -> PathBuf {
    if name.contains('/') {
        return name.into();
    }
    let candidates = path.split(':').map(|dir| Path::new(dir).join(name));
    candidates.into_iter().find(|file| file.is_file()).unwrap_or_else(|| name.into())
}

/// Makes `command` run as the unprivileged user, where there is one.
pub(crate) fn drop_privileges(command: &mut Command, environment: &ExecutionEnvironment) {
    if let Some(id) = environment.user_id() {
        command.uid(id).gid(id);
    }
}

/// A pipe from which the agent reads a child's output: the agent's end, then the child's.
pub(crate) fn output_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((pipe::Receiver::from_owned_fd(read)?, write))
}

/// A pipe through which the agent writes a child's input: the child's end, then the agent's.
pub(crate) fn input_pipe() -> io::Result<(OwnedFd, pipe::Sender)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&write, true)?;
    Ok((read, pipe::Sender::from_owned_fd(write)?))
}

/// The async runtime of every mode. It has one thread: a child's `PR_SET_PDEATHSIG` follows the *thread* that forked it, so the main
/// thread must fork all children.
pub(crate) fn new_async_runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_searched_only_in_the_given_path() {
        assert_eq!(find_program("sh", "/nowhere:/bin"), PathBuf::from("/bin/sh"));
        assert_eq!(find_program("sh", "/nowhere"), PathBuf::from("sh"));
        assert_eq!(find_program("/x/y", "/bin"), PathBuf::from("/x/y"));
    }
}
