//! The lifecycle as a table and as properties.

use super::*;
use anteroom_wire::agent::PROTOCOL;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Channels of a machine that does not exist: their stream is closed.
fn channels() -> Channels {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let agent = runtime.block_on(async {
        let (ours, _theirs) = tokio::io::duplex(1024);
        AgentClient::handshake(ours, crate::CallLimits::default(), std::time::Duration::from_secs(1)).await.unwrap().0
    });
    let hello = Hello {
        protocol: PROTOCOL,
        agent_version: String::new(),
        image_hash: String::new(),
        capabilities: Vec::new(),
        clis: BTreeMap::new(),
        stages: Vec::new(),
        claimed: None,
    };
    Channels { agent, hello: Arc::new(hello), timings: Timings::default() }
}

fn waiting(stage: Stage, last_error: Option<&str>, attempts: u32) -> State {
    State::Waiting { stage, last_error: last_error.map(str::to_owned), attempts }
}

fn stopping() -> State {
    State::Stopping { why: StopReason::Cancelled }
}

fn dead() -> State {
    State::Exited { why: ExitReason::Exited { code: 3 } }
}

fn gone() -> State {
    State::Removed { why: ExitReason::Deadline, receipt: None }
}

fn ended() -> Event {
    Event::Removed { reason: ExitReason::Killed { signal: 9 }, receipt: None }
}

fn died() -> Event {
    Event::ProcessExited { reason: ExitReason::Exited { code: 3 } }
}

fn tried(stage: Stage, error: Option<&str>) -> Event {
    Event::StageAttempted { stage, error: error.map(str::to_owned) }
}

fn lost() -> Event {
    Event::ChannelLost { error: "broke".into() }
}

/// What became of it, in short.
fn outcome(state: &State, event: Event) -> String {
    match state.on(event) {
        Ok(State::Waiting { stage, last_error, attempts }) => format!("waiting {stage:?} {last_error:?} {attempts}"),
        Ok(State::Stopping { why }) => format!("stopping {}", why.name()),
        Ok(State::Exited { why }) => format!("dead {why:?}"),
        Ok(State::Removed { why, .. }) => format!("gone {why:?}"),
        Ok(state @ (State::Requested | State::Cloning | State::Ready { .. })) => state.name().to_owned(),
        Err(refused) => format!("refused {refused:?}"),
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
        died(),
        ended(),
    ]
}

#[test]
fn the_whole_table() {
    let ready = State::Ready { channels: channels() };
    let waits = waiting(Stage::Display, Some("e"), 2);
    let (early, stale, stop) = ("refused TooEarly", "refused Stale", "refused Stopping");
    let (lost, asked, killed) =
        ("waiting Channel Some(\"broke\") 0", "stopping restarted", "gone Killed { signal: 9 }");
    let again = "waiting Display Some(\"f\") 3";
    let died = "dead Exited { code: 3 }";
    let (obeys, ended) = ("dead Stopped { why: Cancelled }", "gone Stopped { why: Cancelled }");
    let (over, told) = ("refused Dead", "gone Exited { code: 3 }");
    let table: [(&State, [&str; 8]); 7] = [
        (&State::Requested, ["cloning", early, early, early, early, asked, died, killed]),
        (&State::Cloning, [stale, "waiting Channel None 0", early, "ready", early, asked, died, killed]),
        (&waits, [stale, stale, again, "ready", lost, asked, died, killed]),
        (&ready, [stale, stale, stale, stale, lost, asked, died, killed]),
        (&stopping(), [stop, stop, stop, stop, stop, stop, obeys, ended]),
        (&dead(), [over, over, over, over, over, over, over, told]),
        (&gone(), ["refused Gone"; 8]),
    ];
    for (state, expected) in table {
        for (event, expected) in one_of_each().into_iter().zip(expected) {
            let shown = format!("{} + {event:?}", state.name());
            assert_eq!(outcome(state, event), expected, "{shown}");
        }
    }
}

#[test]
fn attempts_count_at_one_stage_and_begin_anew_at_the_next() {
    let state = waiting(Stage::Display, Some("e"), 2);
    assert_eq!(outcome(&state, tried(Stage::Display, None)), "waiting Display Some(\"e\") 3");
    assert_eq!(outcome(&state, tried(Stage::Terminal, None)), "waiting Terminal None 1");
}

#[test]
fn a_machine_that_was_not_ready_in_time_is_gone_for_that_reason_and_not_for_being_stopped() {
    let why =
        StopReason::NotReady { stage: Stage::Browser, last_error: Some("x".into()), attempts: 9, elapsed_ms: 60_000 };
    let state = State::Requested.on(Event::StopRequested(why)).unwrap();
    let state = state.on(ended()).unwrap();
    let State::Removed { why, .. } = state else { panic!("{state:?}") };
    assert_eq!(
        why.to_string(),
        "the machine was not ready after 60000 ms: it waited for Browser, 9 attempts, last error: x"
    );
    let why = StopReason::Mismatch { expected: "image a".into(), found: "image b".into() };
    let state = State::Cloning.on(Event::StopRequested(why)).unwrap().on(ended()).unwrap();
    let State::Removed { why, .. } = state else { panic!("{state:?}") };
    assert_eq!(why, ExitReason::Mismatch { expected: "image a".into(), found: "image b".into() });
}

#[test]
fn a_reason_reads_back_by_its_name() {
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
        Just(died()),
        Just(ended()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn gone_is_for_ever_and_the_first_reason_to_stop_stands(events in prop::collection::vec(events(), 0..40)) {
        let mut state = State::Requested;
        let (mut intent, mut over) = (None, false);
        let mut told: Option<ExitReason> = None;
        for event in events {
            let asked = if let Event::StopRequested(why) = &event { Some(why.clone()) } else { None };
            let ends = matches!(event, Event::Removed { .. });
            match state.on(event) {
                Ok(next) => {
                    prop_assert!(!over, "something happened to a machine that is gone");
                    if let Some(why) = asked {
                        prop_assert_eq!(intent.replace(why), None, "a second reason took the place of the first");
                    }
                    prop_assert_eq!(next.is_removed(), ends);
                    match &next {
                        State::Exited { why } => prop_assert_eq!(told.replace(why.clone()), None, "told twice"),
                        State::Removed { why, .. } => prop_assert_eq!(told.as_ref().unwrap_or(why), why, "told otherwise"),
                        State::Requested
                        | State::Cloning
                        | State::Waiting { .. }
                        | State::Ready { .. }
                        | State::Stopping { .. } => prop_assert_eq!(&told, &None, "a dead machine came back"),
                    }
                    state = next;
                }
                Err(refused) => prop_assert_eq!(refused == RejectedEvent::Removed, over),
            }
            over = state.is_removed();
        }
        if let State::Removed { why, .. } = &state {
            let by_itself = told.unwrap_or(ExitReason::Killed { signal: 9 });
            let expected = intent.map_or(by_itself, |why| ExitReason::Stopped { why });
            prop_assert_eq!(why, &expected);
        }
    }
}
