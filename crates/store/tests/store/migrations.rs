//! Migration of databases of every older version, with rows as that version wrote them.

use crate::{
    fixture::{NOW, StoreFixture, entry, settings},
    upgrade::TO_17,
};
use anteroom_store::{
    CallerKind, CreateSessionOutcome, DeleteOutcome, DeletionPolicy, ExpectedState, ExternalMachineClaim, HealthKind,
    LoginScope, NewSession, RowsWithMacs, SCHEMA_VERSION, SessionChange, SessionOutcome, SessionPurpose, Sha256Hex,
    Store,
};
use anteroom_vault::{Binding, KeyRing};
use anteroom_wire::{CallerId, CredentialId, EndReason, MessageId, SessionId, TimelineKind};
use serde_json::json;
use sqlx::{AnyConnection, Connection, Executor};
use std::path::PathBuf;

const MIGRATIONS: [&[&str]; 19] = [
    &[include_str!("../../migrations/0001_tables.sql"), include_str!("../../migrations/0001_triggers.sqlite.sql")],
    &[include_str!("../../migrations/0002_external_machines.sql")],
    &[
        include_str!("../../migrations/0003_credentials_over_time.sql"),
        include_str!("../../migrations/0003_triggers.sqlite.sql"),
    ],
    &[
        include_str!("../../migrations/0004_carried_by_a_message.sql"),
        include_str!("../../migrations/0004_triggers.sqlite.sql"),
    ],
    &[include_str!("../../migrations/0005_names.sql"), include_str!("../../migrations/0005_names.sqlite.sql")],
    &[include_str!("../../migrations/0006_end_reasons.sqlite.sql")],
    &[include_str!("../../migrations/0007_callers.sqlite.sql")],
    &[include_str!("../../migrations/0008_erasure.sqlite.sql")],
    &[include_str!("../../migrations/0009_browsers.sql")],
    &[include_str!("../../migrations/0010_consents.sql")],
    &[include_str!("../../migrations/0011_agent_token_index.sql")],
    &[include_str!("../../migrations/0012_row_macs.sql"), include_str!("../../migrations/0012_row_macs.sqlite.sql")],
    &[
        include_str!("../../migrations/0013_session_macs.sql"),
        include_str!("../../migrations/0013_session_macs.sqlite.sql"),
    ],
    &[include_str!("../../migrations/0014_credential_account.sql")],
    &[
        include_str!("../../migrations/0015_session_settings.sql"),
        include_str!("../../migrations/0015_session_settings.sqlite.sql"),
    ],
    &[include_str!("../../migrations/0016_list_indices.sql")],
    &[include_str!("../../migrations/0017_webhook_receivers.sql")],
    &[include_str!("../../migrations/0018_hosts.sql"), include_str!("../../migrations/0018_hosts.sqlite.sql")],
    &[include_str!("../../migrations/0019_cluster_authority.sql")],
];

