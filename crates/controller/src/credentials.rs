//! Stored credentials, from capture to deletion.
//!
//! ```text
//!  delivery ─▶ session/complete ─▶ revision 1 ─┬─ renewed by a sign-in, refreshed by a use ─▶ revision 2, 3 …
//!                                              ├─ hand_out   the owner gets the files; on the record; `deliver_once`: then deleted
//!                                              ├─ tend       what nobody fetched in time is deleted; what ends is told (the sweep)
//!                                              └─ delete     by its owner
//! ```
//!
//! How a credential is ([`standing`]) is derived on each read from what is stored and the time; what is stored is only what was
//! concluded last, so that it is told once.

mod ends;
mod hand_out;
mod standing;
mod tend;

pub use ends::ends_at;
pub use hand_out::{delete, hand_out, owned, present};
pub use standing::standing;
pub use tend::tend;

use crate::{app::App, refusal::chain};
use anteroom_store::{CredentialRow, Record};
use anteroom_vault::Binding;
use anteroom_wire::{Problem, agent::DeliveredFile};
use zeroize::Zeroizing;

/// What a credential's bytes are sealed for: the session that they came from, not the one that asks.
pub fn binding(row: &CredentialRow) -> Binding<'_> {
    Binding { record: &row.id, owner: &row.owner, provider: &row.provider, session: &row.session }
}

/// The bytes in the clear, as they were sealed: the files as JSON.
///
/// # Errors
/// [`Problem::Internal`]: they do not open; the log has the cause.
pub fn unsealed(app: &App, record: &Record) -> Result<Zeroizing<Vec<u8>>, Problem> {
    app.vault.unseal(&binding(&record.credential), &record.sealed).map_err(|error| {
        tracing::error!(outcome = "unseal_failed", credential = %record.credential.id, error = %chain(&error), "a credential could not be opened");
        Problem::Internal
    })
}

/// The files in the clear.
///
/// # Errors
/// As [`unsealed`].
pub fn opened(app: &App, record: &Record) -> Result<Vec<DeliveredFile>, Problem> {
    serde_json::from_slice(&unsealed(app, record)?).map_err(|_| {
        tracing::error!(outcome = "not_files", credential = %record.credential.id, "a credential is not a list of files");
        Problem::Internal
    })
}
