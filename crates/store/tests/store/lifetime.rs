//! The lifetime of a stored credential: delivery, renewal, refresh, health.

use crate::{
    database,
    fixture::{NOW, StoreFixture, entry, retained_credential, session_id},
};
use anteroom_store::{
    CompleteOutcome, CompleteUse, CompleteUseOutcome, CompleteWithCredential, CredentialUse, DeleteOutcome,
    DeletionPolicy, ExpectedState, HealthKind, HealthUpdate, LeasedCredential, NewCredential, NewSession, OwnerFilter,
    RefreshCredential, RefreshOutcome, Revisions, SessionChange, SessionOutcome, SessionPurpose, SessionRow, Sha256Hex,
};
use anteroom_vault::Binding;
use anteroom_wire::{
    CallerId, CredentialId, EndReason, ProviderId, SessionId, TimelineKind, agent::UsePurpose, api::CredentialFile,
};
use serde_json::{Value, json};
use sqlx::Executor;

pub(crate) const TOKEN: &[u8] = b"agent";
/// The account that [`StoreFixture::complete`] stores.
const ACCOUNT: &str = "ada.lovelace@example.org";

/// The completion of a credential use whose command succeeded.
fn completed_use<'a>(session: &'a SessionId, agent_token: &'a Sha256Hex) -> CompleteUse<'a> {
    CompleteUse { session, generation: 1, agent_token, exit_code: 0, webhook_messages: &[], at_ms: NOW + 70 }
}

impl StoreFixture {
    /// An active session with this purpose and a machine.
    pub(crate) async fn with_purpose(&self, purpose: SessionPurpose) -> SessionRow {
        self.started_with_machine(NewSession { purpose, ..self.new_session() }).await
    }

    pub(crate) async fn started_with_machine(&self, new: NewSession) -> SessionRow {
        let row = self.create(&new).await;
        let change = SessionChange::new().with_agent_token(Some(Sha256Hex::of_bytes(TOKEN)));
        self.done(&row.id, ExpectedState::Active, change, TimelineKind::MachineReady).await
    }

    pub(crate) async fn renewing(&self, credential: &CredentialId) -> SessionRow {
        self.with_purpose(SessionPurpose::SignIn { renews: Some(credential.clone()) }).await
    }

    pub(crate) async fn using(&self, credential: &CredentialId) -> SessionRow {
        let revision = self.store.get_credential(credential).await.unwrap().unwrap().revision;
        let credential = credential.clone();
        self.with_purpose(SessionPurpose::UseCredential(CredentialUse {
            purpose: UsePurpose::Exec,
            credential,
            revision,
        }))
        .await
    }

    pub(crate) async fn complete(
        &self,
        row: &SessionRow,
        id: &CredentialId,
        deletion_policy: DeletionPolicy,
        plaintext: &[u8],
    ) -> CompleteOutcome {
        let revision = self.next_revision(id).await;
        let (sealed, files) = (self.seal_revision(row, id, revision, plaintext), files(plaintext));
        let completion = CompleteWithCredential {
            session: &row.id,
            generation: 1,
            agent_token: &Sha256Hex::of_bytes(TOKEN),
            credential: NewCredential {
                id,
                sealed: &sealed,
                revision,
                files: &files,
                deletion_policy,
                expires_at_ms: Some(NOW + 100),
                account: Some(ACCOUNT),
            },
            webhook_messages: &[],
            at_ms: NOW + 50,
        };
        self.store.complete_with_credential(&completion, entry(TimelineKind::Completed)).await.unwrap()
    }

    async fn next_revision(&self, id: &CredentialId) -> u64 {
        self.store.get_credential(id).await.unwrap().map_or(1, |row| row.revision + 1)
    }

    /// A stored `deliver_once` credential with the deadline `until_ms`.
    pub(crate) async fn once(&self, until_ms: u64, plaintext: &[u8]) -> CredentialId {
        let id = CredentialId::from_parts(NOW, crate::fixture::random());
        let row = self.with_purpose(SessionPurpose::default()).await;
        let stored = self.complete(&row, &id, DeletionPolicy::AfterDelivery { until_ms }, plaintext).await;
        assert!(matches!(stored, CompleteOutcome::Stored { .. }), "{stored:?}");
        id
    }

