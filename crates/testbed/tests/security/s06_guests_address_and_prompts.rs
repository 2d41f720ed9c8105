//! A guest that uses the session's page to phish: its own addresses, prompts and codes.

use crate::hostile_agent::HostileAgent;
use anteroom_wire::TimelineKind;
use serde_json::json;

#[tokio::test]
async fn s06_an_address_of_another_host_is_a_warning_and_never_a_link() {
    let (agent, id) = HostileAgent::start("").await;
    let oauth_url = format!("/api/auth/session/{id}/oauth-url");
    for (address, host) in [
        ("https://accounts-google.evil.example/signin?continue=anteroom", "accounts-google.evil.example"),
        ("https://accounts.google.com@evil.example/login", "…@evil.example"),
        ("https://accounts.google.com.evil.example/", "accounts.google.com.evil.example"),
        ("https://evil.example\\@accounts.google.com/", "evil.example"),
        ("https://accounts.google.com./", "accounts.google.com."),
        ("https://accounts.google.com:8443/", "accounts.google.com:8443"),
        ("http://accounts.google.com/", "http://accounts.google.com"),
        ("https://xn--ggle-55da.com/", "xn--ggle-55da.com"),
        ("https://аccounts.google.com/", "xn--ccounts-1fg.google.com"),
        ("http://127.0.0.1:7060/dashboard/remote-cli", "http://127.0.0.1:7060"),
    ] {
        let view = agent.send_url(&id, address).await;
        assert_eq!((&view.sign_in.url, &view.sign_in.browser_url), (&None, &None), "{address}");
        let unexpected = view.sign_in.unexpected_address.unwrap();
        assert_eq!(unexpected.host, host, "{address}");
        assert!(unexpected.sentence.contains("which is not a page of Scripted tool"), "{}", unexpected.sentence);
        let answer = agent.api.get(&oauth_url).await.unwrap();
        assert_eq!((answer.status, answer.problem().unwrap().code.as_str()), (409, "no_sign_in_url"), "{address}");
    }
    for address in
        ["javascript:alert(1)", "data:text/html,x", "JAVASCRIPT:x", "http://evil.example/\r\nSet-Cookie: a=b"]
    {
        let view = agent.send_url(&id, address).await;
        assert_eq!(view.sign_in.url, None, "{address}");
    }
    let good = "https://accounts.google.com/o/oauth2/v2/auth?client_id=x";
    assert_eq!(agent.send_url(&id, good).await.sign_in.url.as_deref(), Some(good));
    let view = agent.send_url(&id, "https://accounts.google.com.evil.example/2").await;
    assert_eq!(view.sign_in.url.as_deref(), Some(good), "the provider's address stays");
    let entry = agent.api.wait_entry(&id, TimelineKind::UnexpectedUrl).await.unwrap();
    assert!(entry.sentence.contains("wants to open accounts-google.evil.example"), "{}", entry.sentence);
    agent.end().await;
}

#[tokio::test]
async fn s06_only_the_descriptors_prompts_are_shown_with_the_descriptors_words() {
    let (agent, id) = HostileAgent::start("").await;
    let prompt = |id: &str| {
        let ask = json!({ "id": id, "label": "Your Google password, to continue", "secret": true,
            "expected_format": "We will not store it.", "rejection": null });
        json!({ "kind": "prompt_opened", "id": id, "ask": ask })
    };
    for unknown in ["x", "key_entry", "code2", ""] {
        assert_eq!(agent.send(vec![prompt(unknown)]).await, 204);
        assert_eq!(agent.api.get_session(&id).await.unwrap().sign_in.prompt, None, "{unknown}");
    }
    agent.send(vec![prompt("code")]).await;
    let shown = agent.api.get_session(&id).await.unwrap().sign_in.prompt.unwrap();
    assert_eq!((shown.label.as_str(), shown.secret, shown.expected_format), ("The code of the last page", false, None));
    let timeline = agent.api.get(&format!("/api/auth/session/{id}/events")).await.unwrap().text;
    assert!(!timeline.contains("password"), "{timeline}");
    agent.end().await;
}

#[tokio::test]
async fn s06_a_device_code_must_have_the_form_of_the_providers_codes() {
    let (agent, id) = HostileAgent::start("").await;
    for (code, is_shown) in
        [("CALL +1 555 0100 NOW", false), ("ABCD-1234\u{1b}[31m", false), ("ABCD-12345", false), ("ABCD-1234", true)]
    {
        agent.send(vec![json!({ "kind": "device_code", "code": code })]).await;
        let shown = agent.api.get_session(&id).await.unwrap().sign_in.device_code;
        assert_eq!(shown.as_deref(), is_shown.then_some(code));
    }
    agent.end().await;
}

#[tokio::test]
async fn s06_changes_of_the_address_are_limited_and_recorded_once_each() {
    let (agent, id) = HostileAgent::start("").await;
    for number in 0..400 {
        agent.send_url(&id, &format!("https://evil.example/{}", number % 200)).await;
    }
    let timeline = agent.api.get_timeline(&id).await.unwrap();
    let entries = timeline.iter().filter(|entry| entry.kind == TimelineKind::UnexpectedUrl).count();
    assert!((1..=64).contains(&entries), "{entries} entries");
    agent.api.cancel_session(&id).await.unwrap();
    let dropped = agent.api.wait_entry(&id, TimelineKind::ReportsDropped).await.unwrap();
    assert!(dropped.sentence.contains("not recorded"), "{}", dropped.sentence);
    agent.end().await;
}
