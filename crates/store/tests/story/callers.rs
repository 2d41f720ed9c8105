//! Callers, passes and tickets: known by hash, used once, ended in time.

use crate::world::{HOUR, NOW, World, session_id};
use anteroom_store::{LoginScope, StoreErrorKind, NewCaller, NewLoginToken, NewTicket, Purged, TicketPurpose, Role, Sha256Hex};
use anteroom_wire::CallerId;

fn caller_id(number: u8) -> CallerId {
    CallerId::from_parts(NOW, [number; 10])
}

fn ticket(world: &World, text: &str, session: &anteroom_wire::SessionId, purpose: TicketPurpose) -> NewTicket {
    let hash = Sha256Hex::of(text.as_bytes());
    NewTicket { hash, session: session.clone(), caller: world.owner.clone(), purpose, expires_at_ms: NOW + 60_000 }
}

#[tokio::test]
async fn every_role_reads_back_and_is_found_by_its_token() {
    let world = World::new().await;
    let session = world.session().await.id;
    for (number, role) in [(1, Role::Operator), (2, Role::Backend), (3, Role::Viewer(session))] {
        let new = world.new_caller(caller_id(number), role.clone(), &format!("secret {number}"));
        let made = world.store.create_caller(&new).await.unwrap();
        let found = world.store.caller_by_token(&new.token, NOW).await.unwrap().unwrap();
        assert_eq!(found, made);
        assert_eq!((found.role, found.name), (role, "Ada".to_owned()));
    }
    assert_eq!(world.store.caller_by_token(&Sha256Hex::of(b"guess"), NOW).await.unwrap(), None);
    // The world's own backend, and two of the three: viewers are not listed.
    assert_eq!(world.store.callers(10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_revoked_or_expired_caller_is_nobody() {
    let world = World::new().await;
    let short = NewCaller { expires_at_ms: Some(NOW + 10), ..world.new_caller(caller_id(1), Role::Operator, "short") };
    world.store.create_caller(&short).await.unwrap();
    assert!(world.store.caller_by_token(&short.token, NOW + 9).await.unwrap().is_some());
    assert_eq!(world.store.caller_by_token(&short.token, NOW + 10).await.unwrap(), None);

    let token = Sha256Hex::of(b"token-1");
    assert!(world.store.revoke_caller(&world.owner, NOW).await.unwrap());
    assert!(!world.store.revoke_caller(&world.owner, NOW + 1).await.unwrap());
    assert_eq!(world.store.caller_by_token(&token, NOW).await.unwrap(), None);
    assert_eq!(world.store.caller(&world.owner).await.unwrap().unwrap().revoked_at_ms, Some(NOW));
}

#[tokio::test]
async fn a_token_belongs_to_one_caller() {
    let world = World::new().await;
    let error =
        world.store.create_caller(&world.new_caller(caller_id(1), Role::Operator, "token-1")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error:?}");
}

#[tokio::test]
async fn every_kind_of_pass_opens_once() {
    let world = World::new().await;
    let session = world.session().await.id;
    for scope in [LoginScope::Operator { name: "Ada".to_owned() }, LoginScope::Session { session }] {
        let hash = Sha256Hex::of(format!("{scope:?}").as_bytes());
        let new = NewLoginToken { hash: hash.clone(), scope: scope.clone(), expires_at_ms: NOW + 10 };
        world.store.create_login_token(&new).await.unwrap();
        let tries: Vec<_> = (0..10)
            .map(|_| {
                let (store, hash) = (world.store.clone(), hash.clone());
                tokio::spawn(async move { store.redeem_login_token(&hash, NOW + 9).await.unwrap() })
            })
            .collect();
        let mut opened = Vec::new();
        for one in tries {
            opened.extend(one.await.unwrap());
        }
        assert_eq!(opened, [scope]);
    }
    let old = NewLoginToken { hash: Sha256Hex::of(b"old"), scope: LoginScope::Operator { name: String::new() }, expires_at_ms: NOW };
    world.store.create_login_token(&old).await.unwrap();
    assert_eq!(world.store.redeem_login_token(&old.hash, NOW).await.unwrap(), None);
    assert_eq!(world.store.redeem_login_token(&Sha256Hex::of(b"none"), NOW).await.unwrap(), None);
}

#[tokio::test]
async fn every_kind_of_ticket_opens_its_own_door_once() {
    let world = World::new().await;
    let (session, other) = (world.session().await.id, world.session().await.id);
    for purpose in TicketPurpose::ALL.iter().copied() {
        let new = ticket(&world, purpose.as_str(), &session, purpose);
        world.store.create_ticket(&new).await.unwrap();
        for wrong in TicketPurpose::ALL.iter().copied().filter(|wrong| *wrong != purpose) {
            assert_eq!(world.store.redeem_ticket(&new.hash, &session, wrong, NOW).await.unwrap(), None);
        }
        assert_eq!(world.store.redeem_ticket(&new.hash, &other, purpose, NOW).await.unwrap(), None);
        let caller = world.store.redeem_ticket(&new.hash, &session, purpose, NOW).await.unwrap();
        assert_eq!(caller.as_ref(), Some(&world.owner), "{purpose:?}");
        assert_eq!(world.store.redeem_ticket(&new.hash, &session, purpose, NOW).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_ticket_ends_in_time_and_with_its_caller() {
    let world = World::new().await;
    let session = world.session().await.id;
    let late = ticket(&world, "late", &session, TicketPurpose::Desktop);
    world.store.create_ticket(&late).await.unwrap();
    assert_eq!(world.store.redeem_ticket(&late.hash, &session, TicketPurpose::Desktop, NOW + 60_000).await.unwrap(), None);

    let orphan = ticket(&world, "orphan", &session, TicketPurpose::Desktop);
    world.store.create_ticket(&orphan).await.unwrap();
    world.store.revoke_caller(&world.owner, NOW).await.unwrap();
    assert_eq!(world.store.redeem_ticket(&orphan.hash, &session, TicketPurpose::Desktop, NOW).await.unwrap(), None);

    let nowhere = ticket(&world, "nowhere", &session_id(), TicketPurpose::Desktop);
    assert_eq!(world.store.create_ticket(&nowhere).await.unwrap_err().kind(), StoreErrorKind::Conflict);
}

#[tokio::test]
async fn purge_removes_what_is_spent_and_nothing_else() {
    let world = World::new().await;
    let session = world.session().await.id;
    let pass = |text: &str, expires_at_ms| NewLoginToken {
        hash: Sha256Hex::of(text.as_bytes()),
        scope: LoginScope::Session { session: session.clone() },
        expires_at_ms,
    };
    for new in [pass("used", NOW + HOUR), pass("old", NOW + 1), pass("good", NOW + HOUR)] {
        world.store.create_login_token(&new).await.unwrap();
    }
    world.store.redeem_login_token(&Sha256Hex::of(b"used"), NOW).await.unwrap().unwrap();
    let good = ticket(&world, "good ticket", &session, TicketPurpose::Terminal);
    world.store.create_ticket(&good).await.unwrap();
    let old = NewTicket { expires_at_ms: NOW, ..ticket(&world, "old ticket", &session, TicketPurpose::Terminal) };
    world.store.create_ticket(&old).await.unwrap();
    let viewer = world.new_caller(caller_id(1), Role::Viewer(session.clone()), "viewer");
    world.store.create_caller(&NewCaller { expires_at_ms: Some(NOW + 1), ..viewer }).await.unwrap();
    // Revoked, but sessions are its own: it stays on the record.
    world.store.revoke_caller(&world.owner, NOW).await.unwrap();

    let purged = world.store.purge(NOW + 1).await.unwrap();
    assert_eq!(purged, Purged { login_tokens: 2, tickets: 1, callers: 1 });
    assert_eq!(world.store.purge(NOW + 1).await.unwrap(), Purged::default());
    assert!(world.store.redeem_login_token(&Sha256Hex::of(b"good"), NOW + 1).await.unwrap().is_some());
    assert!(world.store.caller(&world.owner).await.unwrap().is_some());
}
