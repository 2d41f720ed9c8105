//! `anteroom-demo login`, from the first request to the stored credential.

use crate::{
    callback::{Arrival, Callback, Outcome},
    credentials::{Credentials, FileError},
    oauth::{Issuer, OauthError, Question},
    page::Page,
};
use hyper::StatusCode;
use std::{io, process::Stdio, time::Duration};
use tokio::{process::Command, time::timeout};

/// One sign-in.
pub(crate) struct Login<'a> {
    pub(crate) issuer: String,
    /// How long to wait for the browser.
    pub(crate) wait: Duration,
    /// A line for the person.
    pub(crate) say: &'a dyn Fn(&str),
}

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("cannot listen on 127.0.0.1 for the browser")]
    Listen(#[source] io::Error),
    #[error(transparent)]
    Issuer(#[from] OauthError),
    #[error("the sign-in was refused: {0}")]
    Denied(String),
    #[error("nobody signed in within {0} seconds")]
    TooLong(u64),
    #[error("the credential cannot be stored")]
    Store(#[from] FileError),
}

impl LoginError {
    /// What is so, with its causes.
    pub(crate) fn text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        text
    }

    /// What to do.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Listen(_) => "Check that this machine has a loopback interface.",
            Self::Issuer(OauthError::Refused(_)) => "Run `anteroom-demo login` again: a code is good for one try.",
            Self::Issuer(_) => {
                "Check the issuer's address (--issuer, ANTEROOM_DEMO_ISSUER) and the proxy (http_proxy)."
            }
            Self::Denied(_) => "Run `anteroom-demo login` again and allow it.",
            Self::TooLong(_) => "Run `anteroom-demo login` again.",
            Self::Store(_) => "Then run `anteroom-demo login` again.",
        }
    }
}

impl Login<'_> {
    /// Signs in; gives the account's name.
    pub(crate) async fn run(&self) -> Result<String, LoginError> {
        let issuer = Issuer::discover(&self.issuer).await?;
        let mut callback = Callback::listen().await.map_err(LoginError::Listen)?;
        let question = Question::new(callback.redirect().map_err(LoginError::Listen)?)?;
        let address = issuer.authorize_address(&question);
        (self.say)("Opening your browser to sign in …");
        (self.say)(&format!("If your browser did not open, go to:\n\n{address}\n"));
        open_browser(&address);
        let arrival = timeout(self.wait, callback.arrival(&question.state)).await;
        let Arrival { outcome, reply } = match arrival {
            Ok(arrival) => arrival.map_err(LoginError::Listen)?,
            Err(_) => return Err(LoginError::TooLong(self.wait.as_secs())),
        };
        let ended = self.end(&issuer, &question, outcome).await;
        let page = match &ended {
            Ok(credentials) => Page::new(
                StatusCode::OK,
                "You are signed in",
                &format!("Signed in as {}. You can close this tab.", credentials.account),
            ),
            Err(error) => Page::new(
                StatusCode::FORBIDDEN,
                "You are not signed in",
                &format!("{}. {}", error.text(), error.remedy()),
            ),
        };
        // A browser that has gone does not undo the sign-in.
        let _ = reply.send(page);
        callback.close().await;
        ended.map(|credentials| credentials.account)
    }

    /// What the browser brought becomes a stored credential; only then is it told that all is well.
    async fn end(&self, issuer: &Issuer, question: &Question, outcome: Outcome) -> Result<Credentials, LoginError> {
        match outcome {
            Outcome::Refused(error, description) => Err(LoginError::Denied(description.unwrap_or(error))),
            Outcome::Code(code) => {
                let credentials = issuer.exchange(question, &code).await?;
                credentials.store()?;
                Ok(credentials)
            }
        }
    }
}

/// Opens `address` with the first program of `$BROWSER` (a list with colons) that starts, or with `xdg-open`. None is no
/// failure: the address is on the screen.
fn open_browser(address: &str) {
    let browsers = std::env::var("BROWSER").ok().filter(|browsers| !browsers.is_empty());
    let browsers = browsers.unwrap_or_else(|| "xdg-open".into());
    for browser in browsers.split(':').filter(|browser| !browser.is_empty()) {
        let started =
            Command::new(browser).arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        if started.is_ok() {
            // It is the person's browser: it stays when we end. The runtime collects it if it ends before.
            return;
        }
    }
}
