//! The machine's browser, closed by the person, and what it asks for by itself.

use super::*;
use anteroom_wire::diagnosis::Verdict;

/// The keys Control and w in X: they close the page in front, and the browser with its last page.
const CLOSE: [u32; 2] = [0xffe3, 0x77];

/// Presses the keys until the browser has ended, as a person does who sees that it is still there.
async fn close_browser(api: &ApiClient, id: &SessionId) {
    let mut desktop = api.connect_desktop(id).await.unwrap();
    desktop.request_full_frame().await.unwrap();
    loop {
        desktop.press_keys(&CLOSE).await.unwrap();
        let timeline = api.get_timeline(id).await.unwrap();
        if timeline.iter().any(|entry| entry.kind == TimelineKind::ChildExited && entry.data["name"] == "chromium") {
            return;
        }
        desktop.send_update_request(true).await.unwrap();
        desktop.apply_next_update().await.unwrap();
    }
}

#[tokio::test]
async fn qemu_real_run_of_a_browser_that_the_person_closes() {
    let world = World::start(Hosts::Answer, "", |_| ()).await;
    let runs = [("demo", None, "the demo"), ("codex", Some("browser"), "Codex"), ("own", None, "a page of one's own")];
    for (number, (provider, method, what)) in (1..=rounds()).zip(runs) {
        let (api, id) = world.sign_in(provider, method).await;
        if provider == "own" {
            wait_running(&api, &id).await;
            let open = serde_json::json!({ "url": format!("http://{PAGE_HOST}/") });
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
