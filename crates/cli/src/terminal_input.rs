//! Reads lines, keys and secrets from the terminal or from files.

use super::{output::print_prompt, print_line};
use anteroom_wire::Secret;
use anyhow::Context;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr},
};
use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
};
use zeroize::Zeroizing;

/// Maximum length of a line, bytes: the server's limit.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Duration of one poll for input, nanoseconds. It blocks a thread.
const POLL_NS: i64 = 100_000_000;

/// Reads a key from a file, or from standard input (`-`).
///
/// # Errors
/// The file cannot be read, is empty, or is longer than [`LINE_BYTES_MAX`].
pub(super) fn read_key_file(path: &Path) -> anyhow::Result<Secret> {
    let mut text = Zeroizing::new(String::new());
    let limit = LINE_BYTES_MAX as u64 + 1;
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_string(&mut text).context("standard input cannot be read")?;
    } else {
        let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        file.take(limit).read_to_string(&mut text).with_context(|| format!("{} cannot be read", path.display()))?;
    }
    let key = text.trim();
    anyhow::ensure!(
        (1..=LINE_BYTES_MAX).contains(&key.len()),
        "{} must contain one key of at most 16 KiB",
        path.display()
    );
    Ok(Secret::new(key.to_owned()))
}

/// Reads a line from the terminal. Cancel safe: it reads only a complete line.
pub(crate) async fn read_line(prompt: &str, secret: bool) -> io::Result<Secret> {
    // Before the prompt is printed, so that an immediate answer is not echoed either.
    let _no_echo = secret.then(NoEcho::enable).transpose()?;
    print_prompt(prompt);
    // Polling keeps the file descriptor blocking, since the shell shares it.
    while !tokio::task::spawn_blocking(has_line).await?? {}
    let mut bytes = Zeroizing::new(vec![0; LINE_BYTES_MAX]);
    let n = rustix::io::read(rustix::stdio::stdin(), &mut *bytes)?;
    if secret {
        print_line("");
    }
    let text = Secret::new(String::from_utf8_lossy(&bytes[..n]).trim().to_owned());
    if n == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(text) }
}

/// Polls for a line for [`POLL_NS`], so that a cancelled read ends soon.
fn has_line() -> io::Result<bool> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: POLL_NS };
    let stdin = rustix::stdio::stdin();
    Ok(poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&timeout))? > 0)
}

/// Single keys of the terminal, without echo and without Enter; dropping it restores the terminal.
pub(crate) struct Keys(Option<NoEcho>);

impl Keys {
    /// Reads keys from now on, if standard input is a terminal.
    ///
    /// # Errors
    /// The terminal cannot be changed.
    pub(crate) fn open() -> io::Result<Self> {
        let modes = LocalModes::ECHO | LocalModes::ICANON;
        Ok(Self(io::stdin().is_terminal().then(|| NoEcho::without(modes)).transpose()?))
    }

    /// Waits until `q` is pressed.
    pub(crate) async fn quit(&self) {
        while self.0.is_some() {
            let mut key = [0];
            match tokio::task::spawn_blocking(has_line).await {
                Ok(Ok(true)) => match rustix::io::read(rustix::stdio::stdin(), &mut key) {
                    Ok(1) if key == *b"q" => return,
                    Ok(1) => {}
                    Ok(_) | Err(_) => break,
                },
                Ok(Ok(false)) => {}
                Ok(Err(_)) | Err(_) => break,
            }
        }
        std::future::pending().await
    }
}

/// Turns the terminal's echo off; dropping it restores the original modes.
struct NoEcho(Termios);

impl NoEcho {
    fn enable() -> io::Result<Self> {
        Self::without(LocalModes::ECHO)
    }

    fn without(modes: LocalModes) -> io::Result<Self> {
        let original = tcgetattr(rustix::stdio::stdin())?;
        let mut no_echo = original.clone();
        no_echo.local_modes.remove(modes);
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &no_echo)?;
        Ok(Self(original))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        // Fails only if the terminal was closed.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_has_one_line_and_debug_output_hides_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, " sk-test-1234\n").unwrap();
        let key = read_key_file(&file).unwrap();
        assert_eq!((key.expose(), format!("{key:?}").as_str()), ("sk-test-1234", "Secret(…)"));
        std::fs::write(&file, "\n").unwrap();
        assert!(read_key_file(&file).is_err());
        std::fs::write(&file, "x".repeat(LINE_BYTES_MAX + 10)).unwrap();
        assert!(read_key_file(&file).is_err());
        assert!(read_key_file(&dir.path().join("none")).is_err());
    }
}
