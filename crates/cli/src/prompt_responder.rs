//! Answers the tool's prompts during a sign-in, from the local terminal or with a key from a file.
//!
//! ```text
//!  prompt opens ─▶ it is for a secret and there is a key file ─▶ paste the key
//!              └▶ standard input is a terminal ─▶ read a line (without echo if secret) ─▶ paste ─▶ rejected: ask again
//!  prompt closes (answered on the page) ─▶ stop reading the line
//! ```

use super::{
    client::{ApiClient, ClientError},
    output::print_prompt,
    print_line,
};
use anteroom_wire::{
    Secret, SessionId,
    agent::{KEY_ENTRY_PROMPT_ID, PasteResult},
    api::PromptView,
};
use anyhow::Context;
use http::Method;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr},
};
use serde_json::json;
use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
};
use tokio::sync::watch;
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

/// Answers the prompts of one session.
pub(super) struct PromptResponder<'a> {
    pub(super) client: &'a ApiClient,
    pub(super) session: &'a SessionId,
    /// The answer to the first prompt for a secret.
    pub(super) key: Option<Secret>,
}

impl PromptResponder<'_> {
    /// Answers prompts until it is dropped.
    ///
    /// # Errors
    /// The key was rejected, or the server does not answer.
    pub(super) async fn run(mut self, mut prompts: watch::Receiver<Option<PromptView>>) -> anyhow::Result<()> {
        let mut answered = None;
        loop {
            let open = prompts.borrow_and_update().clone();
            if let Some(open) = open.filter(|open| Some(open) != answered.as_ref()) {
                let is_answered = self.answer(&open, &mut prompts).await?;
                answered = is_answered.then_some(open);
            } else if prompts.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Answers a prompt. Returns `false` if the prompt needs another answer.
    async fn answer(
        &mut self,
        open: &PromptView,
        prompts: &mut watch::Receiver<Option<PromptView>>,
    ) -> anyhow::Result<bool> {
        if (open.secret || open.id == KEY_ENTRY_PROMPT_ID)
            && let Some(key) = self.key.take()
        {
            self.paste(&key).await.context("the key was rejected")?;
            return Ok(true);
        }
        if let Some(reason) = &open.rejection {
            print_line(format_args!("  rejected: {reason}"));
        }
        let hint = open.expected_format.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
        if !io::stdin().is_terminal() {
            print_line(format_args!("  → answer this on the page: {}{hint}", open.label));
            return Ok(true);
        }
        let text = format!("  → {}{hint}: ", open.label);
        let line = tokio::select! {
            line = read_line(&text, open.secret) => line?,
            _ = prompts.changed() => {
                print_line("");
                return Ok(false);
            }
        };
        if line.expose().is_empty() {
            return Ok(false);
        }
        match self.paste(&line).await {
            Ok(_) => Ok(true),
            Err(ClientError::Api(problem)) => {
                let detail = problem.detail.map_or_else(String::new, |detail| format!(" ({detail})"));
                print_line(format_args!("  {}{detail} {}", problem.sentence, problem.remedy));
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn paste(&self, text: &Secret) -> Result<PasteResult, ClientError> {
        let path = format!("/api/auth/session/{}/paste", self.session);
        self.client.call(Method::POST, &path, Some(&json!({ "text": text }))).await
    }
}

/// Reads a line from the terminal. Cancel safe: it reads only a complete line.
async fn read_line(prompt: &str, secret: bool) -> io::Result<Secret> {
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

/// Turns the terminal's echo off; dropping it restores the original modes.
struct NoEcho(Termios);

impl NoEcho {
    fn enable() -> io::Result<Self> {
        let original = tcgetattr(rustix::stdio::stdin())?;
        let mut no_echo = original.clone();
        no_echo.local_modes.remove(LocalModes::ECHO);
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
