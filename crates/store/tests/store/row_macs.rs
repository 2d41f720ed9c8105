//! Rows that are changed, inserted, copied, swapped or removed with SQL are noticed.

use crate::{
    database,
    fixture::{HOUR, NOW, StoreFixture, entry, random},
};
use anteroom_store::{
    CallerEnd, CallerFilter, CallerKind, LoginScope, NewBrowser, NewLoginToken, NewTicket, Person, Role, Sha256Hex,
    StoreError, TamperedRow, TicketPurpose,
};
use anteroom_wire::{CallerId, Secret, SessionId, TimelineKind};
use sqlx::{AnyConnection, AssertSqlSafe, Executor};

/// A connection of a person who can do everything to the database, and a store with rows in all tables.
pub(crate) async fn attacked() -> (StoreFixture, AnyConnection, SessionId) {
    let fixture = StoreFixture::new().await;
    let (session, _) = fixture.completed(b"secret").await;
    let operator = CallerId::from_parts(NOW, random());
    let new = fixture.new_caller(operator.clone(), Role::Operator, "operator");
    fixture.store.create_caller(&new).await.unwrap();
    let browser = NewBrowser {
        caller: operator.clone(),
        key: Sha256Hex::of_bytes(b"key"),
        description: "Firefox".to_owned(),
        address: "192.0.2.1".to_owned(),
        person: Some(Person { issuer: "https://id.example.org".to_owned(), subject: "7".to_owned() }),
        confirmed_at_ms: NOW,
        now_ms: NOW,
    };
    fixture.store.create_browser(&browser).await.unwrap();
    fixture.store.record_consent(&operator, NOW).await.unwrap();
    let link = NewLoginToken {
        hash: Sha256Hex::of_bytes(b"link"),
        scope: LoginScope::Operator { name: "Ada".to_owned() },
        creator: Some(operator.clone()),
        expires_at_ms: NOW + HOUR,
    };
    fixture.store.create_login_token(&link).await.unwrap();
    let ticket = NewTicket {
        hash: Sha256Hex::of_bytes(b"ticket"),
        session: session.id.clone(),
        caller: operator,
        purpose: TicketPurpose::Desktop,
        expires_at_ms: NOW + HOUR,
    };
    fixture.store.create_ticket(&ticket).await.unwrap();
    fixture.store.append_entry(&session.id, entry(TimelineKind::CredentialLeased)).await.unwrap();
    let mut sql = fixture.sql().await;
    database::remove_rules(&mut sql).await;
    (fixture, sql, session.id)
}

pub(crate) async fn run(sql: &mut AnyConnection, text: &str) -> u64 {
    sql.execute(AssertSqlSafe(text.to_owned())).await.unwrap_or_else(|error| panic!("{text}: {error}")).rows_affected()
}

#[tokio::test]
async fn caller_that_was_changed_is_refused_everywhere_and_its_change_is_not_laundered() {
    let (fixture, mut sql, _) = attacked().await;
    let store = &fixture.store;
    let hash = Sha256Hex::of_secret(&Secret::new("token-1".to_owned()));
    let tampered = |error: StoreError| matches!(error, StoreError::TamperedRow { table: "callers", .. });
    run(&mut sql, &format!("UPDATE callers SET role = 'operator' WHERE id = '{}'", fixture.owner)).await;
    assert!(tampered(store.find_caller_by_secret(CallerKind::ApiToken, &hash, NOW).await.unwrap_err()));
    assert!(tampered(store.get_caller(&fixture.owner).await.unwrap_err()));
    assert!(
        store
            .list_callers(&CallerFilter::default(), 100, None)
            .await
            .unwrap()
            .iter()
            .all(|row| row.id != fixture.owner)
    );
    let ended = store.find_ended_callers(std::slice::from_ref(&fixture.owner), NOW).await.unwrap();
    assert_eq!(ended, [(fixture.owner.clone(), CallerEnd::Revoked)], "its connections are closed");
    // A write of this program does not give it a valid MAC.
    store.record_caller_use(&fixture.owner, NOW).await.unwrap();
    assert_eq!(store.revoke_caller(&fixture.owner, NOW).await.unwrap(), std::slice::from_ref(&fixture.owner));
    assert!(tampered(store.get_caller(&fixture.owner).await.unwrap_err()));
    let named = TamperedRow { table: "callers", row: fixture.owner.to_string() };
    assert_eq!(store.tampered_rows(), [named]);
}

#[tokio::test]
async fn used_link_or_ticket_is_not_usable_again_when_its_use_is_removed() {
    let (fixture, mut sql, session) = attacked().await;
    let (link, ticket) = (Sha256Hex::of_bytes(b"link"), Sha256Hex::of_bytes(b"ticket"));
    assert!(fixture.store.redeem_login_token(&link, NOW).await.unwrap().is_some());
    let redeem = || fixture.store.redeem_ticket(&ticket, &session, TicketPurpose::Desktop, NOW);
    assert!(redeem().await.unwrap().is_some());
    assert_eq!(redeem().await.unwrap(), None);
    run(&mut sql, "UPDATE login_tokens SET used_at_ms = NULL").await;
    run(&mut sql, "UPDATE tickets SET used_at_ms = NULL").await;
    let again = fixture.store.redeem_login_token(&link, NOW).await;
    assert!(matches!(again, Err(StoreError::TamperedRow { table: "login_tokens", .. })), "{again:?}");
    let again = redeem().await;
    assert!(matches!(again, Err(StoreError::TamperedRow { table: "tickets", .. })), "{again:?}");
}

