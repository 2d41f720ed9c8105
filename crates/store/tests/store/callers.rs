//! Callers, login tokens and tickets: found by hash, redeemed once, expiring.

use crate::fixture::{HOUR, NOW, StoreFixture, session_id};
use anteroom_store::{
    CallerEnd, CallerFilter, CallerKind, LoginScope, NewBrowser, NewCaller, NewLoginToken, NewTicket, Person,
    PurgeCounts, RedeemedLoginToken, Role, Sha256Hex, StoreError, StoreErrorKind, TicketPurpose,
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
    let viewer = (3, Role::Viewer(session.clone()));
    for (number, role) in [
        (1, Role::Operator),
        (2, Role::Backend),
        viewer,
        (4, Role::Helper(session)),
        (5, Role::Auditor),
        (6, Role::User),
    ] {
        let new = fixture.new_caller(caller_id(number), role.clone(), &format!("secret {number}"));
        let made = fixture.store.create_caller(&new).await.unwrap();
        let found = fixture.store.find_caller_by_secret(new.kind, &new.secret, NOW).await.unwrap().unwrap();
        assert_eq!(found, made);
        for other in CallerKind::ALL.iter().copied().filter(|kind| *kind != new.kind) {
            assert_eq!(fixture.store.find_caller_by_secret(other, &new.secret, NOW).await.unwrap(), None, "{other:?}");
        }
        assert_eq!((found.role, found.name), (role, "Ada".to_owned()));
    }
    let guess = fixture.store.find_caller_by_secret(CallerKind::ApiToken, &Sha256Hex::of_bytes(b"guess"), NOW).await;
    assert_eq!(guess.unwrap(), None);
    // The backend of the fixture and four of the six: cookies of links are not listed.
    assert_eq!(fixture.store.list_callers(&CallerFilter::default(), 10, None).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_revoked_or_expired_caller_is_not_found() {
    let fixture = StoreFixture::new().await;
    let short =
        NewCaller { expires_at_ms: Some(NOW + 10), ..fixture.new_caller(caller_id(1), Role::Operator, "short") };
    fixture.store.create_caller(&short).await.unwrap();
    assert!(fixture.store.find_caller_by_secret(short.kind, &short.secret, NOW + 9).await.unwrap().is_some());
    assert_eq!(fixture.store.find_caller_by_secret(short.kind, &short.secret, NOW + 10).await.unwrap(), None);

    let token = Sha256Hex::of_bytes(b"token-1");
    assert_eq!(fixture.store.revoke_caller(&fixture.owner, NOW).await.unwrap(), std::slice::from_ref(&fixture.owner));
    assert_eq!(fixture.store.revoke_caller(&fixture.owner, NOW + 1).await.unwrap(), []);
    assert_eq!(fixture.store.find_caller_by_secret(CallerKind::ApiToken, &token, NOW).await.unwrap(), None);
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
    let helper = LoginScope::Helper { session: session.clone(), name: "Bob".to_owned() };
    for scope in [LoginScope::Operator { name: "Ada".to_owned() }, LoginScope::Session { session }, helper] {
        let hash = Sha256Hex::of_bytes(format!("{scope:?}").as_bytes());
        let new = NewLoginToken { hash: hash.clone(), scope: scope.clone(), creator: None, expires_at_ms: NOW + 10 };
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
        let caller = redeemed.first().expect("one attempt succeeds").caller.clone();
        assert_eq!(redeemed, [RedeemedLoginToken { scope, creator: None, caller }]);
    }
    let old = NewLoginToken {
        hash: Sha256Hex::of_bytes(b"old"),
        scope: LoginScope::Operator { name: String::new() },
        creator: None,
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
        creator: None,
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
    // Revoked, but it owns sessions: its row stays. Its ticket was used up by that.
    fixture.store.revoke_caller(&fixture.owner, NOW).await.unwrap();

    let purged = fixture.store.purge_expired(NOW + 1).await.unwrap();
    assert_eq!(purged, PurgeCounts { login_tokens: 2, tickets: 2, callers: 1 });
    assert_eq!(fixture.store.purge_expired(NOW + 1).await.unwrap(), PurgeCounts::default());
    assert!(fixture.store.redeem_login_token(&Sha256Hex::of_bytes(b"good"), NOW + 1).await.unwrap().is_some());
    assert!(fixture.store.get_caller(&fixture.owner).await.unwrap().is_some());
}

#[tokio::test]
async fn whatever_a_revoked_caller_made_is_revoked_with_it() {
    let fixture = StoreFixture::new().await;
    let session = fixture.session().await.id;
    let child = |number: u8, parent: &CallerId| NewCaller {
        parent: Some(parent.clone()),
        ..fixture.new_caller(caller_id(number), Role::Viewer(session.clone()), &format!("secret {number}"))
    };
    let (first, second) = (child(1, &fixture.owner), child(2, &caller_id(1)));
    let apart = fixture.new_caller(caller_id(3), Role::Viewer(session.clone()), "apart");
    for new in [&first, &second, &apart] {
        fixture.store.create_caller(new).await.unwrap();
    }
    let link = NewLoginToken {
        hash: Sha256Hex::of_bytes(b"link"),
        scope: LoginScope::Session { session: session.clone() },
        creator: Some(first.id.clone()),
        expires_at_ms: NOW + HOUR,
    };
    fixture.store.create_login_token(&link).await.unwrap();
    let ticket =
        NewTicket { caller: second.id.clone(), ..ticket(&fixture, "ticket", &session, TicketPurpose::Desktop) };
    fixture.store.create_ticket(&ticket).await.unwrap();

    let mut revoked = fixture.store.revoke_caller(&fixture.owner, NOW).await.unwrap();
    let mut expected = vec![fixture.owner.clone(), first.id.clone(), second.id.clone()];
    revoked.sort();
    expected.sort();
    assert_eq!(revoked, expected);
    assert_eq!(fixture.store.redeem_login_token(&link.hash, NOW).await.unwrap(), None);
    assert_eq!(fixture.store.redeem_ticket(&ticket.hash, &session, TicketPurpose::Desktop, NOW).await.unwrap(), None);
    let ended = fixture.store.find_ended_callers(&[first.id.clone(), apart.id.clone()], NOW).await.unwrap();
    assert_eq!(ended, [(first.id.clone(), CallerEnd::Revoked)]);
    let late = fixture.store.create_caller(&child(4, &first.id)).await.unwrap_err();
    assert!(matches!(late, StoreError::CallerInvalid(id) if id == first.id));
}

#[tokio::test]
async fn nothing_outlives_the_api_token_that_made_it() {
    let fixture = StoreFixture::new().await;
    let session = fixture.session().await.id;
    let token = NewCaller { expires_at_ms: Some(NOW + 10), ..fixture.new_caller(caller_id(1), Role::Backend, "short") };
    fixture.store.create_caller(&token).await.unwrap();
    let link = NewLoginToken {
        hash: Sha256Hex::of_bytes(b"link"),
        scope: LoginScope::Session { session: session.clone() },
        creator: Some(token.id.clone()),
        expires_at_ms: NOW + HOUR,
    };
    fixture.store.create_login_token(&link).await.unwrap();
    let cookie = NewCaller {
        parent: Some(token.id.clone()),
        expires_at_ms: Some(NOW + HOUR),
        ..fixture.new_caller(caller_id(2), Role::Viewer(session), "cookie")
    };
    assert_eq!(fixture.store.create_caller(&cookie).await.unwrap().expires_at_ms, Some(NOW + 10));
    assert_eq!(fixture.store.redeem_login_token(&link.hash, NOW + 10).await.unwrap(), None);
    let ended = fixture.store.find_ended_callers(std::slice::from_ref(&cookie.id), NOW + 10).await.unwrap();
    assert_eq!(ended, [(cookie.id, CallerEnd::Expired)]);
}

#[tokio::test]
async fn all_browsers_of_a_person_have_one_account_also_after_the_first_signed_out() {
    let fixture = StoreFixture::new().await;
    let sign_in = async |number: u8, issuer: &str, subject: &str| {
        let person = Person { issuer: issuer.to_owned(), subject: subject.to_owned() };
        let caller = NewCaller {
            kind: CallerKind::BrowserCookie,
            ..fixture.new_caller(caller_id(number), Role::User, &format!("browser {number}"))
        };
        let browser = NewBrowser {
            caller: caller.id.clone(),
            key: Sha256Hex::of_bytes(&[number]),
            description: "Firefox on Linux".to_owned(),
            address: "192.0.2.1".to_owned(),
            person: Some(person.clone()),
            confirmed_at_ms: NOW,
            now_ms: NOW,
        };
        fixture.store.create_browser_of_person(&caller, &browser, &person).await.unwrap()
    };
    let first = sign_in(1, "https://a.example", "ada").await;
    assert_eq!(first.account, first.id);
    let second = sign_in(2, "https://a.example", "ada").await;
    assert_eq!(second.account, first.id);
    for (number, issuer, subject) in [(3, "https://a.example", "bob"), (4, "https://b.example", "ada")] {
        let other = sign_in(number, issuer, subject).await;
        assert_eq!(other.account, other.id, "{issuer} {subject}");
    }
    let ada = Person { issuer: "https://a.example".to_owned(), subject: "ada".to_owned() };
    let own = fixture.store.list_browsers(Some(&ada), NOW, 0, 10).await.unwrap();
    assert_eq!(own.len(), 2);
    assert_eq!(fixture.store.list_browsers(None, NOW, 0, 10).await.unwrap(), [], "no browser signed in with a link");

    fixture.store.revoke_caller(&first.id, NOW).await.unwrap();
    fixture.store.purge_expired(NOW + 1).await.unwrap();
    assert_eq!(sign_in(5, "https://a.example", "ada").await.account, first.id, "the account of the second browser");

    fixture.store.record_confirmation(&second.id, NOW + 5).await.unwrap();
    fixture.store.record_confirmation(&second.id, NOW + 3).await.unwrap();
    assert_eq!(fixture.store.get_browser(&second.id).await.unwrap().unwrap().confirmed_at_ms, NOW + 5);
}