    pub(crate) async fn refresh(&self, row: &SessionRow, token: &[u8], plaintext: &[u8]) -> RefreshOutcome {
        let id = row.purpose.credential_use().unwrap().credential.clone();
        let revision = self.next_revision(&id).await;
        let (sealed, files) = (self.seal_revision(row, &id, revision, plaintext), files(plaintext));
        let refresh = RefreshCredential {
            session: &row.id,
            generation: 1,
            agent_token: &Sha256Hex::of_bytes(token),
            credential: NewCredential { revision, ..retained_credential(&id, &sealed, &files) },
            webhook_messages: &[],
            at_ms: NOW + 60,
        };
        let entry = |revisions: Revisions| entry(TimelineKind::CredentialRefreshed).with_data(json!(revisions.stored));
        self.store.refresh_credential(&refresh, entry).await.unwrap()
    }

    pub(crate) async fn refreshed(&self, row: &SessionRow, plaintext: &[u8]) -> Revisions {
        match self.refresh(row, TOKEN, plaintext).await {
            RefreshOutcome::Stored { revisions, .. } => revisions,
            other @ (RefreshOutcome::Ignored(_) | RefreshOutcome::WrongToken | RefreshOutcome::NothingToRefresh) => {
                panic!("{other:?}")
            }
        }
    }

    /// The plaintext, unsealed with the binding from the row.
    pub(crate) async fn plaintext(&self, id: &CredentialId) -> Option<Vec<u8>> {
        let record = self.store.get_sealed_credential(id).await.unwrap()?;
        let row = &record.credential;
        let binding = Binding {
            credential: id,
            owner: &row.owner,
            user_id: row.user_id.as_deref(),
            provider: &row.provider,
            session: &row.session,
            revision: row.revision,
        };
        Some(self.ring.unseal(&binding, &record.sealed).unwrap().to_vec())
    }

    /// Bytes that occur only in the sealed content of this credential.
    pub(crate) async fn tail(&self, id: &CredentialId) -> Vec<u8> {
        self.store.get_sealed_bytes(id).await.unwrap().unwrap().as_bytes()[140..].to_vec()
    }
}

fn files(plaintext: &[u8]) -> [CredentialFile; 1] {
    [CredentialFile { path: ".codex/auth.json".to_owned(), bytes: plaintext.len() as u64, mode: 0o600 }]
}

#[tokio::test]
async fn only_one_of_concurrent_leases_gets_a_deliver_once_credential_and_the_bytes_are_erased() {
    let fixture = std::sync::Arc::new(StoreFixture::new().await);
    let id = fixture.once(NOW + 1_000, &[7; 64]).await;
    let tail = fixture.tail(&id).await;
    assert!(!database::IS_FILE || fixture.on_disk(&tail));
    let leases: Vec<_> = (0..20)
        .map(|_| {
            let (fixture, id) = (std::sync::Arc::clone(&fixture), id.clone());
            tokio::spawn(async move { fixture.store.lease_credential(&id, &fixture.owner, NOW + 9).await.unwrap() })
        })
        .collect();
    let mut given = Vec::new();
    for lease in leases {
        given.extend(lease.await.unwrap());
    }
    let [LeasedCredential { credential, lease_number: 1, .. }] = given.as_slice() else {
        panic!("{} leases", given.len())
    };
    assert_eq!(credential.deleted_at_ms, Some(NOW + 9));
    assert!(!fixture.on_disk(&tail), "the sealed bytes were erased from the files");
    assert_eq!(fixture.store.list_leases(&id, 10).await.unwrap().len(), 1, "only one is recorded");
    assert_eq!(fixture.store.list_credentials(OwnerFilter::All, 10).await.unwrap(), []);
    assert_eq!(fixture.store.delete_credential(&id, NOW).await.unwrap(), DeleteOutcome::AlreadyDeleted);
    assert_eq!(fixture.store.delete_expired_credentials(NOW + 9_000, 10, |_| Vec::new()).await.unwrap(), []);
}

