//! What a message says, as things are when it is sent.

use crate::{
    app::App,
    clock::rfc3339,
    refusal::chain,
    session::view::{credential_meta, view},
};
use anteroom_store::{CredentialRow, Kept, MessageRow, SessionRow, StoreError};
use anteroom_vault::Binding;
use anteroom_wire::{
    CredentialId,
    agent::DeliveredFile,
    webhook::{CREDENTIAL_STORED, Notification, SessionFacts, Subject},
};
use bytes::Bytes;

/// A body, and the credential whose bytes are in it.
pub(super) struct Made {
    pub(super) bytes: Bytes,
    pub(super) hands_out: Option<CredentialId>,
}

/// The inner error is for operators: the message cannot be made at the moment.
pub(super) async fn make(app: &App, message: &MessageRow) -> Result<Result<Made, String>, StoreError> {
    let row = match message.about.session() {
        Some(id) => app.store.session(id).await?,
        None => None,
    };
    let session = match &row {
        Some(row) => Some(facts(app, row).await?),
        None => None,
    };
    let credential = match message.about.credential() {
        Some(id) => app.store.credential(id).await?.filter(|credential| credential.deleted_at_ms.is_none()),
        None => None,
    };
    let files = match &credential {
        Some(credential) if hands_out(app, message, credential) => match files(app, &credential.id).await? {
            Ok(files) => files,
            Err(why) => return Ok(Err(why)),
        },
        Some(_) | None => None,
    };
    let hands_out = credential.as_ref().filter(|_| files.is_some()).map(|credential| credential.id.clone());
    let notification = Notification {
        kind: message.kind.clone(),
        timestamp: rfc3339(message.created_at_ms),
        data: Subject { session, credential: credential.as_ref().map(|row| credential_meta(app, row)), files },
    };
    let bytes = serde_json::to_vec(&notification).map_err(|error| error.to_string());
    Ok(bytes.map(|bytes| Made { bytes: bytes.into(), hands_out }))
}

fn hands_out(app: &App, message: &MessageRow, credential: &CredentialRow) -> bool {
    let once = matches!(credential.kept, Kept::UntilHandedOut { .. });
    once && message.kind == CREDENTIAL_STORED && app.config.webhook.include_credential
}

/// The credential's files; `None`: somebody fetched them meanwhile, or their time is over.
async fn files(app: &App, id: &CredentialId) -> Result<Result<Option<Vec<DeliveredFile>>, String>, StoreError> {
    let Some(record) = app.store.record(id).await? else { return Ok(Ok(None)) };
    let row = &record.credential;
    let in_time = row.kept.until_ms().is_none_or(|until_ms| crate::clock::now() < until_ms);
    if !in_time {
        return Ok(Ok(None));
    }
    let binding = Binding { record: &row.id, owner: &row.owner, provider: &row.provider, session: &row.session };
    let opened = app.vault.unseal(&binding, &record.sealed).map_err(|error| {
        tracing::error!(outcome = "unseal_failed", credential = %row.id, error = %chain(&error), "a credential could not be opened");
        "the credential cannot be opened with the keys of this server".to_owned()
    });
    let files = opened.and_then(|plaintext| serde_json::from_slice(&plaintext).map_err(|_| "not files".to_owned()));
    Ok(files.map(Some))
}

async fn facts(app: &App, row: &SessionRow) -> Result<SessionFacts, StoreError> {
    let view = view(app, row).await?;
    Ok(SessionFacts {
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
