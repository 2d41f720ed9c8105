//! A delivery from a session that uses a credential: its tool has changed the file. Why the last one wins is told in the store's
//! `replace`; here it is recorded.

use super::{Parcel, ignore, verify};
use crate::{api_error::ApiError, app::App, clock, credentials, outbox, session::timeline};
use anteroom_store::{CredentialUse, NewCredential, NewEvent, Refresh, Refreshed, Revisions, SessionRow, Sha256Hex};
use anteroom_wire::{
    Problem,
    agent::{DeliveryResult, UsePurpose},
};
use serde_json::json;

/// Gives the used credential these bytes. The session goes on and may do so again. The same bytes once more change nothing.
pub(super) async fn refresh(
    app: &App,
    row: &SessionRow,
    using: &CredentialUse,
    token: &Sha256Hex,
    parcel: &Parcel,
) -> Result<Delivered, ApiError> {
    let stored = || Ok(DeliveryResult::Stored { credential: using.credential.clone() });
    match using.purpose {
        UsePurpose::Exec | UsePurpose::Check => {}
        // What a sign-out leaves behind is nothing to keep.
        UsePurpose::Logout => return Ok(DeliveryResult::Ignored),
    }
    let Some(record) = app.store.sealed_credential(&using.credential).await? else {
        return Err(gone(app, row, using).await);
    };
    if credentials::unsealed(app, &record).is_ok_and(|bytes| parcel.is(&bytes)) {
        return stored();
    }
    let sealed = parcel.seal(app, row, &using.credential)?;
    let messages = outbox::credential_refreshed(app, &row.id, &record.credential);
    let refresh = Refresh {
        session: &row.id,
        generation: row.generation,
        agent_token: token,
        credential: NewCredential {
            id: &using.credential,
            sealed: &sealed,
            files: &parcel.described,
            retention: parcel.retention,
            expires_at_ms: parcel.expires_at_ms,
        },
        messages: &messages,
        at_ms: clock::now(),
    };
    timeline::flush(app, &row.id).await;
    let told = |revisions| event(using, revisions);
    match app.store.refresh_credential(&refresh, told).await? {
        Refreshed::Stored { credential, revisions, .. } => {
            verify(app, &credential.id, credential.revision, parcel).await?;
            outbox::wake_sender(app);
            let Revisions { installed, replaced, stored } = revisions;
            tracing::info!(outcome = "refreshed", session = %row.id, credential = %credential.id, installed, before, now, "a credential that its tool changed was sealed, stored and read back");
            if let Some(session) = app.sessions.get(&row.id) {
                session.notify();
            }
            stored()
        }
        Refreshed::Ignored(row) => ignore(app, &row).await,
        Refreshed::WrongToken => Err(Problem::WrongAgentToken.into()),
        Refreshed::NothingToReplace => Err(gone(app, row, using).await),
    }
}

/// There is nothing whose place it could take. What the tool has changed ends with its machine, and that is told.
async fn gone(app: &App, row: &SessionRow, using: &CredentialUse) -> ApiError {
    let sentence = "The tool changed the credential, which was handed out or deleted while it was being used: the change is not kept.";
    timeline::append(app, &row.id, "credential_not_refreshed", sentence, json!({ "credential": using.credential }))
        .await;
    ApiError::new(Problem::UnknownCredential, "it was handed out or deleted while it was being used")
}

fn event(using: &CredentialUse, revisions: Revisions) -> NewEvent {
    let Revisions { installed, replaced, stored } = revisions;
    let mut sentence = format!("The tool changed the credential; it was sealed and stored as revision {now}.");
    if before != installed {
        sentence = format!(
            "{sentence} It took the place of revision {before}, which came from elsewhere: this machine had revision {installed}."
        );
    }
    let data = json!({ "credential": using.credential, "installed": installed, "before": before, "revision": now });
    NewEvent::new(clock::now(), "credential_refreshed", sentence).with(data)
}
