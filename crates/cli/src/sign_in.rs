//! The sign-in of `anteroom login` and `anteroom credentials renew`: start the session, print the link, show progress, wait for the
//! end.

use super::{
    client::{ApiClient, ClientError},
    print_line,
    prompt_responder::PromptResponder,
    watch::{self, SessionUpdate},
};
use anteroom_wire::{
    Secret, SessionId,
    api::{CredentialMeta, PromptView, SessionStatus, SessionView, StartRequest, StartResponse},
    provider::Lane,
};
use http::Method;
use std::{io::IsTerminal, process::Stdio};
use tokio::sync::watch as channel;

/// The result of a sign-in.
pub(super) enum SignInResult {
    /// The credential is stored.
    Completed(Box<CredentialMeta>),
    /// The user pressed Ctrl-C.
    Cancelled,
}

/// Starts a sign-in and waits for its end.
///
/// # Errors
/// The start was rejected, or the sign-in failed; the text has the reason.
pub(super) async fn sign_in(client: &ApiClient, request: &StartRequest, no_open: bool) -> anyhow::Result<SignInResult> {
    sign_in_with_key(client, request, no_open, None).await
}

/// As [`sign_in`]; enters `key` at the tool's first prompt for a secret.
///
/// # Errors
/// As [`sign_in`].
pub(super) async fn sign_in_with_key(
    client: &ApiClient,
    request: &StartRequest,
    no_open: bool,
    key: Option<Secret>,
) -> anyhow::Result<SignInResult> {
    let started: StartResponse = client.call(Method::POST, "/api/auth/start", Some(request)).await?;
    print_line(format_args!(
        "Open this link to sign in to {}:\n\n  {}\n",
        started.session.provider_name, started.viewer_url
    ));
    print_line(format_args!("{}\n", started.session.policy_sentence));
    if !no_open && std::io::stdout().is_terminal() {
        open_browser(&started.viewer_url);
    }
    let Some(view) = follow_sign_in(client, &started.session.id, key).await? else {
        print_line("Cancelled.");
        return Ok(SignInResult::Cancelled);
    };
    match (view.status, view.credential) {
        (SessionStatus::Completed, Some(credential)) => Ok(SignInResult::Completed(Box::new(credential))),
        (_, _) => {
            let reason = view.reason.map_or_else(String::new, |reason| reason.sentence);
            anyhow::bail!("not signed in: {reason} See: anteroom sessions {}", view.id)
        }
    }
}

/// Prints the progress of a session until it has ended, and returns its final state. Ctrl-C cancels the session: `None`.
///
/// # Errors
/// The server rejects a request, or is not reachable.
pub(super) async fn follow_to_end(client: &ApiClient, id: &SessionId) -> anyhow::Result<Option<SessionView>> {
    follow_sign_in(client, id, None).await
}

/// As [`follow_to_end`]; also answers the tool's prompts.
///
/// # Errors
/// As [`follow_to_end`]; or the key was rejected.
async fn follow_sign_in(
    client: &ApiClient,
    id: &SessionId,
    key: Option<Secret>,
) -> anyhow::Result<Option<SessionView>> {
    let (prompt, prompts) = channel::channel(None);
    let mut display = SignInDisplay { code: None, url: None, warning: None, is_kept: false, prompt };
    let cancel = async || -> Result<(), ClientError> {
        let path = format!("/api/auth/session/{id}/cancel");
        client.call::<(), SessionView>(Method::POST, &path, None).await.map(drop)
    };
    tokio::select! {
        view = watch::follow_session(client, id, |update| display.update(update)) => Ok(Some(view?)),
        stopped = (PromptResponder { client, session: id, key }).run(prompts) => {
            cancel().await?;
            stopped.map(|()| None)
        }
        _ = tokio::signal::ctrl_c() => {
            cancel().await?;
            Ok(None)
        }
    }
}

/// Prints the changes of a sign-in and publishes the tool's open prompt.
struct SignInDisplay {
    code: Option<String>,
    url: Option<String>,
    /// The warning about a page that is not the provider's.
    warning: Option<String>,
    /// The tool is signed in and its credential stays in the machine.
    is_kept: bool,
    prompt: channel::Sender<Option<PromptView>>,
}

impl SignInDisplay {
    fn update(&mut self, update: SessionUpdate) {
        let view = match update {
            SessionUpdate::Entry(entry) => return print_line(format_args!("  {}", entry.sentence)),
            SessionUpdate::View(view) => view,
        };
        self.prompt.send_if_modified(|open| {
            let is_new = *open != view.sign_in.prompt;
            open.clone_from(&view.sign_in.prompt);
            is_new
        });
        if view.sign_in.kept_in_machine && !self.is_kept {
            self.is_kept = true;
            print_line(format_args!("  → {} Press Ctrl-C to end the session.", view.next_action));
        }
        let needs_browser = view.lanes.iter().any(|lane| matches!(lane, Lane::Link | Lane::DeviceCode));
        if needs_browser && view.sign_in.url != self.url {
            self.url.clone_from(&view.sign_in.url);
            if let Some(url) = &self.url {
                print_line(format_args!("  → open {url}"));
            }
        }
        let warning = view.sign_in.unexpected_address.as_ref().map(|unexpected| unexpected.sentence.clone());
        if warning != self.warning {
            if let Some(sentence) = &warning {
                print_line(format_args!("  → warning: {sentence}"));
            }
            self.warning = warning;
        }
        if view.sign_in.device_code != self.code {
            self.code.clone_from(&view.sign_in.device_code);
            if let Some(code) = &self.code {
                print_line(format_args!("  → enter the code {code}"));
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "opens the user's browser")]
fn open_browser(url: &str) {
    let _ = std::process::Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}
