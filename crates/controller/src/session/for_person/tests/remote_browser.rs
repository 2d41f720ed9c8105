//! The page in the remote browser: what the gate and the browser report, in any order.

use super::*;
use anteroom_egress::ReachedBy;
use anteroom_wire::{
    agent::{BrowserPage, BrowserPageState, SignInUrl, UrlSource},
    provider::MethodName,
};
use std::time::Duration;

const HOST: &str = "auth.openai.com";
const SSO: &str = "login.company.example";

/// Codex with the method whose preferred lane is the remote browser.
fn in_browser() -> Provider {
    provider("codex").with_method(&MethodName::try_from("browser".to_owned()).unwrap()).unwrap()
}

fn showing_address() -> CurrentMachine {
    let mut machine = machine(CliState::Running, None, "");
    let url = format!("https://{HOST}/oauth/authorize?state=s");
    machine.sign_in.reported_status.browser_url = Some(url.clone());
    machine.sign_in.reported_status.url = Some(SignInUrl { url, source: UrlSource::BrowserCommand });
    machine
}

fn report(machine: &mut CurrentMachine, host: &str, state: BrowserPageState) {
    machine.sign_in.set_page(BrowserPage { host: host.to_owned().into(), state });
}

fn reached(faults: &mut EgressFaults, host: &str) {
    let outcome = EgressOutcome::Allowed { by: ReachedBy::Address("1.1.x.x".into()), connect_ms: 1 };
    assert!(faults.record(&EgressDecision { host: host.to_owned(), port: 443, by: None, outcome }));
}

#[tokio::test(start_paused = true)]
async fn the_page_is_opening_until_the_browser_shows_it() {
    let (codex, none) = (in_browser(), EgressFaults::default());
    let mut machine = showing_address();
    assert_eq!(input(&codex, &machine, &none).remote_browser(), None, "an agent that reports no pages");
    report(&mut machine, HOST, BrowserPageState::Opening);
    assert_eq!(input(&codex, &machine, &none).remote_browser(), Some((Situation::PageOpening, HOST)));
    tokio::time::advance(Duration::from_secs(3)).await;
    report(&mut machine, HOST, BrowserPageState::Shown);
    assert_eq!(input(&codex, &machine, &none).remote_browser(), None);
    assert_eq!(machine.sign_in.page_time, Some(Duration::from_secs(3)));
    report(&mut machine, HOST, BrowserPageState::NotOpened);
    assert_eq!(input(&codex, &machine, &none).remote_browser(), Some((Situation::PageNotOpened, HOST)));
}

