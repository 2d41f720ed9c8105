use super::*;
use proptest::prelude::*;

const TIMES: ClusterTimes = ClusterTimes::ETCD;

fn host(number: u8) -> HostId {
    HostId::from_parts(u64::from(number), [number; 10])
}

fn member(number: u8, mark: u64) -> Member {
    Member { host: host(number), incarnation: 1, mark: Some(Mark(mark)) }
}

/// Readings each second of so many hosts; `mark(host, second)` is what each has written.
fn observed(hosts: u8, seconds: u64, mark: impl Fn(u8, u64) -> u64) -> Observer {
    let mut observer = Observer::new(host(0), TIMES);
    for second in 0..=seconds {
        let members = (0..hosts).map(|number| member(number, mark(number, second)));
        observer.observe(second * 1_000, second * 1_000, members);
    }
    observer
}

fn suspects(observer: &Observer) -> Vec<HostId> {
    match observer.verdict() {
        Verdict::Suspects(suspects) => suspects.into_iter().map(|suspect| suspect.member.host).collect(),
        Verdict::EngineSuspect { silent, hosts } => panic!("{silent} of {hosts} are silent"),
    }
}

#[test]
fn a_host_is_suspected_after_fence_after_without_a_change() {
    let silent_from = |second| move |number: u8, at: u64| if number == 1 { at.min(second) } else { at };
    assert_eq!(suspects(&observed(3, 19, silent_from(5))), []);
    assert_eq!(suspects(&observed(3, 20, silent_from(5))), [host(1)]);
}

#[test]
fn silence_counts_from_the_receipt_of_one_reading_to_the_sending_of_another() {
    let mut observer = Observer::new(host(0), TIMES);
    observer.observe(1_000, 4_000, [member(1, 7)]);
    observer.observe(18_999, 30_000, [member(1, 7)]);
    assert_eq!((observer.silent_ms(&host(1)), suspects(&observer)), (Some(14_999), vec![]));
    observer.observe(31_000, 31_001, [member(1, 7)]);
    assert_eq!(suspects(&observer), [host(1)]);
}

#[test]
fn without_readings_silence_does_not_grow() {
    let observer = observed(3, 10, |_, second| second);
    // Sixty seconds later there was no reading, and the first one shows other marks.
    let mut late = observer.clone();
    late.observe(70_000, 70_000, (0..3).map(|number| member(number, 99)));
    assert_eq!((suspects(&observer), suspects(&late)), (vec![], vec![]));
}

#[test]
fn another_incarnation_a_lost_mark_and_a_look_at_the_database_begin_the_silence_again() {
    let silent = observed(3, 20, |number, second| if number == 1 { 0 } else { second });
    let second = |number: u8| member(number, 20);
    for changed in [Member { incarnation: 2, ..member(1, 0) }, Member { mark: None, ..member(1, 0) }] {
        let mut observer = silent.clone();
        observer.observe(21_000, 21_000, [second(0), changed, second(2)]);
        assert_eq!(suspects(&observer), []);
    }
    let mut observer = silent;
    observer.saw_alive(&host(1), 20_500);
    observer.observe(35_000, 35_000, [second(0), member(1, 0), member(2, 35)]);
    assert_eq!(suspects(&observer), []);
    observer.observe(35_500, 35_500, [second(0), member(1, 0), member(2, 35)]);
    assert_eq!(suspects(&observer), [host(1)]);
}

#[test]
fn when_more_than_half_are_silent_only_an_operator_fences() {
    let silent = |from: u8| move |number: u8, second: u64| if number >= from { 0 } else { second };
    assert_eq!(observed(5, 30, silent(2)).verdict(), Verdict::EngineSuspect { silent: 3, hosts: 5 });
    assert_eq!(suspects(&observed(2, 30, silent(1))), [host(1)]);
    // Three of five have just become silent: the first of them is not fenced either.
    let one_by_one = |number: u8, second: u64| if number >= 2 { second.min(u64::from(number)) } else { second };
    assert_eq!(observed(5, 17, one_by_one).verdict(), Verdict::EngineSuspect { silent: 3, hosts: 5 });
}

#[test]
fn within_fence_after_one_host_is_fenced_and_one_more_for_each_ten() {
    let silent = |number: u8, second: u64| if number > 15 { 0 } else { second };
    let mut observer = observed(20, 15, silent);
    assert_eq!(suspects(&observer), [host(16), host(17), host(18)]);
    // Another host has fenced two of them.
    let remaining = |second: u64| (0..18).map(move |number| member(number, silent(number, second)));
    observer.observe(16_000, 16_000, remaining(16));
    assert_eq!(suspects(&observer).len(), 0);
    observer.observe(31_000, 31_000, remaining(31));
    assert_eq!(suspects(&observer), [host(16), host(17)]);
}

#[test]
fn a_host_that_left_while_it_was_alive_was_not_fenced() {
    let mut observer = observed(4, 15, |number, second| if number == 3 { 0 } else { second });
    observer.observe(16_000, 16_000, [member(0, 16), member(1, 16), member(3, 0)]);
    assert_eq!(suspects(&observer), [host(3)]);
}

proptest! {
    /// With clocks that differ by 5 % each, an observer never suspects a host that may still act.
    #[test]
    fn a_suspect_has_passed_its_deadline(
        pauses in proptest::collection::vec((0_u64..9_000, 0_u64..2_000, any::<bool>()), 1..60),
    ) {
        let (mut now_ms, mut mark, mut observer) = (100_000_u64, 0_u64, Observer::new(host(0), TIMES));
        // The host's clock is slow and the observer's is fast.
        let (host_clock, observer_clock) = (|at: u64| at * 95 / 100, |at: u64| at * 105 / 100);
        let mut deadline = crate::Deadline::begun(host_clock(now_ms), host_clock(now_ms), TIMES);
        for (pause, delay, writes) in pauses {
            now_ms += pause;
            let sent = now_ms;
            if writes {
                mark += 1;
            }
            let read = [member(0, 0), member(1, mark)];
            now_ms += delay;
            if writes {
                deadline = deadline.and_then(|at| at.extended(host_clock(sent), host_clock(now_ms), TIMES));
            }
            observer.observe(observer_clock(sent), observer_clock(now_ms), read);
            if !suspects(&observer).is_empty() {
                prop_assert!(!deadline.is_some_and(|at| at.may_act(host_clock(sent))));
            }
        }
    }
}
