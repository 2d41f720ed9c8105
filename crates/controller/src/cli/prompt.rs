//! Answering what the tool asks, from the person's own terminal or with a key from a file, while the sign-in is followed.
//!
//! ```text
//!  question opens ─▶ a key was given and it asks for one ─▶ pasted
//!                 └▶ a terminal is here ─▶ a line is read (not echoed if secret) ─▶ pasted ─▶ refused: asked again
//!  question goes (answered in the page) ─▶ the line is no longer waited for
//! ```

use super::{
    client::{Client, ClientError},
    print_line,
};
use anteroom_wire::{
    Secret, SessionId,
    agent::{KEY_ENTRY, PasteResult},
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
    io::{self, IsTerminal, Read, Write},
    path::Path,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// A line that a person types; the server takes no more.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// How long one wait for a line holds its thread, nanoseconds.
const LOOK_NS: i64 = 100_000_000;

/// Reads a key from a file, or from standard input (`-`).
///
/// # Errors
/// It cannot be read, is empty or too long.
pub(super) fn key_from(path: &Path) -> anyhow::Result<Secret> {
    let mut text = Zeroizing::new(String::new());
    let limit = LINE_BYTES_MAX as u64 + 1;
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_string(&mut text).context("standard input")?;
    } else {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        file.take(limit).read_to_string(&mut text).with_context(|| path.display().to_string())?;
    }
    let key = text.trim();
    anyhow::ensure!((1..=LINE_BYTES_MAX).contains(&key.len()), "{} must have one key in it", path.display());
    Ok(Secret::new(key.to_owned()))
}

/// Answers one session's questions.
pub(super) struct Answers<'a> {
    pub(super) client: &'a Client,
    pub(super) session: &'a SessionId,
    /// For the first question that asks for a secret.
    pub(super) key: Option<Secret>,
}

impl Answers<'_> {
    /// Answers as long as it is polled.
    ///
    /// # Errors
    /// The key was refused, or the server does not answer.
    pub(super) async fn run(mut self, mut questions: watch::Receiver<Option<PromptView>>) -> anyhow::Result<()> {
        let mut answered = None;
        loop {
            let open = questions.borrow_and_update().clone();
            if let Some(open) = open.filter(|open| Some(open) != answered.as_ref()) {
                let enough = self.answer(&open, &mut questions).await?;
                answered = enough.then_some(open);
            } else if questions.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Whether this question needs no other answer.
    async fn answer(
        &mut self,
        open: &PromptView,
        questions: &mut watch::Receiver<Option<PromptView>>,
    ) -> anyhow::Result<bool> {
        if (open.secret || open.id == KEY_ENTRY)
            && let Some(key) = self.key.take()
        {
            self.paste(&key).await.context("the key was not taken")?;
            return Ok(true);
        }
        if let Some(why) = &open.rejected {
            print_line(format_args!("  not taken: {why}"));
        }
        let hint = open.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
        if !io::stdin().is_terminal() {
            print_line(format_args!("  → asked for, in the page: {}{hint}", open.label));
            return Ok(true);
        }
        let question = format!("  → {}{hint}: ", open.label);
        let line = tokio::select! {
            line = line(&question, open.secret) => line?,
            _ = questions.changed() => {
                print_line("");
                return Ok(false);
            }
        };
        if line.expose().is_empty() {
            return Ok(false);
        }
        match self.paste(&line).await {
            Ok(_) => Ok(true),
            Err(ClientError::Refused(problem)) => {
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

#[expect(clippy::print_stdout, reason = "a question without a line's end")]
fn ask(text: &str) {
    print!("{text}");
    let _ = io::stdout().flush();
}

/// A line from the terminal. It can be given up at any moment: nothing else reads there.
async fn line(question: &str, secret: bool) -> io::Result<Secret> {
    // Before anybody is asked: who answers at once is not echoed either.
    let _quiet = secret.then(Quiet::begin).transpose()?;
    ask(question);
    // The descriptor stays blocking, as it is the shell's too: only one that has a line is read.
    while !tokio::task::spawn_blocking(has_line).await?? {}
    let mut bytes = Zeroizing::new(vec![0; LINE_BYTES_MAX]);
    let n = rustix::io::read(rustix::stdio::stdin(), &mut *bytes)?;
    if secret {
        print_line("");
    }
    let text = Secret::new(String::from_utf8_lossy(&bytes[..n]).trim().to_owned());
    if n == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(text) }
}

/// Waits a moment for a line: whoever gives the wait up is held no longer than that.
fn has_line() -> io::Result<bool> {
    let a_moment = Timespec { tv_sec: 0, tv_nsec: LOOK_NS };
    let stdin = rustix::stdio::stdin();
    Ok(poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&a_moment))? > 0)
}

/// The terminal without echo; dropping it brings that back.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that went needs no echo.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_files_one_line_and_does_not_print() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, " sk-test-1234\n").unwrap();
        let key = key_from(&file).unwrap();
        assert_eq!((key.expose(), format!("{key:?}").as_str()), ("sk-test-1234", "Secret(…)"));
        std::fs::write(&file, "\n").unwrap();
        assert!(key_from(&file).is_err());
        std::fs::write(&file, "x".repeat(LINE_BYTES_MAX + 10)).unwrap();
        assert!(key_from(&file).is_err());
        assert!(key_from(&dir.path().join("none")).is_err());
    }
}