/// A database of an older version.
struct Old {
    directory: tempfile::TempDir,
    ring: KeyRing,
    owner: CallerId,
    active: SessionId,
    completed: SessionId,
    failed: SessionId,
    without_provider: SessionId,
    without_credential: SessionId,
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
            failed: SessionId::from_parts(NOW, id(8)),
            without_provider: SessionId::from_parts(NOW, id(9)),
            without_credential: SessionId::from_parts(NOW, id(10)),
            credential: CredentialId::from_parts(NOW, id(4)),
            deleted: CredentialId::from_parts(NOW, id(5)),
        };
        sqlx::any::install_default_drivers();
        let mut sql = AnyConnection::connect(&format!("sqlite://{}?mode=rwc", old.path().display())).await.unwrap();
        sql.execute("CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)").await.unwrap();
        for text in MIGRATIONS[..version].iter().flat_map(|texts| *texts) {
            sqlx::raw_sql(*text).execute(&mut sql).await.unwrap();
        }
        old.fill(&mut sql, version).await;
        sql.close().await.unwrap();
        old
    }

    async fn fill(&self, sql: &mut AnyConnection, version: usize) {
        let Self { owner, active, completed, credential, deleted, .. } = self;
        let other_session = SessionId::from_parts(NOW, [6; 10]);
        let ended = |session: &SessionId, credential: &CredentialId| {
            format!(
                "INSERT INTO sessions (id, caller_id, provider, state, reason_code, epoch, generation, cli_started, \
                 created_at_ms, last_used_at_ms, deadline_ms, ended_at_ms, credential_id) \
                 VALUES ('{session}', '{owner}', 'codex', 'completed', 'completed', 3, 1, 1, 1, 2, 3, 2, '{credential}')"
            )
        };
        for text in [
            format!("INSERT INTO meta VALUES ('schema_version', '{version}')"),
            insert_caller(version, owner, ("backend", "api_token"), b"t", "NULL", "NULL"),
            format!(
                "INSERT INTO sessions (id, caller_id, provider, state, epoch, generation, cli_started, created_at_ms, \
                 last_used_at_ms, deadline_ms) VALUES ('{active}', '{owner}', 'codex', 'active', 2, 1, 0, 1, 2, 9)"
            ),
            ended(completed, credential),
            ended(&other_session, deleted),
            format!("INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data) \
                 VALUES ('{active}', 1, 1, 'accepted', 'It was accepted.', 'null')"),
            format!(
                "INSERT INTO credentials (id, owner, provider, session_id, sealed, key_id, files, stored_at_ms, deleted_at_ms) \
                 VALUES ('{deleted}', '{owner}', 'codex', '{other_session}', NULL, 1, '[]', 5, 6)"
            ),
        ]
        .into_iter()
        .chain(if version < 5 { self.rows_with_former_names() } else { self.rows_of_version_5() })
        .chain(self.rows_with_end_reasons(version))
        .chain(self.callers(version))
        {
            sql.execute(sqlx::AssertSqlSafe(text)).await.unwrap();
        }
        let sealed = self.ring.seal(&self.binding(), b"old content").unwrap();
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

    /// The command line's caller, a browser, a viewer and an operator's token.
    fn callers(&self, version: usize) -> Vec<String> {
        let session = format!("'{}'", self.active);
        [
            (0, ("operator", "local_socket"), "NULL", "NULL"),
            (1, ("operator", "browser_cookie"), "NULL", "9"),
            (2, ("viewer", "viewer_cookie"), session.as_str(), "9"),
            (3, ("operator", "api_token"), "NULL", "NULL"),
        ]
        .into_iter()
        .map(|(number, role_and_kind, session, expires_at_ms)| {
            let id = CallerId::from_parts(0, [number; 10]);
            insert_caller(version, &id, role_and_kind, &[number], session, expires_at_ms)
        })
        .collect()
    }

    /// Rows with names that the migration to version 5 changes.
    fn rows_with_former_names(&self) -> Vec<String> {
        let Self { active, failed, .. } = self;
        vec![
            self.failed_session(failed, "machine_gone"),
            format!(
                "INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data) VALUES ('{failed}', 1, 1, 'machine_gone', 'It ended.', \
                 '{{\"why\":{{\"cause\":\"stopped\",\"why\":{{\"reason\":\"unowned\"}}}}}}')"
            ),
            format!(
                "INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data) VALUES ('{failed}', 4, 4, 'viewer_left', 'It left.', '{{\"door\":\"terminal\"}}')"
            ),
            format!(
                "INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data) VALUES ('{failed}', 5, 5, 'terminal_left', 'It left.', 'null')"
            ),
            format!(
                "INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data) VALUES ('{failed}', 2, 2, 'viewer_refused', 'It was refused.', \
                 '{{\"reason\":\"machine_gone\",\"detail\":null}}')"
            ),
            format!(
                "INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data) VALUES ('{failed}', 3, 3, 'credential_checked', 'It was checked.', '{{\"agrees\":true}}')"
            ),
            format!(
                "INSERT INTO passes (hash, kind, name, expires_at_ms) VALUES ('{}', 'enter', 'Ada', {})",
                Sha256Hex::of_bytes(b"operator's").as_str(),
                NOW + 1
            ),
            format!(
                "INSERT INTO passes (hash, kind, session_id, expires_at_ms) VALUES ('{}', 'viewer', '{active}', {})",
                Sha256Hex::of_bytes(b"viewer's").as_str(),
                NOW + 1
            ),
        ]
    }

    /// The same rows as version 5 writes them.
    fn rows_of_version_5(&self) -> Vec<String> {
        let Self { active, failed, .. } = self;
        let entry = |number: u8, kind: &str, data: serde_json::Value| {
            format!(
                "INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data) VALUES ('{failed}', {number}, {number}, '{kind}', 'It happened.', '{data}')"
            )
        };
        let login_token = |text: &[u8], kind: &str, column: &str, value: &str| {
            let hash = Sha256Hex::of_bytes(text);
            format!(
                "INSERT INTO login_tokens (hash, kind, {column}, expires_at_ms) VALUES ('{}', '{kind}', '{value}', {})",
                hash.as_str(),
                NOW + 1
            )
        };
        vec![
            self.failed_session(failed, "machine_failed"),
            entry(1, "machine_exited", json!({ "why": { "cause": "stopped", "reason": { "kind": "orphaned" } } })),
            entry(2, "viewer_rejected", json!({ "reason": "machine_failed", "detail": null })),
            entry(3, "credential_checked", json!({ "signed_in": true })),
            entry(4, "viewer_disconnected", json!({ "socket": "terminal" })),
            entry(5, "terminal_disconnected", json!(null)),
            login_token(b"operator's", "operator", "name", "Ada"),
            login_token(b"viewer's", "viewer", "session_id", active.as_str()),
        ]
    }

    /// Sessions that ended for a reason whose code the migration to version 6 changes, and a rejected delivery, whose code stays.
    fn rows_with_end_reasons(&self, version: usize) -> Vec<String> {
        let Self { without_provider, without_credential, .. } = self;
        let (provider, credential) = if version < 6 {
            ("provider_unavailable", "unknown_credential")
        } else {
            ("provider_removed", "credential_deleted")
        };
        let entry = |session: &SessionId, number: u8, kind: &str, reason: &str| {
            let data = json!({ "reason": reason });
            format!(
                "INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data) VALUES ('{session}', {number}, {number}, '{kind}', 'It happened.', '{data}')"
            )
        };
        vec![
            self.failed_session(without_provider, provider),
            entry(without_provider, 1, "failed", provider),
            entry(without_provider, 2, "ticket_rejected", provider),
            self.failed_session(without_credential, credential),
            entry(without_credential, 1, "failed", credential),
            entry(without_credential, 2, "delivery_rejected", "unknown_credential"),
        ]
    }

    fn failed_session(&self, session: &SessionId, reason_code: &str) -> String {
        let owner = &self.owner;
        format!(
            "INSERT INTO sessions (id, caller_id, provider, state, reason_code, epoch, generation, cli_started, created_at_ms, \
             last_used_at_ms, deadline_ms, ended_at_ms) \
             VALUES ('{session}', '{owner}', 'codex', 'failed', '{reason_code}', 2, 1, 1, 1, 2, 3, 2)"
        )
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("anteroom.db")
    }

    fn binding(&self) -> Binding<'_> {
        static CODEX: std::sync::LazyLock<anteroom_wire::ProviderId> =
            std::sync::LazyLock::new(crate::fixture::provider);
        Binding {
            credential: &self.credential,
            owner: &self.owner,
            user_id: None,
            provider: &CODEX,
            session: &self.completed,
            revision: 1,
        }
    }
}