#[tokio::test]
async fn timeline_shows_entries_that_were_changed_swapped_copied_or_removed() {
    let (fixture, mut sql, id) = attacked().await;
    let kinds = async || {
        let entries = fixture.store.list_timeline(&id, 0, 100).await.unwrap();
        entries.iter().map(|entry| (entry.number, entry.kind)).collect::<Vec<_>>()
    };
    let before = kinds().await;
    let length = before.len() as u64;
    assert!(length >= 3 && before.iter().all(|(_, kind)| *kind != TimelineKind::EntryTampered), "{before:?}");
    run(&mut sql, "CREATE TABLE copy AS SELECT * FROM timeline").await;
    let restore = "INSERT INTO timeline SELECT * FROM copy";

    // Two entries swapped.
    run(&mut sql, &format!("UPDATE timeline SET number = CASE number WHEN 1 THEN -2 WHEN 2 THEN -1 ELSE number END WHERE session_id = '{id}'")).await;
    run(&mut sql, "UPDATE timeline SET number = -number WHERE number < 0").await;
    let swapped = kinds().await;
    assert_eq!(swapped[..2], [(1, TimelineKind::EntryTampered), (2, TimelineKind::EntryTampered)]);
    assert_eq!(swapped[2..], before[2..]);

    // One removed in the middle, and the last one.
    run(&mut sql, "DELETE FROM timeline").await;
    run(&mut sql, restore).await;
    run(&mut sql, &format!("DELETE FROM timeline WHERE session_id = '{id}' AND number IN (2, {length})")).await;
    let removed = kinds().await;
    assert_eq!(removed.len() as u64, length);
    assert_eq!(
        (removed[1], removed[length as usize - 1]),
        ((2, TimelineKind::EntryRemoved), (length, TimelineKind::EntryRemoved))
    );
    assert_eq!(
        fixture.store.list_timeline(&id, 1, 1).await.unwrap()[0].kind,
        TimelineKind::EntryRemoved,
        "in pages, too"
    );
    assert_eq!(fixture.store.list_timeline(&id, length - 1, 5).await.unwrap().len(), 1, "the end");
    assert!(fixture.store.tampered_rows().iter().any(|row| row.table == "timeline_heads"));
    // The next entry does not take the place of the removed one.
    let next =
        fixture.store.append_entry(&id, entry(TimelineKind::CredentialDeleted)).await.unwrap().into_row().unwrap();
    assert_eq!(next.number, length + 1);
    assert_eq!(kinds().await[length as usize - 1].1, TimelineKind::EntryRemoved);

    // All of them with their count.
    run(&mut sql, "DELETE FROM timeline").await;
    run(&mut sql, "DELETE FROM timeline_heads").await;
    assert_eq!(kinds().await, []);
    assert!(fixture.store.check_rows().await.unwrap().tampered > 0);
    fixture.store.append_entry(&id, entry(TimelineKind::CredentialDeleted)).await.unwrap();
    assert!(fixture.store.check_rows().await.unwrap().tampered > 0, "a later entry does not hide it");
}

/// What SECURITY.md promises not to notice: a row that was put back completely, with its MAC.
#[tokio::test]
async fn row_that_was_put_back_completely_is_accepted() {
    let (fixture, mut sql, _) = attacked().await;
    run(&mut sql, "CREATE TABLE copy AS SELECT * FROM callers").await;
    fixture.store.revoke_caller(&fixture.owner, NOW).await.unwrap();
    run(&mut sql, "DELETE FROM callers").await;
    run(&mut sql, "INSERT INTO callers SELECT * FROM copy").await;
    assert!(fixture.store.get_caller(&fixture.owner).await.unwrap().unwrap().is_valid_at(NOW));
}

#[tokio::test]
async fn rows_that_an_older_key_has_made_are_renewed_and_tampered_ones_stay_tampered() {
    let (fixture, mut sql, id) = attacked().await;
    let old = fixture.ring.primary_key_id();
    fixture.ring.install(fixture.ring.add_key().unwrap());
    run(&mut sql, &format!("UPDATE callers SET name = 'x' WHERE id = '{}'", fixture.owner)).await;
    assert!(fixture.store.count_rows_of_older_keys().await.unwrap() > 8);
    let checked = fixture.store.check_rows().await.unwrap();
    assert!(checked.tampered == 1 && checked.renewed > 8, "{checked:?}");
    assert_eq!(fixture.store.count_rows_of_older_keys().await.unwrap(), 0);
    fixture.ring.remove_key(old).unwrap();
    let checked = fixture.store.check_rows().await.unwrap();
    assert!(checked.tampered == 1 && checked.renewed == 0, "{checked:?}");
    let kinds = fixture.store.list_timeline(&id, 0, 100).await.unwrap();
    assert!(kinds.iter().all(|entry| entry.kind != TimelineKind::EntryTampered));
}
