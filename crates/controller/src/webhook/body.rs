//! Builds the body of a message from the database when it is sent.

use super::receiver::Webhook;
use crate::{
    api_error::ApiError,
    credentials::{self, UnsealError, to_credential_meta},
    session::context::SessionContext,
    session::view::to_session_view,
    unix_time::{self, format_rfc3339},
};
use anteroom_audit::Action;
use anteroom_store::{ClaimedRevision, CredentialRow, MessageRow, SessionRow, StoreError, UnixMs};
use anteroom_wire::{
    CredentialId,
    webhook::{EventType, NotificationData, SessionSummary, WebhookNotification},
};
use bytes::Bytes;

/// A message body, and the credential attached to it.
pub(super) struct WebhookMessage {
    pub(super) bytes: Bytes,
    pub(super) attached_credential: Option<AttachedCredential>,
}

/// Why a message cannot be built now.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildFault {
    /// The attached credential cannot be read.
    #[error("the credential cannot be decrypted with the keys of this server")]
    Unseal(#[source] UnsealError),
    /// The attached credential's delivery cannot be recorded.
    #[error("the delivery of the credential cannot be recorded in the audit trail")]
    Record(#[source] ApiError),
    /// The message was written by a newer server.
    #[error("this server does not know the type of the message")]
    UnknownType,
    /// The message cannot be written as JSON.
    #[error(transparent)]
    Serialize(#[from] serde_json::Error),
}

/// A message that cannot be built now.
pub(super) struct BuildError {
    pub(super) fault: BuildFault,
    /// The credential reserved for the message.
    pub(super) attached_credential: Option<AttachedCredential>,
}

/// A credential attached to a message. While it is reserved for the message it cannot be leased.
#[derive(Debug, Clone)]
pub(super) struct AttachedCredential {
    pub(super) credential: CredentialId,
    /// Until when the credential can be delivered, milliseconds since 1970.
    pub(super) deliver_until_ms: Option<UnixMs>,
    /// Whether no earlier attempt can have delivered it.
    pub(super) is_first_delivery: bool,
}

/// Builds the body. A credential that is delivered once is attached if its bytes are still stored, and from then on is reserved for
/// this message.
pub(super) async fn build_message(
    context: &SessionContext,
    webhook: &Webhook,
    message: &MessageRow,
) -> Result<Result<WebhookMessage, BuildError>, StoreError> {
    let Some(kind) = EventType::from_text(&message.kind) else {
        return Ok(Err(BuildError { fault: BuildFault::UnknownType, attached_credential: None }));
    };
    let session = session_of(context, message).await?;
    let regarding = message.regarding.credential_id();
    let claimed = match regarding {
        Some(id) if webhook.attaches_credentials() && kind == EventType::CredentialStored => {
            context.store.claim_credential_for_webhook(&message.id, id, unix_time::now_unix_ms()).await?
        }
        Some(_) | None => None,
    };
    let attached = claimed.as_ref().map(|ClaimedRevision { record, is_new }| AttachedCredential {
        credential: record.credential.id.clone(),
        deliver_until_ms: record.credential.deletion_policy.until_ms(),
        is_first_delivery: *is_new,
    });
    if let Some(ClaimedRevision { record, .. }) = &claimed {
        let subject = super::audit_subject(message, &record.credential.id);
        if let Err(error) = context.audit.record_before(Action::CredentialWebhook, subject).await {
            return Ok(Err(BuildError { fault: BuildFault::Record(error), attached_credential: attached }));
        }
    }
    let (credential, files) = match (claimed, regarding) {
        (Some(ClaimedRevision { record, .. }), _) => match credentials::unseal_files(context, &record) {
            Ok(files) => (Some(record.credential), Some(files)),
            Err(error) => {
                return Ok(Err(BuildError { fault: BuildFault::Unseal(error), attached_credential: attached }));
            }
        },
        (None, Some(id)) => (credential_for(context, kind, id).await?, None),
        (None, None) => (None, None),
    };
    let notification = WebhookNotification {
        kind,
        timestamp: format_rfc3339(message.created_at_ms),
        data: NotificationData {
            session,
            credential: credential.as_ref().map(|row| to_credential_meta(context, row)),
            files,
        },
    };
    Ok(match serde_json::to_vec(&notification) {
        Ok(bytes) => Ok(WebhookMessage { bytes: bytes.into(), attached_credential: attached }),
        Err(error) => Err(BuildError { fault: error.into(), attached_credential: attached }),
    })
}

async fn session_of(context: &SessionContext, message: &MessageRow) -> Result<Option<SessionSummary>, StoreError> {
    let Some(id) = message.regarding.session_id() else { return Ok(None) };
    match context.store.get_session(id).await? {
        Some(row) => Ok(Some(session_summary(context, &row).await?)),
        None => Ok(None),
    }
}

/// The credential, also a deleted one if the message reports its deletion.
async fn credential_for(
    context: &SessionContext,
    kind: EventType,
    id: &CredentialId,
) -> Result<Option<CredentialRow>, StoreError> {
    let reports_deletion = matches!(kind, EventType::CredentialDeleted | EventType::CredentialLeased);
    let row = context.store.get_credential(id).await?;
    Ok(row.filter(|row| reports_deletion || row.deleted_at_ms.is_none()))
}

async fn session_summary(context: &SessionContext, row: &SessionRow) -> Result<SessionSummary, StoreError> {
    let view = to_session_view(context, row).await?;
    Ok(SessionSummary {
        id: view.id,
        provider: view.provider,
        method: view.method,
        purpose: row.purpose.credential_use().map(|using| using.purpose),
        user_id: view.user_id,
        status: view.status,
        reason: view.reason,
        failed: view.sign_in.failed,
        verdict: view.for_person.values.verdict,
        created_at: view.created_at,
        ended_at: view.ended_at,
    })
}
