use super::*;
use crate::Capacity;
use proptest::prelude::*;

const TIMES: ClusterTimes = ClusterTimes::ETCD;

fn id(number: u64) -> HostId {
    HostId::from_parts(number, [0; 10])
}

fn host(number: u64, machines: u32, machines_max: u32) -> Heartbeat {
    Heartbeat {
        host: id(number),
        incarnation: 1,
        process: number,
        number: 1,
        capacity: Capacity { machines_max, machines, waiting: 0 },
        draining: false,
        labels: HostLabels::default(),
        providers: vec!["codex".into()],
        image: "a".into(),
        peer_protocol: 1,
        version: String::new(),
        peer_url: None,
        direct_url: None,
    }
}

fn request() -> HostRequest {
    HostRequest { provider: "codex".into(), peer_protocol: 1, ..HostRequest::default() }
}

fn known(heartbeat: &Heartbeat) -> KnownHost<'_> {
    KnownHost { heartbeat, room: None, silent_ms: 0, unanswered: 0 }
}

fn placed<'a>(hosts: &'a [Heartbeat], request: &HostRequest, seed: u64) -> Placement<'a> {
    let known = hosts.iter().map(known);
    place(known, request, &id(1), TIMES, &mut SplitMix64::new(seed))
}

#[test]
fn the_emptiest_is_first_then_the_asking_host_then_the_same_image() {
    let mut hosts = [host(0, 5, 10), host(1, 5, 10), host(2, 9, 20), host(3, 5, 10)];
    assert_eq!(placed(&hosts, &request(), 1).hosts, [&id(2), &id(1), &id(0), &id(3)]);
    hosts[3].image = "b".into();
    let preferred = HostRequest { image: Some("b".into()), ..request() };
    assert_eq!(placed(&hosts, &preferred, 1).hosts, [&id(2), &id(1), &id(3), &id(0)]);
}

#[test]
fn sessions_that_wait_at_a_host_count_as_its_machines() {
    let mut hosts = [host(0, 5, 10), host(1, 4, 10)];
    hosts[1].capacity.waiting = 2;
    assert_eq!(placed(&hosts, &request(), 1).hosts, [&id(0), &id(1)]);
    hosts[1].capacity.waiting = 6;
    assert_eq!(placed(&hosts, &request(), 1).hosts, [&id(0)]);
}

#[test]
fn offers_without_an_answer_count_and_an_answer_counts_until_the_next_heartbeat() {
    let mut hosts = [host(0, 0, 10), host(1, 2, 10)];
    hosts[0].number = 7;
    let placed = |room, unanswered| {
        let known = [KnownHost { room, unanswered, ..known(&hosts[0]) }, known(&hosts[1])];
        place(known, &request(), &id(1), TIMES, &mut SplitMix64::new(1)).hosts
    };
    assert_eq!(placed(None, 1), [&id(0), &id(1)]);
    assert_eq!(placed(None, 3), [&id(1), &id(0)]);
    assert_eq!(placed(None, 10), [&id(1)]);
    let capacity = Capacity { machines_max: 10, machines: 2, waiting: 0 };
    let room = |process, heartbeat| Some(Room { process, heartbeat, capacity });
    let process = hosts[0].process;
    assert_eq!(placed(room(process, 7), 1), [&id(1), &id(0)]);
    assert_eq!(placed(room(process, 6), 1), [&id(0), &id(1)]);
    assert_eq!(placed(room(process + 1, 7), 1), [&id(0), &id(1)]);
}

#[test]
fn each_reason_leaves_a_host_out_and_the_closest_is_reported() {
    type Change = fn(&mut Heartbeat, &mut HostRequest);
    let cases: [(LeftOut, Change); 6] = [
        (LeftOut::OtherProtocol, |host, _| host.peer_protocol = 3),
        (LeftOut::OtherZone, |_, request| request.labels.zone = Some("b".into())),
        (LeftOut::OtherLabels, |_, request| {
            request.labels.labels.insert("gpu".into(), "yes".into());
        }),
        (LeftOut::NoTool, |_, request| request.provider = "claude_code".into()),
        (LeftOut::Draining, |host, _| host.draining = true),
        (LeftOut::Full, |host, _| host.capacity.machines = host.capacity.machines_max),
    ];
    for (reason, change) in cases {
        let (mut host, mut request) = (host(1, 5, 10), request());
        change(&mut host, &mut request);
        let hosts = [host];
        let placement = placed(&hosts, &request, 1);
        assert_eq!((placement.no_host(), placement.left_out.len()), (Some(reason), 1));
    }
    let full = host(1, 10, 10);
    let known = [KnownHost { silent_ms: 12_001, ..known(&full) }];
    let placement = place(known, &request(), &id(1), TIMES, &mut SplitMix64::new(1));
    assert_eq!(placement.no_host(), Some(LeftOut::Silent));
    // A session can wait for a full host, but not for a label that no host has.
    assert!(LeftOut::Full.may_pass() && !LeftOut::OtherLabels.may_pass());
    assert_eq!(LeftOut::OtherLabels.to_string(), "no host with these labels");
}

