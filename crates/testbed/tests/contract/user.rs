//! The user, with a browser outside of the machine, and at the machine's desktop.

use anteroom_testbed::{ApiClient, QEMU_WAIT_TIMEOUT, TestCa};
use anteroom_wire::SessionId;
use http::{Request, header::LOCATION};
use regex_lite::Regex;
use reqwest::Url;
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::time::Instant;

const PAGES_MAX: usize = 10;
const CLICK_EVERY: Duration = Duration::from_secs(10);

/// The user's browser outside of the machine.
pub(crate) struct User {
    /// The certificate authority that it trusts.
    pub(crate) ca: TestCa,
    /// `name:port` → the address that it connects to.
    pub(crate) host_overrides: BTreeMap<String, SocketAddr>,
}

/// Where the browser ended.
#[derive(Debug)]
pub(crate) enum Destination {
    /// On a page of the provider that shows this text.
    Page(String),
    /// At this URL on the browser's loopback, where no server listens, because the tool is in the machine.
    Loopback(String),
}

impl User {
    /// Opens a link, follows redirects and submits forms.
    pub(crate) async fn open(&self, link: &str) -> Destination {
        let mut url = Url::parse(link).unwrap();
        for _ in 0..PAGES_MAX {
            if matches!(url.host_str(), Some("localhost" | "127.0.0.1")) {
                return Destination::Loopback(url.into());
            }
            let host = format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap());
            let address = self.host_overrides.get(&host).unwrap_or_else(|| panic!("no address for {host}"));
            let request = Request::get(url.as_str()).body(String::new()).unwrap();
            let response = self.ca.request(*address, request).await.unwrap();
            let page = String::from_utf8_lossy(response.body()).into_owned();
            url = match response.headers().get(LOCATION) {
                Some(to) => url.join(to.to_str().unwrap()).unwrap(),
                None if page.contains("<form ") => submit_form(&url, &page),
                None => {
                    assert!(response.status().is_success(), "{}: {page}", response.status());
                    let text = page.split_once("id=\"text\">").and_then(|(_, rest)| rest.split_once("</pre>"));
                    return Destination::Page(text.unwrap_or_else(|| panic!("no text on {page}")).0.to_owned());
                }
            };
        }
        panic!("{link} leads through more than {PAGES_MAX} pages")
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

    /// The loopback URL at which the browser ended.
    pub(crate) fn address(self) -> String {
        match self {
            Self::Loopback(url) => url,
            Self::Page(text) => panic!("it ended on a page: {text}"),
        }
    }
}

/// The URL that a form requests when it is submitted.
fn submit_form(at: &Url, page: &str) -> Url {
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

/// Waits for `shown`, then clicks into the middle of the machine's desktop until `done`. The consent page is one large button.
pub(crate) async fn grants_on_the_desktop(
    api: &ApiClient,
    session: &SessionId,
    shown: impl Fn() -> bool,
    done: impl Fn() -> bool,
) {
    let deadline = Instant::now() + QEMU_WAIT_TIMEOUT;
    while !shown() {
        if Instant::now() > deadline {
            let timeline = api.get_timeline(session).await.unwrap();
            panic!("the machine's browser never showed the consent page: {timeline:#?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut desktop = api.connect_desktop(session).await.unwrap();
    let (width, height) = {
        let frame = desktop.request_full_frame().await.unwrap();
        (frame.width(), frame.height())
    };
    while !done() {
        assert!(Instant::now() < deadline, "the clicks have no effect");
        desktop.click(width / 2, height / 2).await.unwrap();
        let next = Instant::now() + CLICK_EVERY;
        while !done() && Instant::now() < next {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
