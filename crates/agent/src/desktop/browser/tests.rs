//! A browser here is the other end of its control pipe.

use super::*;
use crate::children::{input_pipe, output_pipe};
use std::sync::atomic::AtomicU32;
use tokio::task::{JoinHandle, spawn_blocking};

const URL: &str = "https://id.example/authorize?state=1";
const LONG: Duration = Duration::from_secs(60);

fn browser(tools: Option<Arc<DevTools>>) -> Browser {
    Browser {
        program: "/no/such/program".into(),
        tools: watch::Sender::new(tools),
        blank: Mutex::new(None),
        opened: AtomicBool::new(false),
        raising: Mutex::new(()),
    }
}

/// A browser that hears one command, answers with `answer` if there is one, and goes. What it heard comes back.
fn hears(answer: Option<&'static str>) -> (Arc<DevTools>, JoinHandle<String>) {
    let (from_agent, input) = input_pipe().unwrap();
    let (output, to_agent) = output_pipe().unwrap();
    let heard = spawn_blocking(move || {
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
    (Arc::new(DevTools::new(input, output)), heard)
}

/// A browser that has gone, which nobody has noticed yet.
fn gone() -> Arc<DevTools> {
    Arc::new(DevTools::new(input_pipe().unwrap().1, output_pipe().unwrap().0))
}

async fn shown() -> anyhow::Result<()> {
    Ok(())
}

#[tokio::test]
async fn an_address_that_comes_while_the_browser_dies_is_given_to_the_next_one() {
    let (dying, lost) = hears(None);
    for (former, heard) in [(gone(), None), (dying, Some(lost))] {
        let browser = Arc::new(browser(Some(former)));
        let giving = browser.clone();
        let giving = tokio::spawn(async move { giving.give(URL, LONG, shown).await });
        if let Some(heard) = heard {
            assert!(heard.await.unwrap().contains(URL));
        }
        browser.tools.send_replace(None);
        let (next, heard) = hears(Some("{\"id\":1,\"result\":{}}"));
        browser.tools.send_replace(Some(next));
        giving.await.unwrap().unwrap();
        let heard = heard.await.unwrap();
        assert!(heard.contains("Target.createTarget") && heard.contains(URL), "{heard}");
    }
}

#[tokio::test]
async fn an_address_is_given_once_the_browsers_window_is_there() {
    let (tools, heard) = hears(Some("{\"id\":1,\"result\":{}}"));
    let looks = AtomicU32::new(0);
    let third = || async {
        anyhow::ensure!(looks.fetch_add(1, Ordering::Relaxed) == 2, "no such window");
        Ok(())
    };
    browser(Some(tools)).give(URL, LONG, third).await.unwrap();
    assert!(heard.await.unwrap().contains(URL));
    assert_eq!(looks.load(Ordering::Relaxed), 3);
}

/// As in a claimed machine, in which a browser ended and is being prepared anew when the tool opens its address.
#[tokio::test]
async fn an_address_and_a_browser_that_is_just_being_prepared_do_not_raise_windows_against_each_other() {
    let (tools, heard) = hears(Some("{\"id\":1,\"result\":{}}"));
    let browser = Arc::new(browser(Some(tools)));
    let windows = Arc::new(std::sync::Mutex::new(Vec::new()));
    let raises = |who: &'static str, until: Arc<Browser>| {
        let windows = windows.clone();
        move || {
            let (windows, until) = (windows.clone(), until.clone());
            async move {
                windows.lock().unwrap().push(format!("{who} rises"));
                // The other has come meanwhile, and has had every chance to raise its own.
                while !until.opened.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                }
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                windows.lock().unwrap().push(format!("{who} stands"));
                Ok(())
            }
        }
    };
    let (terminal, front) = (raises("the terminal", browser.clone()), raises("the browser", browser.clone()));
    let (behind, given) = tokio::join!(browser.put_behind(&terminal), browser.give(URL, LONG, front));
    given.unwrap();
    assert!(behind.unwrap());
    let order = ["the terminal rises", "the terminal stands", "the browser rises", "the browser stands"];
    assert_eq!(*windows.lock().unwrap(), order);
    assert!(!browser.put_behind(&terminal).await.unwrap(), "what was opened stays in front");
    assert_eq!(windows.lock().unwrap().len(), 4);
    assert!(heard.await.unwrap().contains(URL));
}

#[tokio::test]
async fn an_address_that_the_browser_refuses_is_not_given_again() {
    let (tools, heard) = hears(Some("{\"id\":1,\"error\":{\"message\":\"no\"}}"));
    let error = browser(Some(tools)).give(URL, LONG, shown).await.unwrap_err();
    assert_eq!(error.to_string(), "the browser refused Target.createTarget: no");
    heard.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_address_that_no_browser_takes_is_given_up_in_time_and_told_with_the_cause() {
    let limit = Duration::from_millis(TAKEN_MS_MAX);
    let began = tokio::time::Instant::now();
    let never_up = browser(None).give(URL, limit, shown).await;
    assert!(began.elapsed() <= limit + Duration::from_millis(AGAIN_MS), "{:?}", began.elapsed());
    let windowless = || async { anyhow::bail!("no such window") };
    let never_shown = browser(Some(gone())).give(URL, limit, windowless).await;
    let events = Events::default();
    events.open();
    for (opened, expected) in [(never_up, "it was not up within 480000 ms"), (never_shown, "no such window")] {
        tell(&events, "id.example", &opened);
        let told = events.batch().await.pop().unwrap().event;
        let (host, why) = ("id.example".to_owned(), expected.to_owned());
        assert_eq!(told, Event::BrowserNotOpened { host, why });
    }
}
