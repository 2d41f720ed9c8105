//! `anteroom-demo login`, from the first request to the stored credential.

use crate::{
    callback::{CallbackListener, CallbackOutcome, CallbackRequest},
    callback_page::CallbackPage,
    credential_file::{Credentials, FileError},
    oauth::{AuthorizationRequest, Issuer, OauthError},
};
use hyper::StatusCode;
use std::{io, process::Stdio, time::Duration};
use tokio::{process::Command, time::timeout};

/// One sign-in.
pub(crate) struct Login<'a> {
    pub(crate) issuer_url: String,
    /// How long to wait for the callback.
    pub(crate) callback_timeout: Duration,
    /// Prints a line for the user.
    pub(crate) print: &'a dyn Fn(&str),
}

/// Why the sign-in failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("cannot listen on 127.0.0.1 for the browser")]
    Listen(#[source] io::Error),
    #[error(transparent)]
    Issuer(#[from] OauthError),
    #[error("the sign-in was denied: {0}")]
    Denied(String),
    #[error("the sign-in was not completed within {0} seconds")]
    Timeout(u64),
    #[error("the credential cannot be stored")]
    Store(#[from] FileError),
}

impl LoginError {
    /// The message with its causes.
    pub(crate) fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        text
    }

    /// What the user can do.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Listen(_) => "Check that this machine has a loopback interface.",
            Self::Issuer(OauthError::CodeRejected(_)) => "Run `anteroom-demo login` again: a code can be used once.",
            Self::Issuer(_) => {
                "Check the issuer's address (--issuer, ANTEROOM_DEMO_ISSUER) and the proxy (http_proxy)."
            }
            Self::Denied(_) => "Run `anteroom-demo login` again and allow it.",
            Self::Timeout(_) => "Run `anteroom-demo login` again.",
            Self::Store(_) => "Then run `anteroom-demo login` again.",
        }
    }
}

impl Login<'_> {
    /// Signs in. Returns the account's name.
    pub(crate) async fn run(&self) -> Result<String, LoginError> {
        let issuer = Issuer::discover(&self.issuer_url).await?;
        let mut listener = CallbackListener::listen().await.map_err(LoginError::Listen)?;
        let request = AuthorizationRequest::new(listener.redirect_uri().map_err(LoginError::Listen)?)?;
        let url = issuer.authorization_url(&request);
        (self.print)("Opening your browser to sign in …");
        (self.print)(&format!("If your browser did not open, go to:\n\n{url}\n"));
        open_browser(&url);
        let callback = timeout(self.callback_timeout, listener.wait_callback(&request.state)).await;
        let CallbackRequest { outcome, reply } = match callback {
            Ok(callback) => callback.map_err(LoginError::Listen)?,
            Err(_) => return Err(LoginError::Timeout(self.callback_timeout.as_secs())),
        };
        let result = self.finish(&issuer, &request, outcome).await;
        let page = match &result {
            Ok(credentials) => CallbackPage::new(
                StatusCode::OK,
                "You are signed in",
                &format!("Signed in as {}. You can close this tab.", credentials.account),
            ),
            Err(error) => CallbackPage::new(
                StatusCode::FORBIDDEN,
                "You are not signed in",
                &format!("{}. {}", error.with_causes(), error.remedy()),
            ),
        };
        // A browser that has disconnected does not undo the sign-in.
        let _ = reply.send(page);
        listener.close().await;
        result.map(|credentials| credentials.account)
    }

    /// Exchanges the code and stores the credential. Only then the browser is shown success.
    async fn finish(
        &self,
        issuer: &Issuer,
        request: &AuthorizationRequest,
        outcome: CallbackOutcome,
    ) -> Result<Credentials, LoginError> {
        match outcome {
            CallbackOutcome::Denied(error, description) => Err(LoginError::Denied(description.unwrap_or(error))),
            CallbackOutcome::Code(code) => {
                let credentials = issuer.exchange_code(request, &code).await?;
                credentials.store()?;
                Ok(credentials)
            }
        }
    }
}

/// Opens `url` with the first program of `$BROWSER` (separated by colons) that starts, or with `xdg-open`. It is not an error if none
/// starts, since the URL is on the screen.
fn open_browser(url: &str) {
    let browsers = std::env::var("BROWSER").ok().filter(|browsers| !browsers.is_empty());
    let browsers = browsers.unwrap_or_else(|| "xdg-open".into());
    for browser in browsers.split(':').filter(|browser| !browser.is_empty()) {
        let started =
            Command::new(browser).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        if started.is_ok() {
            // The browser keeps running when this process exits. The runtime reaps it if it exits earlier.
            return;
        }
    }
}
