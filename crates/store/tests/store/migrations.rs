//! A database of each older version, with rows as the program of then wrote them: opened, nothing is lost and nothing is made up.

use crate::fixture::{NOW, StoreFixture, event, settings};
use anteroom_store::{
    Change, Created, Deletion, Expect, ExternalMachineClaim, Health, NewSession, Retention, SCHEMA_VERSION,
    SessionOutcome, SessionPurpose, Sha256Hex, Store,
};
use anteroom_vault::{Binding, KeyRing};
use anteroom_wire::{CallerId, CredentialId, MessageId, SessionId};
use sqlx::{AnyConnection, Connection, Executor};
use std::path::PathBuf;

const STEPS: [&[&str]; 3] = [
    &[include_str!("../../migrations/0001_tables.sql"), include_str!("../../migrations/0001_triggers.sqlite.sql")],
    &[include_str!("../../migrations/0002_external_machines.sql")],
    &[
        include_str!("../../migrations/0003_credentials_over_time.sql"),
        include_str!("../../migrations/0003_triggers.sqlite.sql"),
    ],
];

/// What an older program left behind.
struct Old {
    directory: tempfile::TempDir,
    ring: KeyRing,
    owner: CallerId,
    active: SessionId,
    completed: SessionId,
    credential: CredentialId,
    deleted: CredentialId,
}

impl Old {
    async fn of_version(version: usize) -> Self {
        let id = |number: u8| [number; 10];
        let directory = tempfile::tempdir().unwrap();
        let old = Self {
            ring: KeyRing::open_or_create(&directory.path().join("keys.json")).unwrap(),
            directory,
            owner: CallerId::from_parts(NOW, id(1)),
            active: SessionId::from_parts(NOW, id(2)),
            completed: SessionId::from_parts(NOW, id(3)),
            credential: CredentialId::from_parts(NOW, id(4)),
            deleted: CredentialId::from_parts(NOW, id(5)),
        };
        sqlx::any::install_default_drivers();
        let mut sql = AnyConnection::connect(&format!("sqlite://{}?mode=rwc", old.path().display())).await.unwrap();
        sql.execute("CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)").await.unwrap();
        for text in STEPS[..version].iter().flat_map(|step| *step) {
            sqlx::raw_sql(*text).execute(&mut sql).await.unwrap();
        }
        old.fill(&mut sql, version).await;
        sql.close().await.unwrap();
        old
    }

    async fn fill(&self, sql: &mut AnyConnection, version: usize) {
        let Self { owner, active, completed, credential, deleted, .. } = self;
        let gone = SessionId::from_parts(NOW, [6; 10]);
        let ended = |session: &SessionId, credential: &CredentialId| {
            format!(
                "INSERT INTO sessions (id, caller_id, provider, state, reason_code, epoch, generation, cli_started, \
                 created_at_ms, last_used_at_ms, deadline_ms, ended_at_ms, credential_id) \
                 VALUES ('{session}', '{owner}', 'codex', 'completed', 'completed', 3, 1, 1, 1, 2, 3, 2, '{credential}')"
            )
        };
        for text in [
            format!("INSERT INTO meta VALUES ('schema_version', '{version}')"),
            format!(
                "INSERT INTO callers (id, role, name, token_hash, created_at_ms) VALUES ('{owner}', 'backend', 'b', '{}', 1)",
                Sha256Hex::of(b"t").as_str()
            ),
            format!(
                "INSERT INTO sessions (id, caller_id, provider, state, epoch, generation, cli_started, created_at_ms, \
                 last_used_at_ms, deadline_ms) VALUES ('{active}', '{owner}', 'codex', 'active', 2, 1, 0, 1, 2, 9)"
            ),
            ended(completed, credential),
            ended(&gone, deleted),
            format!("INSERT INTO timeline VALUES ('{active}', 1, 1, 'accepted', 'It was accepted.', 'null')"),
            format!(
                "INSERT INTO credentials (id, owner, provider, session_id, sealed, key_id, files, stored_at_ms, deleted_at_ms) \
                 VALUES ('{deleted}', '{owner}', 'codex', '{gone}', NULL, 1, '[]', 5, 6)"
            ),
        ] {
            sql.execute(sqlx::AssertSqlSafe(text)).await.unwrap();
        }
        let sealed = self.ring.seal(&self.binding(), b"of then").unwrap();
        sqlx::query(
            "INSERT INTO credentials (id, owner, user_id, provider, session_id, sealed, key_id, files, stored_at_ms) \
             VALUES ($1, $2, 'ada', 'codex', $3, $4, 1, '[{\"path\":\".codex/auth.json\",\"bytes\":7,\"mode\":384}]', 5)",
        )
        .bind(credential.as_str())
        .bind(owner.as_str())
        .bind(completed.as_str())
        .bind(sealed.as_bytes())
        .execute(&mut *sql)
        .await
        .unwrap();
        let lease = format!("INSERT INTO leases VALUES ('{credential}', 1, '{owner}', 7)");
        sql.execute(sqlx::AssertSqlSafe(lease)).await.unwrap();
        if version >= 3 {
            let message = format!(
                "INSERT INTO outbox (id, kind, session_id, credential_id, created_at_ms, due_at_ms, attempts) \
                 VALUES ('{}', 'credential.stored', '{completed}', '{credential}', 5, 6, 1)",
                MessageId::from_parts(NOW, [7; 10])
            );
            sql.execute(sqlx::AssertSqlSafe(message)).await.unwrap();
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("anteroom.db")
    }

    fn binding(&self) -> Binding<'_> {
        static CODEX: std::sync::LazyLock<anteroom_wire::ProviderId> =
            std::sync::LazyLock::new(crate::fixture::provider);
        Binding { record: &self.credential, owner: &self.owner, provider: &CODEX, session: &self.completed }
    }
}

