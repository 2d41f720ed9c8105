//! The browser of these tests is the other end of its control pipe.

use super::*;
use crate::platform::process::{input_pipe, output_pipe};
use anteroom_wire::agent::{BrowserPageState, SignInEvent};
use std::sync::atomic::AtomicU32;
use tokio::task::{JoinHandle, spawn_blocking};

const URL: &str = "https://id.example/authorize?state=1";
const LONG: Duration = Duration::from_secs(60);

fn browser(devtools: Option<Arc<DevTools>>) -> Browser {
    Browser {
        program: "/no/such/program".into(),
        devtools: watch::Sender::new(devtools),
        blank_page: Mutex::new(None),
        has_opened_url: AtomicBool::new(false),
        reports_pages: AtomicBool::new(true),
        page: parking_lot::Mutex::default(),
        authorities_installed_at: OnceLock::new(),
        raise_lock: Mutex::new(()),
    }
}

/// A browser that reads one command, answers with `answer` if there is one, and exits. The task returns the command.
fn answering_once(answer: Option<&'static str>) -> (Arc<DevTools>, JoinHandle<String>) {
    let (from_agent, input) = input_pipe().unwrap();
    let (output, to_agent) = output_pipe().unwrap();
    let command = spawn_blocking(move || {
        let (mut bytes, mut text) = ([0; 4096], String::new());
        while !text.ends_with('\0') {
            let count = rustix::io::read(&from_agent, &mut bytes).unwrap();
            text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        if let Some(answer) = answer {
            rustix::io::write(&to_agent, format!("{answer}\0").as_bytes()).unwrap();
        }
        text
    });
    (Arc::new(DevTools::new(input, output, |_| {})), command)
}

/// A browser that has exited, which is not yet detected.
fn exited() -> Arc<DevTools> {
    Arc::new(DevTools::new(input_pipe().unwrap().1, output_pipe().unwrap().0, |_| {}))
}

async fn raised() -> anyhow::Result<()> {
    Ok(())
}

#[tokio::test]
async fn url_that_arrives_while_the_browser_exits_is_opened_by_the_next_one() {
    let (exiting, lost) = answering_once(None);
    for (former, command) in [(exited(), None), (exiting, Some(lost))] {
        let browser = Arc::new(browser(Some(former)));
        let navigating = browser.clone();
        let navigation = tokio::spawn(async move { navigating.navigate(URL, LONG, raised).await });
        if let Some(command) = command {
            assert!(command.await.unwrap().contains(URL));
        }
        browser.devtools.send_replace(None);
        let (next, command) = answering_once(Some("{\"id\":1,\"result\":{}}"));
        browser.devtools.send_replace(Some(next));
        navigation.await.unwrap().unwrap();
        let command = command.await.unwrap();
        assert!(command.contains("Target.createTarget") && command.contains(URL), "{command}");
    }
}

#[tokio::test]
async fn url_is_opened_once_the_window_of_the_browser_is_visible() {
    let (devtools, command) = answering_once(Some("{\"id\":1,\"result\":{}}"));
    let raises = AtomicU32::new(0);
    let third = || async {
        anyhow::ensure!(raises.fetch_add(1, Ordering::Relaxed) == 2, "no such window");
        Ok(())
    };
    browser(Some(devtools)).navigate(URL, LONG, third).await.unwrap();
    assert!(command.await.unwrap().contains(URL));
    assert_eq!(raises.load(Ordering::Relaxed), 3);
}

/// As in a claimed machine, in which the browser restarts while the tool opens its URL.
#[tokio::test]
async fn opening_a_url_and_preparing_the_browser_do_not_raise_windows_at_the_same_time() {
    let (devtools, command) = answering_once(Some("{\"id\":1,\"result\":{}}"));
    let browser = Arc::new(browser(Some(devtools)));
    let windows = Arc::new(std::sync::Mutex::new(Vec::new()));
    let raise = |window: &'static str, until: Arc<Browser>| {
        let windows = windows.clone();
        move || {
            let (windows, until) = (windows.clone(), until.clone());
            async move {
                windows.lock().unwrap().push(format!("raising {window}"));
                // By then the other task has started, and has had every chance to raise its window.
                while !until.has_opened_url.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                }
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                windows.lock().unwrap().push(format!("raised {window}"));
                Ok(())
            }
        }
    };
    let (terminal, front) = (raise("the terminal", browser.clone()), raise("the browser", browser.clone()));
    let (lowered, opened) = tokio::join!(browser.lower(&terminal), browser.navigate(URL, LONG, front));
    opened.unwrap();
    assert!(lowered.unwrap());
    let order = ["raising the terminal", "raised the terminal", "raising the browser", "raised the browser"];
    assert_eq!(*windows.lock().unwrap(), order);
    assert!(!browser.lower(&terminal).await.unwrap(), "a browser that opened a URL stays in front");
    assert_eq!(windows.lock().unwrap().len(), 4);
    assert!(command.await.unwrap().contains(URL));
}