#[tokio::test]
async fn an_expired_deliver_once_credential_is_not_leased_and_is_erased() {
    let fixture = StoreFixture::new().await;
    let (late, later) = (fixture.once(NOW + 10, &[1; 64]).await, fixture.once(NOW + 20, &[2; 64]).await);
    let (_, kept) = fixture.completed(b"stays").await;
    let tail = fixture.tail(&late).await;
    assert_eq!(fixture.store.delete_expired_credentials(NOW + 9, 10, |_| Vec::new()).await.unwrap(), []);
    assert_eq!(
        fixture.store.lease_credential(&late, &fixture.owner, NOW + 10).await.unwrap(),
        None,
        "its deadline has passed"
    );
    assert_eq!(fixture.store.list_leases(&late, 1).await.unwrap(), []);
    let deleted = fixture.store.delete_expired_credentials(NOW + 10, 10, |_| Vec::new()).await.unwrap();
    assert_eq!(deleted.iter().map(|row| &row.id).collect::<Vec<_>>(), [&late]);
    assert!(!fixture.on_disk(&tail));
    assert_eq!(fixture.store.get_credential(&late).await.unwrap().unwrap().deleted_at_ms, Some(NOW + 10));
    assert!(fixture.plaintext(&later).await.is_some() && fixture.plaintext(&kept).await.is_some());
    assert!(fixture.store.lease_credential(&later, &fixture.owner, NOW + 19).await.unwrap().is_some());
}

#[tokio::test]
async fn a_renewal_keeps_the_id_and_erases_the_old_bytes() {
    let fixture = StoreFixture::new().await;
    let (first, id) = fixture.completed(&[3; 64]).await;
    let tail = fixture.tail(&id).await;
    assert!(!database::IS_FILE || fixture.on_disk(&tail), "the search works");
    let update = HealthUpdate {
        credential: &id,
        revision: 1,
        health: HealthKind::NeedsAuth,
        detail: "It said: no.",
        checked_at_ms: Some(NOW + 40),
        webhook_messages: &[],
    };
    assert!(fixture.store.set_credential_health(&update).await.unwrap());
    let row = fixture.renewing(&id).await;
    let CompleteOutcome::Stored { credential, row, .. } =
        fixture.complete(&row, &id, DeletionPolicy::ByOwner, &[4; 64]).await
    else {
        panic!()
    };
    assert_eq!(row.end().unwrap().outcome, SessionOutcome::Completed(id.clone()));
    assert_eq!(fixture.store.get_credential(&id).await.unwrap().as_ref(), Some(&*credential));
    assert_eq!((&credential.session, credential.revision, credential.health), (&row.id, 2, HealthKind::Valid));
    assert_eq!((credential.stored_at_ms, credential.checked_at_ms), (NOW + 50, NOW + 50));
    assert_eq!((credential.health_detail.as_deref(), credential.expires_at_ms), (None, Some(NOW + 100)));
    assert_eq!(fixture.plaintext(&id).await.unwrap(), [4; 64]);
    assert!(!fixture.on_disk(&tail), "the old bytes were erased from the files");
    for session in [&first.id, &row.id] {
        assert_eq!(
            fixture.store.get_credential_of_session(session).await.unwrap().unwrap().id,
            id,
            "both completed with it"
        );
    }
    assert_eq!(fixture.store.list_credentials(OwnerFilter::All, 10).await.unwrap().len(), 1);
    assert!(
        !fixture.store.set_credential_health(&update).await.unwrap(),
        "the health of the old revision does not apply to the new one"
    );
}

#[tokio::test]
async fn a_deleted_credential_or_one_of_another_owner_or_provider_is_not_renewed() {
    let fixture = StoreFixture::new().await;
    let (_, id) = fixture.completed(b"mine").await;
    let other = CallerId::from_parts(NOW, [5; 10]);
    let caller = fixture.new_caller(other.clone(), anteroom_store::Role::Backend, "token-2");
    fixture.store.create_caller(&caller).await.unwrap();
    let purpose = SessionPurpose::SignIn { renews: Some(id.clone()) };
    let foreign = NewSession { owner: other, purpose: purpose.clone(), ..fixture.new_session() };
    let provider: ProviderId = "gemini_cli".parse().unwrap();
    let other_tool = NewSession { provider, purpose, ..fixture.new_session() };
    for new in [foreign, other_tool] {
        let row = fixture.started_with_machine(new).await;
        assert_eq!(
            fixture.complete(&row, &id, DeletionPolicy::ByOwner, b"theirs").await,
            CompleteOutcome::NothingToRenew
        );
        assert!(fixture.store.get_session(&row.id).await.unwrap().unwrap().is_active());
        assert_eq!(fixture.plaintext(&id).await.unwrap(), b"mine");
    }
    let row = fixture.renewing(&id).await;
    fixture.store.delete_credential(&id, NOW).await.unwrap();
    assert_eq!(fixture.complete(&row, &id, DeletionPolicy::ByOwner, b"late").await, CompleteOutcome::NothingToRenew);
    assert_eq!(fixture.plaintext(&id).await, None);
}

