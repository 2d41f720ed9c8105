//! What `anteroom login` and `anteroom credentials renew` share: start, print the link, show how it goes, wait for the end.

use super::{
    client::{Client, ClientError},
    say,
    watch::{self, Told},
};
use anteroom_wire::{
    SessionId,
    api::{CredentialMeta, SessionView, StartRequest, Started, Status},
    provider::Lane,
};
use http::Method;
use std::{io::IsTerminal, process::Stdio};

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
    let started: Started = client.call(Method::POST, "/api/auth/start", Some(request)).await?;
    say(format_args!("Sign in to {} here:\n\n  {}\n", started.session.provider_name, started.viewer_url));
    if !no_open && std::io::stdout().is_terminal() {
        open_browser(&started.viewer_url);
    }
    let Some(view) = until_over(client, &started.session.id).await? else {
        say("Cancelled.");
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
pub(super) async fn until_over(client: &Client, id: &SessionId) -> Result<Option<SessionView>, ClientError> {
    let mut shown = Shown::default();
    tokio::select! {
        view = watch::follow(client, id, |told| shown.take(told)) => view.map(Some),
        _ = tokio::signal::ctrl_c() => {
            let path = format!("/api/auth/session/{id}/cancel");
            let _: SessionView = client.call(Method::POST, &path, None::<&()>).await?;
            Ok(None)
        }
    }
}

/// Says what is new.
#[derive(Default)]
struct Shown {
    code: Option<String>,
    url: Option<String>,
}

impl Shown {
    fn take(&mut self, told: Told) {
        let view = match told {
            Told::Entry(entry) => return say(format_args!("  {}", entry.sentence)),
            Told::View(view) => view,
        };
        let by_hand = view.lanes.iter().any(|lane| matches!(lane, Lane::Link | Lane::DeviceCode));
        if by_hand && view.sign_in.url != self.url {
            self.url.clone_from(&view.sign_in.url);
            if let Some(url) = &self.url {
                say(format_args!("  → open {url}"));
            }
        }
        if view.sign_in.device_code != self.code {
            self.code.clone_from(&view.sign_in.device_code);
            if let Some(code) = &self.code {
                say(format_args!("  → enter the code {code}"));
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