#[tokio::test]
async fn url_that_the_browser_rejects_is_not_opened_again() {
    let (devtools, command) = answering_once(Some("{\"id\":1,\"error\":{\"message\":\"no\"}}"));
    let error = browser(Some(devtools)).navigate(URL, LONG, raised).await.unwrap_err();
    assert_eq!(error.to_string(), "the browser rejected Target.createTarget: no");
    command.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn url_that_no_browser_opens_fails_in_time_and_is_reported_with_the_cause() {
    let limit = Duration::from_millis(NAVIGATE_MS_MAX);
    let began = tokio::time::Instant::now();
    let never_up = browser(None).navigate(URL, limit, raised).await;
    assert!(began.elapsed() <= limit + Duration::from_millis(NAVIGATE_AGAIN_MS), "{:?}", began.elapsed());
    let windowless = || async { anyhow::bail!("no such window") };
    let never_visible = browser(Some(exited())).navigate(URL, limit, windowless).await;
    let events = EventQueue::default();
    events.start_recording();
    for (opened, expected) in [(never_up, "it was not up within 480000 ms"), (never_visible, "no such window")] {
        let browser = browser(None);
        browser.report_not_opened(&events, "id.example", &opened.unwrap_err());
        assert_eq!(browser.page().unwrap().state, BrowserPageState::NotOpened);
        let event = events.next_batch().await.pop().unwrap().event;
        let (host, why) = ("id.example".to_owned(), expected.to_owned());
        assert_eq!(event, SignInEvent::BrowserNotOpened { host: host.into(), why: why.into() }.into());
    }
}

/// The messages are those of Chromium 156.
#[test]
fn a_page_is_reported_when_it_replaces_another_or_its_error_page_does() {
    let message = |method: &str, kind: &str, title: &str, url: &str| json!({ "method": method, "params": { "targetInfo": { "targetId": "A", "type": kind, "title": title, "url": url } } });
    let changed = "Target.targetInfoChanged";
    for (message, host) in [
        (message("Target.targetCreated", "page", "", "https://id.example/authorize"), None),
        (message(changed, "page", "", "https://id.example/authorize"), None),
        (message(changed, "page", "id.example/authorize", "https://id.example/authorize"), Some("id.example")),
        (message(changed, "page", "sso.example/x", "https://SSO.example:444/x"), Some("sso.example")),
        (message(changed, "page", "about:blank", "about:blank"), None),
        (message(changed, "iframe", "x", "https://other.example/"), None),
        (json!({ "method": changed }), None),
    ] {
        assert_eq!(page_host(&message).as_deref(), host, "{message}");
    }
}

#[tokio::test]
async fn the_page_is_opening_until_it_is_shown() {
    let (browser, events) = (browser(None), EventQueue::default());
    events.start_recording();
    assert_eq!(browser.page(), None);
    browser.report_opening(&events, "id.example");
    assert_eq!(browser.page().unwrap().state, BrowserPageState::Opening);
    browser.report_shown(&events, "sso.example".to_owned());
    let page = browser.page().unwrap();
    assert_eq!((page.host.as_str(), page.state), ("sso.example", BrowserPageState::Shown));
    let reported: Vec<_> = events.next_batch().await.into_iter().map(|numbered| numbered.event).collect();
    let [opening, opened] = [("id.example"), ("sso.example")].map(|host| host.to_owned().into());
    assert_eq!(
        reported,
        [SignInEvent::BrowserOpening { host: opening }.into(), SignInEvent::BrowserOpened { host: opened }.into()]
    );
}