#[tokio::test]
async fn a_credential_use_refreshes_repeatedly_and_then_completes() {
    let fixture = StoreFixture::new().await;
    let (_, id) = fixture.completed(&[1; 64]).await;
    let row = fixture.using(&id).await;
    let mut tails = Vec::new();
    for now in 2..=4_u8 {
        tails.push(fixture.tail(&id).await);
        let installed = u64::from(now) - 1;
        let expected = Revisions { installed, replaced: installed, stored: now.into() };
        assert_eq!(fixture.refreshed(&row, &[now; 64]).await, expected);
        assert_eq!(fixture.plaintext(&id).await.unwrap(), [now; 64]);
    }
    assert!(tails.iter().all(|tail| !fixture.on_disk(tail)), "the files contain no older bytes");
    let now = fixture.store.get_session(&row.id).await.unwrap().unwrap();
    assert!(now.is_active() && now.purpose.credential_use().unwrap().revision == 4);
    assert_eq!(fixture.refresh(&row, b"guess", b"x").await, RefreshOutcome::WrongToken);

    let token = Sha256Hex::of_bytes(TOKEN);
    let over = CompleteUse { exit_code: 137, ..completed_use(&row.id, &token) };
    let guess = Sha256Hex::of_bytes(b"guess");
    let wrong = CompleteUse { agent_token: &guess, ..over };
    assert_eq!(
        fixture.store.complete_use(&wrong, entry(TimelineKind::Completed)).await.unwrap(),
        CompleteUseOutcome::WrongToken
    );
    let CompleteUseOutcome::Completed { row: ended, .. } =
        fixture.store.complete_use(&over, entry(TimelineKind::Completed)).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(fixture.store.get_session(&row.id).await.unwrap().as_ref(), Some(&*ended));
    let end = ended.end().unwrap();
    assert_eq!((&end.outcome, end.reason.kind), (&SessionOutcome::Completed(id.clone()), EndReason::UseCompleted));
    assert_eq!(ended.exit_code, Some(137));
    let counts = fixture.store.count_ended_sessions(0).await.unwrap();
    assert_eq!((counts.completed, counts.uses), (1, 1), "a use is no sign-in");
    let again = fixture.store.complete_use(&over, entry(TimelineKind::Completed)).await.unwrap();
    assert_eq!(again, CompleteUseOutcome::Ignored(ended.clone()));
    assert_eq!(fixture.refresh(&row, TOKEN, b"late").await, RefreshOutcome::Ignored(ended));
    let timeline = fixture.store.list_timeline(&row.id, 2, 10).await.unwrap();
    let recorded: Vec<_> = timeline.into_iter().map(|entry| (entry.kind, entry.data)).collect();
    let refreshed = |revision: u64| (TimelineKind::CredentialRefreshed, json!(revision));
    assert_eq!(recorded, [refreshed(2), refreshed(3), refreshed(4), (TimelineKind::Completed, Value::Null)]);
}

#[tokio::test]
async fn account_stays_with_the_credential_until_it_is_renewed_or_deleted() {
    let fixture = StoreFixture::new().await;
    let (_, id) = fixture.completed(&[1; 64]).await;
    let account = async || fixture.store.get_credential(&id).await.unwrap().unwrap().account;
    assert_eq!(account().await, None);
    let row = fixture.renewing(&id).await;
    fixture.complete(&row, &id, DeletionPolicy::ByOwner, &[2; 64]).await;
    assert_eq!(account().await.as_deref(), Some(ACCOUNT));
    let row = fixture.using(&id).await;
    fixture.refreshed(&row, &[3; 64]).await;
    assert_eq!(account().await.as_deref(), Some(ACCOUNT), "the refreshed file has no name");
    fixture.store.delete_credential(&id, NOW).await.unwrap();
    assert_eq!(account().await, None);
    assert!(!fixture.on_disk(ACCOUNT.as_bytes()));
}

