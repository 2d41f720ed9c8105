//! `anteroom-demo login`, from the first request to the stored credential.

use crate::{
    callback::{CallbackListener, CallbackOutcome, CallbackRequest},
    callback_page::CallbackPage,
    credential_file::FileError,
    oauth::{AuthorizationRequest, Issuer, NewCredentials, OauthError, SHOW_CODE},
    person,
};
use hyper::StatusCode;
use std::{io, process::Stdio, time::Duration};
use tokio::{process::Command, time::timeout};

/// How the user takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginMethod {
    /// In the browser of this computer.
    Browser,
    /// In any browser; the user pastes a code.
    Link,
    /// In any browser; the user enters a code there.
    DeviceCode,
    /// With an API key on standard input.
    ApiKey,
}

/// One sign-in.
pub(crate) struct Login<'a> {
    pub(crate) method: LoginMethod,
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
    #[error("the input cannot be read")]
    Input(#[source] io::Error),
    #[error("nothing was typed")]
    NoInput,
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
            Self::Denied(_) => "Run `anteroom-demo login` again and allow it.",
            Self::Issuer(OauthError::KeyRejected) => "Copy the whole key and try again.",
            Self::Issuer(_) => {
                "Check the issuer's address (--issuer, ANTEROOM_DEMO_ISSUER) and the proxy (http_proxy)."
            }
            Self::Input(_) | Self::NoInput | Self::Timeout(_) => "Run `anteroom-demo login` again.",
            Self::Store(_) => "Then run `anteroom-demo login` again.",
        }
    }
}

impl Login<'_> {
    /// Signs in. Returns the account's name.
    pub(crate) async fn run(&self) -> Result<String, LoginError> {
        let issuer = Issuer::discover(&self.issuer_url).await?;
        match self.method {
            LoginMethod::Browser => self.run_with_browser(issuer).await,
            LoginMethod::Link => self.store(self.sign_in_by_link(&issuer).await?),
            LoginMethod::DeviceCode => self.store(self.sign_in_by_device_code(&issuer).await?),
            LoginMethod::ApiKey => {
                let key = person::read_line().map_err(LoginError::Input)?.ok_or(LoginError::NoInput)?;
                self.store(NewCredentials { credentials: issuer.check_key(key).await?, needs_project: false })
            }
        }
    }

    /// Stores the credential, with the project that the user names if the account needs one.
    fn store(&self, new: NewCredentials) -> Result<String, LoginError> {
        let mut credentials = new.credentials;
        while new.needs_project && credentials.project.is_none() {
            person::ask("This account needs a project. Project ID: ");
            credentials.project = Some(person::read_line().map_err(LoginError::Input)?.ok_or(LoginError::NoInput)?)
                .filter(|id| !id.is_empty());
        }
        credentials.store()?;
        Ok(credentials.account)
    }

    async fn sign_in_by_link(&self, issuer: &Issuer) -> Result<NewCredentials, LoginError> {
        let request = AuthorizationRequest::new(SHOW_CODE.to_owned())?;
        (self.print)(&format!("Open this address in your browser:\n\n{}\n", issuer.link_url(&request)));
        person::ask("Paste the code here: ");
        let code = person::read_line().map_err(LoginError::Input)?.ok_or(LoginError::NoInput)?;
        if code == "access_denied" {
            return Err(LoginError::Denied(code));
        }
        Ok(issuer.exchange_code(&request, &code).await?)
    }

    async fn sign_in_by_device_code(&self, issuer: &Issuer) -> Result<NewCredentials, LoginError> {
        let device = issuer.authorize_device().await?;
        (self.print)(&format!(
            "Open this address in your browser:\n\n{}\n\nand enter the code\n\n{}\n",
            device.verification_uri, device.user_code
        ));
        let every = Duration::from_secs(device.interval.unwrap_or(5));
        let polled = async {
            loop {
                tokio::time::sleep(every).await;
                if let Some(new) = issuer.poll_device(&device).await? {
                    return Ok(new);
                }
            }
        };
        // A little longer than the code: the identity provider says that it has expired.
        let limit = self.callback_timeout.min(Duration::from_secs(device.expires_in.saturating_add(30)));
        timeout(limit, polled).await.map_err(|_| LoginError::Timeout(limit.as_secs()))?
    }

    async fn run_with_browser(&self, issuer: Issuer) -> Result<String, LoginError> {
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
            Ok(new) => CallbackPage::new(
                StatusCode::OK,
                "You are signed in",
                &format!("Signed in as {}. You can close this tab.", new.credentials.account),
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
        let new = result?;
        // Otherwise it is stored already.
        if new.needs_project { self.store(new) } else { Ok(new.credentials.account) }
    }

    /// Exchanges the code and stores the credential, unless it needs a project. Only then the browser is shown success.
    async fn finish(
        &self,
        issuer: &Issuer,
        request: &AuthorizationRequest,
        outcome: CallbackOutcome,
    ) -> Result<NewCredentials, LoginError> {
        match outcome {
            CallbackOutcome::Denied(error, description) => Err(LoginError::Denied(description.unwrap_or(error))),
            CallbackOutcome::Code(code) => {
                let new = issuer.exchange_code(request, &code).await?;
                if !new.needs_project {
                    new.credentials.store()?;
                }
                Ok(new)
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
