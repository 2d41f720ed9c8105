//! What a message says, as things are when it is sent.

use crate::{
    app::App,
    clock::{self, rfc3339},
    credentials::{self, credential_meta},
    outbox,
    session::view::view,
};
use anteroom_store::{ClaimedRevision, MessageRow, SessionRow, StoreError, UnixMs};
use anteroom_wire::{
    CredentialId,
    webhook::{CREDENTIAL_STORED, Notification, NotificationData, SessionSummary},
};
use bytes::Bytes;

/// A body, and the credential whose bytes are in it.
pub(super) struct Made {
    pub(super) bytes: Bytes,
    pub(super) along: Option<Along>,
}

/// A message that cannot be made at the moment.
pub(super) struct Unmade {
    /// For operators.
    pub(super) why: String,
    /// What it had taken along.
    pub(super) along: Option<Along>,
}

/// A credential that a message has taken along: as long as it has it, nobody can lease it.
#[derive(Debug, Clone)]
pub(super) struct Along {
    pub(super) credential: CredentialId,
    /// Until when it waits to be handed out.
    pub(super) until_ms: Option<UnixMs>,
    /// No earlier try can have been taken.
    pub(super) anew: bool,
}

/// Makes the body. The bytes of a credential that is handed out once are in it if they are still here, and from here on go by no other
/// way.
pub(super) async fn make(app: &App, message: &MessageRow) -> Result<Result<Made, Unmade>, StoreError> {
    let row = match message.subject.session() {
        Some(id) => app.store.session(id).await?,
        None => None,
    };
    let session = match &row {
        Some(row) => Some(facts(app, row).await?),
        None => None,
    };
    let subject = message.subject.credential();
    let carried = match subject {
        Some(id) if outbox::attaches_credentials(app) && message.kind == CREDENTIAL_STORED => {
            app.store.claim_for_webhook(&message.id, id, clock::now()).await?
        }
        Some(_) | None => None,
    };
    let along = carried.as_ref().map(|ClaimedRevision { record, is_new }| Along {
        credential: record.credential.id.clone(),
        until_ms: record.credential.retention.until_ms(),
        anew: *anew,
    });
    let (credential, files) = match (carried, subject) {
        (Some(ClaimedRevision { record, .. }), _) => match credentials::opened(app, &record) {
            Ok(files) => (Some(record.credential), Some(files)),
            Err(_) => {
                let why = "the credential cannot be opened with the keys of this server".to_owned();
                return Ok(Err(Unmade { why, along }));
            }
        },
        (None, Some(id)) => (app.store.credential(id).await?.filter(|row| row.deleted_at_ms.is_none()), None),
        (None, None) => (None, None),
    };
    let notification = Notification {
        kind: message.kind.clone(),
        timestamp: rfc3339(message.created_at_ms),
        data: NotificationData { session, credential: credential.as_ref().map(|row| credential_meta(app, row)), files },
    };
    Ok(match serde_json::to_vec(&notification) {
        Ok(bytes) => Ok(Made { bytes: bytes.into(), along }),
        Err(error) => Err(Unmade { why: error.to_string(), along }),
    })
}

async fn facts(app: &App, row: &SessionRow) -> Result<SessionSummary, StoreError> {
    let view = view(app, row).await?;
    Ok(SessionSummary {
        id: view.id,
        provider: view.provider,
        method: view.method,
        user_id: view.user_id,
        status: view.status,
        reason: view.reason,
        created_at: view.created_at,
        ended_at: view.ended_at,
    })
}