#[test]
fn a_host_keeps_its_sessions_while_its_load_is_near_that_of_the_best() {
    let capacity = |machines, machines_max| Capacity { machines_max, machines, waiting: 0 };
    assert!(keeps_session(capacity(2, 20), capacity(0, 20)) && !keeps_session(capacity(3, 20), capacity(0, 20)));
    assert!(keeps_session(capacity(60, 100), capacity(5, 10)) && !keeps_session(capacity(61, 100), capacity(5, 10)));
    assert!(!keeps_session(capacity(10, 10), capacity(10, 10)) && !keeps_session(capacity(0, 0), capacity(0, 0)));
}

#[test]
fn a_host_of_the_next_protocol_and_one_with_more_labels_are_suitable() {
    let mut hosts = [host(0, 0, 1)];
    hosts[0].peer_protocol = 2;
    hosts[0].labels.zone = Some("a".into());
    hosts[0].labels.labels = BTreeMap::from([("gpu".into(), "yes".into()), ("disk".into(), "fast".into())]);
    let mut request = request();
    request.labels.labels.insert("gpu".into(), "yes".into());
    assert_eq!(placed(&hosts, &request, 1).hosts, [&id(0)]);
}

proptest! {
    #[test]
    fn hosts_asked_are_distinct_suitable_and_ordered_by_load(
        capacities in proptest::collection::vec((0_u32..12, 0_u32..12, any::<bool>(), 0_u64..20_000), 0..40),
        seed in any::<u64>(),
    ) {
        let hosts: Vec<_> = capacities.iter().zip(0..).map(|(&(machines, machines_max, draining, _), number)| {
            Heartbeat { draining, ..host(number, machines, machines_max) }
        }).collect();
        let all = || hosts.iter().zip(&capacities).map(|(heartbeat, silence)| KnownHost { silent_ms: silence.3, ..known(heartbeat) });
        let placement = place(all(), &request(), &id(1), TIMES, &mut SplitMix64::new(seed));
        let suitable: Vec<_> = all().filter(|host| {
            let room = host.heartbeat.capacity;
            room.machines < room.machines_max && !host.heartbeat.draining && host.silent_ms <= 12_000
        }).map(|host| host.heartbeat).collect();
        prop_assert_eq!(placement.hosts.len(), suitable.len().min(4));
        prop_assert_eq!(placement.left_out.values().sum::<usize>(), hosts.len() - suitable.len());
        let loads: Vec<_> = placement.hosts.iter().map(|asked| {
            let host = suitable.iter().find(|host| host.host == **asked).expect("it is suitable");
            f64::from(host.capacity.machines + 1) / f64::from(host.capacity.machines_max)
        }).collect();
        prop_assert!(loads.is_sorted(), "{:?}", loads);
        let mut distinct = placement.hosts.clone();
        distinct.sort();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), placement.hosts.len());
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    /// No suitable host is out of reach, and of equal hosts none is preferred.
    #[test]
    fn equal_hosts_are_asked_equally_often(seed in any::<u64>()) {
        let hosts: Vec<_> = (10..20).map(|number| host(number, 0, 10)).collect();
        let mut asked = BTreeMap::new();
        let mut random = SplitMix64::new(seed);
        for _ in 0..1_000 {
            let known = hosts.iter().map(known);
            for host in place(known, &request(), &id(1), TIMES, &mut random).hosts {
                *asked.entry(host).or_insert(0_u32) += 1;
            }
        }
        prop_assert!(asked.len() == 10 && asked.values().all(|count| (300..500).contains(count)), "{:?}", asked);
    }
}
