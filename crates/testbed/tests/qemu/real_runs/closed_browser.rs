//! The machine's browser, closed by the person, and what it asks for by itself.

use super::*;
use anteroom_wire::diagnosis::Verdict;
use std::time::Duration;
use tokio::time::timeout;

/// The keys Control and w in X: they close the page in front, and the browser with its last page.
const CLOSE: [u32; 2] = [0xffe3, 0x77];

/// A person presses the keys again when the browser is still there after this time.
const AGAIN: Duration = Duration::from_secs(10);

/// Presses the keys until the browser has ended.
async fn close_browser(api: &ApiClient, id: &SessionId) {
    let mut desktop = api.connect_desktop(id).await.unwrap();
    desktop.request_full_frame().await.unwrap();
    loop {
        desktop.press_keys(&CLOSE).await.unwrap();
        if let Ok(exit) = timeout(AGAIN, api.wait_entry(id, TimelineKind::ChildExited)).await {
            assert_eq!(exit.unwrap().data["name"], "chromium");
            return;
        }
    }
}

#[tokio::test]
async fn qemu_real_run_of_a_browser_that_the_person_closes() {
    let world = World::start(Hosts::Answer, "", |_| ()).await;
    let runs =
        [("demo", None, "the demo"), ("demo", Some("link"), "the demo's link"), ("own", None, "a page of one's own")];
    for (number, (provider, method, what)) in (1..=rounds()).zip(runs) {
        let (api, id) = world.sign_in(provider, method).await;
        let url = match (provider, method) {
            ("own", _) => {
                wait_running(&api, &id).await;
                Some(format!("http://{PAGE_HOST}/"))
            }
            (_, Some(_)) => Some(wait_link(&api, &id).await),
            (_, None) => None,
        };
        if let Some(url) = url {
            let open = serde_json::json!({ "url": url });
            let answer = api.post(&format!("/api/auth/session/{id}/open-url"), open).await.unwrap();
            assert_eq!(answer.status, 204, "{}", answer.text);
        }
        api.wait_entry(&id, TimelineKind::BrowserOpened).await.unwrap();
        close_browser(&api, &id).await;
        let run = Run { cause: "browser_closed", number, what, verdict: Verdict::WaitingForUser };
        let sentence = run.check(&world, provider, &id).await;
        assert!(sentence.contains("browser was closed"), "{sentence}");
    }
    world.close().await;
}
