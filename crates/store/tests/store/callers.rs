//! Callers, login tokens and tickets: found by hash, redeemed once, expiring.

use crate::fixture::{HOUR, NOW, StoreFixture, session_id};
use anteroom_store::{
    LoginScope, NewCaller, NewLoginToken, NewTicket, PurgeCounts, Role, Sha256Hex, StoreErrorKind, TicketPurpose,
};
use anteroom_wire::CallerId;

fn caller_id(number: u8) -> CallerId {
    CallerId::from_parts(NOW, [number; 10])
}

fn ticket(fixture: &StoreFixture, text: &str, session: &anteroom_wire::SessionId, purpose: TicketPurpose) -> NewTicket {
    let hash = Sha256Hex::of_bytes(text.as_bytes());
    NewTicket { hash, session: session.clone(), caller: fixture.owner.clone(), purpose, expires_at_ms: NOW + 60_000 }
}

#[tokio::test]
async fn every_role_reads_back_and_is_found_by_its_token() {
    let fixture = StoreFixture::new().await;
    let session = fixture.session().await.id;
    for (number, role) in [(1, Role::Operator), (2, Role::Backend), (3, Role::Viewer(session))] {
        let new = fixture.new_caller(caller_id(number), role.clone(), &format!("secret {number}"));
        let made = fixture.store.create_caller(&new).await.unwrap();
        let found = fixture.store.find_caller_by_token(&new.token, NOW).await.unwrap().unwrap();
        assert_eq!(found, made);
        assert_eq!((found.role, found.name), (role, "Ada".to_owned()));
    }
    assert_eq!(fixture.store.find_caller_by_token(&Sha256Hex::of_bytes(b"guess"), NOW).await.unwrap(), None);
    // The backend of the fixture and two of the three: viewers are not listed.
    assert_eq!(fixture.store.list_callers(10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_revoked_or_expired_caller_is_not_found() {
    let fixture = StoreFixture::new().await;
    let short =
        NewCaller { expires_at_ms: Some(NOW + 10), ..fixture.new_caller(caller_id(1), Role::Operator, "short") };
    fixture.store.create_caller(&short).await.unwrap();
    assert!(fixture.store.find_caller_by_token(&short.token, NOW + 9).await.unwrap().is_some());
    assert_eq!(fixture.store.find_caller_by_token(&short.token, NOW + 10).await.unwrap(), None);

    let token = Sha256Hex::of_bytes(b"token-1");
    assert!(fixture.store.revoke_caller(&fixture.owner, NOW).await.unwrap());
    assert!(!fixture.store.revoke_caller(&fixture.owner, NOW + 1).await.unwrap());
    assert_eq!(fixture.store.find_caller_by_token(&token, NOW).await.unwrap(), None);
    assert_eq!(fixture.store.get_caller(&fixture.owner).await.unwrap().unwrap().revoked_at_ms, Some(NOW));
}

#[tokio::test]
async fn a_token_belongs_to_one_caller() {
    let fixture = StoreFixture::new().await;
    let error =
        fixture.store.create_caller(&fixture.new_caller(caller_id(1), Role::Operator, "token-1")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error:?}");
}

#[tokio::test]
async fn every_kind_of_login_token_is_redeemed_once() {
    let fixture = StoreFixture::new().await;
    let session = fixture.session().await.id;
    for scope in [LoginScope::Operator { name: "Ada".to_owned() }, LoginScope::Session { session }] {
        let hash = Sha256Hex::of_bytes(format!("{scope:?}").as_bytes());
        let new = NewLoginToken { hash: hash.clone(), scope: scope.clone(), expires_at_ms: NOW + 10 };
        fixture.store.create_login_token(&new).await.unwrap();
        let attempts: Vec<_> = (0..10)
            .map(|_| {
                let (store, hash) = (fixture.store.clone(), hash.clone());
                tokio::spawn(async move { store.redeem_login_token(&hash, NOW + 9).await.unwrap() })
            })
            .collect();
        let mut redeemed = Vec::new();
        for one in attempts {
            redeemed.extend(one.await.unwrap());
        }
        assert_eq!(redeemed, [scope]);
    }
    let old = NewLoginToken {
        hash: Sha256Hex::of_bytes(b"old"),
        scope: LoginScope::Operator { name: String::new() },
        expires_at_ms: NOW,
    };
    fixture.store.create_login_token(&old).await.unwrap();
    assert_eq!(fixture.store.redeem_login_token(&old.hash, NOW).await.unwrap(), None);
    assert_eq!(fixture.store.redeem_login_token(&Sha256Hex::of_bytes(b"none"), NOW).await.unwrap(), None);
}

#[tokio::test]
async fn every_kind_of_ticket_is_redeemed_once_for_its_purpose() {
    let fixture = StoreFixture::new().await;
    let (session, other) = (fixture.session().await.id, fixture.session().await.id);
    for purpose in TicketPurpose::ALL.iter().copied() {
        let new = ticket(&fixture, purpose.as_str(), &session, purpose);
        fixture.store.create_ticket(&new).await.unwrap();
        for wrong in TicketPurpose::ALL.iter().copied().filter(|wrong| *wrong != purpose) {
            assert_eq!(fixture.store.redeem_ticket(&new.hash, &session, wrong, NOW).await.unwrap(), None);
        }
        assert_eq!(fixture.store.redeem_ticket(&new.hash, &other, purpose, NOW).await.unwrap(), None);
        let caller = fixture.store.redeem_ticket(&new.hash, &session, purpose, NOW).await.unwrap();
        assert_eq!(caller.as_ref(), Some(&fixture.owner), "{purpose:?}");
        assert_eq!(fixture.store.redeem_ticket(&new.hash, &session, purpose, NOW).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_ticket_expires_and_is_revoked_with_its_caller() {
    let fixture = StoreFixture::new().await;
    let session = fixture.session().await.id;
    let late = ticket(&fixture, "late", &session, TicketPurpose::Desktop);
    fixture.store.create_ticket(&late).await.unwrap();
    assert_eq!(
        fixture.store.redeem_ticket(&late.hash, &session, TicketPurpose::Desktop, NOW + 60_000).await.unwrap(),
        None
    );

    let orphan = ticket(&fixture, "orphan", &session, TicketPurpose::Desktop);
    fixture.store.create_ticket(&orphan).await.unwrap();
    fixture.store.revoke_caller(&fixture.owner, NOW).await.unwrap();
    assert_eq!(fixture.store.redeem_ticket(&orphan.hash, &session, TicketPurpose::Desktop, NOW).await.unwrap(), None);

    let nowhere = ticket(&fixture, "nowhere", &session_id(), TicketPurpose::Desktop);
    assert_eq!(fixture.store.create_ticket(&nowhere).await.unwrap_err().kind(), StoreErrorKind::Conflict);
}

#[tokio::test]
async fn purge_removes_only_used_and_expired_rows() {
    let fixture = StoreFixture::new().await;
    let session = fixture.session().await.id;
    let login_token = |text: &str, expires_at_ms| NewLoginToken {
        hash: Sha256Hex::of_bytes(text.as_bytes()),
        scope: LoginScope::Session { session: session.clone() },
        expires_at_ms,
    };
    for new in [login_token("used", NOW + HOUR), login_token("old", NOW + 1), login_token("good", NOW + HOUR)] {
        fixture.store.create_login_token(&new).await.unwrap();
    }
    fixture.store.redeem_login_token(&Sha256Hex::of_bytes(b"used"), NOW).await.unwrap().unwrap();
    let good = ticket(&fixture, "good ticket", &session, TicketPurpose::Terminal);
    fixture.store.create_ticket(&good).await.unwrap();
    let old = NewTicket { expires_at_ms: NOW, ..ticket(&fixture, "old ticket", &session, TicketPurpose::Terminal) };
    fixture.store.create_ticket(&old).await.unwrap();
    let viewer = fixture.new_caller(caller_id(1), Role::Viewer(session.clone()), "viewer");
    fixture.store.create_caller(&NewCaller { expires_at_ms: Some(NOW + 1), ..viewer }).await.unwrap();
    // Revoked, but it owns sessions: its row stays.
    fixture.store.revoke_caller(&fixture.owner, NOW).await.unwrap();

    let purged = fixture.store.purge_expired(NOW + 1).await.unwrap();
    assert_eq!(purged, PurgeCounts { login_tokens: 2, tickets: 1, callers: 1 });
    assert_eq!(fixture.store.purge_expired(NOW + 1).await.unwrap(), PurgeCounts::default());
    assert!(fixture.store.redeem_login_token(&Sha256Hex::of_bytes(b"good"), NOW + 1).await.unwrap().is_some());
    assert!(fixture.store.get_caller(&fixture.owner).await.unwrap().is_some());
}
