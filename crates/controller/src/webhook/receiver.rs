//! The receiver of the webhook's messages: where it is, the keys that sign, and the counters of its deliveries.

use super::{
    client::WebhookClient,
    settings::{self, InvalidUrl, SecretFileError, WebhookTarget},
    sign::SigningKey,
};
use crate::{config::Config, https_client::ClientSetupError, limits::WebhookLimits};
use anteroom_wire::operator_reports::WebhookError;
use parking_lot::Mutex;
use std::sync::atomic::AtomicU64;
use tokio::sync::Notify;

/// The receiver and the counters of deliveries to it.
#[derive(Debug)]
pub struct Webhook {
    pub(super) client: WebhookClient,
    pub(super) keys: Vec<SigningKey>,
    pub(super) wake_signal: Notify,
    /// Number of delivered messages.
    pub messages_delivered: AtomicU64,
    /// Number of failed attempts.
    pub attempts_failed: AtomicU64,
    /// Number of abandoned messages.
    pub messages_abandoned: AtomicU64,
    pub(super) last_error: Mutex<Option<WebhookError>>,
}

/// Why the configured receiver cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its URL is invalid.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// The secrets that sign messages cannot be read.
    #[error(transparent)]
    SecretFile(#[from] SecretFileError),
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientSetupError),
}

impl Webhook {
    /// Wakes the sender: there is a new message.
    pub fn wake(&self) {
        self.wake_signal.notify_one();
    }

    /// The configured receiver; `None`: none is configured.
    ///
    /// # Errors
    /// Its secrets or certificates cannot be read; the error names the setting.
    pub fn open(config: &Config, limits: &WebhookLimits) -> Result<Option<Self>, OpenError> {
        let settings = &config.webhook;
        let (Some(url), Some(secret_file)) = (&settings.url, &settings.secret_file) else { return Ok(None) };
        let target = WebhookTarget::parse(url)?;
        let keys = settings::read_keys(secret_file)?;
        let client = WebhookClient::new(target, settings.ca_file.as_deref(), limits.timeout_ms_max)?;
        Ok(Some(Self {
            client,
            keys,
            wake_signal: Notify::new(),
            messages_delivered: AtomicU64::new(0),
            attempts_failed: AtomicU64::new(0),
            messages_abandoned: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }))
    }
}