#[tokio::test]
async fn the_last_of_two_refreshes_wins_and_returns_the_replaced_revision() {
    let fixture = StoreFixture::new().await;
    let (_, id) = fixture.completed(b"one").await;
    let (a, b) = (fixture.using(&id).await, fixture.using(&id).await);
    assert_eq!(fixture.refreshed(&a, b"of a").await, Revisions { installed: 1, replaced: 1, stored: 2 });
    assert_eq!(fixture.refreshed(&b, b"of b").await, Revisions { installed: 1, replaced: 2, stored: 3 });
    assert_eq!(fixture.refreshed(&b, b"of b again").await, Revisions { installed: 3, replaced: 3, stored: 4 });
    assert_eq!(fixture.refreshed(&a, b"of a again").await, Revisions { installed: 2, replaced: 4, stored: 5 });
    assert_eq!(fixture.plaintext(&id).await.unwrap(), b"of a again");
    fixture.store.delete_credential(&id, NOW).await.unwrap();
    assert_eq!(fixture.refresh(&a, TOKEN, b"late").await, RefreshOutcome::NothingToRefresh);
    assert_eq!(fixture.plaintext(&id).await, None, "a deleted credential stays deleted");
}

#[tokio::test]
async fn an_operation_for_another_purpose_is_rejected_without_effect() {
    let fixture = StoreFixture::new().await;
    let (_, id) = fixture.completed(b"one").await;
    let (signs_in, uses) = (fixture.session_with_machine("agent").await, fixture.using(&id).await);
    let token = Sha256Hex::of_bytes(TOKEN);
    let over = completed_use(&signs_in.id, &token);
    fixture.store.complete_use(&over, entry(TimelineKind::Completed)).await.unwrap_err();
    let sealed = fixture.seal(&uses, &id, b"two");
    let credential = retained_credential(&id, &sealed, &[]);
    let completion = CompleteWithCredential {
        session: &uses.id,
        generation: 1,
        agent_token: &token,
        credential,
        webhook_messages: &[],
        at_ms: NOW,
    };
    fixture.store.complete_with_credential(&completion, entry(TimelineKind::Completed)).await.unwrap_err();
    for row in [signs_in, uses] {
        assert_eq!(fixture.store.get_session(&row.id).await.unwrap(), Some(row));
    }
    assert_eq!(fixture.plaintext(&id).await.unwrap(), b"one");
}

#[tokio::test]
async fn every_purpose_and_every_health_reads_back() {
    let fixture = StoreFixture::new().await;
    let (_, id) = fixture.completed(b"one").await;
    for purpose in [UsePurpose::Exec, UsePurpose::Check, UsePurpose::Logout] {
        let purpose = SessionPurpose::UseCredential(CredentialUse { purpose, credential: id.clone(), revision: 1 });
        let row = fixture.with_purpose(purpose.clone()).await;
        assert_eq!(fixture.store.get_session(&row.id).await.unwrap().unwrap().purpose, purpose);
    }
    for health in HealthKind::ALL.iter().copied() {
        let detail = "x".repeat(3_000);
        let update = HealthUpdate {
            credential: &id,
            revision: 1,
            health,
            detail: &detail,
            checked_at_ms: None,
            webhook_messages: &[],
        };
        assert!(fixture.store.set_credential_health(&update).await.unwrap());
        let row = fixture.store.get_credential(&id).await.unwrap().unwrap();
        assert_eq!((row.health, row.checked_at_ms), (health, NOW + 5), "the tool was not asked");
        assert_eq!(row.health_detail.unwrap().len(), 1_000);
    }
}