/// A caller as this version writes it; versions before 7 had neither kinds nor scopes.
fn insert_caller(
    version: usize,
    id: &CallerId,
    (role, kind): (&str, &str),
    secret: &[u8],
    session: &str,
    expires_at_ms: &str,
) -> String {
    let hash = Sha256Hex::of_bytes(secret);
    let values = format!("'{id}', '{role}', 'n', '{}', {session}, 1, {expires_at_ms}", hash.as_str());
    if version < 7 {
        return format!(
            "INSERT INTO callers (id, role, name, token_hash, session_id, created_at_ms, expires_at_ms) VALUES ({values})"
        );
    }
    let scopes = match role {
        "backend" => "start read lease",
        "viewer" => "start read",
        _ => "start read lease operate metrics audit",
    };
    format!(
        "INSERT INTO callers (kind, scopes, account_id, id, role, name, token_hash, session_id, created_at_ms, expires_at_ms) \
         VALUES ('{kind}', '{scopes}', '{id}', {values})"
    )
}

#[tokio::test]
async fn rows_of_every_older_version_survive_the_migration() {
    assert_eq!(MIGRATIONS.len() + 1, SCHEMA_VERSION as usize, "sample rows are needed for each older version");
    for version in 1..=MIGRATIONS.len() {
        let old = Old::of_version(version).await;
        let store = Store::open(&old.path(), settings()).await.unwrap();
        let rows = store.add_row_macs(&old.ring, RowsWithMacs::None, || old.ring.mark_for_row_macs()).await.unwrap();
        assert!(rows > 20 && store.rows_with_macs().await.unwrap() == RowsWithMacs::All, "{rows}");
        store.use_row_macs(old.ring.clone());
        let active = store.get_session(&old.active).await.unwrap().unwrap();
        assert!(active.is_active() && active.epoch == 2);
        assert_eq!((active.method, active.purpose, active.exit_code), (None, SessionPurpose::default(), None));
        let timeline = store.list_timeline(&old.active, 0, 10).await.unwrap();
        assert!(timeline.len() == 1 && timeline[0].kind == TimelineKind::Accepted, "{timeline:?}");
        assert_renamed(&old, &store).await;
        let completed = store.get_session(&old.completed).await.unwrap().unwrap();
        assert_eq!(completed.end().unwrap().outcome, SessionOutcome::Completed(old.credential.clone()));

        let kept = store.get_credential_of_session(&old.completed).await.unwrap().unwrap();
        assert_eq!((kept.stored_at_ms, kept.checked_at_ms, kept.revision), (5, 5, 1));
        assert_eq!(
            (kept.deletion_policy, kept.health, kept.expires_at_ms),
            (DeletionPolicy::ByOwner, HealthKind::Valid, None)
        );
        assert_eq!(kept.user_id.as_deref(), Some("ada"));
        let deleted = store.get_credential(&old.deleted).await.unwrap().unwrap();
        assert_eq!((deleted.deleted_at_ms, deleted.revision), (Some(6), 1));

        let leased = store.lease_credential(&old.credential, &old.owner, NOW).await.unwrap().unwrap();
        assert_eq!(leased.lease_number, 2, "the earlier lease is kept");
        assert_eq!(&*old.ring.unseal(&old.binding(), &leased.sealed).unwrap(), b"old content");
        assert_eq!(store.delete_credential(&old.credential, NOW).await.unwrap(), DeleteOutcome::Deleted);
        store.check_writable().await.unwrap();
        assert_eq!(store.check_rows().await.unwrap().tampered, 0, "{:?}", store.tampered_rows());
    }
}

