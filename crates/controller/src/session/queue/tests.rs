use super::*;
use anteroom_wire::CallerId;

const DISK_FULL: ResourceShortage =
    ResourceShortage::Disk { name: "state", path: std::path::PathBuf::new(), free_mib: 0, min_mib: 1 };

fn owner(caller: u8) -> SessionOwner {
    SessionOwner { caller: CallerId::from_parts(1, [caller; 10]), user_id: None }
}

fn user(caller: u8, user: &str) -> SessionOwner {
    SessionOwner { user_id: Some(user.to_owned()), ..owner(caller) }
}

fn queue(permits: u32, waiting_max: u32) -> MachineQueue {
    let (waiting_by_caller_max, waiting_by_user_max) = (waiting_max, waiting_max);
    let machines_by_caller_max = u32::MAX;
    MachineQueue::new(
        permits,
        QueueLimits { waiting_max, waiting_by_caller_max, waiting_by_user_max, machines_by_caller_max },
    )
}

fn queue_with(change: impl FnOnce(&mut QueueLimits)) -> MachineQueue {
    let mut limits =
        QueueLimits { waiting_max: 10, waiting_by_caller_max: 10, waiting_by_user_max: 10, machines_by_caller_max: 10 };
    change(&mut limits);
    MachineQueue::new(0, limits)
}

