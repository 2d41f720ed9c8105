//! What a session's page shows to a person, and when: over HTTP, with tools that end as real ones do.

use crate::{
    Flags,
    demo::{denied_demo_session, start_demo},
    fixture::start_session_with,
};
use anteroom_testbed::{ApiClient, Script, ScriptedProvider, Step, TestConfig, TestServer};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{SessionStatus, SessionView},
    situation::{ForPerson, PersonAction, Phase, Situation},
};
use serde_json::json;
use std::cell::RefCell;
use tokio::net::TcpSocket;

async fn wait_situation(api: &ApiClient, id: &SessionId, situation: Situation) -> SessionView {
    let reached = |view: &SessionView| {
        has_values(view);
        view.for_person.situation == situation
    };
    api.wait_until(id, situation.code(), reached).await.unwrap()
}

/// Requires that a page can write the sentences from the values alone.
fn has_values(view: &SessionView) {
    let shown = &view.for_person;
    let written = shown.values.for_person(shown.situation, shown.actions.clone());
    let texts =
        |shown: &ForPerson| [Some(&shown.title), Some(&shown.sentence), shown.why.as_ref()].map(|text| text.cloned());
    assert_eq!(texts(&written), texts(shown), "{:?}", shown.values);
    assert_eq!((&shown.values.tool, shown.values.owner.as_ref()), (&view.provider_name, Some(&view.owner_name)));
    let is_about_host = matches!(
        shown.situation,
        Situation::HostUnreachable
            | Situation::HostDenied
            | Situation::PageOpening
            | Situation::PageUnreachable
            | Situation::PageDenied
            | Situation::PageNotOpened
    );
    assert_eq!(shown.values.host.is_some(), is_about_host, "{shown:?}");
    assert_eq!(shown.values.position, view.queue_position);
    let is_end = matches!(shown.situation, Situation::MachinesFailed | Situation::Failed | Situation::Cancelled);
    assert!(!is_end || shown.values.reason == view.reason.as_ref().map(|reason| reason.code.clone()), "{shown:?}");
}

/// All situations of the session until it has ended.
async fn situations_until_end(api: &ApiClient, id: &SessionId) -> Vec<Situation> {
    let seen = RefCell::new(Vec::new());
    let ended = |view: &SessionView| {
        has_values(view);
        let mut seen = seen.borrow_mut();
        if seen.last() != Some(&view.for_person.situation) {
            seen.push(view.for_person.situation);
        }
        view.status.is_ended()
    };
    api.wait_until(id, "ended", ended).await.unwrap();
    seen.into_inner()
}

