//! The lifecycle as a transition table and as properties.

use super::*;
use anteroom_wire::agent::PROTOCOL_VERSION;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Channels whose stream is closed.
fn channels() -> Channels {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let agent = runtime.block_on(async {
        let (ours, _theirs) = tokio::io::duplex(1024);
        AgentClient::handshake(ours, crate::CallLimits::default(), std::time::Duration::from_secs(1)).await.unwrap().0
    });
    let hello = AgentInfo {
        protocol: PROTOCOL_VERSION,
        agent_version: "".into(),
        image_hash: "".into(),
        capabilities: Vec::new(),
        clis: BTreeMap::new(),
        stages: Vec::new(),
        claimed_by: None,
    };
    Channels { agent, agent_info: Arc::new(hello), timings: StartTimings::default() }
}

fn waiting(stage: Stage, last_error: Option<&str>, attempts: u32) -> State {
    State::Waiting { stage, last_error: last_error.map(str::to_owned), attempts }
}

fn stopping() -> State {
    State::Stopping { reason: StopReason::Cancelled }
}

fn exited() -> State {
    State::Exited { reason: ExitReason::Exited { code: 3 } }
}

fn removed() -> State {
    State::Removed { reason: ExitReason::Deadline, receipt: None }
}

fn removed_event() -> Event {
    Event::Removed { reason: ExitReason::Killed { signal: 9 }, receipt: None }
}

fn exited_event() -> Event {
    Event::ProcessExited { reason: ExitReason::Exited { code: 3 } }
}

fn tried(stage: Stage, error: Option<&str>) -> Event {
    Event::StageAttempted { stage, error: error.map(str::to_owned) }
}

fn lost() -> Event {
    Event::ChannelLost { error: "broke".into() }
}

/// The next state or the rejection, as short text.
fn outcome(state: &State, event: Event) -> String {
    match state.handle_event(event) {
        Ok(State::Waiting { stage, last_error, attempts }) => format!("waiting {stage:?} {last_error:?} {attempts}"),
        Ok(State::Stopping { reason }) => format!("stopping {}", reason.name()),
        Ok(State::Exited { reason }) => format!("exited {reason:?}"),
        Ok(State::Removed { reason, .. }) => format!("removed {reason:?}"),
        Ok(state @ (State::Requested | State::Cloning | State::Ready { .. })) => state.name().to_owned(),
        Err(rejected) => format!("rejected {rejected:?}"),
    }
}

/// One event of each kind.
fn one_of_each() -> [Event; 8] {
    [
        Event::KeeperFound,
        Event::ProcessStarted,
        tried(Stage::Display, Some("f")),
        Event::BecameReady(channels()),
        lost(),
        Event::StopRequested(StopReason::Restarted),
        exited_event(),
        removed_event(),
    ]
}

#[test]
fn every_event_in_every_state_matches_the_transition_table() {
    let ready = State::Ready { channels: channels() };
    let waiting = waiting(Stage::Display, Some("e"), 2);
    let (early, stale, ending) = ("rejected TooEarly", "rejected Stale", "rejected Stopping");
    let (lost, stops, killed) =
        ("waiting Channel Some(\"broke\") 0", "stopping restarted", "removed Killed { signal: 9 }");
    let retry = "waiting Display Some(\"f\") 3";
    let code = "exited Exited { code: 3 }";
    let (stopped, stopped_removed) = ("exited Stopped { reason: Cancelled }", "removed Stopped { reason: Cancelled }");
    let (ended, code_removed) = ("rejected Exited", "removed Exited { code: 3 }");
    let table: [(&State, [&str; 8]); 7] = [
        (&State::Requested, ["cloning", early, early, early, early, stops, code, killed]),
        (&State::Cloning, [stale, "waiting Channel None 0", early, "ready", early, stops, code, killed]),
        (&waiting, [stale, stale, retry, "ready", lost, stops, code, killed]),
        (&ready, [stale, stale, stale, stale, lost, stops, code, killed]),
        (&stopping(), [ending, ending, ending, ending, ending, ending, stopped, stopped_removed]),
        (&exited(), [ended, ended, ended, ended, ended, ended, ended, code_removed]),
        (&removed(), ["rejected Removed"; 8]),
    ];
    for (state, expected) in table {
        for (event, expected) in one_of_each().into_iter().zip(expected) {
            let context = format!("{} + {event:?}", state.name());
            assert_eq!(outcome(state, event), expected, "{context}");
        }
    }
}

#[test]
fn attempts_are_counted_per_stage() {
    let state = waiting(Stage::Display, Some("e"), 2);
    assert_eq!(outcome(&state, tried(Stage::Display, None)), "waiting Display Some(\"e\") 3");
    assert_eq!(outcome(&state, tried(Stage::Terminal, None)), "waiting Terminal None 1");
}