#[tokio::test]
async fn the_first_session_in_the_queue_gets_the_next_free_permit() {
    let queue = queue(1, 5);
    let permit = queue.enqueue(&owner(1)).unwrap().acquire(|_| ()).await;
    let second = queue.enqueue(&owner(1)).unwrap();
    let third = queue.enqueue(&owner(1)).unwrap();
    assert_eq!((second.position(), third.position()), (1, 2));
    assert!(second.try_acquire().is_none() && third.try_acquire().is_none());
    drop(permit);
    assert!(third.try_acquire().is_none(), "the second comes first");
    assert!(second.try_acquire().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_is_that_of_the_oldest_session_that_waits() {
    let (queue, second) = (queue(1, 5), Duration::from_secs(1));
    let permit = queue.enqueue(&owner(1)).unwrap().acquire(|_| ()).await;
    assert_eq!(queue.longest_wait(), None);
    let oldest = queue.enqueue(&owner(1)).unwrap();
    tokio::time::advance(3 * second).await;
    let younger = queue.enqueue(&owner(2)).unwrap();
    tokio::time::advance(second).await;
    assert_eq!(queue.longest_wait(), Some(4 * second));
    drop(oldest);
    assert_eq!(queue.longest_wait(), Some(second));
    drop(permit);
    assert!(younger.try_acquire().is_some());
    assert_eq!(queue.longest_wait(), None);
}

#[tokio::test]
async fn leaving_the_queue_moves_the_others_up() {
    let queue = queue(1, 5);
    let _permit = queue.enqueue(&owner(1)).unwrap().acquire(|_| ()).await;
    let second = queue.enqueue(&owner(1)).unwrap();
    let third = queue.enqueue(&owner(1)).unwrap();
    drop(second);
    assert_eq!(third.position(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_session_is_admitted_while_the_admission_check_fails_and_the_reason_is_reported() {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let (queue, has_capacity) = (queue(5, 5), Arc::new(AtomicBool::new(false)));
    let checked = Arc::clone(&has_capacity);
    queue.set_admission_check(move |_| if checked.load(SeqCst) { Ok(()) } else { Err(DISK_FULL) });
    assert_eq!(queue.admission_shortage(), None, "no session waits");
    let first = queue.enqueue(&owner(1)).unwrap();
    assert!(first.try_acquire().is_none());
    assert_eq!(queue.admission_shortage(), Some(DISK_FULL));
    let waiting = tokio::spawn(first.acquire(|_| ()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!waiting.is_finished());
    has_capacity.store(true, SeqCst);
    waiting.await.unwrap();
    assert_eq!(queue.admission_shortage(), None);
}

#[test]
fn concurrent_requests_are_admitted_only_within_the_capacity_of_the_host() {
    let queue = queue(8, 8);
    queue.set_admission_check(move |in_use| {
        // Long enough that all other threads ask in between.
        for _ in 0..1_000 {
            std::thread::yield_now();
        }
        if in_use < 3 { Ok(()) } else { Err(DISK_FULL) }
    });
    let tickets: Vec<QueueTicket> = (0..8).map(|_| queue.enqueue(&owner(1)).unwrap()).collect();
    let barrier = std::sync::Barrier::new(tickets.len());
    let acquire = &|ticket: QueueTicket| {
        barrier.wait();
        ticket.try_acquire()
    };
    let permits: Vec<MachinePermit> = std::thread::scope(|scope| {
        let threads: Vec<_> = tickets.into_iter().map(|ticket| scope.spawn(move || acquire(ticket))).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!((permits.len(), queue.permits_in_use()), (3, 3));
    drop(permits);
    assert_eq!((queue.permits_in_use(), queue.free_permits()), (0, 8));
}

#[test]
fn a_full_queue_rejects_with_its_length() {
    let queue = queue(0, 1);
    let _ticket = queue.enqueue(&owner(1)).unwrap();
    assert_eq!(
        queue_with(|limits| limits.waiting_max = 0).enqueue(&owner(1)).unwrap_err(),
        QueueRejection::Full { waiting: 0 }
    );
    assert!(queue.enqueue(&owner(2)).is_ok(), "the queue has room for each caller");
    let other = queue_with(|limits| limits.waiting_max = 5);
    let tickets: Vec<QueueTicket> = (0..5).map(|_| other.enqueue(&owner(1)).unwrap()).collect();
    assert_eq!(other.enqueue(&owner(1)).unwrap_err(), QueueRejection::Full { waiting: tickets.len() });
}

#[test]
fn a_full_queue_has_room_for_a_few_sessions_of_each_other_caller() {
    let queue = queue(0, 100);
    let tickets: Vec<QueueTicket> = (0..100).map(|_| queue.enqueue(&owner(1)).unwrap()).collect();
    let accepted: Vec<QueueTicket> = std::iter::from_fn(|| queue.enqueue(&owner(2)).ok()).take(50).collect();
    assert_eq!(accepted.len(), RESERVED_BY_CALLER);
    assert_eq!((accepted[0].position(), tickets[0].position(), accepted[1].position()), (2, 1, 4));
}

#[test]
fn a_caller_and_a_user_fill_no_more_than_their_shares() {
    let queue = queue_with(|limits| (limits.waiting_by_caller_max, limits.waiting_by_user_max) = (3, 2));
    let _tickets: Vec<QueueTicket> = (0..2).map(|_| queue.enqueue(&user(1, "a")).unwrap()).collect();
    let rejected = queue.enqueue(&user(1, "a")).unwrap_err();
    assert_eq!(rejected, QueueRejection::UserWaiting { waiting: 2, waiting_max: 2 });
    let _third = queue.enqueue(&user(1, "b")).unwrap();
    let rejected = queue.enqueue(&user(1, "c")).unwrap_err();
    assert_eq!(rejected, QueueRejection::CallerWaiting { waiting: 3, waiting_max: 3 });
    assert!(queue.enqueue(&user(2, "a")).is_ok(), "the same name is another caller's user");
    drop(queue.enqueue_again(&user(1, "a")));
}

#[test]
fn a_caller_waits_while_it_uses_all_its_machines_and_free_ones_go_to_others() {
    let limits =
        QueueLimits { waiting_max: 10, waiting_by_caller_max: 10, waiting_by_user_max: 10, machines_by_caller_max: 2 };
    let queue = MachineQueue::new(3, limits);
    let external = queue.use_external_machine(&owner(1)).unwrap();
    let permit = queue.enqueue(&owner(1)).unwrap().try_acquire().unwrap();
    let rejected = queue.use_external_machine(&owner(1)).unwrap_err();
    assert_eq!(rejected, QueueRejection::CallerMachines { machines: 2, machines_max: 2 });
    let waiting = queue.enqueue(&owner(1)).unwrap();
    assert!(waiting.try_acquire().is_none(), "two machines are free, and the caller has its two");
    let other = queue.enqueue(&owner(2)).unwrap();
    assert_eq!((other.position(), waiting.position()), (1, 2));
    assert!(other.try_acquire().is_some());
    drop(external);
    assert!(waiting.try_acquire().is_some());
    drop(permit);
}

#[test]
fn more_machines_are_adopted_than_there_are_permits_and_no_other_starts_until_enough_have_ended() {
    let queue = queue(1, 5);
    let adopted: Vec<MachinePermit> = (0..3).map(|_| queue.acquire_for_adopted(&owner(1))).collect();
    let waiting = queue.enqueue(&owner(2)).unwrap();
    for permit in adopted {
        assert!(waiting.try_acquire().is_none());
        drop(permit);
    }
    let permit = waiting.try_acquire();
    assert!(permit.is_some());
    assert_eq!((queue.permits_in_use(), queue.free_permits()), (1, 0));
}

#[tokio::test]
async fn a_caller_that_arrives_later_moves_ahead_and_the_positions_are_reported() {
    let queue = queue(1, 50);
    let permit = queue.enqueue(&owner(1)).unwrap().acquire(|_| ()).await;
    let _first: Vec<QueueTicket> = (0..5).map(|_| queue.enqueue(&owner(1)).unwrap()).collect();
    let last = queue.enqueue(&owner(1)).unwrap();
    let (sender, mut positions) = tokio::sync::mpsc::unbounded_channel();
    let waiting = tokio::spawn(last.acquire(move |position| sender.send(position).unwrap()));
    assert_eq!(positions.recv().await, Some(6));
    let other = queue.enqueue(&owner(2)).unwrap();
    assert_eq!((positions.recv().await, other.position()), (Some(7), 1));
    drop(permit);
    assert!(other.try_acquire().is_some());
    waiting.abort();
}
