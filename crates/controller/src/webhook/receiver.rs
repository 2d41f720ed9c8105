//! The receiver of the webhook's messages: where it is, the keys that sign, and the counters of its deliveries.

use super::{
    client::WebhookClient,
    settings::{self, Target},
    sign::Key,
};
use crate::{config::Config, limits::WebhookLimits};
use anteroom_wire::operator_reports::WebhookError;
use parking_lot::Mutex;
use std::sync::atomic::AtomicU64;
use tokio::sync::Notify;

/// The receiver and the counters of deliveries to it.
#[derive(Debug)]
pub struct Webhook {
    pub(super) client: WebhookClient,
    pub(super) keys: Vec<Key>,
    pub(super) wake_signal: Notify,
    /// Number of delivered messages.
    pub delivered: AtomicU64,
    /// Number of failed attempts.
    pub failed: AtomicU64,
    /// Number of abandoned messages.
    pub abandoned: AtomicU64,
    pub(super) last_error: Mutex<Option<WebhookError>>,
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
    pub fn open(config: &Config, limits: &WebhookLimits) -> Result<Option<Self>, String> {
        let settings = &config.webhook;
        let (Some(url), Some(secret_file)) = (&settings.url, &settings.secret_file) else { return Ok(None) };
        let target = Target::parse(url).map_err(|why| format!("webhook.url {why}"))?;
        let keys = settings::read_keys(secret_file)
            .map_err(|why| format!("webhook.secret_file {} {why}", secret_file.display()))?;
        let client = WebhookClient::new(target, settings.ca_file.as_deref(), limits.timeout_ms_max)?;
        Ok(Some(Self {
            client,
            keys,
            wake_signal: Notify::new(),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }))
    }
}
