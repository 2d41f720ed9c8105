//! What is known of the sign-in now (`GET /sign-in`).

use crate::events::Events;
use anteroom_wire::agent::{CaptureState, CliState, Event, SignIn, SignInUrl, UrlSource};
use std::sync::Arc;
use tokio::sync::watch;

/// Distinct addresses and codes that are told once each; more are not told.
const VALUES_MAX: usize = 64;

/// The board: many writers, each of its own part.
pub(crate) struct Board {
    now: watch::Sender<SignIn>,
    told: std::sync::Mutex<Vec<String>>,
    events: Arc<Events>,
}

impl Board {
    pub(crate) fn new(events: Arc<Events>) -> Self {
        Self { now: watch::Sender::new(SignIn::default()), told: std::sync::Mutex::default(), events }
    }

    /// For `GET /sign-in`.
    pub(crate) fn read(&self) -> SignIn {
        self.now.borrow().clone()
    }

    pub(crate) fn cli(&self, state: CliState) {
        self.now.send_modify(|now| now.cli = state);
    }

    pub(crate) fn capture(&self, state: CaptureState) {
        self.now.send_modify(|now| now.capture = state);
    }

    /// An address to open. The shim's word outweighs the screen's, which may show a short form only.
    pub(crate) fn url(&self, url: String, source: UrlSource) {
        let found = SignInUrl { url, source };
        let first = self.first_time(&format!("{source:?} {}", found.url));
        self.now.send_modify(|now| {
            let shim_told = now.url.as_ref().is_some_and(|known| known.source == UrlSource::Shim);
            if source == UrlSource::Shim || !shim_told {
                now.url = Some(found.clone());
            }
        });
        if first {
            self.events.push(Event::SignInUrl(found));
        }
    }

    /// A code to type there.
    pub(crate) fn device_code(&self, code: String) {
        let first = self.first_time(&format!("code {code}"));
        self.now.send_modify(|now| now.device_code = Some(code.clone()));
        if first {
            self.events.push(Event::DeviceCode { code });
        }
    }

    fn first_time(&self, value: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.len() >= VALUES_MAX || told.iter().any(|known| known == value) {
            return false;
        }
        told.push(value.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_value_is_told_once_and_the_shim_outweighs_the_screen() {
        let events = Arc::new(Events::default());
        events.open();
        let board = Board::new(events.clone());
        board.url("https://a.example/full".into(), UrlSource::Shim);
        board.url("https://a.example/short".into(), UrlSource::Screen);
        board.url("https://a.example/short".into(), UrlSource::Screen);
        board.device_code("AB-12".into());
        board.device_code("AB-12".into());
        assert_eq!(board.read().url.unwrap().url, "https://a.example/full");
        assert_eq!(board.read().device_code.as_deref(), Some("AB-12"));
        assert_eq!(events.batch().await.len(), 3);
    }
}
