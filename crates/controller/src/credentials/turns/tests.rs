use super::*;
use futures_util::FutureExt;

fn session(number: u8) -> SessionId {
    SessionId::from_parts(1, [number; 10])
}

fn credential() -> CredentialId {
    CredentialId::from_parts(1, [9; 10])
}

#[tokio::test]
async fn r16_turns_are_given_in_the_order_of_arrival_and_a_dropped_turn_or_ticket_frees_its_place() {
    let turns = Arc::new(CredentialTurns::default());
    let first = turns.join(&credential(), &session(1)).await.unwrap().try_acquire().await.unwrap();
    let second = turns.join(&credential(), &session(2)).await.unwrap();
    let third = turns.join(&credential(), &session(3)).await.unwrap();
    let (second, other) = second.try_acquire().await.unwrap_err();
    assert_eq!(other, OtherUse { session: Some(session(1)), position: 1 });
    let (third, other) = third.try_acquire().await.unwrap_err();
    assert_eq!(other, OtherUse { session: Some(session(1)), position: 2 });
    drop(first);
    let (third, other) = third.try_acquire().await.unwrap_err();
    assert_eq!(other, OtherUse { session: None, position: 2 }, "the second is before it");
    drop(second);
    let third = third.try_acquire().await.unwrap();
    let of_another = CredentialId::from_parts(1, [8; 10]);
    assert!(turns.is_in_use(&credential()).await.unwrap() && !turns.is_in_use(&of_another).await.unwrap());
    assert!(
        turns.join(&of_another, &session(4)).await.unwrap().try_acquire().await.is_ok(),
        "each credential has its own line"
    );
    drop(third);
    assert!(!turns.is_in_use(&credential()).await.unwrap());
}

#[tokio::test]
async fn r16_a_waiting_session_gets_the_turn_when_the_holder_ends() {
    let turns = Arc::new(CredentialTurns::default());
    let adopted =
        [turns.hold(&credential(), &session(1)).await.unwrap(), turns.hold(&credential(), &session(2)).await.unwrap()];
    let mut seen = Vec::new();
    let mut waits = Box::pin(turns.join_again(&credential(), &session(3)).acquire(|other| seen.push(other.clone())));
    assert!(waits.as_mut().now_or_never().is_none());
    let [one, two] = adopted;
    drop(one);
    assert!(waits.as_mut().now_or_never().is_none(), "the other machine still has the credential");
    drop(two);
    let turn = waits.await;
    assert_eq!(
        seen.iter().map(|other| other.session.clone()).collect::<Vec<_>>(),
        [Some(session(1)), Some(session(2))]
    );
    drop(turn);
}

#[tokio::test(start_paused = true)]
async fn r16_a_lease_waits_for_the_use_and_is_refused_by_name_after_its_time() {
    let turns = Arc::new(CredentialTurns::default());
    let using = turns.hold(&credential(), &session(1)).await.unwrap();
    let refused = turns.wait_for_lease(&credential()).await.unwrap_err();
    assert_eq!(refused.problem, Problem::CredentialInUse);
    assert!(refused.detail.contains(session(1).as_str()), "{}", refused.detail);
    let waiting = turns.join(&credential(), &session(2)).await.unwrap();
    let key = credential();
    let mut lease = Box::pin(turns.wait_for_lease(&key));
    assert!(lease.as_mut().now_or_never().is_none());
    drop(using);
    let (waiting, _) = waiting.try_acquire().await.unwrap_err();
    let lease = lease.await.unwrap();
    let (waiting, _) = waiting.try_acquire().await.unwrap_err();
    drop(lease);
    assert!(waiting.try_acquire().await.is_ok());
}

#[tokio::test]
async fn r16_too_many_waiting_uses_are_refused_by_name() {
    let turns = Arc::new(CredentialTurns::default());
    let _using = turns.hold(&credential(), &session(1)).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..USES_WAITING_MAX {
        waiting.push(turns.join(&credential(), &session(2)).await.unwrap());
    }
    assert_eq!(turns.join(&credential(), &session(3)).await.unwrap_err().problem, Problem::CredentialInUse);
    drop(waiting);
    assert!(turns.join(&credential(), &session(3)).await.is_ok());
}
