//! A separate database for each test, with a key ring and a second connection for direct SQL.

use crate::database;
use anteroom_store::{
    Address, CallerKind, CompleteOutcome, CompleteWithCredential, CreateSessionOutcome, DeletionPolicy, ExpectedState,
    NewCaller, NewCredential, NewSession, NewTimelineEntry, Reason, Role, RowsWithMacs, SessionChange, SessionPurpose,
    SessionRow, Sha256Hex, Store, StoreSettings, TransitionOutcome,
};
use anteroom_vault::{Binding, KeyRing, SealedBytes};
use anteroom_wire::{
    CallerId, CredentialId, EndReason, MachineId, ProviderId, Secret, SessionId, TimelineKind, api::CredentialFile,
};
use sqlx::AnyConnection;

pub(crate) const NOW: u64 = 1_800_000_000_000;
pub(crate) const HOUR: u64 = 3_600_000;

pub(crate) fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub(crate) fn session_id() -> SessionId {
    SessionId::from_parts(NOW, random())
}

pub(crate) fn provider() -> ProviderId {
    "codex".parse().unwrap()
}

pub(crate) fn entry(kind: TimelineKind) -> NewTimelineEntry {
    NewTimelineEntry::new(NOW, kind, format!("It is {kind}."))
}

/// A long timeout, so that a busy test machine does not cause failures.
pub(crate) fn settings() -> StoreSettings {
    StoreSettings { busy_ms_max: 60_000, ..StoreSettings::default() }
}

/// A credential that is retained until it is deleted.
pub(crate) fn retained_credential<'a>(
    id: &'a CredentialId,
    sealed: &'a SealedBytes,
    files: &'a [CredentialFile],
) -> NewCredential<'a> {
    NewCredential {
        id,
        sealed,
        revision: 1,
        files,
        deletion_policy: DeletionPolicy::ByOwner,
        expires_at_ms: None,
        account: None,
    }
}

/// The binding of the first revision of a credential that this session delivers.
pub(crate) fn binding_of<'a>(session: &'a SessionRow, credential: &'a CredentialId) -> Binding<'a> {
    Binding {
        credential,
        owner: &session.owner,
        user_id: session.user_id.as_deref(),
        provider: &session.provider,
        session: &session.id,
        revision: 1,
    }
}

pub(crate) struct StoreFixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) address: Address,
    pub(crate) store: Store,
    pub(crate) ring: KeyRing,
    pub(crate) owner: CallerId,
}

impl StoreFixture {
    pub(crate) async fn new() -> Self {
        Self::with(settings()).await
    }

    pub(crate) async fn with(settings: StoreSettings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = database::new_database(directory.path()).await;
        let store = Store::open(&address, settings).await.unwrap();
        let ring = KeyRing::open_or_create(&directory.path().join("keys.json")).unwrap();
        store.add_row_macs(&ring, RowsWithMacs::None, || ring.mark_for_row_macs()).await.unwrap();
        store.use_row_macs(ring.clone());
        let owner = CallerId::from_parts(NOW, random());
        let fixture = Self { directory, address, store, ring, owner };
        fixture
            .store
            .create_caller(&fixture.new_caller(fixture.owner.clone(), Role::Backend, "token-1"))
            .await
            .unwrap();
        fixture
    }

    pub(crate) fn new_caller(&self, id: CallerId, role: Role, token: &str) -> NewCaller {
        let kind = if role.session().is_some() { CallerKind::ViewerCookie } else { CallerKind::ApiToken };
        let secret = Secret::new(token.to_owned());
        NewCaller { kind, ..NewCaller::api_token(id, role, "Ada", &secret, NOW) }
    }

    pub(crate) fn new_session(&self) -> NewSession {
        NewSession {
            id: session_id(),
            owner: self.owner.clone(),
            user_id: Some("ada@example.org".to_owned()),
            provider: provider(),
            return_url: Some("https://example.org/done".to_owned()),
            idempotency: None,
            created_at_ms: NOW,
            idle_deadline_ms: Some(NOW + HOUR),
            deadline_ms: NOW + 4 * HOUR,
            external: None,
            method: None,
            purpose: SessionPurpose::default(),
            settings: std::collections::BTreeMap::new(),
            place: anteroom_store::NewSessionPlace::ThisHost,
            machines_by_caller_max: None,
        }
    }

    /// An active session.
    pub(crate) async fn session(&self) -> SessionRow {
        match self.store.create_session(&self.new_session(), entry(TimelineKind::Accepted)).await.unwrap() {
            CreateSessionOutcome::New(row) => row,
            CreateSessionOutcome::Existing(_)
            | CreateSessionOutcome::IdempotencyKeyReused(_)
            | CreateSessionOutcome::MachineInUse(_) => {
                panic!("no key and no external machine was given")
            }
        }
    }

