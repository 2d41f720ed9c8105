//! The receiver of the webhook's messages: where it is, the keys that sign, and the counters of its deliveries.

use super::{
    post::Way,
    settings::{self, Target},
    sign::Key,
};
use crate::config::Config;
use anteroom_wire::operations::WebhookError;
use std::sync::{Mutex, atomic::AtomicU64};
use tokio::sync::Notify;

/// The receiver, and how telling it fares.
#[derive(Debug)]
pub struct Webhook {
    pub(super) way: Way,
    pub(super) keys: Vec<Key>,
    pub(super) bell: Notify,
    /// Messages that were taken.
    pub delivered: AtomicU64,
    /// Tries that failed.
    pub failed: AtomicU64,
    /// Messages that were given up.
    pub abandoned: AtomicU64,
    pub(super) last_error: Mutex<Option<WebhookError>>,
}

impl Webhook {
    /// Wakes the sender: there is a new message.
    pub fn wake(&self) {
        self.bell.notify_one();
    }

    /// The receiver of the configuration; `None`: there is none.
    ///
    /// # Errors
    /// Its secrets or certificates cannot be read; the text names the setting.
    pub fn open(config: &Config) -> Result<Option<Self>, String> {
        let settings = &config.webhook;
        let (Some(url), Some(secret_file)) = (&settings.url, &settings.secret_file) else { return Ok(None) };
        let target = Target::parse(url).map_err(|why| format!("webhook.url {why}"))?;
        let keys = settings::secrets(secret_file)
            .map_err(|why| format!("webhook.secret_file {} {why}", secret_file.display()))?;
        let way = Way::new(target, settings.ca_file.as_deref(), settings.timeout_ms_max)?;
        Ok(Some(Self {
            way,
            keys,
            bell: Notify::new(),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }))
    }
}