#[tokio::test]
async fn a_tool_that_ends_after_its_sign_in_is_never_shown_as_failed() {
    let flags = Flags::new();
    let provider = flags.provider("{\"token\": \"x\"}");
    let (server, api, id) = start_session_with(TestConfig::with_provider(provider)).await;
    let view = wait_situation(&api, &id, Situation::YourTurn).await;
    assert_eq!((view.for_person.phase, view.for_person.actions[0]), (Phase::YourTurn, PersonAction::OpenLink));
    flags.set("go");
    let seen = situations_until_end(&api, &id).await;
    let unexpected = [Situation::YourTurn, Situation::Saving, Situation::Connected];
    assert!(seen.iter().all(|situation| unexpected.contains(situation)), "{seen:?}");
    let view = api.get_session(&id).await.unwrap();
    assert_eq!(view.for_person.sentence, "Scripted tool is connected. You can close this page.");
    assert_eq!(view.for_person.phase, Phase::Connected);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn a_tool_that_ends_without_a_credential_has_stopped_and_is_started_again() {
    let flags = Flags::new();
    let steps = [Step::print_line("bye"), Step::Exit { code: 0 }];
    let config = TestConfig::with_provider(flags.provider_with_steps(steps));
    let (server, api, id) = start_session_with(config).await;
    let saving = wait_situation(&api, &id, Situation::Saving).await;
    assert_eq!(saving.for_person.title, "You are signed in. Saving it…");
    let view = wait_situation(&api, &id, Situation::ToolEnded).await;
    assert_eq!(view.for_person.sentence, "The sign-in stopped before it finished.");
    assert_eq!(
        (view.for_person.phase, view.for_person.actions),
        (Phase::NeedsAttention, vec![PersonAction::RestartTool])
    );
    let again = api.post(&format!("/api/auth/session/{id}/method"), json!({ "method": view.method })).await.unwrap();
    assert_eq!(again.status, 200, "{}", again.text);
    wait_situation(&api, &id, Situation::Saving).await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn a_person_who_declines_reads_so_and_the_dead_link_is_withdrawn() {
    let (server, api, id, stop) = denied_demo_session().await;
    let view = wait_situation(&api, &id, Situation::Declined).await;
    assert_eq!(view.for_person.sentence, "You chose not to allow access. Try again if that was a mistake.");
    assert_eq!(
        (view.for_person.phase, view.for_person.actions),
        (Phase::NeedsAttention, vec![PersonAction::RestartTool, PersonAction::ChangeMethod])
    );
    assert_eq!((view.sign_in.url, view.sign_in.browser_url), (None, None), "the address of the ended tool is dead");
    stop.cancel();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn a_tool_that_reports_a_failure_and_runs_on_is_started_again_at_a_try() {
    let flags = Flags::new();
    let steps = [
        Step::print_line(super::URL),
        flags.wait_step("fail"),
        Step::print_line("error: access_denied"),
        flags.wait_step("never"),
    ];
    let rules = json!({ "url": r"https?://[^\s]+", "failed": "(?m)^error: (.*)$" });
    let provider = flags.provider_with_steps(steps).with_descriptor_key("sign_in", rules);
    let (server, api, id) = start_session_with(TestConfig::with_provider(provider)).await;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    flags.set("fail");
    let view = wait_situation(&api, &id, Situation::Declined).await;
    assert_eq!((view.for_person.actions, view.sign_in.url), (vec![PersonAction::RestartTool], None));
    std::fs::remove_file(flags.path("fail")).unwrap();
    let again = api.post(&format!("/api/auth/session/{id}/method"), json!({ "method": view.method })).await.unwrap();
    assert_eq!(again.status, 200, "{}", again.text);
    let view = api.wait_until(&id, "showing the address again", |view| view.sign_in.url.is_some()).await.unwrap();
    assert_eq!(view.generation, 1, "the machine is the same");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn the_demo_is_signed_in_on_the_desktop_only() {
    let (server, browser, stop) = start_demo(["demo_at_person", "demo_rt_person"]).await;
    let api = server.backend_client().unwrap();
    let id = api.start_session("demo").await.unwrap().session.id;
    let view = api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    assert_eq!(view.for_person.actions, [PersonAction::UseDesktop], "its address opens only in the machine");
    browser.sign_in(&view.sign_in.url.unwrap(), "allow").await;
    let seen = situations_until_end(&api, &id).await;
    assert!(!seen.contains(&Situation::ToolEnded) && !seen.contains(&Situation::SignInFailed), "{seen:?}");
    stop.cancel();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn an_unreachable_provider_is_named() {
    let flags = Flags::new();
    // A port without a listener that no other program gets.
    let reserved = TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = reserved.local_addr().unwrap();
    let connect = Step::ProxyConnect { authority: "login.example:443".to_owned() };
    let provider = flags.provider_with_steps([connect, Step::Exit { code: 1 }]).with_egress("login.example", 443);
    let config = TestConfig::with_provider(provider).with_host_override("login.example:443", closed);
    let (server, api, id) = start_session_with(config).await;
    wait_situation(&api, &id, Situation::HostUnreachable).await;
    // The gate may report the failure before the tool ends.
    let has_ended = |view: &SessionView| view.for_person.actions == [PersonAction::RestartTool];
    let view = api.wait_until(&id, "ended", has_ended).await.unwrap();
    let owner = &view.owner_name;
    let expected = format!("Scripted tool could not reach login.example from here. Try again, or tell {owner}.");
    assert_eq!((view.for_person.sentence, view.for_person.phase), (expected, Phase::NeedsAttention));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn a_sign_in_page_that_the_machine_may_not_reach_is_named_and_its_browser_is_not_offered() {
    let flags = Flags::new();
    let url = "https://id.example/authorize?client=1".to_owned();
    let connect = |authority: &str| Step::ProxyConnect { authority: authority.to_owned() };
    let steps = [
        Step::OpenUrlWithBrowser { url },
        connect("update.googleapis.com:443"),
        flags.wait_step("request"),
        connect("id.example:443"),
        flags.wait_step("never"),
    ];
    let differs = json!({ "label": "In the remote browser", "lanes": ["desktop"], "next_action": "Sign in there." });
    let provider = flags
        .provider_with_steps(steps)
        .with_descriptor_key("label", json!("With a link"))
        .with_descriptor_key("lanes", json!(["link", "desktop", "terminal"]))
        .with_method("browser", Script::new([flags.wait_step("never")]), differs);
    let (server, api, id) = start_session_with(TestConfig::with_provider(provider)).await;
    api.wait_entry(&id, TimelineKind::EgressDenied).await.unwrap();
    let before = wait_situation(&api, &id, Situation::YourTurn).await.for_person;
    assert_eq!(before.remote_browser, None, "what a browser requests of its own accord does not count");
    assert!(before.actions.contains(&PersonAction::UseDesktop) && before.other_methods == ["browser"], "{before:?}");
    flags.set("request");
    let denied = |view: &SessionView| view.for_person.remote_browser.is_some();
    let view = api.wait_until(&id, "naming the page", denied).await.unwrap();
    let shown = view.for_person.remote_browser.unwrap();
    let expected =
        format!("This page needs id.example, which is not allowed here. Ask {} to allow it.", view.owner_name);
    assert_eq!((shown.situation, shown.host.as_str(), shown.sentence), (Situation::PageDenied, "id.example", expected));
    assert_eq!(view.for_person.situation, Situation::YourTurn, "the person's own browser reaches it");
    assert!(!view.for_person.actions.contains(&PersonAction::UseDesktop) && view.for_person.other_methods.is_empty());
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn a_tool_that_is_missing_in_the_machine_is_a_failure() {
    let flags = Flags::new();
    let provider = flags.provider_with_steps([Step::Exit { code: 127 }]);
    let (server, api, id) = start_session_with(TestConfig::with_provider(provider)).await;
    let view = wait_situation(&api, &id, Situation::ToolMissing).await;
    assert_eq!(view.for_person.sentence, format!("Scripted tool is not installed here. Tell {}.", view.owner_name));
    assert_eq!(view.for_person.phase, Phase::Failed);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn the_usual_start_time_is_shown_after_some_starts() {
    let flags = Flags::new();
    let steps = [flags.wait_step("show"), Step::print_line("https://id.example/authorize"), flags.wait_step("never")];
    let server = TestServer::start(TestConfig::with_provider(flags.provider_with_steps(steps))).await.unwrap();
    let api = server.backend_client().unwrap();
    let starting = async |expected: bool| {
        let id = api.start_session("scripted").await.unwrap().session.id;
        let view = wait_situation(&api, &id, Situation::ToolStarting).await;
        let has_start = |view: &SessionView| view.for_person.since.is_some();
        let view = if has_start(&view) { view } else { api.wait_until(&id, "started", has_start).await.unwrap() };
        assert_eq!(
            (view.for_person.title.as_str(), view.for_person.phase),
            ("Starting Scripted tool…", Phase::Working)
        );
        assert_eq!(view.for_person.usual_s.is_some(), expected);
        id
    };
    for _ in 0..3 {
        let id = starting(false).await;
        flags.set("show");
        wait_situation(&api, &id, Situation::YourTurn).await;
        api.cancel_session(&id).await.unwrap();
        server.wait_machines_removed().await.unwrap();
        std::fs::remove_file(flags.path("show")).unwrap();
    }
    starting(true).await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn a_replaced_machine_and_the_last_one_have_their_own_sentences() {
    let flags = Flags::new();
    let config = TestConfig::with_provider(ScriptedProvider::new("scripted", Script::new([flags.wait_step("never")])))
        .with_settings("[sessions]\nrestarts_max = 2\n");
    let (server, api, id) = start_session_with(config).await;
    for generation in 1..=3 {
        let is_up = |view: &SessionView| view.generation == generation && view.status == SessionStatus::VmStarted;
        api.wait_until(&id, "with this machine", is_up).await.unwrap();
        server.kill_machine(&server.list_machines()[0]).unwrap();
        if generation < 3 {
            let replaced = |view: &SessionView| view.reason.is_some() || view.generation > generation;
            let view = api.wait_until(&id, "replaced", replaced).await.unwrap();
            let sentence = view.reason.map_or_else(String::new, |reason| reason.sentence);
            assert!(!sentence.contains("no restart left"), "{sentence}");
        }
    }
    let view = wait_situation(&api, &id, Situation::MachinesFailed).await;
    assert_eq!(view.for_person.sentence, "The temporary computer stopped three times. Nothing was saved.");
    assert_eq!(view.for_person.why.as_deref(), Some("The temporary computer was switched off from outside."));
    assert_eq!(view.for_person.actions, [PersonAction::StartSession]);
    assert!(view.reason.unwrap().sentence.contains("no restart left"));
    server.stop_and_check_leaks().await.unwrap();
}