#[tokio::test(start_paused = true)]
async fn each_reason_for_which_the_gate_opens_no_connection_is_named() {
    let codex = in_browser();
    for (problem, situation) in [
        (Problem::EgressDenied, Situation::PageDenied),
        (Problem::EgressPrivate, Situation::PageDenied),
        (Problem::EgressUnreachable, Situation::PageUnreachable),
        (Problem::EgressTimeout, Situation::PageUnreachable),
        (Problem::EgressLimit, Situation::DataUsedUp),
    ] {
        let mut machine = showing_address();
        report(&mut machine, HOST, BrowserPageState::Opening);
        let mut faults = faults(&[(SSO, problem)]);
        assert_eq!(
            input(&codex, &machine, &faults).remote_browser(),
            Some((Situation::PageOpening, HOST)),
            "a part of a page, or a request of the browser's own"
        );
        report(&mut machine, SSO, BrowserPageState::Shown);
        let shown = input(&codex, &machine, &faults);
        assert_eq!(shown.remote_browser(), Some((situation, SSO)), "{problem:?}");
        assert_eq!(shown.situation(), (Situation::YourTurn, None), "the person's own browser reaches it");
        assert!(!shown.actions(Situation::YourTurn, true).contains(&PersonAction::UseDesktop));
        reached(&mut faults, SSO);
        assert_eq!(input(&codex, &machine, &faults).remote_browser(), None, "{problem:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_while_its_page_is_shown_is_a_part_of_the_page() {
    let codex = in_browser();
    let mut machine = showing_address();
    report(&mut machine, HOST, BrowserPageState::Shown);
    tokio::time::advance(Duration::from_secs(30)).await;
    let faults = faults(&[(HOST, Problem::EgressTimeout)]);
    assert_eq!(input(&codex, &machine, &faults).remote_browser(), None);
    report(&mut machine, HOST, BrowserPageState::Shown);
    assert_eq!(input(&codex, &machine, &faults).remote_browser(), Some((Situation::PageUnreachable, HOST)));
}

#[tokio::test]
async fn a_person_who_can_sign_in_only_there_reads_it_as_the_situation() {
    let demo = provider("demo");
    let mut machine = showing_address();
    report(&mut machine, "id.anteroom.test", BrowserPageState::Opening);
    let none = EgressFaults::default();
    assert_eq!(input(&demo, &machine, &none).situation(), (Situation::PageOpening, Some("id.anteroom.test")));
    let failed = faults(&[("id.anteroom.test", Problem::EgressUnreachable)]);
    report(&mut machine, "id.anteroom.test", BrowserPageState::Shown);
    let shown = input(&demo, &machine, &failed);
    assert_eq!(shown.situation(), (Situation::PageUnreachable, Some("id.anteroom.test")));
    assert_eq!(shown.actions(Situation::PageUnreachable, true), [PersonAction::ReopenPage]);
    machine.sign_in.reported_status.cli = CliState::Exited { code: 130 };
    assert_eq!(input(&demo, &machine, &failed).situation().0, Situation::HostUnreachable, "the tool's end comes first");
}

#[tokio::test]
async fn another_way_is_not_the_browser_of_a_machine_that_does_not_reach_the_page() {
    let codex = provider("codex");
    let methods = to_method_views(&codex);
    let mut machine = machine(CliState::Running, None, "");
    let url = format!("https://{HOST}/codex/device");
    machine.sign_in.reported_status.url = Some(SignInUrl { url, source: UrlSource::Screen });
    machine.sign_in.reported_status.device_code = Some("ABCD-12345".into());
    let mut faults = faults(&[("update.googleapis.com", Problem::EgressDenied)]);
    let shown = SituationInput { methods: &methods, ..input(&codex, &machine, &faults) };
    assert_eq!((shown.situation(), shown.remote_browser()), ((Situation::YourTurn, None), None));
    assert_eq!(shown.other_methods(), ["api_key", "browser"]);
    let outcome = EgressOutcome::Failed { problem: Problem::EgressTimeout, detail: String::new(), after_ms: 1 };
    assert!(faults.record(&EgressDecision { host: HOST.to_owned(), port: 443, by: None, outcome }));
    let shown = SituationInput { methods: &methods, ..input(&codex, &machine, &faults) };
    assert_eq!(shown.situation(), (Situation::HostUnreachable, Some(HOST)), "the tool cannot ask for the result");
    assert_eq!(shown.remote_browser(), Some((Situation::PageUnreachable, HOST)));
    assert_eq!(shown.other_methods(), ["api_key"]);
    reached(&mut faults, HOST);
    let shown = SituationInput { methods: &methods, ..input(&codex, &machine, &faults) };
    assert_eq!((shown.situation(), shown.other_methods().len()), ((Situation::YourTurn, None), 2));
}

#[tokio::test(start_paused = true)]
async fn r13_page_of_a_company_is_named_from_wherever_the_sign_in_leads_there() {
    let codex = in_browser();
    for page in ["company.okta.com", SSO, "sso.company.example"] {
        let mut machine = showing_address();
        let mut faults = faults(&[("update.googleapis.com", Problem::EgressDenied)]);
        for reached in [HOST, "accounts.google.com"] {
            report(&mut machine, reached, BrowserPageState::Shown);
            let shown = input(&codex, &machine, &faults).remote_browser();
            assert_eq!(shown, None, "what the browser asks for of its own accord is no page");
        }
        let outcome = EgressOutcome::Failed { problem: Problem::EgressDenied, detail: String::new(), after_ms: 1 };
        faults.record(&EgressDecision { host: page.to_owned(), port: 443, by: None, outcome });
        report(&mut machine, page, BrowserPageState::Shown);
        assert_eq!(input(&codex, &machine, &faults).remote_browser(), Some((Situation::PageDenied, page)));
        faults.forget(page, 443);
        assert_eq!(input(&codex, &machine, &faults).remote_browser(), None, "an operator has allowed it");
    }
}

#[test]
fn r14_method_that_accounts_may_forbid_says_where_it_is_allowed_and_leads_to_another() {
    let (codex, none) = (provider("codex"), EgressFaults::default());
    let mut waiting = showing_address();
    waiting.sign_in.reported_status.device_code = Some("ABCD-12345".into());
    let input = input(&codex, &waiting, &none);
    let others = ["browser".to_owned(), "api_key".to_owned()];
    let hint = input.if_page_refuses(Situation::YourTurn, &others).unwrap();
    assert!(hint.sentence.contains("device codes") && hint.sentence.contains("Settings"), "{}", hint.sentence);
    assert_eq!((hint.method.as_deref(), hint.in_own_browser), (Some("browser"), false));
    let hint = input.if_page_refuses(Situation::YourTurn, &others[1..]).unwrap();
    assert_eq!(hint.method, None, "the other method does not work here");
    assert!(input.if_page_refuses(Situation::ToolStarting, &others).is_some(), "said before the code is shown");
    assert_eq!(input.if_page_refuses(Situation::Saving, &others), None);
    let browser = in_browser();
    assert_eq!(browser.if_refused, None, "it is not inherited");
}

#[test]
fn r40_page_of_google_in_the_remote_browser_leads_to_the_own_browser_where_the_method_has_that_lane() {
    let none = EgressFaults::default();
    let (codex, gemini, claude) = (in_browser(), provider("gemini_cli"), provider("claude_code"));
    let gemini = gemini.with_method(&MethodName::try_from("browser".to_owned()).unwrap()).unwrap();
    for tool in [&codex, &gemini, &claude] {
        let mut machine = showing_address();
        report(&mut machine, HOST, BrowserPageState::Shown);
        assert_eq!(input(tool, &machine, &none).if_page_refuses(Situation::YourTurn, &[]), None, "{}", tool.id);
        report(&mut machine, "accounts.google.com", BrowserPageState::Shown);
        let hint = input(tool, &machine, &none).if_page_refuses(Situation::YourTurn, &[]).unwrap();
        assert!(hint.in_own_browser && hint.sentence.contains("Google"), "{}: {hint:?}", tool.id);
        let only_there = Provider { lanes: vec![Lane::Desktop], ..tool.clone() };
        assert_eq!(input(&only_there, &machine, &none).if_page_refuses(Situation::YourTurn, &[]), None);
    }
}