/// Versions 14, 15 and 18 added columns to rows that have MACs since versions 12 and 13.
#[tokio::test]
async fn macs_of_version_13_are_valid_after_the_migration() {
    let fixture = StoreFixture::new().await;
    let (_, id) = fixture.completed(b"secret").await;
    let mut sql = fixture.sql().await;
    sql.execute("ALTER TABLE credentials DROP COLUMN account").await.unwrap();
    for text in TO_17.into_iter().chain([
        "DROP TRIGGER sessions_ended_is_final",
        "ALTER TABLE sessions DROP COLUMN settings",
        "ALTER TABLE outbox DROP COLUMN receiver",
        "CREATE TRIGGER sessions_ended_is_final BEFORE UPDATE OF id ON sessions BEGIN SELECT 1; END",
    ]) {
        sql.execute(text).await.unwrap();
    }
    sql.execute("UPDATE meta SET value = '13' WHERE key = 'schema_version'").await.unwrap();
    let store = Store::open(&fixture.address, settings()).await.unwrap();
    store.use_row_macs(fixture.ring.clone());
    assert_eq!(store.get_credential(&id).await.unwrap().unwrap().account, None);
    assert_eq!(store.check_rows().await.unwrap().tampered, 0, "{:?}", store.tampered_rows());
    let ended = sql.execute("UPDATE sessions SET settings = '{}'").await.unwrap_err();
    assert!(ended.to_string().contains("an ended session must not change"), "{ended}");
    sql.execute("UPDATE credentials SET account = 'eve'").await.unwrap();
    assert_eq!(store.check_rows().await.unwrap().tampered, 1, "a name that is added later is noticed");
}

