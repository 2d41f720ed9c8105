//! What `anteroom login` and `anteroom credentials renew` share: start, print the link, show how it goes, wait for the end.

use super::{
    answers::Answers,
    client::{Client, ClientError},
    print_line,
    watch::{self, Told},
};
use anteroom_wire::{
    Secret, SessionId,
    api::{CredentialMeta, PromptView, SessionView, StartRequest, StartResponse, Status},
    provider::Lane,
};
use http::Method;
use std::{io::IsTerminal, process::Stdio};
use tokio::sync::watch as channel;

/// How a sign-in ended.
pub(super) enum SignedIn {
    /// The credential is stored.
    Yes(Box<CredentialMeta>),
    /// The person pressed Ctrl-C.
    Cancelled,
}

/// Starts a sign-in and waits for its end.
///
/// # Errors
/// It was refused, or came to nothing; the text says why.
pub(super) async fn sign_in(client: &Client, request: &StartRequest, no_open: bool) -> anyhow::Result<SignedIn> {
    sign_in_with(client, request, no_open, None).await
}

/// The same; what the tool wants as a secret first is answered with `key`.
///
/// # Errors
/// As [`sign_in`].
pub(super) async fn sign_in_with(
    client: &Client,
    request: &StartRequest,
    no_open: bool,
    key: Option<Secret>,
) -> anyhow::Result<SignedIn> {
    let started: StartResponse = client.call(Method::POST, "/api/auth/start", Some(request)).await?;
    print_line(format_args!("Sign in to {} here:\n\n  {}\n", started.session.provider_name, started.viewer_url));
    print_line(format_args!("{}\n", started.session.policy_sentence));
    if !no_open && std::io::stdout().is_terminal() {
        open_browser(&started.viewer_url);
    }
    let Some(view) = until_signed_in(client, &started.session.id, key).await? else {
        print_line("Cancelled.");
        return Ok(SignedIn::Cancelled);
    };
    match (view.status, view.credential) {
        (Status::Completed, Some(credential)) => Ok(SignedIn::Yes(Box::new(credential))),
        (_, _) => {
            let why = view.reason.map_or_else(String::new, |reason| reason.sentence);
            anyhow::bail!("not signed in: {why} See: anteroom sessions {}", view.id)
        }
    }
}

/// Shows what happens to a session until it is over; Ctrl-C cancels it: `None`.
///
/// # Errors
/// The server refuses, or went away.
pub(super) async fn until_over(client: &Client, id: &SessionId) -> anyhow::Result<Option<SessionView>> {
    until_signed_in(client, id, None).await
}

/// Shows what happens to a session until it is over, and answers what the tool asks; Ctrl-C cancels it: `None`.
///
/// # Errors
/// The server refuses, or went away, or the key was refused.
async fn until_signed_in(client: &Client, id: &SessionId, key: Option<Secret>) -> anyhow::Result<Option<SessionView>> {
    let (asks, questions) = channel::channel(None);
    let mut shown = Shown { code: None, url: None, is_kept: false, asks };
    let cancel = async || -> Result<(), ClientError> {
        let path = format!("/api/auth/session/{id}/cancel");
        client.call::<(), SessionView>(Method::POST, &path, None).await.map(drop)
    };
    tokio::select! {
        view = watch::follow(client, id, |told| shown.take(told)) => Ok(Some(view?)),
        stopped = (Answers { client, session: id, key }).run(questions) => {
            cancel().await?;
            stopped.map(|()| None)
        }
        _ = tokio::signal::ctrl_c() => {
            cancel().await?;
            Ok(None)
        }
    }
}

/// Says what is new.
struct Shown {
    code: Option<String>,
    url: Option<String>,
    /// The tool is signed in and nothing more will come.
    is_kept: bool,
    /// Tells what the tool asks.
    asks: channel::Sender<Option<PromptView>>,
}

impl Shown {
    fn take(&mut self, told: Told) {
        let view = match told {
            Told::Entry(entry) => return print_line(format_args!("  {}", entry.sentence)),
            Told::View(view) => view,
        };
        self.asks.send_if_modified(|open| {
            let is_new = *open != view.sign_in.prompt;
            open.clone_from(&view.sign_in.prompt);
            is_new
        });
        if view.sign_in.kept_in_machine && !self.is_kept {
            self.is_kept = true;
            print_line(format_args!("  → {} Ctrl-C ends it here.", view.next_action));
        }
        let by_hand = view.lanes.iter().any(|lane| matches!(lane, Lane::Link | Lane::DeviceCode));
        if by_hand && view.sign_in.url != self.url {
            self.url.clone_from(&view.sign_in.url);
            if let Some(url) = &self.url {
                print_line(format_args!("  → open {url}"));
            }
        }
        if view.sign_in.device_code != self.code {
            self.code.clone_from(&view.sign_in.device_code);
            if let Some(code) = &self.code {
                print_line(format_args!("  → enter the code {code}"));
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the person's own browser, started for them by their own command")]
fn open_browser(url: &str) {
    let _ = std::process::Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}
