//! Answers the tool's prompts during a sign-in, from the local terminal or with a key from a file.
//!
//! ```text
//!  the tool has ended ─▶ Enter starts it again
//!  prompt opens ─▶ it is for a secret and there is a key file ─▶ paste the key
//!              └▶ standard input is a terminal ─▶ read a line (without echo if secret) ─▶ paste ─▶ rejected: ask again
//!  prompt closes (answered on the page) ─▶ stop reading the line
//! ```

use super::{
    client::{ApiClient, ClientError},
    print_line,
    terminal_input::read_line,
};
use anteroom_wire::{
    Secret, SessionId,
    agent::{KEY_ENTRY_PROMPT_ID, PasteResult},
    api::{MethodRequest, PromptView, SessionView},
};
use anyhow::Context;
use http::Method;
use serde_json::json;
use std::{
    convert::Infallible,
    io::{self, IsTerminal},
};
use tokio::sync::watch;

/// What a person can answer in the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// The tool's prompt.
    Prompt(PromptView),
    /// The tool has ended: Enter starts it again.
    StartAgain {
        /// The tool's name.
        tool: String,
        /// The sign-in method.
        method: String,
        /// How often it was started: each end is another question.
        starts: u32,
    },
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
    pub(super) async fn run(mut self, mut prompts: watch::Receiver<Option<Question>>) -> anyhow::Result<Infallible> {
        let mut answered = None;
        loop {
            let open = prompts.borrow_and_update().clone();
            if let Some(open) = open.filter(|open| Some(open) != answered.as_ref()) {
                let is_answered = match &open {
                    Question::Prompt(prompt) => self.answer(prompt, &mut prompts).await?,
                    Question::StartAgain { tool, method, .. } => self.start_again(tool, method, &mut prompts).await?,
                };
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
        prompts: &mut watch::Receiver<Option<Question>>,
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

    /// Starts the tool again when the person presses Enter. Returns `false` if that was not possible.
    async fn start_again(
        &self,
        tool: &str,
        method: &str,
        questions: &mut watch::Receiver<Option<Question>>,
    ) -> anyhow::Result<bool> {
        if !io::stdin().is_terminal() {
            return Ok(true);
        }
        let text = format!("  → Press Enter to start {tool} again, or Ctrl-C to end the session: ");
        tokio::select! {
            line = read_line(&text, false) => drop(line?),
            _ = questions.changed() => {
                print_line("");
                return Ok(false);
            }
        }
        let path = format!("/api/auth/session/{}/method", self.session);
        let request = MethodRequest { method: method.to_owned() };
        match self.client.call::<_, SessionView>(Method::POST, &path, Some(&request)).await {
            Ok(_) => Ok(true),
            Err(ClientError::Api(problem)) => {
                print_line(format_args!("  {} {}", problem.sentence, problem.remedy));
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