/// Codes, kinds and tables that were renamed have their new names, in the rows of ended sessions too.
async fn assert_renamed(old: &Old, store: &Store) {
    let failed = store.get_session(&old.failed).await.unwrap().unwrap();
    assert_eq!(failed.reason().unwrap().kind, EndReason::MachineFailed);
    let entries = store.list_timeline(&old.failed, 0, 10).await.unwrap();
    let found: Vec<_> = entries.iter().map(|entry| (entry.kind.as_str(), entry.data.clone())).collect();
    assert_eq!(
        found,
        [
            ("machine_exited", json!({ "why": { "cause": "stopped", "reason": { "kind": "orphaned" } } })),
            ("viewer_rejected", json!({ "reason": "machine_failed", "detail": null })),
            ("credential_checked", json!({ "signed_in": true })),
            ("viewer_disconnected", json!({ "socket": "terminal" })),
            ("terminal_disconnected", json!(null)),
        ]
    );
    for (id, reason, codes) in [
        (&old.without_provider, EndReason::ProviderRemoved, ["provider_removed", "provider_removed"]),
        (&old.without_credential, EndReason::CredentialDeleted, ["credential_deleted", "unknown_credential"]),
    ] {
        assert_eq!(store.get_session(id).await.unwrap().unwrap().end().unwrap().reason.kind, reason);
        let entries = store.list_timeline(id, 0, 10).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.data["reason"].as_str().unwrap()).collect::<Vec<_>>(), codes);
    }
    let operator = store.redeem_login_token(&Sha256Hex::of_bytes(b"operator's"), NOW).await.unwrap();
    assert_eq!(operator.unwrap().scope, LoginScope::Operator { name: "Ada".to_owned() });
    let viewer = store.redeem_login_token(&Sha256Hex::of_bytes(b"viewer's"), NOW).await.unwrap();
    assert_eq!(viewer.unwrap().scope, LoginScope::Session { session: old.active.clone() });
    let kinds = [CallerKind::LocalSocket, CallerKind::BrowserCookie, CallerKind::ViewerCookie, CallerKind::ApiToken];
    for (number, kind) in (0..).zip(kinds) {
        let caller = store.get_caller(&CallerId::from_parts(0, [number; 10])).await.unwrap().unwrap();
        assert_eq!((caller.kind, caller.scopes, &caller.account), (kind, caller.role.scopes(), &caller.id));
    }
}

#[tokio::test]
async fn an_upgraded_database_accepts_new_writes() {
    for version in 1..=MIGRATIONS.len() {
        let old = Old::of_version(version).await;
        let store = Store::open(&old.path(), settings()).await.unwrap();
        let fixture = StoreFixture::new().await;
        let external =
            Some(ExternalMachineClaim { machine: "desk".to_owned(), agent_token: Sha256Hex::of_bytes(b"token") });
        let method = Some(anteroom_wire::provider::MethodName::default());
        let renews = SessionPurpose::SignIn { renews: Some(old.credential.clone()) };
        let new = NewSession {
            owner: old.owner.clone(),
            external,
            method: method.clone(),
            purpose: renews.clone(),
            ..fixture.new_session()
        };
        let CreateSessionOutcome::New(row) = store.create_session(&new, entry(TimelineKind::Accepted)).await.unwrap()
        else {
            panic!()
        };
        assert_eq!((row.external_machine.as_deref(), row.method, row.purpose), (Some("desk"), method, renews));
        let change = SessionChange::new().with_cli_started(true);
        store
            .transition(&old.active, ExpectedState::Epoch(2), change, entry(TimelineKind::MethodChosen))
            .await
            .unwrap();
        let ends = store.list_expiring_credentials(NOW, NOW, 9).await.unwrap();
        assert_eq!(
            (store.list_due_messages(NOW, None, 9).await.unwrap().len(), ends),
            (usize::from(version >= 3), vec![])
        );
        let message = MessageId::from_parts(NOW, [7; 10]);
        assert_eq!(
            store.claim_credential_for_webhook(&message, &old.credential, NOW).await.unwrap(),
            None,
            "its policy is not deliver_once"
        );
        assert_eq!(store.record_message_delivered(&message, NOW).await.unwrap(), version >= 3);
    }
}