#[test]
fn stop_for_a_ready_timeout_or_a_mismatch_becomes_that_exit_reason() {
    let reason =
        StopReason::NotReady { stage: Stage::Browser, last_error: Some("x".into()), attempts: 9, elapsed_ms: 60_000 };
    let state = State::Requested.handle_event(Event::StopRequested(reason)).unwrap();
    let state = state.handle_event(removed_event()).unwrap();
    let State::Removed { reason, .. } = state else { panic!("{state:?}") };
    assert_eq!(
        reason.to_string(),
        "the machine was not ready after 60000 ms: it waited for Browser, 9 attempts, last error: x"
    );
    let reason = StopReason::Mismatch { expected: "image a".into(), found: "image b".into() };
    let state =
        State::Cloning.handle_event(Event::StopRequested(reason)).unwrap().handle_event(removed_event()).unwrap();
    let State::Removed { reason, .. } = state else { panic!("{state:?}") };
    assert_eq!(reason, ExitReason::Mismatch { expected: "image a".into(), found: "image b".into() });
}

#[test]
fn stop_request_does_not_hide_that_a_program_has_broken_out_of_the_guest() {
    let forbidden = || ExitReason::ForbiddenSystemCall { system_call: "ptrace".into() };
    let stopping =
        State::Ready { channels: channels() }.handle_event(Event::StopRequested(StopReason::Restarted)).unwrap();
    let exited = stopping.handle_event(Event::ProcessExited { reason: forbidden() }).unwrap();
    assert!(matches!(&exited, State::Exited { reason } if *reason == forbidden()), "{exited:?}");
    let removed = stopping.handle_event(Event::Removed { reason: forbidden(), receipt: None }).unwrap();
    assert!(matches!(&removed, State::Removed { reason, .. } if *reason == forbidden()), "{removed:?}");
}

#[test]
fn stop_reason_is_found_by_its_name() {
    for reason in [StopReason::Completed, StopReason::Orphaned, StopReason::Operator] {
        assert_eq!(StopReason::from_name(reason.name()), Some(reason));
    }
    assert_eq!(StopReason::from_name("of another version"), None);
}

fn events() -> impl Strategy<Value = Event> {
    let stage = prop::sample::select(vec![Stage::Channel, Stage::Hello, Stage::Display, Stage::Browser]);
    prop_oneof![
        Just(Event::KeeperFound),
        Just(Event::ProcessStarted),
        (stage, prop::option::of("[a-z]{1,3}")).prop_map(|(stage, error)| Event::StageAttempted { stage, error }),
        Just(Event::BecameReady(channels())),
        Just(lost()),
        Just(Event::StopRequested(StopReason::Cancelled)),
        Just(Event::StopRequested(StopReason::Completed)),
        Just(exited_event()),
        Just(removed_event()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn removed_is_final_and_the_first_stop_reason_is_kept(events in prop::collection::vec(events(), 0..40)) {
        let mut state = State::Requested;
        let (mut intent, mut is_removed) = (None, false);
        let mut published: Option<ExitReason> = None;
        for event in events {
            let requested = if let Event::StopRequested(reason) = &event { Some(reason.clone()) } else { None };
            let removes = matches!(event, Event::Removed { .. });
            match state.handle_event(event) {
                Ok(next) => {
                    prop_assert!(!is_removed, "a removed machine changed its state");
                    if let Some(reason) = requested {
                        prop_assert_eq!(intent.replace(reason), None, "a second reason replaced the first");
                    }
                    prop_assert_eq!(next.is_removed(), removes);
                    match &next {
                        State::Exited { reason } => prop_assert_eq!(published.replace(reason.clone()), None, "published twice"),
                        State::Removed { reason, .. } => prop_assert_eq!(published.as_ref().unwrap_or(reason), reason, "changed later"),
                        State::Requested
                        | State::Cloning
                        | State::Waiting { .. }
                        | State::Ready { .. }
                        | State::Stopping { .. } => prop_assert_eq!(&published, &None, "an exited machine is running again"),
                    }
                    state = next;
                }
                Err(rejected) => prop_assert_eq!(rejected == RejectedEvent::Removed, is_removed),
            }
            is_removed = state.is_removed();
        }
        if let State::Removed { reason, .. } = &state {
            let observed = published.unwrap_or(ExitReason::Killed { signal: 9 });
            let expected = intent.map_or(observed, |reason| ExitReason::Stopped { reason });
            prop_assert_eq!(reason, &expected);
        }
    }
}
