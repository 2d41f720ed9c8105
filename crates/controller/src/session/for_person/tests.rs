use super::*;
use crate::{
    config::Config,
    providers::{Providers, to_method_views},
};
use anteroom_egress::{EgressDecision, EgressOutcome};
use anteroom_store::Sha256Hex;
use anteroom_wire::{
    MachineId, PersonValues, Problem, agent::SignInStatus, diagnosis::Verdict, plain_words::operator_word,
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
    assert_eq!(unnamed.sentence, "Try again, or tell the person who runs this page.");
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
        let is_turn = matches!(situation, Situation::YourTurn | Situation::SettingNeeded);
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
