use super::*;
use crate::{
    config::Config,
    providers::{Providers, to_method_views},
};
use anteroom_egress::{EgressDecision, EgressOutcome};
use anteroom_store::Sha256Hex;
use anteroom_wire::{
    MachineId, PersonValues, Problem, agent::SignInStatus, plain_words::operator_word, provider::MethodName,
    situation::Phase,
};
use tokio::time::Instant;

fn provider(id: &str) -> Provider {
    Providers::load(&Config::default()).unwrap().get(&id.parse().unwrap()).unwrap().clone()
}

fn machine(cli: CliState, outcome: Option<SignInOutcome>, last_lines: &str) -> CurrentMachine {
    let host = MachineHost::ThisServer(MachineId::from_parts(1, [2; 10]));
    let mut machine = CurrentMachine::new(host, 1, Sha256Hex::of_bytes(b"token"));
    machine.sign_in.reported_status = SignInStatus { cli, outcome, ..SignInStatus::default() };
    machine.sign_in.last_lines = last_lines.to_owned();
    machine.sign_in.ended_at = Some(Instant::now());
    machine
}

fn input<'a>(provider: &'a Provider, machine: &'a CurrentMachine, faults: &'a EgressFaults) -> SituationInput<'a> {
    SituationInput {
        status: SessionStatus::VmStarted,
        queue_position: None,
        queue_wait_s: None,
        provider: Some(provider),
        machine: Some(machine),
        egress_faults: faults,
        uses_credential: false,
        end_reason: None,
        methods: &[],
        asks_setting: false,
    }
}

fn faults(failures: &[(&str, Problem)]) -> EgressFaults {
    let mut faults = EgressFaults::default();
    for (host, problem) in failures {
        let outcome = EgressOutcome::Failed { problem: *problem, detail: String::new(), after_ms: 1 };
        faults.record(&EgressDecision { host: (*host).to_owned(), port: 443, by: None, outcome });
    }
    faults
}

