//! Reports the page in the browser: it is being opened, shown, or was not opened.

use super::Browser;
use crate::channel::event_queue::EventQueue;
use anteroom_screen::{sign_in_finder, truncate_text};
use anteroom_wire::agent::{BrowserPage, BrowserPageState, SignInEvent};
use serde_json::Value;
use std::sync::atomic::Ordering;

/// The host of the page that has just replaced another one, or of the error page for its address.
pub(super) fn page_host(message: &Value) -> Option<String> {
    let target = &message["params"]["targetInfo"];
    // A page that is still being opened has its address, and no title.
    let is_page = message["method"] == "Target.targetInfoChanged" && target["type"] == "page" && target["title"] != "";
    sign_in_finder::web_url_host(target["url"].as_str().filter(|_| is_page)?)
}

impl Browser {
    /// The page that is opened or shown.
    pub(crate) fn page(&self) -> Option<BrowserPage> {
        self.page.lock().clone()
    }

    /// A URL of this host is about to be opened.
    pub(crate) fn report_opening(&self, events: &EventQueue, host: &str) {
        if !self.reports_pages.load(Ordering::Relaxed) {
            return;
        }
        self.set_page(host, BrowserPageState::Opening);
        events.push(SignInEvent::BrowserOpening { host: host.to_owned().into() });
    }

    pub(super) fn report_shown(&self, events: &EventQueue, host: String) {
        self.set_page(&host, BrowserPageState::Shown);
        events.push(SignInEvent::BrowserOpened { host: host.into() });
    }

    pub(super) fn report_not_opened(&self, events: &EventQueue, host: &str, error: &anyhow::Error) {
        self.set_page(host, BrowserPageState::NotOpened);
        let why = truncate_text(&format!("{error:#}")).into();
        events.push(SignInEvent::BrowserNotOpened { host: host.to_owned().into(), why });
    }

    fn set_page(&self, host: &str, state: BrowserPageState) {
        *self.page.lock() = Some(BrowserPage { host: host.to_owned().into(), state });
    }
}
