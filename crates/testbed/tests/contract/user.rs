//! The user: in a browser of their own, which knows the issuer's pages and nothing of the machine; and at the machine's desktop.

use anteroom_testbed::{ApiClient, TestCa, qemu_server::QEMU_WAIT_MAX};
use anteroom_wire::SessionId;
use http::{Request, header::LOCATION};
use regex_lite::Regex;
use reqwest::Url;
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::time::Instant;

const PAGES_MAX: usize = 10;
const CLICK_EVERY: Duration = Duration::from_secs(10);

/// The user's own browser.
pub(crate) struct User {
    /// Whose certificates it believes.
    pub(crate) ca: TestCa,
    /// Where names lead.
    pub(crate) host_overrides: BTreeMap<String, SocketAddr>,
}

/// Where the user's browser ended.
#[derive(Debug)]
pub(crate) enum Destination {
    /// On a page of the provider's that shows this text.
    Page(String),
    /// At this address on its own loopback, where nobody host_overrides: the tool is in the machine.
    Loopback(String),
}

impl User {
    /// Opens a link and does what the pages ask.
    pub(crate) async fn open(&self, link: &str) -> Destination {
        let mut url = Url::parse(link).unwrap();
        for _ in 0..PAGES_MAX {
            if matches!(url.host_str(), Some("localhost" | "127.0.0.1")) {
                return Destination::Loopback(url.into());
            }
            let place = format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap());
            let address = self.host_overrides.get(&place).unwrap_or_else(|| panic!("{place} is nobody's"));
            let request = Request::get(url.as_str()).body(String::new()).unwrap();
            let answer = self.ca.request(*address, request).await.unwrap();
            let page = String::from_utf8_lossy(answer.body()).into_owned();
            url = match answer.headers().get(LOCATION) {
                Some(to) => url.join(to.to_str().unwrap()).unwrap(),
                None if page.contains("<form ") => answered(&url, &page),
                None => {
                    assert!(answer.status().is_success(), "{}: {page}", answer.status());
                    let text = page.split_once("id=\"text\">").and_then(|(_, rest)| rest.split_once("</pre>"));
                    return Destination::Page(text.unwrap_or_else(|| panic!("no text on {page}")).0.to_owned());
                }
            };
        }
        panic!("{link} leads from page to page for ever")
    }
}

impl Destination {
    /// The text of the page.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Page(text) => text,
            Self::Loopback(url) => panic!("it ended at {url}"),
        }
    }

    /// The address at which it ended.
    pub(crate) fn address(self) -> String {
        match self {
            Self::Loopback(url) => url,
            Self::Page(text) => panic!("it ended on a page: {text}"),
        }
    }
}

/// Where a form leads when its button is pressed.
fn answered(at: &Url, page: &str) -> Url {
    let field = r#"<input type=hidden name=(?:"([^"]*)"|([^ ">]+)) value=(?:"([^"]*)"|([^ ">]+))>"#;
    let field = Regex::new(field).unwrap();
    let plain = |text: &str| text.replace("&quot;", "\"").replace("&lt;", "<").replace("&amp;", "&");
    let mut to = at.clone();
    to.query_pairs_mut().clear();
    for found in field.captures_iter(page) {
        let either = |quoted, bare| found.get(quoted).or_else(|| found.get(bare)).map_or("", |text| text.as_str());
        to.query_pairs_mut().append_pair(&plain(either(1, 2)), &plain(either(3, 4)));
    }
    to
}

/// Clicks into the middle of the machine's desktop, once `shown`, until `done`: the page that asks is one button.
pub(crate) async fn grants_on_the_desktop(
    api: &ApiClient,
    session: &SessionId,
    shown: impl Fn() -> bool,
    done: impl Fn() -> bool,
) {
    let until = Instant::now() + QEMU_WAIT_MAX;
    while !shown() {
        if Instant::now() > until {
            let timeline = api.timeline(session).await.unwrap();
            panic!("the machine's browser never showed the page: {timeline:#?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut desktop = api.desktop(session).await.unwrap();
    let (width, height) = {
        let frame = desktop.whole_frame().await.unwrap();
        (frame.width(), frame.height())
    };
    while !done() {
        assert!(Instant::now() < until, "nobody received the clicks");
        desktop.click(width / 2, height / 2).await.unwrap();
        let next = Instant::now() + CLICK_EVERY;
        while !done() && Instant::now() < next {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
