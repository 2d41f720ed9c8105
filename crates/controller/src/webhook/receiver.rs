//! The receivers of the webhook's messages: where they are, the keys that sign, and the counters of their deliveries.

use super::{
    client::WebhookClient,
    settings::{self, InvalidUrl, SecretFileError, WebhookSettings, WebhookTarget},
    sign::SigningKey,
};
use crate::{config::Config, https_client::ClientSetupError, limits::WebhookLimits};
use anteroom_wire::{operator_reports::WebhookError, webhook::EventType};
use parking_lot::Mutex;
use std::sync::{Arc, atomic::AtomicU64};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A receiver and the counters of deliveries to it.
#[derive(Debug)]
pub struct Webhook {
    /// Its settings.
    pub settings: WebhookSettings,
    pub(super) client: WebhookClient,
    pub(super) keys: Vec<SigningKey>,
    pub(super) wake_signal: Notify,
    /// The counters of its deliveries.
    pub counters: Arc<DeliveryCounters>,
}

/// Deliveries to a receiver since the server started.
#[derive(Debug, Default)]
pub struct DeliveryCounters {
    /// Number of delivered messages.
    pub messages_delivered: AtomicU64,
    /// Number of failed attempts.
    pub attempts_failed: AtomicU64,
    /// Number of abandoned messages.
    pub messages_abandoned: AtomicU64,
    pub(super) last_error: Mutex<Option<WebhookError>>,
}

/// Why a configured receiver cannot be used.
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
    /// The name of the receiver.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Its URL without the query.
    pub fn display_url(&self) -> String {
        self.client.display_url()
    }

    /// Whether the messages about stored credentials carry those that are delivered once.
    pub(super) fn attaches_credentials(&self) -> bool {
        self.settings.include_credential && self.settings.takes(EventType::CredentialStored)
    }

    fn open(settings: &WebhookSettings, limits: &WebhookLimits) -> Result<Option<Self>, OpenError> {
        let (Some(url), Some(secret_file)) = (&settings.url, &settings.secret_file) else { return Ok(None) };
        let target = WebhookTarget::parse(url)?;
        let keys = settings::read_keys(secret_file)?;
        let client = WebhookClient::new(target, settings.ca_file.as_deref(), limits.timeout_ms_max)?;
        let (wake_signal, counters) = (Notify::new(), Arc::default());
        Ok(Some(Self { settings: settings.clone(), client, keys, wake_signal, counters }))
    }
}

/// All receivers.
#[derive(Debug, Default)]
pub struct Receivers {
    list: Vec<Webhook>,
    /// Cancelled when other receivers replace these.
    pub(super) replaced: CancellationToken,
}

impl Receivers {
    /// The configured receivers; none if none is configured.
    ///
    /// # Errors
    /// Secrets or certificates cannot be read; the error names the setting.
    pub fn open(config: &Config, limits: &WebhookLimits) -> Result<Self, OpenError> {
        let opened = config.webhook.iter().filter_map(|settings| Webhook::open(settings, limits).transpose());
        Ok(Self { list: opened.collect::<Result<_, _>>()?, replaced: CancellationToken::new() })
    }

    /// Each receiver.
    pub fn iter(&self) -> impl Iterator<Item = &Webhook> {
        self.list.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The receiver of this name.
    pub fn get(&self, name: &str) -> Option<&Webhook> {
        self.iter().find(|webhook| webhook.name() == name)
    }

    /// Wakes the senders: there are new messages.
    pub(super) fn wake(&self) {
        self.iter().for_each(|webhook| webhook.wake_signal.notify_one());
    }

    /// Goes on with the counters of receivers of the same names.
    pub(super) fn adopt_counters(&mut self, before: &Self) {
        for webhook in &mut self.list {
            if let Some(before) = before.get(&webhook.settings.name) {
                webhook.counters = Arc::clone(&before.counters);
            }
        }
    }
}