#[tokio::test]
async fn expiring_credentials_are_listed_until_their_health_is_stored() {
    let fixture = StoreFixture::new().await;
    let row = fixture.with_purpose(SessionPurpose::default()).await;
    let id = CredentialId::from_parts(NOW, [9; 10]);
    // It expires at NOW + 100.
    fixture.complete(&row, &id, DeletionPolicy::ByOwner, b"one").await;
    fixture.completed(b"never expires").await;
    let expiring = async |now, soon| {
        let rows = fixture.store.list_expiring_credentials(now, soon, 10).await.unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let set_health = async |health| {
        let update = HealthUpdate {
            credential: &id,
            revision: 1,
            health,
            detail: "It expires.",
            checked_at_ms: None,
            webhook_messages: &[],
        };
        assert!(fixture.store.set_credential_health(&update).await.unwrap());
    };
    assert_eq!(expiring(NOW, NOW + 99).await, []);
    assert_eq!(expiring(NOW, NOW + 100).await, std::slice::from_ref(&id));
    set_health(HealthKind::Expiring).await;
    assert_eq!(expiring(NOW, NOW + 100).await, [], "listed once");
    assert_eq!(expiring(NOW + 100, NOW + 200).await, std::slice::from_ref(&id), "and once more when it has expired");
    set_health(HealthKind::NeedsAuth).await;
    assert_eq!(expiring(NOW + 100, NOW + 200).await, []);
}

#[tokio::test]
async fn a_rotation_does_not_undo_a_renewal() {
    let fixture = StoreFixture::new().await;
    let (_, id) = fixture.completed(b"old").await;
    let [(_, sealed)] = &fixture.store.list_sealed_with_key(fixture.ring.primary_key_id(), None, 10).await.unwrap()[..]
    else {
        panic!()
    };
    let row = fixture.renewing(&id).await;
    fixture.complete(&row, &id, DeletionPolicy::ByOwner, b"new").await;
    let again = fixture.ring.rewrap(sealed).unwrap();
    assert!(!fixture.store.replace_sealed_bytes(&id, sealed, &again).await.unwrap());
    assert_eq!(fixture.plaintext(&id).await.unwrap(), b"new");
}

#[tokio::test]
async fn constraints_protect_credentials_and_their_sessions_from_direct_sql() {
    let fixture = StoreFixture::new().await;
    let (_, id) = fixture.completed(b"one").await;
    let (_, other) = fixture.completed(b"two").await;
    let (uses, signs_in) = (fixture.using(&id).await, fixture.session_with_machine("agent").await);
    let mut sql = fixture.sql().await;
    for text in [
        format!("UPDATE sessions SET purpose = 'check' WHERE id = '{}'", uses.id),
        format!("UPDATE sessions SET used_credential_id = '{other}' WHERE id = '{}'", uses.id),
        format!("UPDATE sessions SET used_revision = NULL WHERE id = '{}'", uses.id),
        format!("UPDATE sessions SET exit_code = 1 WHERE id = '{}'", uses.id),
        format!("UPDATE sessions SET renewed_credential_id = '{id}' WHERE id = '{}'", signs_in.id),
        format!(
            "UPDATE sessions SET state = 'completed', reason_code = 'use_completed', ended_at_ms = 1, credential_id = '{other}' \
             WHERE id = '{}'",
            uses.id
        ),
        format!("UPDATE credentials SET session_id = '{}' WHERE id = '{id}'", uses.id),
        format!("UPDATE credentials SET revision = 3 WHERE id = '{id}'"),
        format!("UPDATE credentials SET revision = 0 WHERE id = '{id}'"),
        format!("UPDATE credentials SET provider = 'gemini_cli' WHERE id = '{id}'"),
        format!("UPDATE credentials SET policy = 'deliver_once' WHERE id = '{id}'"),
        format!("UPDATE credentials SET deliver_until_ms = 1 WHERE id = '{id}'"),
        format!("UPDATE credentials SET health = 'good' WHERE id = '{id}'"),
        format!("DELETE FROM credentials WHERE id = '{id}'"),
        "INSERT INTO outbox (id, kind, created_at_ms, due_at_ms) VALUES ('m', 'k', 1, 1)".to_owned(),
    ] {
        assert!(sql.execute(sqlx::AssertSqlSafe(text.clone())).await.is_err(), "{text}");
    }
    assert_eq!(fixture.store.get_session(&uses.id).await.unwrap(), Some(uses));
    assert_eq!(fixture.store.get_credential_of_session(&session_id()).await.unwrap(), None);
}
