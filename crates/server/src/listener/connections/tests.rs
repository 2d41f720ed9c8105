use super::*;

const OPEN_FILES: usize = 1 << 16;

fn connections(by_address: usize, strangers: usize) -> Arc<Connections> {
    let limits = ConnectionLimits {
        strangers_by_address_max: by_address,
        strangers_max: strangers,
        by_caller_max: 2,
        known_max: 3,
        ..ConnectionLimits::default()
    };
    Connections::new(&limits, OPEN_FILES)
}

fn network(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

fn caller(number: u8) -> CallerId {
    CallerId::from_parts(0, [number; 10])
}

fn is_closed(slot: &ConnectionSlot) -> bool {
    slot.connection().closing().is_cancelled()
}

#[tokio::test(start_paused = true)]
async fn connection_that_has_waited_longest_is_closed_for_a_new_one_of_its_address() {
    let connections = connections(2, 10);
    let other = connections.admit(network(9)).unwrap();
    let first = connections.admit(network(1)).unwrap();
    tokio::time::advance(Duration::from_millis(1)).await;
    let second = connections.admit(network(1)).unwrap();
    let third = connections.admit(network(1)).unwrap();
    assert!(is_closed(&first) && !is_closed(&second) && !is_closed(&third) && !is_closed(&other));
}

#[tokio::test(start_paused = true)]
async fn connection_is_refused_while_all_of_its_address_are_busy_and_accepted_when_they_take_too_long() {
    let connections = connections(2, 10);
    let slots = [connections.admit(network(1)).unwrap(), connections.admit(network(1)).unwrap()];
    let _requests = slots.each_ref().map(|slot| slot.connection().begin_request());
    assert_eq!(connections.admit(network(1)).unwrap_err(), TooManyConnections::FromAddress(2));
    assert!(connections.admit(network(2)).is_ok(), "another address is not affected");
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(connections.admit(network(1)).is_ok());
    assert_eq!(slots.iter().filter(|slot| is_closed(slot)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn address_with_most_connections_loses_one_when_there_are_too_many_in_all() {
    let connections = connections(10, 4);
    let few = connections.admit(network(1)).unwrap();
    tokio::time::advance(Duration::from_millis(1)).await;
    let many: Vec<_> = (0..3).map(|_| connections.admit(network(2)).unwrap()).collect();
    let _new = connections.admit(network(3)).unwrap();
    assert!(!is_closed(&few));
    assert_eq!(many.iter().filter(|slot| is_closed(slot)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn connections_of_callers_count_apart_and_are_not_closed_for_strangers() {
    let connections = connections(1, 1);
    let known = connections.admit(network(1)).unwrap();
    known.connection().authenticate(&caller(1));
    let stranger = connections.admit(network(1)).unwrap();
    let _next = connections.admit(network(1)).unwrap();
    assert!(!is_closed(&known) && is_closed(&stranger));
}

#[tokio::test(start_paused = true)]
async fn callers_connections_above_its_limit_stay_a_strangers() {
    let connections = connections(10, 10);
    let slots: Vec<_> = (0..3).map(|_| connections.admit(network(1)).unwrap()).collect();
    for slot in &slots {
        slot.connection().authenticate(&caller(1));
    }
    assert_eq!(connections.open().strangers.len(), 1, "by_caller_max is 2");
    let others: Vec<_> = (0..2).map(|_| connections.admit(network(2)).unwrap()).collect();
    for slot in &others {
        slot.connection().authenticate(&caller(2));
    }
    let (known, strangers) = {
        let open = connections.open();
        (open.known, open.strangers.len())
    };
    assert_eq!((known, strangers), (3, 2), "known_max is 3");
    drop((slots, others));
    let open = connections.open();
    assert_eq!((open.known, open.strangers.len(), open.by_caller.len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn requests_of_strangers_leave_a_quarter_of_the_connections_to_clients_that_are_yet_to_be_identified() {
    let connections = connections(4, 100);
    let busy: Vec<_> = (0..3).map(|_| connections.admit(network(1)).unwrap()).collect();
    let mut requests = Vec::new();
    for slot in &busy {
        requests.push(slot.connection().begin_request());
        slot.connection().begin_strangers_request().unwrap();
    }
    let fourth = connections.admit(network(1)).unwrap();
    let request = fourth.connection().begin_request();
    assert_eq!(fourth.connection().begin_strangers_request(), Err(TooManyConnections::FromAddress(3)));
    drop(request);
    let _caller = connections.admit(network(1)).expect("the fourth is not busy and is closed for it");
    assert!(is_closed(&fourth));
    drop(requests.pop());
    let fifth = connections.admit(network(1)).unwrap();
    let _request = fifth.connection().begin_request();
    fifth.connection().begin_strangers_request().expect("one of the three has its answer");
    tokio::time::advance(Duration::from_secs(3)).await;
    let sixth = connections.admit(network(1)).unwrap();
    let _request = sixth.connection().begin_request();
    sixth.connection().begin_strangers_request().expect("the one that has taken longest is closed for it");
    assert_eq!(busy.iter().filter(|slot| is_closed(slot)).count(), 2, "the idle one and a busy one");
}

#[tokio::test(start_paused = true)]
async fn deadline_is_that_of_the_phase() {
    let connections = connections(10, 10);
    let slot = connections.admit(network(1)).unwrap();
    let connection = slot.connection();
    let left_ms = || connection.receive_deadline().map(|at| (at - Instant::now()).as_millis());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(left_ms(), Some(9_000), "accepted a second ago");
    connection.receive();
    tokio::time::advance(Duration::from_secs(1)).await;
    connection.receive();
    assert_eq!(left_ms(), Some(9_000), "further bytes of a head give no more time");
    let request = connection.begin_request();
    assert_eq!(left_ms(), None);
    drop(request);
    assert_eq!(left_ms(), Some(15_000));
    connection.authenticate(&caller(1));
    assert_eq!(left_ms(), Some(75_000));
    connection.upgrade();
    assert_eq!(left_ms(), None);
}

#[test]
fn few_open_files_leave_a_reserve_for_callers_and_for_the_rest_of_the_server() {
    let limits = Connections::new(&ConnectionLimits::default(), 1_024).limits.clone();
    assert_eq!((limits.strangers_max, limits.known_max), (192, 192));
    let limits = Connections::new(&ConnectionLimits::default(), 10).limits.clone();
    assert_eq!((limits.strangers_max, limits.known_max), (1, 1));
}