#[tokio::test]
async fn a_failed_tool_is_explained_by_its_output_and_the_gate() {
    let (codex, demo) = (provider("codex"), provider("demo"));
    let exited = |code| CliState::Exited { code };
    let failed = |why: &str| Some(SignInOutcome::Failed { why: why.into() });
    let unreachable = faults(&[("auth.openai.com", Problem::EgressUnreachable)]);
    let denied = faults(&[("update.googleapis.com", Problem::EgressDenied)]);
    let none = EgressFaults::default();
    let error = "error sending request for url (https://auth.openai.com/oauth/token)";
    let cases = [
        (
            &codex,
            machine(exited(1), failed(error), ""),
            &unreachable,
            Situation::HostUnreachable,
            Some("auth.openai.com"),
        ),
        (
            &codex,
            machine(exited(1), None, "it did not work"),
            &unreachable,
            Situation::HostUnreachable,
            Some("auth.openai.com"),
        ),
        (&codex, machine(CliState::Running, failed(error), ""), &none, Situation::SignInFailed, None),
        (&codex, machine(exited(1), None, "no"), &denied, Situation::ToolEnded, None),
        (
            &codex,
            machine(exited(1), None, "no update.googleapis.com"),
            &denied,
            Situation::HostDenied,
            Some("update.googleapis.com"),
        ),
        (&codex, machine(exited(1), failed("access_denied"), ""), &unreachable, Situation::Declined, None),
        (
            &demo,
            machine(exited(1), None, "anteroom-demo: the sign-in was denied: no"),
            &none,
            Situation::Declined,
            None,
        ),
        (&codex, machine(exited(130), None, "^C"), &none, Situation::ToolEnded, None),
        (&codex, machine(exited(127), None, "codex: not found"), &none, Situation::ToolMissing, None),
        (&codex, machine(exited(0), None, ""), &none, Situation::Saving, None),
        (&codex, machine(CliState::Running, Some(SignInOutcome::Done), ""), &none, Situation::Saving, None),
        (&codex, machine(CliState::Running, None, ""), &none, Situation::ToolStarting, None),
    ];
    for (provider, machine, faults, situation, host) in &cases {
        let input = input(provider, machine, faults);
        assert_eq!(input.situation(), (*situation, *host), "{:?}", machine.sign_in);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_ended_with_success_and_left_no_credential_has_stopped() {
    let (codex, none) = (provider("codex"), EgressFaults::default());
    let machine = machine(CliState::Exited { code: 0 }, None, "");
    tokio::time::advance(CAPTURE_GRACE).await;
    let input = input(&codex, &machine, &none);
    assert_eq!(input.situation(), (Situation::ToolEnded, None));
    let methods = to_method_views(&codex);
    let input = SituationInput { methods: &methods, ..input };
    assert_eq!(input.actions(Situation::ToolEnded, true), [PersonAction::RestartTool, PersonAction::ChangeMethod]);
}

#[tokio::test]
async fn the_words_of_a_failed_tool_name_the_cause() {
    let unreachable = faults(&[("auth.openai.com", Problem::EgressUnreachable)]);
    for (id, words, situation) in [
        (
            "demo",
            "anteroom-demo: the sign-in was denied: this workspace forbids device codes (access_denied)",
            Situation::AccountRefused,
        ),
        ("codex", "device auth failed with status 400", Situation::CodeExpired),
        ("codex", "error: expired_token", Situation::CodeExpired),
    ] {
        let (provider, machine) = (provider(id), machine(CliState::Exited { code: 1 }, None, words));
        assert_eq!(input(&provider, &machine, &unreachable).situation(), (situation, None), "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_signed_in_tool_whose_credential_is_rejected_is_not_saved() {
    let (codex, none) = (provider("codex"), EgressFaults::default());
    for (cli, outcome) in [
        (CliState::Exited { code: 0 }, None),
        (CliState::Exited { code: 0 }, Some(SignInOutcome::Done)),
        (CliState::Running, Some(SignInOutcome::Done)),
    ] {
        let mut machine = machine(cli, outcome, "");
        machine.sign_in.reported_status.capture =
            CaptureState::CandidateRejected { path: "auth.json".into(), why: "no /tokens".into() };
        assert_eq!(input(&codex, &machine, &none).situation().0, Situation::Saving, "it may be completed");
        assert_eq!(next_change(&codex, &machine.sign_in), machine.sign_in.ended_at.map(|at| at + CAPTURE_GRACE));
        tokio::time::advance(CAPTURE_GRACE).await;
        assert_eq!(input(&codex, &machine, &none).situation().0, Situation::NotSaved);
        assert_eq!(next_change(&codex, &machine.sign_in), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_that_is_over_or_not_recognized_and_an_answer_that_is_checked_are_no_turn_of_the_person() {
    let demo = provider("demo");
    let provider = demo.with_method(&MethodName::try_from("device_code".to_owned()).unwrap()).unwrap();
    let none = EgressFaults::default();
    let mut shown = machine(CliState::Running, None, "");
    let url = "http://127.0.0.1/device".to_owned();
    let source = anteroom_wire::agent::UrlSource::Screen;
    shown.sign_in.reported_status.url = Some(anteroom_wire::agent::SignInUrl { url, source });
    (shown.sign_in.ended_at, shown.sign_in.shown_at) = (None, Some(Instant::now()));
    assert_eq!(input(&provider, &shown, &none).situation().0, Situation::YourTurn, "the code may follow");
    let mut answered = shown.clone();
    answered.sign_in.is_answered = true;
    assert_eq!(input(&provider, &answered, &none).situation().0, Situation::Checking);
    tokio::time::advance(next_change(&provider, &shown.sign_in).unwrap() - Instant::now()).await;
    assert_eq!(input(&provider, &shown, &none).situation().0, Situation::CodeInTerminal);
    let actions = input(&provider, &shown, &none).actions(Situation::CodeInTerminal, true);
    assert_eq!(actions, [PersonAction::UseTerminal, PersonAction::OpenLink]);
    shown.sign_in.reported_status.device_code = Some("ABCD-EFGH".into());
    shown.sign_in.device_code_at = Some(crate::session::active_session::Moment::now());
    assert_eq!(input(&provider, &shown, &none).situation().0, Situation::YourTurn);
    tokio::time::advance(next_change(&provider, &shown.sign_in).unwrap() - Instant::now()).await;
    let methods = to_method_views(&demo);
    let input = SituationInput { methods: &methods, ..input(&provider, &shown, &none) };
    assert_eq!(input.situation().0, Situation::CodeExpired);
    assert_eq!(input.actions(Situation::CodeExpired, true), [PersonAction::RestartTool, PersonAction::ChangeMethod]);
    assert_eq!(input.actions(Situation::AccountRefused, true)[0], PersonAction::ChangeMethod);
}

#[tokio::test]
async fn the_first_action_follows_the_lanes_of_the_method() {
    let none = EgressFaults::default();
    let with_url = |provider: &Provider| {
        let mut machine = machine(CliState::Running, None, "");
        let url = "https://a.example/".to_owned();
        let source = anteroom_wire::agent::UrlSource::Screen;
        machine.sign_in.reported_status.url = Some(anteroom_wire::agent::SignInUrl { url, source });
        input(provider, &machine, &none).actions(Situation::YourTurn, true)
    };
    assert_eq!(with_url(&provider("demo")), [PersonAction::UseDesktop]);
    assert_eq!(with_url(&provider("codex"))[0], PersonAction::OpenLink);
}

#[test]
fn each_cause_has_a_sentence_for_the_person_without_words_for_operators() {
    let values = PersonValues {
        tool: "Codex".into(),
        owner: Some("Acme".into()),
        instruction: "Sign in.".into(),
        host: Some("auth.example".into()),
        position: Some(2),
        wait_s: Some(100),
        machines: 3,
        idle_s_max: 600,
        total_s_max: 3_600,
        reason: Some(EndReason::Internal.code().to_owned()),
        verdict: Some(Verdict::CliFailed),
    };
    let unnamed = PersonValues { owner: None, ..values.clone() }.for_person(Situation::NotSaved, Vec::new());
    let expected = "Codex took your sign-in, but it could not be saved here. Tell the person who runs this page.";
    assert_eq!(unnamed.sentence, expected);
    for situation in Situation::ALL {
        let shown = values.for_person(*situation, Vec::new());
        assert!(!shown.title.is_empty(), "{situation:?}");
        for text in [Some(&shown.title), Some(&shown.sentence), shown.why.as_ref()].into_iter().flatten() {
            assert_eq!(operator_word(text), None, "{situation:?}: {text}");
            assert!(!text.contains('{'), "{situation:?}: {text}");
        }
        if !matches!(situation, Situation::ToolStarting) {
            assert!(shown.sentence.ends_with('.'), "{situation:?}: {}", shown.sentence);
        }
        let phase = situation.phase();
        let is_turn = matches!(situation, Situation::YourTurn | Situation::SettingNeeded | Situation::CodeInTerminal);
        assert!(phase != Phase::YourTurn || is_turn, "{situation:?}");
        assert!(!values.for_operator(*situation).contains('{'), "{situation:?}");
    }
}

#[test]
fn the_instructions_of_the_built_in_providers_have_no_words_for_operators() {
    for provider in Providers::load(&Config::default()).unwrap().iter() {
        let methods = provider.method_labels().into_iter().map(|(name, _)| provider.with_method(name).unwrap());
        for method in methods {
            let asks: Vec<_> = method.questions().map(|(_, ask)| ask.label.clone()).collect();
            for text in [method.label.clone(), method.next_action.clone()].iter().chain(&asks) {
                assert!(!text.contains("below"), "{}: the field may be on another tab: {text}", provider.id);
                assert_eq!(
                    operator_word(&text.replace("access token", "").replace("https", "")),
                    None,
                    "{}: {text}",
                    provider.id
                );
            }
        }
    }
}

mod remote_browser;