    /// An active session whose first machine has this token.
    pub(crate) async fn session_with_machine(&self, token: &str) -> SessionRow {
        let row = self.session().await;
        let change = SessionChange::new()
            .with_machine(Some(MachineId::from_parts(NOW, random())))
            .with_agent_token(Some(Sha256Hex::of_bytes(token.as_bytes())))
            .with_claimed_generation(Some(1))
            .with_cli_started(true);
        self.done(&row.id, ExpectedState::Epoch(0), change, TimelineKind::MachineReady).await
    }

    /// A change that must happen.
    pub(crate) async fn done(
        &self,
        session: &SessionId,
        expect: ExpectedState,
        change: SessionChange,
        kind: TimelineKind,
    ) -> SessionRow {
        match self.store.transition(session, expect, change, entry(kind)).await.unwrap() {
            TransitionOutcome::Done { row, .. } => *row,
            TransitionOutcome::Conflict(row) => panic!("conflict: {row:?}"),
        }
    }

    pub(crate) fn seal(&self, session: &SessionRow, record: &CredentialId, plaintext: &[u8]) -> SealedBytes {
        self.seal_revision(session, record, 1, plaintext)
    }

    pub(crate) fn seal_revision(
        &self,
        session: &SessionRow,
        record: &CredentialId,
        revision: u64,
        plaintext: &[u8],
    ) -> SealedBytes {
        let binding = Binding { credential: record, revision, ..binding_of(session, record) };
        self.ring.seal(&binding, plaintext).unwrap()
    }

    /// Delivers with this token and generation.
    pub(crate) async fn deliver(
        &self,
        session: &SessionRow,
        token: &str,
        generation: u32,
        plaintext: &[u8],
    ) -> CompleteOutcome {
        let id = CredentialId::from_parts(NOW, random());
        let sealed = self.seal(session, &id, plaintext);
        let files =
            [CredentialFile { path: ".codex/auth.json".to_owned(), bytes: plaintext.len() as u64, mode: 0o600 }];
        let completion = CompleteWithCredential {
            session: &session.id,
            generation,
            agent_token: &Sha256Hex::of_bytes(token.as_bytes()),
            credential: retained_credential(&id, &sealed, &files),
            webhook_messages: &[],
            at_ms: NOW + 5,
        };
        self.store.complete_with_credential(&completion, entry(TimelineKind::Completed)).await.unwrap()
    }

    /// Creates this session, which must be new.
    pub(crate) async fn create(&self, new: &NewSession) -> SessionRow {
        match self.store.create_session(new, entry(TimelineKind::Accepted)).await.unwrap() {
            CreateSessionOutcome::New(row) => row,
            other @ (CreateSessionOutcome::Existing(_)
            | CreateSessionOutcome::IdempotencyKeyReused(_)
            | CreateSessionOutcome::MachineInUse(_)) => panic!("{other:?}"),
        }
    }

    /// Creates twenty sessions at the same time.
    pub(crate) async fn create_twenty(&self, new: impl Fn() -> NewSession) -> Vec<CreateSessionOutcome> {
        let starts = std::iter::repeat_with(|| {
            let (store, new) = (self.store.clone(), new());
            tokio::spawn(async move { store.create_session(&new, entry(TimelineKind::Accepted)).await.unwrap() })
        });
        let starts: Vec<_> = starts.take(20).collect();
        let mut outcomes = Vec::new();
        for start in starts {
            outcomes.push(start.await.unwrap());
        }
        outcomes
    }

    /// Ends the session as cancelled.
    pub(crate) async fn cancel(&self, id: &SessionId) {
        let change = SessionChange::new().end_as_cancelled(Reason::new(EndReason::Cancelled, ""), NOW);
        self.done(id, ExpectedState::Active, change, TimelineKind::Cancelled).await;
    }

    /// A completed session and its credential.
    pub(crate) async fn completed(&self, plaintext: &[u8]) -> (SessionRow, CredentialId) {
        let row = self.session_with_machine("agent").await;
        match self.deliver(&row, "agent", 1, plaintext).await {
            CompleteOutcome::Stored { row, credential, .. } => (*row, credential.id.clone()),
            CompleteOutcome::Ignored(_) | CompleteOutcome::WrongToken | CompleteOutcome::NothingToRenew => {
                panic!("the first delivery must succeed")
            }
        }
    }

    /// A separate connection for direct SQL.
    pub(crate) async fn sql(&self) -> AnyConnection {
        database::connect(&self.address).await
    }

    pub(crate) async fn kinds(&self, session: &SessionId) -> Vec<TimelineKind> {
        let entries = self.store.list_timeline(session, 0, 1000).await.unwrap();
        entries.into_iter().map(|entry| entry.kind).collect()
    }

    /// Whether any file of the database contains these bytes. Only SQLite promises that erased bytes do not remain.
    pub(crate) fn on_disk(&self, bytes: &[u8]) -> bool {
        if !database::IS_FILE {
            return false;
        }
        let mut files = 0;
        for entry in std::fs::read_dir(self.directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("anteroom.db") {
                files += 1;
                if std::fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes) {
                    return true;
                }
            }
        }
        assert!(files > 0);
        false
    }
}