#[tokio::test]
async fn rows_of_every_older_version_survive_and_mean_what_they_meant() {
    assert_eq!(STEPS.len() + 1, SCHEMA_VERSION as usize, "sample rows for each older version");
    for version in 1..=STEPS.len() {
        let old = Old::of_version(version).await;
        let store = Store::open(&old.path(), settings()).await.unwrap();
        let active = store.session(&old.active).await.unwrap().unwrap();
        assert!(active.is_active() && active.epoch == 2);
        assert_eq!((active.method, active.purpose, active.exit_code), (None, SessionPurpose::default(), None));
        assert_eq!(store.timeline(&old.active, 0, 10).await.unwrap().len(), 1);
        let completed = store.session(&old.completed).await.unwrap().unwrap();
        assert_eq!(completed.end().unwrap().outcome, SessionOutcome::Completed(old.credential.clone()));

        let kept = store.credential_of_session(&old.completed).await.unwrap().unwrap();
        assert_eq!((kept.stored_at_ms, kept.checked_at_ms, kept.revision), (5, 5, 1));
        assert_eq!((kept.retention, kept.health, kept.expires_at_ms), (Retention::UntilDeleted, Health::Valid, None));
        assert_eq!(kept.user_id.as_deref(), Some("ada"));
        let deleted = store.credential(&old.deleted).await.unwrap().unwrap();
        assert_eq!((deleted.deleted_at_ms, deleted.revision), (Some(6), 1));

        let leased = store.lease(&old.credential, &old.owner, NOW).await.unwrap().unwrap();
        assert_eq!(leased.number, 2, "the leases of then are on the record");
        assert_eq!(&*old.ring.unseal(&old.binding(), &leased.sealed).unwrap(), b"of then");
        assert_eq!(store.delete_credential(&old.credential, NOW).await.unwrap(), Deletion::Deleted);
        store.check().await.unwrap();
    }
}

#[tokio::test]
async fn an_older_database_takes_what_the_new_program_writes() {
    for version in 1..=STEPS.len() {
        let old = Old::of_version(version).await;
        let store = Store::open(&old.path(), settings()).await.unwrap();
        let fixture = StoreFixture::new().await;
        let external = Some(ExternalMachineClaim { machine: "desk".to_owned(), agent_token: Sha256Hex::of(b"token") });
        let method = Some(anteroom_wire::provider::MethodName::default());
        let renews = SessionPurpose::SignIn { renews: Some(old.credential.clone()) };
        let new = NewSession {
            owner: old.owner.clone(),
            external,
            method: method.clone(),
            purpose: renews.clone(),
            ..fixture.new_session()
        };
        let Created::New(row) = store.create_session(&new, event("accepted")).await.unwrap() else { panic!() };
        assert_eq!((row.external_machine.as_deref(), row.method, row.purpose), (Some("desk"), method, renews));
        let change = Change::new().cli_started(true);
        store.transition(&old.active, Expect::Epoch(2), change, event("changed")).await.unwrap();
        let ends = store.expiring_credentials(NOW, NOW, 9).await.unwrap();
        assert_eq!((store.due_messages(NOW, 9).await.unwrap().len(), ends), (usize::from(version >= 3), vec![]));
        let message = MessageId::from_parts(NOW, [7; 10]);
        assert_eq!(
            store.claim_for_webhook(&message, &old.credential, NOW).await.unwrap(),
            None,
            "it is not handed out once"
        );
        assert_eq!(store.message_delivered(&message, NOW).await.unwrap(), version >= 3);
    }
}
